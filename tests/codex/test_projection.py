"""What callers see of a summary."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from eventstore.admission import Head
from eventstore.codex.metadata import (
    EMPTY,
    Summary,
    apply_archived,
    apply_patch,
    apply_unarchived,
    patch_fields,
    stored_thread,
)
from eventstore.documents.threads import (
    GitInfo,
    HistoryPosition,
    StoredThread,
    ThreadHistoryMode,
    ThreadMemoryMode,
    TokenUsage,
)
from eventstore.events import Field
from tests.support.said import BASE, FULL_PATCH, OTHER, OWN, STAMP_MICROS, USAGE

HEAD = Head(version=3, items=4)
FULL_SUMMARY = replace(
    apply_patch(EMPTY, patch_fields(FULL_PATCH), occurred_at=1),
    archived_at=STAMP_MICROS,
    forked_from_id=OTHER,
    parent_thread_id=OTHER,
    sandbox_policy='{"type":"danger-full-access"}',
    history_mode="paginated",
    history_base=json.dumps(BASE),
    imported='{"name":"x"}',
)


def test_callers_see_the_whole_summary() -> None:
    """The thread is the very one that validation would make, and JSON comes out as the contract's."""
    created = datetime(2026, 4, 23, 17, 20, 29, 115000, UTC)
    expected = StoredThread(
        thread_id=OWN,
        forked_from_id=OTHER,
        parent_thread_id=OTHER,
        preview="p",
        name="n",
        model_provider="mp",
        model="m",
        reasoning_effort="high",
        created_at=created,
        updated_at=datetime(2026, 4, 23, 17, 20, 30, tzinfo=UTC),
        archived_at=created,
        cwd="/c",
        cli_version="1",
        source={"custom": "x"},
        thread_source="user",
        agent_nickname="a",
        agent_role="r",
        agent_path="/p",
        git_info=GitInfo(commit_hash="s", branch="b", repository_url="o"),
        approval_mode="never",
        sandbox_policy={"type": "danger-full-access"},
        permission_profile={"type": "disabled"},
        token_usage=TokenUsage(**USAGE),
        first_user_message="f",
        memory_mode=ThreadMemoryMode.DISABLED,
        history_mode=ThreadHistoryMode.PAGINATED,
        history_base=HistoryPosition(thread_id=OTHER, end_ordinal_exclusive=30, end_byte_offset=44339),
        version=3,
        item_count=4,
    )

    thread = stored_thread(OWN, FULL_SUMMARY, HEAD)

    assert thread.model_dump() == expected.model_dump()
    assert thread.model_dump(mode="json") == expected.model_dump(mode="json")
    assert thread.model_dump_json() == expected.model_dump_json()
    assert repr(thread) == repr(expected)
    assert thread.model_dump(mode="json")["created_at"] == "2026-04-23T17:20:29.115000Z"
    assert StoredThread.model_validate_json(thread.model_dump_json()).model_dump() == expected.model_dump()
    assert thread.model_copy(update={"rollout_path": "/x"}).rollout_path == "/x"


def test_callers_see_the_contracts_defaults() -> None:
    thread = stored_thread(OWN, replace(EMPTY, name=""), Head())

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = StoredThread(thread_id=OWN, created_at=epoch, updated_at=epoch, version=0, item_count=0)
    assert thread.model_dump() == expected.model_dump()
    assert (thread.approval_mode, thread.sandbox_policy) == ("on-request", {"type": "read-only"})
    assert thread.git_info is None


def test_git_is_shown_when_any_part_is_there() -> None:
    for summary in (Summary(git_sha="x"), Summary(git_branch="x"), Summary(git_origin="x")):
        assert stored_thread(OWN, summary, Head()).git_info is not None


def test_every_field_of_the_thread_is_filled() -> None:
    """A field added to StoredThread would be missing from a thread built without validation."""
    assert set(vars(stored_thread(OWN, FULL_SUMMARY, HEAD))) == set(StoredThread.model_fields)


def test_a_summary_holds_json_scalars_only() -> None:
    for value in asdict(FULL_SUMMARY).values():
        assert value is None or isinstance(value, (str, int))
    assert Summary(**json.loads(json.dumps(asdict(FULL_SUMMARY)))) == FULL_SUMMARY


@pytest.mark.parametrize("far", [2**62, 2**63 - 1, -(2**62), -(2**63)])
def test_no_clock_leads_a_summary_beyond_the_calendar(far: int) -> None:
    last = datetime.max.replace(tzinfo=UTC)
    end = last if far > 0 else datetime.min.replace(tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    patched = apply_patch(EMPTY, (), far)
    archived, unarchived = apply_archived(EMPTY, far), apply_unarchived(EMPTY, far)

    assert archived.archived_at == (end - epoch) // timedelta(microseconds=1)
    for summary in (patched, archived, unarchived):
        assert summary.updated_at == max(0, archived.archived_at or 0)
    assert stored_thread(OWN, archived, Head()).archived_at == end


@pytest.mark.parametrize(
    ("text", "end"),
    [("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00"), ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999")],
)
def test_a_zone_does_not_carry_a_time_beyond_the_calendar(text: str, end: str) -> None:
    patched = apply_patch(EMPTY, (Field("created_at", json.dumps(text)),), 1)
    micros = (datetime.fromisoformat(end) - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001
    assert patched.created_at == micros


def test_a_damaged_thread_says_why() -> None:
    assert stored_thread(OWN, FULL_SUMMARY, HEAD).damaged is None
    assert stored_thread(OWN, FULL_SUMMARY, HEAD).model_dump()["damaged"] is None
    assert stored_thread(OWN, FULL_SUMMARY, HEAD, damaged="why").damaged == "why"
