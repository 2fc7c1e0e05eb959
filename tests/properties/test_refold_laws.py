"""Laws of threads folded anew: whatever an earlier version froze, the views become those of a fold that never froze."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import eventstore.judging
from eventstore.codec import UnreadableRecord
from eventstore.documents.items import Position
from eventstore.events import Event
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.state import UNKNOWN_THREAD, Step, ThreadState, freeze, step
from projections.ports import Mark, Snapshot, ThreadChange, ViewWriter
from projections.projector import Projector
from projections.refold import refold
from projections.sqlite_views import SqliteViews
from tests.support.logs import ListFeed, RandomLog
from tests.support.redis_rig import Contents, contents, fresh
from tests.support.redis_rig import projected as projected_in_redis
from tests.support.redis_server import RedisServer
from tests.support.sqlite_tables import Tables, projected, sqlite_file, tables
from tests.support.tellings import ONE, appended, created

LENGTH = 80
a_seed = st.integers(0, 2**32 - 1)
some = settings(max_examples=25, phases=(Phase.explicit, Phase.generate))


def a_log(seed: int) -> list[Entry]:
    return RandomLog(Random(seed), threads=4).write(LENGTH)


@contextmanager
def an_earlier_version(seed: int, entries: Sequence[Entry]) -> Iterator[None]:
    """Fold as a version does that knows nothing to do with some of the log's events."""
    random = Random(seed)
    beyond = {entry.event.event_id for entry in entries if isinstance(entry.event, Event) and random.random() < 0.05}

    def raising(state: ThreadState, event: Event, *, offset: int) -> Step:
        if event.event_id in beyond:
            raise ValueError("beyond this version")
        return step(state, event, offset=offset)

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(eventstore.judging, "step", raising)
        yield


async def frozen_and_folded_anew(seed: int, entries: Sequence[Entry], views: ViewWriter, feed: ListFeed) -> int:
    """Fold a part of the log by the earlier version, then fold anew what froze while a projector goes on.

    Return how many threads were frozen.
    """
    random = Random(seed)
    threads = sorted({entry.thread_id for entry in entries if entry.thread_id is not None})
    projector = Projector(feed, views, batch=random.randint(1, 9))
    feed.entries = entries[: random.randint(1, LENGTH)]
    with an_earlier_version(seed, entries):
        await projector.catch_up(await feed.end(0))
    frozen = [thread for thread in threads if await is_frozen(views, thread)]
    feed.entries = entries
    for thread_id in random.sample(frozen, len(frozen)):
        for _ in range(random.randint(0, 3)):
            await projector.step()
        await refold(feed, views, thread_id, within=20)
    await projector.catch_up(await feed.end(0))
    return len(frozen)


async def is_frozen(views: ViewWriter, thread_id: ThreadId) -> bool:
    state = (await views.snapshot(0, (thread_id,))).states.get(thread_id)
    return state is not None and state.frozen is not None


def test_on_sqlite_the_views_become_those_that_never_froze() -> None:
    frozen = 0

    @some
    @given(a_seed)
    def law(seed: int) -> None:
        nonlocal frozen
        entries = a_log(seed)

        async def mended() -> Tables:
            nonlocal frozen
            async with sqlite_file() as file:
                feed = ListFeed(entries)
                frozen += await frozen_and_folded_anew(seed, entries, SqliteViews(file), feed)
                return await tables(file)

        assert without_numbers(asyncio.run(projected(entries))) == without_numbers(asyncio.run(mended()))

    law()
    assert frozen > 10


def without_numbers(found: Tables) -> list[object]:
    """Return the rows without the numbers of threads, which are in order of appearance."""
    numbers = {row[0]: row[1] for row in found if len(row) > 4}
    return sorted(((numbers.get(row[0], row[0]), *row[1:]) for row in found if len(row) <= 4), key=repr) + [
        (*row[1:12], *row[13:]) for row in found if len(row) > 4
    ]


def test_in_redis_the_views_become_those_that_never_froze(redis_server: RedisServer) -> None:
    frozen = 0

    @some
    @given(a_seed)
    def law(seed: int) -> None:
        nonlocal frozen
        entries = a_log(seed)

        async def mended() -> Contents:
            nonlocal frozen
            async with fresh(redis_server, ListFeed(entries[:1])) as made:
                feed = made.feed
                assert isinstance(feed, ListFeed)
                frozen += await frozen_and_folded_anew(seed, entries, made.stored, feed)
                return without_revision(contents(redis_server))

        assert asyncio.run(projected_in_redis(redis_server, entries)) == asyncio.run(mended())

    law()
    assert frozen > 10


