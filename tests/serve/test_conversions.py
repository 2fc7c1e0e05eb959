"""Between the wire and the store: what goes there and back is what it was, and what is wrong is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.documents.items import Position, StoredItem
from eventstore.documents.params import SortDirection, ThreadSortKey
from eventstore.documents.threads import GitInfo, StoredThread, TokenUsage
from eventstore.errors import InvalidRequest
from eventstore.events import Item
from eventstore.ids import new_thread_id
from eventstore.jsontext import loads
from eventstore.serve.codex_wire import (
    LARGEST_PAGE,
    create_params,
    list_params,
    resume_params,
    thread_message,
    update_params,
)
from eventstore.serve.items import item_of, item_text
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.sources import source_message, source_of
from tests.support.strategies import JSON, SOURCE, TEXT, THREAD
from tests.support.wire import item


@given(SOURCE)
def test_a_source_comes_back_as_it_was(source: Any) -> None:
    message = pb.SessionSource.FromString(source_message(source).SerializeToString())

    assert source == source_of(message)


@given(JSON)
def test_a_source_that_the_wire_has_no_kind_for_is_unknown(source: Any) -> None:
    if isinstance(source, (str, dict)) and "custom" not in source and "subagent" not in source:
        back = source_of(source_message(source))
        assert back in ("unknown", source)


@given(THREAD)
def test_a_thread_reads_as_the_store_has_it(thread: StoredThread) -> None:
    """Decoded by the contract's §7, as a client does; times have whole seconds, and what the wire lacks is left out."""
    read = as_codex_reads(pb.StoredThread.FromString(thread_message(thread).SerializeToString()))
    seconds = {
        name: None if (at := getattr(thread, name)) is None else at.replace(microsecond=0)
        for name in ("created_at", "updated_at", "archived_at")
    }

    assert thread.model_copy(update=seconds) == read


@given(st.text(max_size=10), JSON, st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : ")]), st.booleans())
def test_an_items_payload_keeps_its_source_text(kind: str, payload: Any, gaps: tuple[str, str], last: bool) -> None:
    parts = {"payload": payload, "type": kind} if last else {"type": kind, "payload": payload}
    text = json.dumps(parts, separators=gaps)
    taken = item_of(text)
    back = item_text(StoredItem(0, Position(0, 0), Item(0, taken.type, taken.text)))

    assert (kind, json.dumps(payload, separators=gaps)) == (taken.type, taken.text)
    assert {"type": kind, "payload": payload} == json.loads(back)
    assert taken == item_of(back)


def test_numbers_and_half_characters_survive() -> None:
    payload = '{"n":12345678901234567890123,"m":1e400,"half":"\\ud83d","b":1,"a":1}'

    assert payload == item_of(f'{{"type":"event_msg","payload":{payload}}}').text
    assert payload == item_of(f'{{ "payload":{payload} , "type":"event_msg"}}').text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "{}",
        '{"type":"event_msg"}',
        '{"payload":{}}',
        '{"type":1,"payload":{}}',
        '{"type":null,"payload":{}}',
        '{"type":"event_msg","payload":{}',
        '{"type":"event_msg","payload":{}}}',
        '{"type":"event_msg","payload":{},"more":1}',
        '{"type":"event_msg","payload":{}} {}',
        '{"type":"event_msg","payload":NaN}',
        '{"type":"event_msg","payload":{},"payload":{},}',
        '{"type":"event_msg","payload":' + "[" * 100_000 + "}",
    ],
)
def test_what_is_no_item_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no item"):
        item_of(text)


def test_a_request_to_create_says_all_that_is_known() -> None:
    thread, parent = new_thread_id(), new_thread_id()
    params = create_params(
        pb.CreateThreadRequest(
            thread_id=thread.upper(),
            forked_from_id=parent,
            source=source_message("exec"),
            base_instructions_json='{"text":"Be kind."}',
            dynamic_tools_json=['{"name":"look"}'],
            event_persistence_mode=pb.THREAD_EVENT_PERSISTENCE_MODE_EXTENDED,
            metadata_json='{"cwd":"/work","model_provider":"p","memory_mode":"disabled","later":1}',
        )
    )

    assert (thread, parent, "exec", "Extended") == (
        params.thread_id,
        params.forked_from_id,
        params.source,
        params.event_persistence_mode,
    )
    assert params.base_instructions is not None
    assert ("Be kind.", ({"name": "look"},)) == (params.base_instructions.text, params.dynamic_tools)
    assert ("/work", "p", "disabled") == tuple(params.metadata.model_dump().values())


def test_what_a_request_leaves_out_has_the_contracts_defaults() -> None:
    params = create_params(pb.CreateThreadRequest(thread_id=new_thread_id(), base_instructions_json="null"))

    assert ("unknown", None, ()) == (params.source, params.base_instructions, params.dynamic_tools)
    assert "unknown" == source_of(pb.SessionSource(kind=99))  # type: ignore[arg-type]


