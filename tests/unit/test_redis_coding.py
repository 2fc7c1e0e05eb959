"""What Redis keeps of a thread: every state comes back as it was, and the index from either end."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.codex.metadata import EMPTY, Facts, Summary
from eventstore.ids import ThreadId
from eventstore.state import UNKNOWN_THREAD, IndexEntry, ThreadState
from projections.fold import fold
from projections.ports import DamagedView, ThreadChange
from projections.redis_coding import (
    LONGEST_ENTRY,
    SUMMARY_CODES,
    StoredThread,
    _index,
    _varint,
    changes_as_arguments,
    key_of,
    thread_of,
)
from tests.support.logs import RandomLog, thread_number

THREAD = thread_number(7)
KEY = key_of(THREAD)


def stored(state: ThreadState, *, index: bytes = b"", last: int = 0) -> StoredThread:
    """Keep the state as the commit script does."""
    *_, known, key, _, items, head, summary = changes_as_arguments(
        {THREAD: ThreadChange(UNKNOWN_THREAD, replace(state, start=max(0, state.start)), ())}
    )[:10]
    assert (known, key) == (b"", KEY)
    assert isinstance(head, bytes)
    assert isinstance(summary, bytes)
    header = struct.pack(">HIIII", last >> 32, last & 0xFFFF_FFFF, items, len(head), len(summary))
    return StoredThread(KEY, header + head + summary + index)


def test_every_field_of_a_summary_has_a_code_of_its_own() -> None:
    in_head = {"created_at", "updated_at", "token_usage"}
    assert {field.name for field in fields(Summary)} == SUMMARY_CODES.keys() | in_head
    assert len(set(SUMMARY_CODES.values())) == len(SUMMARY_CODES)


@given(st.integers(0, 2**32 - 1))
def test_every_state_comes_back_as_it_was(seed: int) -> None:
    entries = RandomLog(Random(seed), bad_records=True).write(60)
    for change in fold({}, entries).changes.values():
        assert change.after == stored(change.after).state()


texts = st.sampled_from(("", "a", 'Ünïcödé \u2028 "quoted" \\', "x" * 3_000, "{}", "0"))


@given(st.fixed_dictionaries({}, optional={name: texts for name in SUMMARY_CODES if name != "archived_at"}))
def test_every_summary_comes_back_as_it_was(texts: dict[str, Any]) -> None:
    state = ThreadState(summary=replace(EMPTY, **texts, created_at=-5, updated_at=2**60, archived_at=0), start=3)
    assert state == stored(state).state()


@pytest.mark.parametrize(
    "usage",
    [
        '{"input_tokens":1,"cached_input_tokens":2,"cache_write_input_tokens":0,"output_tokens":3,'
        '"reasoning_output_tokens":4,"total_tokens":9}',
        '{"input_tokens":1}',
        '{"total_tokens":99999999999999999999999}',
        '{"input_tokens": 1,"cached_input_tokens":2,"cache_write_input_tokens":0,"output_tokens":3,'
        '"reasoning_output_tokens":4,"total_tokens":9}',
        "[1,2,3,4,5,6]",
        "null",
        None,
    ],
)
def test_token_counts_come_back_in_the_very_text(usage: str | None) -> None:
    state = ThreadState(summary=replace(EMPTY, token_usage=usage), start=1)
    assert state == stored(state).state()


def test_facts_of_an_open_run_come_back_as_they_were() -> None:
    state = ThreadState(run_facts=Facts(5, {"preview": "one"}, {"model": None, "name": "two"}), start=1)
    assert state == stored(state).state()


@st.composite
def some_entries(draw: st.DrawFn) -> Sequence[IndexEntry]:
    entries: list[IndexEntry] = []
    offset, ordinal = draw(st.integers(0, 2**40)), 0
    for items in draw(st.lists(st.integers(1, 2**20), min_size=1, max_size=40)):
        entries.append(IndexEntry(offset, ordinal, items))
        offset += draw(st.sampled_from((1, 127, 128, 16_384, 2**31, 2**36)))
        ordinal += items
    return entries


@given(some_entries(), st.data())
def test_an_index_is_read_from_its_end_as_far_as_it_is_asked_for(
    entries: Sequence[IndexEntry], data: st.DataObject
) -> None:
    last, total = entries[-1].offset, entries[-1].ordinal + entries[-1].items
    index = _varint(entries[0].offset) + _index(entries)
    start = data.draw(st.integers(0, total))
    thread = stored(ThreadState(start=0), last=last)
    thread.items = total
    wanted = [entry for entry in entries if entry.ordinal + entry.items > start]

    assert wanted == thread.entries(index, start=start)
    bounded = index[-LONGEST_ENTRY * len(wanted) :] if wanted else b""
    assert wanted == thread.entries(bounded, start=start)


def test_an_index_that_is_not_whole_is_damaged() -> None:
    thread = stored(ThreadState(start=0))
    thread.items = 5
    with pytest.raises(DamagedView, match=f"{THREAD} is damaged"):
        thread.entries(_varint(9) + _varint(4), start=0)


def test_ids_are_their_sixteen_bytes() -> None:
    thread = ThreadId("019dbb4e-0000-7abc-8def-00000000ffff")
    assert len(key_of(thread)) == 16
    assert thread == thread_of(key_of(thread))
