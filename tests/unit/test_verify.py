"""Verifying finds every way in which views can be other than the log says, and nothing where they are not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from eventstore.admission import Lifecycle
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.state import UNKNOWN_THREAD, IndexEntry, ThreadState
from projections.fold import fold
from projections.ports import Mark, Snapshot
from projections.verify import Difference, first_difference
from tests.support.logs import ListFeed, RandomLog, thread_number


@dataclass
class FoldedViews:
    """Views in memory, folded up to a checkpoint."""

    states: dict[ThreadId, ThreadState]
    indexes: dict[ThreadId, list[IndexEntry]]
    mark: Mark
    moves: list[Callable[[FoldedViews], None]] = field(default_factory=list)
    """What others do to the views, one before each time an index is read."""

    async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
        return Snapshot(self.mark, {thread: self.states[thread] for thread in threads if thread in self.states})

    async def index(self, thread_id: ThreadId, *, start: int, stop: int) -> Sequence[IndexEntry]:
        if self.moves:
            self.moves.pop(0)(self)
        return self.indexes.get(thread_id, [])

    async def known_threads(self, partition: int) -> Sequence[ThreadId]:
        return list(self.states)

    def become(self, other: FoldedViews) -> None:
        self.states, self.indexes, self.mark = other.states, other.indexes, other.mark


def a_log(seed: int = 0, length: int = 300) -> list[Entry]:
    return RandomLog(Random(seed), threads=5, bad_records=True).write(length)


def views_of(entries: Sequence[Entry], *, generation: int = 1) -> FoldedViews:
    folded = fold({}, entries)
    states = {thread: change.after for thread, change in folded.changes.items()}
    indexes = {
        thread: [] if change.after.head.lifecycle is Lifecycle.DELETED else list(change.indexed)
        for thread, change in folded.changes.items()
    }
    checkpoint = entries[-1].position.offset + 1 if entries else 1
    return FoldedViews(states, indexes, Mark(generation, checkpoint))


async def difference(entries: Sequence[Entry], views: FoldedViews) -> Difference | None:
    return (await first_difference(ListFeed(entries), views)).difference


@pytest.mark.parametrize("seed", range(20))
async def test_views_that_are_the_fold_of_the_log_do_not_differ(seed: int) -> None:
    entries = a_log(seed)
    verified = await first_difference(ListFeed(entries), views_of(entries))
    assert verified.difference is None
    assert verified.records == len(entries)
    assert verified.threads >= 5


async def test_an_empty_log_has_empty_views() -> None:
    assert await difference([], views_of([])) is None


@pytest.mark.parametrize("folded", [0, 1, 150, 299])
async def test_views_that_lag_do_not_differ(folded: int) -> None:
    entries = a_log()
    assert await difference(entries, views_of(entries[:folded])) is None


def the_longest(views: FoldedViews) -> ThreadId:
    return max(views.indexes, key=lambda thread: len(views.indexes[thread]))


def _forget_a_thread(views: FoldedViews) -> None:
    del views.states[the_longest(views)]


def _invent_a_thread(views: FoldedViews) -> None:
    views.states[thread_number(77)] = replace(UNKNOWN_THREAD, start=3)


def _rename(views: FoldedViews) -> None:
    thread = the_longest(views)
    state = views.states[thread]
    views.states[thread] = replace(state, summary=replace(state.summary, name="another"))


def _count_one_item_more(views: FoldedViews) -> None:
    thread = the_longest(views)
    state = views.states[thread]
    views.states[thread] = replace(state, head=replace(state.head, items=state.head.items + 1))


def _forget_the_last_record(views: FoldedViews) -> None:
    views.indexes[the_longest(views)].pop()


def _repeat_a_record(views: FoldedViews) -> None:
    index = views.indexes[the_longest(views)]
    index.append(index[-1])


def _misplace_a_record(views: FoldedViews) -> None:
    index = views.indexes[the_longest(views)]
    index[1] = index[1]._replace(offset=index[1].offset + 1)


def _freeze(views: FoldedViews) -> None:
    thread = the_longest(views)
    views.states[thread] = replace(views.states[thread], frozen="cold")


def _run_ahead(views: FoldedViews) -> None:
    views.mark = views.mark._replace(checkpoint=10_000)


def _stay_behind(views: FoldedViews) -> None:
    views.mark = views.mark._replace(checkpoint=100)


@pytest.mark.parametrize(
    ("tamper", "what"),
    [
        (_forget_a_thread, "the thread is there by the log, and absent in the views"),
        (_invent_a_thread, "the thread is absent by the log, and there in the views"),
        (_rename, "summary.name is "),
        (_count_one_item_more, "head.items is "),
        (_forget_the_last_record, "by the log, and absent in the views"),
        (_repeat_a_record, "of the item index is absent by the log, and "),
        (_misplace_a_record, "entry 1 of the item index is "),
        (_freeze, "frozen is None by the log, and 'cold' in the views"),
        (_run_ahead, "the checkpoint is at most the log's end by the log, and 10000, beyond it in the views"),
        (_stay_behind, "by the log, and "),
    ],
)
async def test_every_way_of_being_wrong_is_found(tamper: Callable[[FoldedViews], None], what: str) -> None:
    entries = a_log()
    views = views_of(entries)
    tamper(views)
    found = await difference(entries, views)
    assert found is not None
    assert what in str(found)


async def test_views_that_move_on_meanwhile_are_compared_where_they_are() -> None:
    """Between reading states and index another process folds more: that is no difference."""
    entries = a_log()
    views = views_of(entries[:200])
    later = views_of(entries)
    views.moves = [lambda views: views.become(later)]
    assert await difference(entries, views) is None
    assert views.moves == []


async def test_views_that_begin_anew_meanwhile_are_compared_where_they_are() -> None:
    entries = a_log()
    views = views_of(entries)
    anew = views_of(entries[:120], generation=2)
    views.moves = [lambda views: views.become(anew)]
    assert await difference(entries, views) is None
    assert views.moves == []


async def test_a_difference_that_is_there_while_others_fold_is_found_all_the_same() -> None:
    entries = a_log()
    views = views_of(entries[:200])
    later = views_of(entries)
    _forget_the_last_record(later)
    views.moves = [lambda views: views.become(later)]
    assert await difference(entries, views) is not None


async def test_a_state_that_cannot_be_decoded_is_a_difference() -> None:
    entries = a_log()
    views = views_of(entries)
    damaged = the_longest(views)

    class Damaged(FoldedViews):
        async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
            if damaged in threads:
                raise ValueError("unexpected end of data")
            return await super().snapshot(partition, threads)

    found = await difference(entries, Damaged(views.states, views.indexes, views.mark))
    assert str(found) == (
        f"thread {damaged}: the state is sound by the log, and damaged (unexpected end of data) in the views"
    )
