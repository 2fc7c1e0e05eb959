"""Parameters and results: the contract's field names, its JSON, its three states of a patched field (§1.4)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from eventstore.documents.fields import Document
from eventstore.documents.items import ItemPage, Position, RolloutItem, StoredItem
from eventstore.documents.params import (
    AppendThreadItemsParams,
    ArchiveThreadParams,
    CreateThreadParams,
    DeleteThreadParams,
    ListThreadsParams,
    LoadThreadHistoryParams,
    ReadThreadParams,
    ResumeThreadParams,
    ThreadSortKey,
    UpdateThreadMetadataParams,
)
from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
from eventstore.documents.threads import StoredThread, StoredThreadHistory, TokenUsage
from eventstore.errors import InvalidRequest
from eventstore.events import Item
from eventstore.ids import ThreadId
from eventstore.jsontext import loads

THREAD = "019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10"
OTHER = "019dbb57-91c2-7e01-8a11-0a5d3f2b9c44"
MOMENT = datetime(2026, 4, 23, 17, 20, 29, 115_000, tzinfo=UTC)

CLEARABLE = {"name", "reasoning_effort", "thread_source", "agent_nickname", "agent_role", "agent_path", "project_id"}
PLAIN = {
    "rollout_path", "preview", "title", "model_provider", "model", "created_at", "updated_at", "advance_recency_at",
    "source", "cwd", "cli_version", "approval_mode", "permission_profile", "token_usage", "first_user_message",
    "git_info", "memory_mode",
}  # fmt: skip
VALUES: dict[str, Any] = {
    **dict.fromkeys(CLEARABLE | PLAIN, "text"),
    **dict.fromkeys(["created_at", "updated_at", "advance_recency_at"], "2026-04-23T17:20:29.115000Z"),
    "source": {"custom": "mine"},
    "approval_mode": {"granular": {"rules": True}},
    "permission_profile": {"type": "managed"},
    "token_usage": TokenUsage(total_tokens=7).model_dump(),
    "git_info": {"branch": "main"},
    "memory_mode": "disabled",
}

PATCHES = st.dictionaries(st.sampled_from(sorted(CLEARABLE | PLAIN)), st.none()).flatmap(
    lambda chosen: st.fixed_dictionaries(
        {
            name: st.sampled_from([{}, {"sha": "1"}, {"sha": None, "branch": "b"}, {"origin_url": None}])
            if name == "git_info"
            else st.sampled_from([VALUES[name], None])
            for name in chosen
        }
    )
)


def patch(text: str) -> ThreadMetadataPatch:
    return ThreadMetadataPatch.model_validate_json(text)


def written(value: BaseModel) -> Any:
    return json.loads(value.model_dump_json())


class TestAPatch:
    def test_has_the_fields_of_the_contract(self) -> None:
        assert set(ThreadMetadataPatch.model_fields) == CLEARABLE | PLAIN

    def test_of_nothing_is_empty(self) -> None:
        assert patch("{}") == ThreadMetadataPatch()
        assert patch("{}").is_empty()

    @pytest.mark.parametrize("name", sorted(CLEARABLE))
    def test_clears_a_clearable_field_by_null(self, name: str) -> None:
        clear = patch(json.dumps({name: None}))
        assert list(clear.changes()) == [(name, None)]
        assert not clear.is_empty()
        assert written(clear)[name] is None

    @pytest.mark.parametrize("name", sorted(PLAIN))
    def test_takes_null_in_a_plain_field_for_absence(self, name: str) -> None:
        absent = patch(json.dumps({name: None}))
        assert absent.is_empty()
        assert list(absent.changes()) == []
        assert written(absent) == written(ThreadMetadataPatch())

    @pytest.mark.parametrize("name", sorted(CLEARABLE | PLAIN))
    def test_keeps_a_value(self, name: str) -> None:
        one = patch(json.dumps({name: VALUES[name]}))
        assert [changed for changed, _ in one.changes()] == [name]
        assert written(one)[name] == VALUES[name]

    def test_that_is_empty_is_written_with_nulls_for_plain_fields_and_without_the_clearable_ones(self) -> None:
        assert written(ThreadMetadataPatch()) == dict.fromkeys(PLAIN)

    def test_as_codex_writes_it_is_read(self) -> None:
        assert patch(json.dumps(dict.fromkeys(PLAIN) | {"name": "Fix"})) == patch('{"name":"Fix"}').merge(patch("{}"))

    @given(PATCHES)
    def test_comes_back_from_json(self, fields: dict[str, Any]) -> None:
        before = ThreadMetadataPatch.model_validate(fields)
        after = ThreadMetadataPatch.model_validate_json(before.model_dump_json())
        assert list(after.changes()) == list(before.changes())
        assert written(after) == written(before)

    @given(PATCHES, PATCHES)
    def test_merged_with_a_later_one_says_the_later_word_of_both(
        self, first: dict[str, Any], second: dict[str, Any]
    ) -> None:
        merged = ThreadMetadataPatch.model_validate(first).merge(ThreadMetadataPatch.model_validate(second))
        assert flat(merged) == flat(ThreadMetadataPatch.model_validate(first)) | flat(
            ThreadMetadataPatch.model_validate(second)
        )

    @given(PATCHES)
    def test_merged_with_nothing_is_itself(self, fields: dict[str, Any]) -> None:
        one = ThreadMetadataPatch.model_validate(fields)
        for same in (one.merge(ThreadMetadataPatch()), ThreadMetadataPatch().merge(one)):
            assert flat(same) == flat(one)

    @given(PATCHES)
    def test_is_empty_exactly_if_it_changes_nothing(self, fields: dict[str, Any]) -> None:
        one = ThreadMetadataPatch.model_validate(fields)
        assert one.is_empty() == (list(one.changes()) == [])

    def test_of_an_unknown_field_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            patch('{"colour":"red"}')

    def test_is_a_value(self) -> None:
        with pytest.raises(ValidationError):
            patch("{}").name = "other"  # type: ignore[misc]

    def test_123_null_clears_absence_is_empty_and_git_fields_come_back(self) -> None:
        """Contract §8, 123."""
        assert list(patch('{"name":null}').changes()) == [("name", None)]
        assert patch("{}").is_empty()

        git = patch('{"git_info":{"branch":"main","origin_url":null}}')
        assert git.git_info is not None
        assert list(git.git_info.changes()) == [("branch", "main"), ("origin_url", None)]
        assert written(git)["git_info"] == {"branch": "main", "origin_url": None}
        assert patch(git.model_dump_json()).git_info == git.git_info

    def test_124_merge_goes_by_presence(self) -> None:
        """Contract §8, 124."""
        current = patch('{"name":"old","preview":"p","git_info":{"sha":"1","branch":"old"}}')
        later = patch('{"name":null,"title":"t","git_info":{"branch":"new","origin_url":null}}')

        assert flat(current.merge(later)) == {
            "name": None,
            "preview": "p",
            "title": "t",
            "git_info.sha": "1",
            "git_info.branch": "new",
            "git_info.origin_url": None,
        }


def flat(one: ThreadMetadataPatch) -> dict[str, Any]:
    """What the patch says of each field, and of each part of git_info."""
    said: dict[str, Any] = {}
    for name, value in one.changes():
        if isinstance(value, GitInfoPatch):
            said |= {f"git_info.{part}": text for part, text in value.changes()}
        else:
            said[name] = value
    return said


class TestAGitPatch:
    @pytest.mark.parametrize("text", ["{}", '{"sha":null}', '{"sha":"1"}', '{"sha":"1","branch":null}'])
    def test_has_three_states_a_field(self, text: str) -> None:
        assert written(GitInfoPatch.model_validate_json(text)) == json.loads(text)

    def test_of_nothing_changes_nothing(self) -> None:
        assert patch('{"git_info":{}}').is_empty()

    def test_of_an_unknown_field_is_refused(self) -> None:
        with pytest.raises(ValidationError):
            GitInfoPatch.model_validate_json('{"commit":"1"}')


class TestTimes:
    def test_are_written_in_utc(self) -> None:
        rome = MOMENT.astimezone(timezone(timedelta(hours=2)))
        assert written(ThreadMetadataPatch(created_at=rome))["created_at"] == "2026-04-23T17:20:29.115000Z"

    def test_without_a_zone_are_refused(self) -> None:
        """They would mean another moment on every machine."""
        with pytest.raises(ValidationError):
            patch('{"created_at":"2026-04-23T17:20:29"}')


PARAMETERS: dict[type[Document], dict[str, Any]] = {
    CreateThreadParams: {},
    ResumeThreadParams: {},
    AppendThreadItemsParams: {"items": []},
    LoadThreadHistoryParams: {},
    ReadThreadParams: {},
    UpdateThreadMetadataParams: {"patch": {}},
    ArchiveThreadParams: {},
}


class TestParameters:
    @pytest.mark.parametrize("kind", PARAMETERS)
    def test_refuse_unknown_fields(self, kind: type[Document]) -> None:
        kind.model_validate({"thread_id": THREAD, **PARAMETERS[kind]})
        with pytest.raises(ValidationError):
            kind.model_validate({"thread_id": THREAD, **PARAMETERS[kind], "colour": "red"})

    @pytest.mark.parametrize("kind", PARAMETERS)
    @pytest.mark.parametrize("text", [THREAD.upper(), THREAD.replace("-", "")])
    def test_take_a_thread_id_in_any_form_and_keep_the_canonical_one(self, kind: type[Document], text: str) -> None:
        params = kind.model_validate({"thread_id": text, **PARAMETERS[kind]})
        assert params.model_dump()["thread_id"] == THREAD

    @pytest.mark.parametrize("kind", PARAMETERS)
    @pytest.mark.parametrize("text", ["", "7", None, 7])
    def test_refuse_what_is_no_thread_id(self, kind: type[Document], text: object) -> None:
        with pytest.raises(ValidationError):
            kind.model_validate({"thread_id": text, **PARAMETERS[kind]})

    @pytest.mark.parametrize("kind", PARAMETERS)
    def test_come_back_from_json(self, kind: type[Document]) -> None:
        params = kind.model_validate({"thread_id": THREAD, **PARAMETERS[kind]})
        assert kind.model_validate_json(params.model_dump_json()) == params

    @pytest.mark.parametrize("field", ["forked_from_id", "session_id", "parent_thread_id"])
    def test_keep_other_ids_in_canonical_form_or_none(self, field: str) -> None:
        canonical = CreateThreadParams.model_validate({"thread_id": THREAD, field: OTHER.upper()})
        absent = CreateThreadParams.model_validate({"thread_id": THREAD, field: None})
        assert (getattr(canonical, field), getattr(absent, field)) == (OTHER, None)

    def test_have_the_defaults_of_the_contract(self) -> None:
        params = ListThreadsParams()
        assert (params.sort_key, params.sort_direction, params.archived) == ("CreatedAt", "Desc", False)
        assert (params.model_providers, params.cwd_filters, params.cursor) == (None, None, None)
        assert CreateThreadParams.model_validate({"thread_id": THREAD}).event_persistence_mode == "Limited"
        assert CreateThreadParams.model_validate({"thread_id": THREAD}).history_mode == "legacy"

    def test_tell_no_filter_from_an_empty_one(self) -> None:
        assert ListThreadsParams.model_validate_json('{"cwd_filters":[]}').cwd_filters == ()
        assert ListThreadsParams.model_validate_json('{"cwd_filters":null}').cwd_filters is None

    def test_take_a_page_of_no_threads_but_not_of_fewer(self) -> None:
        assert ListThreadsParams(page_size=0).page_size == 0
        with pytest.raises(ValidationError):
            ListThreadsParams(page_size=-1)

    @pytest.mark.parametrize("kind", [UpdateThreadMetadataParams, ArchiveThreadParams, DeleteThreadParams])
    @pytest.mark.parametrize("version", [-1, 2**63, 10**30])
    def test_expect_no_version_that_none_can_have(self, kind: type[Document], version: int) -> None:
        kind.model_validate({"thread_id": THREAD, **PARAMETERS.get(kind, {}), "expected_version": 2**63 - 1})
        with pytest.raises(ValidationError, match="expected_version"):
            kind.model_validate({"thread_id": THREAD, **PARAMETERS.get(kind, {}), "expected_version": version})

    def test_write_enumerations_as_the_contract_spells_them(self) -> None:
        text = ListThreadsParams(sort_key=ThreadSortKey.UPDATED_AT).model_dump_json()
        assert json.loads(text)["sort_key"] == "UpdatedAt"


class TestARolloutItem:
    def test_is_a_type_and_a_payload_in_json(self) -> None:
        params = AppendThreadItemsParams.model_validate_json(
            json.dumps({"thread_id": THREAD, "items": [{"type": "event_msg", "payload": {"b": 1, "a": None}}]})
        )
        (item,) = params.items
        assert item == RolloutItem("event_msg", {"b": 1, "a": None})
        assert written(params)["items"] == [{"type": "event_msg", "payload": {"b": 1, "a": None}}]

    def test_keeps_a_text_to_the_letter(self) -> None:
        text = '{ "n": 12345678901234567890123 }'
        assert RolloutItem.from_text("event_msg", text).text == text
        assert RolloutItem.from_text("event_msg", text).payload == {"n": 12345678901234567890123}

    @pytest.mark.parametrize(
        "form",
        [
            {"type": "event_msg"},
            {"payload": {}},
            {"type": 7, "payload": {}},
            {"type": "event_msg", "payload": {}, "timestamp": "2026-04-23T17:20:29Z"},
            "event_msg",
            ["event_msg", {}],
            None,
        ],
    )
    def test_in_any_other_form_is_refused(self, form: object) -> None:
        with pytest.raises(ValidationError):
            AppendThreadItemsParams.model_validate({"thread_id": THREAD, "items": [form]})

    @pytest.mark.parametrize("payload", [float("nan"), [float("inf"), None], {1, 2}, b"bytes"])
    def test_whose_payload_has_no_json_form_is_an_invalid_request(self, payload: Any) -> None:
        with pytest.raises(InvalidRequest, match="has no JSON form"):
            RolloutItem("event_msg", payload)

    @pytest.mark.parametrize("wrong", [5, None, b"event_msg", ["event_msg"]])
    def test_whose_type_is_no_text_is_an_invalid_request(self, wrong: Any) -> None:
        with pytest.raises(InvalidRequest, match="the type of an item has to be a str"):
            RolloutItem(wrong, {})
        with pytest.raises(InvalidRequest, match="the type of an item has to be a str"):
            RolloutItem.from_text(wrong, "{}")

    @pytest.mark.parametrize("wrong", [b'{"a":1}', None, {"a": 1}, 5])
    def test_of_what_is_no_text_is_an_invalid_request(self, wrong: Any) -> None:
        with pytest.raises(InvalidRequest, match="the payload of a 'event_msg' item has to be a str"):
            RolloutItem.from_text("event_msg", wrong)

    @pytest.mark.parametrize("text", ["not json", "", "{", "NaN", '{"a":1}x', "[1,]", "'a'", "[" * 100_000])
    def test_of_a_text_that_is_not_json_is_an_invalid_request(self, text: str) -> None:
        with pytest.raises(InvalidRequest, match="the payload of a 'other' item is not JSON"):
            RolloutItem.from_text("other", text)

    @pytest.mark.parametrize("text", ['"\\ud83d"', "1e400", "1" * 5_000, "[" * 500 + "]" * 500, " null\n"])
    def test_of_any_text_that_is_json_keeps_it(self, text: str) -> None:
        assert RolloutItem.from_text("other", text).text == text

    def test_whose_payload_python_cannot_read_says_that_its_text_is_there(self) -> None:
        item = RolloutItem.from_text("strange", "1" * 5_000)
        with pytest.raises(InvalidRequest, match=r"a 'strange' item has a payload that Python cannot read.*its text"):
            _ = item.payload

    def test_is_a_value(self) -> None:
        one, same, other = (RolloutItem("event_msg", {"n": n}) for n in (1, 1, 2))
        assert (one == same, one == other, one == "event_msg") == (True, False, False)
        assert len({one, same, other}) == 2
        assert repr(one) == '<RolloutItem event_msg {"n":1}>'


class TestAHistory:
    HISTORY = StoredThreadHistory.model_validate(
        {
            "thread_id": THREAD,
            "items": (
                StoredItem(0, Position(3, 41), Item(1_776_964_829_115, "session_meta", '{"id":"x"}')),
                StoredItem(
                    1, Position(3, 44), Item(1_776_964_833_001, "event_msg", '{"n": 123456789012345678901}', "{}")
                ),
            ),
        }
    )

    def test_is_written_as_the_contract_has_it(self) -> None:
        expected = {
            "thread_id": THREAD,
            "items": [
                {"type": "session_meta", "payload": {"id": "x"}},
                {"type": "event_msg", "payload": {"n": 123456789012345678901}},
            ],
        }
        assert written(self.HISTORY) == expected
        assert self.HISTORY.model_dump() == expected

    def test_knows_of_each_item_where_and_when_it_was_written(self) -> None:
        item = self.HISTORY.items[0]
        assert (item.ordinal, str(item.position), item.at) == (0, "3:41", MOMENT)

    def test_tells_of_a_payload_that_python_cannot_read_that_its_text_is_there(self) -> None:
        item = StoredItem(7, Position(0, 1), Item(0, "strange", "1" * 5_000))
        with pytest.raises(InvalidRequest, match=r"item 7 has a payload that Python cannot read.*take its text"):
            _ = item.payload
        assert item.text == "1" * 5_000

    @pytest.mark.parametrize("text", ['"\\ud83d"', "[" * 300 + "]" * 300])
    def test_says_where_it_is_that_pydantic_does_not_write(self, text: str) -> None:
        history = StoredThreadHistory(
            thread_id=ThreadId(THREAD), items=(StoredItem(0, Position(0, 1), Item(0, "strange", text)),)
        )
        with pytest.raises(
            InvalidRequest, match=r"write this StoredThreadHistory: .*; of a history, each item's text has"
        ):
            history.model_dump_json()
        assert json.loads(json.dumps(history.model_dump()))["items"] == [{"type": "strange", "payload": loads(text)}]

    def test_says_the_same_of_what_python_does_not_read_however_it_is_dumped(self) -> None:
        text = "1" * 5_000
        history = StoredThreadHistory(
            thread_id=ThreadId(THREAD), items=(StoredItem(0, Position(0, 1), Item(0, "strange", text)),)
        )
        asked = AppendThreadItemsParams(thread_id=THREAD, items=[RolloutItem.from_text("strange", text)])
        for document, whose in ((history, "item 0"), (asked, "a 'strange' item")):
            for dump in (document.model_dump, document.model_dump_json):
                with pytest.raises(InvalidRequest, match=f"{whose} has a payload that Python cannot read"):
                    dump()
        with pytest.raises(InvalidRequest, match="take its text"):
            _ = asked.items[0].payload

    def test_is_part_of_a_thread_that_was_read_with_it(self) -> None:
        thread = StoredThread.model_validate(
            {
                "thread_id": THREAD,
                "created_at": MOMENT,
                "updated_at": MOMENT,
                "version": 1,
                "item_count": 2,
                "history": self.HISTORY,
            }
        )
        assert written(thread)["history"] == written(self.HISTORY)
        assert written(thread)["created_at"] == "2026-04-23T17:20:29.115000Z"


class TestAPage:
    PAGE = ItemPage(thread_id=ThreadId(THREAD), items=TestAHistory.HISTORY.items[:1], next_cursor="1")

    def test_is_written_for_those_who_show_it(self) -> None:
        assert written(self.PAGE) == {
            "thread_id": THREAD,
            "items": [
                {
                    "ordinal": 0,
                    "position": "3:41",
                    "at": "2026-04-23T17:20:29.115000Z",
                    "type": "session_meta",
                    "payload": {"id": "x"},
                }
            ],
            "next_cursor": "1",
        }

    def test_keeps_its_items_in_python(self) -> None:
        assert self.PAGE.items == TestAHistory.HISTORY.items[:1]


def test_an_item_has_a_json_schema() -> None:
    """Web frameworks describe with it what they take; one that allows nothing is no schema."""
    properties = AppendThreadItemsParams.model_json_schema()["properties"]

    assert properties["items"]["items"]["required"] == ["type", "payload"]


def test_a_thread_has_the_defaults_of_the_contract() -> None:
    thread = StoredThread.model_validate(
        {"thread_id": THREAD, "created_at": MOMENT, "updated_at": MOMENT, "version": 1, "item_count": 1}
    )
    assert (thread.approval_mode, thread.sandbox_policy) == ("on-request", {"type": "read-only"})
    assert (thread.preview, thread.name, thread.archived_at, thread.git_info, thread.token_usage) == ("",) + (None,) * 4


@pytest.mark.parametrize(
    ("params", "fields"),
    [
        (ArchiveThreadParams, {"thread_id": THREAD, "reason": "\udcff"}),
        (DeleteThreadParams, {"thread_id": THREAD, "reason": "\udcff"}),
        (ListThreadsParams, {"search_term": "\udcff"}),
        (ListThreadsParams, {"model_providers": ("\udcff",)}),
        (ListThreadsParams, {"cwd_filters": ("\udcff",)}),
        (ListThreadsParams, {"allowed_sources": ("\udcff",)}),
    ],
)
def test_a_text_that_utf8_cannot_carry_is_refused(params: type[Document], fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="is not UTF-8"):
        params.model_validate(fields)
