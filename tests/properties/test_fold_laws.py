"""Laws of the fold: what is read depends on the log alone, however it was cut, repeated, raced for, lost or copied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eventstore.judging
import eventstore.state
import projections.fold
from eventstore.admission import Admitted, Duplicate, Head, Lifecycle, Verdict, admit, follows
from eventstore.codec import ForeignRecord, UnreadableRecord
from eventstore.codex.metadata import stored_thread
from eventstore.documents.items import Position
from eventstore.documents.threads import StoredThread
from eventstore.events import Event, ItemsAppended, items_of
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.state import UNKNOWN_THREAD, IndexEntry, Step, ThreadState, step, step_all
from projections.fold import fold
from projections.ports import Mark, Snapshot, ThreadChange
from projections.projector import Projector
from projections.sqlite_views import SqliteViews
from tests.support.logs import ListFeed, RandomLog, thread_number
from tests.support.sqlite_tables import Tables, copy_aside, lose, projected, put_back, sqlite_file, tables

Views: TypeAlias = "tuple[dict[ThreadId, ThreadState], dict[ThreadId, list[IndexEntry]]]"

a_seed = st.integers(0, 2**32 - 1)
LENGTH = 120


def a_log(seed: int, *, bad_records: bool = False, length: int = LENGTH) -> list[Entry]:
    return RandomLog(Random(seed), bad_records=bad_records).write(length)


def folded(entries: Sequence[Entry], cuts: Sequence[int] = ()) -> Views:
    """Fold the entries, cut into batches, into states and index."""
    states: dict[ThreadId, ThreadState] = {}
    index: dict[ThreadId, list[IndexEntry]] = {}
    for start, stop in zip([0, *cuts], [*cuts, len(entries)], strict=True):
        for thread_id, change in fold(states, entries[start:stop]).changes.items():
            assert change.before == states.get(thread_id, UNKNOWN_THREAD)
            states[thread_id] = change.after
            index.setdefault(thread_id, []).extend(change.indexed)
    return states, index


def as_read(entries: Sequence[Entry]) -> dict[ThreadId, tuple[StoredThread, list[tuple[str, str]]]]:
    """Return what a reader sees of the log: each thread and its items."""
    states, index = folded(entries)
    by_offset = {entry.position.offset: entry.event for entry in entries}
    seen = {}
    for thread_id, state in states.items():
        events = [by_offset[place.offset] for place in index[thread_id]]
        items = [(i.type, i.payload) for e in events for i in items_of(e)]  # type: ignore[arg-type]
        seen[thread_id] = stored_thread(thread_id, state.summary, state.head), items
    return seen


def admitted(entries: Sequence[Entry]) -> list[Event]:
    states: dict[ThreadId, ThreadState] = {}
    found = []
    for position, _, event in entries:
        assert not isinstance(event, UnreadableRecord | ForeignRecord)
        done = step(states.get(event.thread_id, UNKNOWN_THREAD), event, offset=position.offset)
        states[event.thread_id] = done.state
        if isinstance(done.verdict, Admitted):
            found.append(event)
    return found


def relogged(events: Sequence[Event], *, first: int) -> list[Entry]:
    return [Entry(Position(0, first + 2 * i), event.thread_id, event) for i, event in enumerate(events)]


class MemoryViews:
    """Views in dictionaries (port `ViewWriter`); `heeds_the_mark=False` breaks the one promise it has to keep."""

    def __init__(self, *, heeds_the_mark: bool = True) -> None:
        self.states: dict[ThreadId, ThreadState] = {}
        self.index: dict[ThreadId, list[IndexEntry]] = {}
        self.mark = Mark(1, 1)
        self._heeds_the_mark = heeds_the_mark

    async def snapshot(self, partition: int, threads: Any) -> Snapshot:
        await asyncio.sleep(0)
        known = {thread: self.states[thread] for thread in threads if thread in self.states}
        return Snapshot(self.mark, known)

    async def commit(
        self,
        partition: int,
        expected: Mark,
        checkpoint: int,
        changes: Mapping[ThreadId, ThreadChange],
        *,
        last: Entry | None = None,
    ) -> bool:
        await asyncio.sleep(0)
        if self._heeds_the_mark and expected != self.mark:
            return False
        for thread_id, change in changes.items():
            self.states[thread_id] = change.after
            self.index.setdefault(thread_id, []).extend(change.indexed)
        self.mark = Mark(expected.generation, checkpoint)
        return True


# The laws


@given(a_seed, st.lists(st.integers(0, LENGTH)))
def test_batch_boundaries_change_nothing(seed: int, cuts: list[int]) -> None:
    entries = a_log(seed, bad_records=True)

    assert folded(entries) == folded(entries, sorted(cuts))


def appends_folded_at_once_are_as_folded_one_by_one(seed: int) -> None:
    entries = a_log(seed, bad_records=True)

    assert folded(entries) == folded(entries, range(1, len(entries)))


@given(a_seed)
def test_appends_folded_at_once_are_as_folded_one_by_one(seed: int) -> None:
    appends_folded_at_once_are_as_folded_one_by_one(seed)


def test_appends_in_a_row_are_folded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []

    def counting(state: ThreadState, appends: Sequence[tuple[int, ItemsAppended]]) -> Step | None:
        done = step_all(state, appends)
        counted.append(len(appends) if done is not None else 0)
        return done

    monkeypatch.setattr(projections.fold, "step_all", counting)
    for seed in range(10):
        folded(a_log(seed))

    assert max(counted) > 3
    assert 0 in counted, "appends of a writer that is fenced, or behind an open run, are taken one by one"


@given(a_seed, st.integers(1, 40))
def test_batch_sizes_change_nothing_in_the_stored_views(seed: int, batch: int) -> None:
    entries = a_log(seed, bad_records=True)

    found = asyncio.run(projected(entries, batch=batch))
    assert found == asyncio.run(projected(entries))
    assert len(found) > 3


@given(a_seed)
def test_the_stored_views_are_what_the_fold_says(seed: int) -> None:
    entries = a_log(seed, bad_records=True)
    states, _ = folded(entries)

    async def stored() -> Mapping[ThreadId, ThreadState]:
        async with sqlite_file() as file:
            views, feed = SqliteViews(file), ListFeed(entries)
            await Projector(feed, views).catch_up(await feed.end(0))
            return (await views.snapshot(0, tuple(states))).states

    assert states == asyncio.run(stored())


def copies_and_repetitions_change_nothing(seed: int) -> None:
    random = Random(seed)
    log = RandomLog(random)
    entries = log.write(LENGTH)
    events = admitted(entries)
    repeated: list[Event] = []
    for event in events:
        repeated.append(event)
        if random.random() < 0.3:
            repeated.append(event)
    assert as_read(entries) == as_read(relogged(events, first=1_000)) == as_read(relogged(repeated, first=5))


@given(a_seed)
def test_a_copy_of_the_events_that_count_reads_the_same(seed: int) -> None:
    copies_and_repetitions_change_nothing(seed)


@given(a_seed, st.integers(0, LENGTH))
def test_a_copy_that_begins_again_in_the_middle_reads_the_same(seed: int, done: int) -> None:
    events = admitted(a_log(seed))
    begun_again = [*events[:done], *events[max(0, done - 5) :]]

    assert as_read(relogged(events, first=1)) == as_read(relogged(begun_again, first=1))


@given(a_seed, st.integers(1, 30))
def test_folding_again_what_is_folded_is_refused_and_changes_nothing(seed: int, batch: int) -> None:
    entries = a_log(seed)

    async def fold_again() -> tuple[Tables, Tables, bool]:
        async with sqlite_file() as file:
            views, feed = SqliteViews(file), ListFeed(entries)
            beginning = (await views.snapshot(0, ())).mark
            late = Projector(feed, views, batch=batch)
            await late.catch_up(entries[0].position.offset + 1)
            await Projector(feed, views).catch_up(await feed.end(0))
            before = await tables(file)
            taken = await views.commit(0, beginning, entries[-1].position.offset + 1, fold({}, entries).changes)
            await late.catch_up(await feed.end(0))
            return before, await tables(file), taken

    before, after, taken = asyncio.run(fold_again())
    assert (before, False) == (after, taken)


@given(a_seed, st.integers(1, 30), st.integers(0, LENGTH), st.integers(0, LENGTH))
def test_a_projector_that_loses_its_last_commits_repairs_itself(seed: int, batch: int, kept: int, reached: int) -> None:
    """Promise 5: views may "lose [their] last writes or fall behind"."""
    log = RandomLog(Random(seed), bad_records=True)
    entries = log.write(LENGTH)
    kept, reached = sorted((kept, reached))

    async def lose_and_go_on() -> Tables:
        async with sqlite_file() as file:
            feed = ListFeed(entries[:kept])
            projector = Projector(feed, SqliteViews(file), batch=batch)
            await projector.catch_up(await feed.end(0))
            await copy_aside(file)
            feed.entries = entries[:reached]
            await projector.catch_up(await feed.end(0))
            await put_back(file)
            feed.entries = entries
            if kept == len(entries) or reached == len(entries):
                projector.forget()
            await projector.catch_up(await feed.end(0))
            return await tables(file)

    assert asyncio.run(projected(entries)) == asyncio.run(lose_and_go_on())


_MOVES = st.tuples(
    st.integers(0, 1), st.sampled_from(["advance", "catch_up", "write", "step", "forget"]), st.floats(0, 1)
)


@given(a_seed, st.tuples(st.integers(1, 30), st.integers(1, 30)), st.lists(_MOVES, max_size=25))
def test_what_is_folded_ahead_of_the_views_is_what_the_log_says_whoever_writes_them(
    seed: int, batches: tuple[int, int], moves: list[tuple[int, str, float]]
) -> None:
    entries = a_log(seed, bad_records=True)

    async def moved() -> Tables:
        async with sqlite_file() as file:
            feed = ListFeed(entries)
            end = await feed.end(0)
            rivals = [Projector(feed, SqliteViews(file), batch=batch) for batch in batches]
            for number, move, share in moves:
                projector, until = rivals[number], round(end * share)
                match move:
                    case "advance":
                        assert await projector.advance(until) >= min(until, end)
                    case "catch_up":
                        assert await projector.catch_up(until) >= min(until, end)
                    case "write":
                        await projector.write()
                    case "step":
                        await projector.step()
                    case _:
                        projector.forget()
                for thread_id in dict.fromkeys(entry.thread_id for entry in entries if entry.thread_id is not None):
                    state, reached = await projector.state_of(thread_id)
                    so_far, _ = folded([entry for entry in entries if entry.position.offset < reached])
                    assert state == so_far.get(thread_id, UNKNOWN_THREAD)
            for projector in rivals:
                await projector.catch_up(end)
            return await tables(file)

    assert asyncio.run(projected(entries)) == asyncio.run(moved())


@given(a_seed, st.integers(1, 40), st.integers(1, 40))
def test_views_that_are_lost_come_back_the_very_same(seed: int, batch: int, refolding: int) -> None:
    """Promise 5: "Rebuilding from the start gives the very same views"."""
    entries = a_log(seed, bad_records=True)

    async def lose_and_refold() -> tuple[Tables, Tables]:
        async with sqlite_file() as file:
            feed = ListFeed(entries)
            await Projector(feed, SqliteViews(file), batch=batch).catch_up(await feed.end(0))
            before = await tables(file)
            await lose(file)
            # In other batches, as ever: a row that was not written when it changed would not be written again.
            await Projector(feed, SqliteViews(file), batch=refolding).catch_up(await feed.end(0))
            return before, await tables(file)

    before, after = asyncio.run(lose_and_refold())
    assert before == after


def rivals_do_no_harm(seed: int, *, heeds_the_mark: bool = True) -> None:
    random = Random(seed)
    entries = RandomLog(random).write(LENGTH)

    async def race() -> Views:
        views, feed = MemoryViews(heeds_the_mark=heeds_the_mark), ListFeed(entries)
        rivals = [Projector(feed, views, batch=random.randint(1, 30)) for _ in range(3)]
        await asyncio.gather(*(rival.catch_up(entries[-1].position.offset + 1) for rival in rivals))
        return views.states, {thread: places for thread, places in views.index.items() if places}

    states, index = asyncio.run(race())
    assert (states, index) == (folded(entries)[0], {thread: p for thread, p in folded(entries)[1].items() if p})


@given(a_seed)
def test_projectors_that_race_on_one_set_of_views_do_no_harm(seed: int) -> None:
    rivals_do_no_harm(seed)


@given(a_seed, st.integers(1, 30), st.integers(1, 30))
def test_projectors_that_race_on_the_stored_views_do_no_harm(seed: int, one: int, other: int) -> None:
    entries = a_log(seed, bad_records=True)

    async def race() -> Tables:
        async with sqlite_file() as file:
            feed = ListFeed(entries)
            rivals = [Projector(feed, SqliteViews(file), batch=batch) for batch in (one, other)]
            end = await feed.end(0)
            assert [end, end] == await asyncio.gather(*(rival.catch_up(end) for rival in rivals))
            return await tables(file)

    assert asyncio.run(projected(entries)) == asyncio.run(race())


@given(a_seed, st.integers(0, LENGTH))
def test_a_record_that_cannot_be_understood_freezes_its_thread_unless_that_is_dead_and_no_other(
    seed: int, place: int
) -> None:
    """Promise 7: "that thread freezes […]; the partition goes on"."""
    entries = a_log(seed)
    victim = thread_number(0)
    offset = entries[place - 1].position.offset if place else 0
    bad = Entry(Position(0, offset), victim, UnreadableRecord("of the future"))

    before, _ = folded(entries[:place])
    without, _ = folded(entries)
    states, _ = folded([*entries[:place], bad, *entries[place:]])

    frozen = states.pop(victim)
    known = before.get(victim, replace(UNKNOWN_THREAD, start=offset))
    dead = known.head.lifecycle is Lifecycle.DELETED
    assert frozen.frozen == (None if dead else f"the record at offset {offset} cannot be understood: of the future")
    assert known == replace(frozen, frozen=None)
    assert states == {thread: state for thread, state in without.items() if thread != victim}


@given(a_seed, st.integers(0, LENGTH))
def test_a_fold_that_raises_freezes_the_thread_unless_that_is_dead_and_no_other(seed: int, place: int) -> None:
    entries = a_log(seed)
    own = [entry for entry in entries if entry.thread_id == thread_number(0)]
    cursed = own[place % len(own)].position.offset if own else -1

    def raising(state: ThreadState, event: Event, *, offset: int) -> Step:
        if offset == cursed:
            raise ZeroDivisionError("by nobody")
        return step(state, event, offset=offset)

    def raising_too(state: ThreadState, appends: Sequence[tuple[int, ItemsAppended]]) -> Step | None:
        if any(offset == cursed for offset, _ in appends):
            raise ZeroDivisionError("by nobody")
        return step_all(state, appends)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(eventstore.judging, "step", raising)
        patched.setattr(projections.fold, "step_all", raising_too)
        states, _ = folded(entries)

    before, _ = folded([entry for entry in entries if entry.position.offset < cursed])
    dead = before.get(thread_number(0), UNKNOWN_THREAD).head.lifecycle is Lifecycle.DELETED
    frozen = [thread for thread, state in states.items() if state.frozen is not None]
    assert frozen == [thread_number(0)] * (bool(own) and not dead)
    others, _ = folded([entry for entry in entries if entry.thread_id != thread_number(0)])
    assert others == {thread: state for thread, state in states.items() if thread != thread_number(0)}


# Laws that could not fail would say nothing: each of these breaks what it rests on, and is found out


def is_found_out(law: Callable[[int], None]) -> bool:
    for seed in range(100):
        try:
            law(seed)
        except AssertionError:
            return True
    return False


def test_a_rule_that_counts_repetitions_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def counts_repetitions(head: Head, event: Event) -> Verdict:
        verdict = admit(head, event)
        return Admitted() if isinstance(verdict, Duplicate) else verdict

    monkeypatch.setattr(eventstore.state, "admit", counts_repetitions)

    assert is_found_out(copies_and_repetitions_change_nothing)


@pytest.mark.parametrize("forgotten", ["writer_id", "writer_seq", "more"])
def test_folding_too_much_at_once_is_found_out(monkeypatch: pytest.MonkeyPatch, forgotten: str) -> None:
    def follows_nearly(event: object, before: object) -> bool:
        if not isinstance(event, ItemsAppended) or not isinstance(before, ItemsAppended):
            return False
        as_if: dict[str, Any] = {
            "writer_id": before.writer_id,
            "writer_seq": before.writer_seq + 1,
            "more": False,
        }
        first = replace(before, more=False) if forgotten == "more" else before
        return follows(replace(event, **{forgotten: as_if[forgotten]}), first)

    monkeypatch.setattr(projections.fold, "follows", follows_nearly)

    assert is_found_out(appends_folded_at_once_are_as_folded_one_by_one)


def test_views_that_do_not_heed_the_mark_are_found_out() -> None:
    assert is_found_out(lambda seed: rivals_do_no_harm(seed, heeds_the_mark=False))


def test_random_logs_have_everything_in_them() -> None:
    logs = [a_log(seed, bad_records=True) for seed in range(30)]
    kinds = {type(entry.event).__name__ for entries in logs for entry in entries}
    states = [state for entries in logs for state in folded(entries)[0].values()]

    assert len(kinds) == 8 + 2
    assert {state.head.lifecycle.value for state in states} >= {"active", "archived", "deleted"}
    assert any(state.head.run for state in states)
    assert any(state.frozen for state in states)
    assert any(state.head.commands_total > 3 and state.head.epoch > 3 for state in states)