@given(st.none() | st.lists(TEXT, max_size=2), st.none() | st.lists(TEXT, max_size=2), st.integers(0, 2**32 - 1))
def test_an_absent_list_and_an_empty_one_are_told_apart(
    providers: list[str] | None, directories: list[str] | None, size: int
) -> None:
    request = pb.ListThreadsRequest(
        page_size=size,
        model_provider_filter=None if providers is None else pb.ModelProviderFilter(values=providers),
        cwd_filter=None if directories is None else pb.CwdFilter(values=directories),
        sort_key=pb.THREAD_SORT_KEY_UPDATED_AT,
    )
    params = list_params(pb.ListThreadsRequest.FromString(request.SerializeToString()))

    assert params.model_providers == (None if providers is None else tuple(providers))
    assert params.cwd_filters == (None if directories is None else tuple(directories))
    assert (SortDirection.ASC, ThreadSortKey.UPDATED_AT) == (params.sort_direction, params.sort_key)
    assert min(size, LARGEST_PAGE) == params.page_size


def test_git_patches_set_clear_and_leave_alone() -> None:
    patch = pb.GitInfoPatch(
        sha=pb.OptionalStringPatch(kind=pb.OPTIONAL_STRING_PATCH_KIND_SET, value="abc"),
        branch=pb.OptionalStringPatch(kind=pb.OPTIONAL_STRING_PATCH_KIND_CLEAR),
        origin_url=pb.OptionalStringPatch(),
    )
    params = update_params(
        pb.UpdateThreadMetadataRequest(thread_id=new_thread_id(), patch=pb.ThreadMetadataPatch(git_info=patch))
    )

    assert {"git_info": {"sha": "abc", "branch": None}} == {
        name: dict(value.changes()) for name, value in params.patch.changes()
    }


BAD = {
    "an id": lambda: create_params(pb.CreateThreadRequest(thread_id="no id")),
    "no id": lambda: resume_params(pb.ResumeThreadRequest()),
    "a fork's id": lambda: create_params(pb.CreateThreadRequest(thread_id=str(UUID(int=1)), forked_from_id="")),
    "a spawned agent without parent": lambda: source_of(
        pb.SessionSource(kind=pb.SESSION_SOURCE_KIND_SUB_AGENT_THREAD_SPAWN)
    ),
    "instructions": lambda: create_params(
        pb.CreateThreadRequest(thread_id=str(UUID(int=1)), base_instructions_json='{"text":1}')
    ),
    "a tool": lambda: create_params(pb.CreateThreadRequest(thread_id=str(UUID(int=1)), dynamic_tools_json=["{"])),
    "metadata": lambda: create_params(pb.CreateThreadRequest(thread_id=str(UUID(int=1)), metadata_json="[]")),
    "a memory mode": lambda: create_params(
        pb.CreateThreadRequest(thread_id=str(UUID(int=1)), metadata_json='{"memory_mode":"maybe"}')
    ),
    "a mode": lambda: resume_params(
        pb.ResumeThreadRequest(thread_id=str(UUID(int=1)), event_persistence_mode=7)  # type: ignore[arg-type]
    ),
    "a sort key": lambda: list_params(pb.ListThreadsRequest(sort_key=9)),  # type: ignore[arg-type]
    "a direction": lambda: list_params(pb.ListThreadsRequest(sort_direction=9)),  # type: ignore[arg-type]
    "no patch": lambda: update_params(pb.UpdateThreadMetadataRequest(thread_id=str(UUID(int=1)))),
    "a set without value": lambda: update_params(
        pb.UpdateThreadMetadataRequest(
            thread_id=str(UUID(int=1)),
            patch=pb.ThreadMetadataPatch(
                git_info=pb.GitInfoPatch(sha=pb.OptionalStringPatch(kind=pb.OPTIONAL_STRING_PATCH_KIND_SET))
            ),
        )
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_wrong_request_is_refused(what: str) -> None:
    with pytest.raises(InvalidRequest):
        BAD[what]()


def as_codex_reads(message: pb.StoredThread) -> StoredThread:
    """Decode a thread by the rules of the contract's §7."""

    def given_(name: str) -> Any:
        return getattr(message, name) if message.HasField(name) else None

    def at(name: str) -> datetime | None:
        seconds = given_(name) if name == "archived_at" else getattr(message, name)
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    assert message.rollout_path
    git = message.git_info
    usage = given_("token_usage_json")
    return StoredThread(
        **{name: getattr(message, name) for name in ("thread_id", "preview", "model_provider", "cwd", "cli_version")},
        **{
            name: given_(name)
            for name in [
                "forked_from_id",
                "name",
                "model",
                "agent_nickname",
                "agent_role",
                "agent_path",
                "reasoning_effort",
                "first_user_message",
                "thread_source",
            ]
        },
        created_at=at("created_at"),
        updated_at=at("updated_at"),
        archived_at=at("archived_at"),
        source=source_of(message.source),
        git_info=GitInfo(
            commit_hash=git.sha if git.HasField("sha") else None,
            branch=git.branch if git.HasField("branch") else None,
            repository_url=git.origin_url if git.HasField("origin_url") else None,
        )
        if message.HasField("git_info")
        else None,
        approval_mode=loads(message.approval_mode_json),
        sandbox_policy=loads(message.sandbox_policy_json),
        token_usage=None if usage is None else TokenUsage(**loads(usage)),
        version=1,
        item_count=1,
    )


def test_an_item_is_written_as_codex_writes_it() -> None:
    assert '{"type":"event_msg","payload":{"type":"user_message"}}' == item("event_msg", {"type": "user_message"})