def without_revision(found: Contents) -> Contents:
    for value in found.values():
        if isinstance(value, dict):
            value.pop(b"revision", None)
    return found


def test_a_projector_that_looked_before_commits_nothing_after(redis_server: RedisServer) -> None:
    """Between its look at the states and its commit a frozen thread is folded anew, and no checkpoint moves.

    What it counts as unfolded would be missing from the thread for ever.
    """
    fired = 0

    @some
    @given(a_seed)
    def law(seed: int) -> None:
        entries = a_log(seed)

        async def raced(feed: ListFeed, views: ViewWriter) -> None:
            nonlocal fired
            feed.entries = entries[: LENGTH // 2]
            with an_earlier_version(seed, entries):
                await Projector(feed, views).catch_up(await feed.end(0))
            feed.entries = entries
            overtaken = _Overtaken(feed, views)
            await Projector(feed, overtaken).catch_up(await feed.end(0))
            fired += overtaken.fired

        async def on_sqlite() -> Tables:
            async with sqlite_file() as file:
                await raced(ListFeed(entries), SqliteViews(file))
                return await tables(file)

        async def in_redis() -> Contents:
            async with fresh(redis_server, ListFeed(entries[:1])) as made:
                assert isinstance(made.feed, ListFeed)
                await raced(made.feed, made.stored)
                return without_revision(contents(redis_server))

        assert without_numbers(asyncio.run(projected(entries))) == without_numbers(asyncio.run(on_sqlite()))
        assert asyncio.run(projected_in_redis(redis_server, entries)) == asyncio.run(in_redis())

    law()
    assert fired > 10


class _Overtaken:
    """Views (port `ViewWriter`) whose frozen threads are all folded anew just before the first commit."""

    def __init__(self, feed: ListFeed, views: ViewWriter) -> None:
        self._feed = feed
        self._views = views
        self._overtaken = False
        self.fired = 0

    async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
        return await self._views.snapshot(partition, threads)

    async def commit(
        self,
        partition: int,
        expected: Mark,
        checkpoint: int,
        changes: Mapping[ThreadId, ThreadChange],
        *,
        last: Entry | None = None,
    ) -> bool:
        if not self._overtaken:
            self._overtaken = True
            for thread_id in {entry.thread_id for entry in self._feed.entries if entry.thread_id is not None}:
                if await is_frozen(self._views, thread_id):
                    await refold(self._feed, self._views, thread_id, within=20)
                    self.fired += 1
        return await self._views.commit(partition, expected, checkpoint, changes, last=last)


class FallingBack:
    """Views that refuse the first commit and are less far then, as after a failover (port `ViewWriter`)."""

    def __init__(self, stored: ThreadState, checkpoints: Sequence[int]) -> None:
        self._stored = stored
        self._marks = [Mark(1, checkpoint, revision) for revision, checkpoint in enumerate(checkpoints)]
        self.committed: list[ThreadChange] = []

    async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
        return Snapshot(self._marks[0], dict.fromkeys(threads, self._stored))

    async def commit(
        self,
        partition: int,
        expected: Mark,
        checkpoint: int,
        changes: Mapping[ThreadId, ThreadChange],
        *,
        last: Entry | None = None,
    ) -> bool:
        assert (expected, expected.checkpoint) == (self._marks.pop(0), checkpoint)
        if self._marks:
            return False
        self.committed += changes.values()
        return True


@pytest.mark.parametrize("checkpoint", [3, 4, 5])
async def test_what_is_put_in_is_folded_up_to_where_the_views_are_and_no_further(checkpoint: int) -> None:
    events = [created(), *map(appended, range(1, 5))]
    log = [Entry(Position(0, offset), ONE, event) for offset, event in enumerate(events)]
    frozen = freeze(step(UNKNOWN_THREAD, created(), offset=0).state, "beyond", offset=1)
    views = FallingBack(frozen, [4, checkpoint])

    await refold(ListFeed(log), views, ONE, within=20)

    (change,) = views.committed
    assert (frozen, True) == (change.before, change.replaces)
    assert list(range(checkpoint)) == [entry.offset for entry in change.indexed]
    assert change.after.head.items == checkpoint


async def test_a_thread_of_which_nothing_counts_is_none_when_it_is_folded_anew() -> None:
    async with sqlite_file() as file:
        views, feed = SqliteViews(file), ListFeed([Entry(Position(0, 1), ONE, UnreadableRecord("of the future"))])
        await Projector(feed, views).catch_up(2)
        assert [ONE] == await views.known_threads(0)

        feed.entries = [Entry(Position(0, 1), ONE, appended(1))]
        await refold(feed, views, ONE, within=20)

        assert [] == await views.known_threads(0)
