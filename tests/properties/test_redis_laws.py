"""Laws of the views in Redis: they are what the fold says, however they were folded, raced for, lost or put back."""

from __future__ import annotations

import asyncio
from random import Random

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from eventstore.admission import Lifecycle
from eventstore.documents.params import ListThreadsParams, SortDirection, ThreadSortKey
from eventstore.ids import ThreadId
from eventstore.ports import Entry, RowPage
from eventstore.settings import Settings
from eventstore.sqlite.file import SqliteFile
from eventstore.state import UNKNOWN_THREAD, IndexEntry, ThreadState
from eventstore.wiring import open_embedded
from projections.fold import fold
from projections.listing import page_in
from projections.ports import Mark, ThreadChange
from projections.projector import Projector
from projections.sqlite_views import SqliteViews
from tests.support.logs import ListFeed, RandomLog
from tests.support.partitions import PartitionedFeed, states_to_list
from tests.support.redis_rig import Contents, Rig, contents, copied, fresh, projected, put_back, read_all, rig
from tests.support.redis_server import RedisServer

LENGTH = 120
a_seed = st.integers(0, 2**32 - 1)
# Logs are made from seeds, of which none is simpler than another.
some = settings(max_examples=25, phases=(Phase.explicit, Phase.generate))


def a_log(seed: int, length: int = LENGTH) -> list[Entry]:
    return RandomLog(Random(seed), bad_records=True).write(length)


@some
@given(a_seed, st.integers(1, 40))
def test_the_views_are_those_of_sqlite(redis_server: RedisServer, seed: int, batch: int) -> None:
    entries = a_log(seed)
    feed = ListFeed(entries)
    threads = {entry.thread_id for entry in entries if entry.thread_id is not None}

    async def on_sqlite() -> tuple[dict[ThreadId, ThreadState], dict[ThreadId, list[IndexEntry]], set[ThreadId]]:
        async with open_embedded(Settings(log="sqlite::memory:")) as embedded:
            views = SqliteViews(embedded.file)
            await Projector(feed, views, batch=batch).catch_up(await feed.end(0))
            states = dict((await views.snapshot(0, tuple(threads))).states)
            index = {thread: list(await views.index(thread, start=0, stop=1 << 40)) for thread in states}
            return states, index, set(await views.known_threads(0))

    async def on_redis() -> tuple[dict[ThreadId, ThreadState], dict[ThreadId, list[IndexEntry]], set[ThreadId]]:
        async with fresh(redis_server, ListFeed([])) as made:
            made.feed.entries = entries  # type: ignore[attr-defined]
            await made.fold(batch=batch)
            states, index = await read_all(made.stored, threads)
            return states, index, set(await made.stored.known_threads(0))

    assert asyncio.run(on_sqlite()) == asyncio.run(on_redis())


@some
@given(a_seed, st.integers(1, 40))
def test_the_counts_are_those_of_the_fold(redis_server: RedisServer, seed: int, batch: int) -> None:
    entries = a_log(seed)
    folded = [change.after for change in fold({}, entries).changes.values()]

    async def counted() -> tuple[int, int, int, int, int]:
        async with fresh(redis_server, ListFeed([])) as made:
            made.feed.entries = entries  # type: ignore[attr-defined]
            await made.fold(batch=batch)
            census = await made.stored.census(0)
            return census.active, census.archived, census.deleted, census.items, len(census.frozen)

    lives = [state.head.lifecycle for state in folded]
    items = sum(state.head.items for state in folded if state.head.lifecycle is not Lifecycle.DELETED)
    frozen = sum(state.frozen is not None for state in folded)
    counts = [lives.count(life) for life in (Lifecycle.ACTIVE, Lifecycle.ARCHIVED, Lifecycle.DELETED)]
    assert (*counts, items, frozen) == asyncio.run(counted())


@some
@given(a_seed, st.integers(1, 40))
def test_batch_sizes_change_nothing_at_all(redis_server: RedisServer, seed: int, batch: int) -> None:
    entries = a_log(seed)

    async def in_batches() -> Contents:
        async with fresh(redis_server, ListFeed(entries[:1])) as made:
            made.feed.entries = entries  # type: ignore[attr-defined]
            await made.fold(batch=batch)
            return contents(redis_server)

    assert asyncio.run(projected(redis_server, entries)) == asyncio.run(in_batches())


@some
@given(a_seed, st.integers(1, 30), st.integers(1, LENGTH), st.integers(1, LENGTH))
def test_views_that_lose_their_last_commits_come_back_the_very_same(
    redis_server: RedisServer, seed: int, batch: int, kept: int, reached: int
) -> None:
    """A replica that lagged becomes the master: the projector that folded on knows nothing of it."""
    entries = a_log(seed)
    kept, reached = sorted((kept, reached))

    async def lose_and_go_on() -> Contents:
        feed = ListFeed(entries[:kept])
        async with fresh(redis_server, feed) as made:
            projector = Projector(feed, made.stored, batch=batch)
            await projector.catch_up(await feed.end(0))
            copies = copied(redis_server)
            feed.entries = entries[:reached]
            await projector.catch_up(await feed.end(0))
            put_back(redis_server, copies)
            feed.entries = entries
            if reached == len(entries):
                projector.forget()
            await projector.catch_up(await feed.end(0))
            return contents(redis_server)

    assert asyncio.run(projected(redis_server, entries)) == asyncio.run(lose_and_go_on())


@some
@given(a_seed, st.integers(1, 30), st.integers(1, 30))
def test_projectors_that_race_do_no_harm(redis_server: RedisServer, seed: int, one: int, other: int) -> None:
    entries = a_log(seed)

    async def race() -> Contents:
        feed = ListFeed(entries[:1])
        async with fresh(redis_server, feed) as made:
            feed.entries = entries
            rivals = [Projector(feed, made.stored, batch=batch) for batch in (one, other)]
            end = await feed.end(0)
            assert [end, end] == await asyncio.gather(*(rival.catch_up(end) for rival in rivals))
            return contents(redis_server)

    assert asyncio.run(projected(redis_server, entries)) == asyncio.run(race())


@some
@given(a_seed, st.integers(1, 30))
def test_a_mark_that_is_not_in_force_changes_nothing(redis_server: RedisServer, seed: int, steps: int) -> None:
    entries = a_log(seed)

    async def commit_late() -> tuple[Contents, Contents, list[bool]]:
        feed = ListFeed(entries[:steps])
        async with fresh(redis_server, feed) as made:
            stale = (await made.stored.snapshot(0, ())).mark
            feed.entries = entries
            await made.fold()
            before = contents(redis_server)
            now = (await made.stored.snapshot(0, ())).mark
            changes = fold({}, entries).changes
            taken = [
                await made.stored.commit(0, mark, entries[-1].position.offset + 9, changes, last=entries[-1])
                for mark in (stale, Mark(now.generation + 1, now.checkpoint), Mark(now.generation, 10**12))
            ]
            return before, contents(redis_server), taken

    before, after, taken = asyncio.run(commit_late())
    assert (before, [False] * 3) == (after, taken)


@some
@given(a_seed)
def test_views_that_are_built_anew_are_the_very_same(redis_server: RedisServer, seed: int) -> None:
    entries = a_log(seed)

    async def lose_and_build() -> tuple[Contents, Contents]:
        async with fresh(redis_server, ListFeed(entries)) as made:
            before = contents(redis_server)
            with redis_server.client() as client:
                client.flushall()
            await made.serve()
            return before, contents(redis_server)

    before, after = asyncio.run(lose_and_build())
    assert before == after


# Pages.


def a_query(random: Random) -> dict[str, object]:
    asked: dict[str, object] = {
        "page_size": random.choice((1, 2, 7, 500)),
        "sort_key": random.choice(list(ThreadSortKey)),
        "sort_direction": random.choice(list(SortDirection)),
        "archived": random.random() < 0.3,
    }
    if random.random() < 0.4:
        asked["model_providers"] = random.choice((("openai",), ("azure", "local"), ("nobody", ""), ("nobody",)))
    if random.random() < 0.2:
        asked["allowed_sources"] = random.choice((("cli",), ("vscode", {"a": 1, "custom": "atlas"})))
    if random.random() < 0.2:
        asked["cwd_filters"] = random.choice((("/a",), ("/b", "/nowhere"), ("",)))
    if random.random() < 0.2:
        asked["search_term"] = random.choice(("needle", "name", "three"))
    return asked


@settings(some, max_examples=40)
@given(a_seed, st.sampled_from((0, 3, 60)), st.integers(1, 4))
def test_pages_are_those_of_sqlite(redis_server: RedisServer, seed: int, count: int, partitions: int) -> None:
    random = Random(seed)
    states = states_to_list(random, count)
    queries = [a_query(random) for _ in range(6)]

    async def compare() -> None:
        with redis_server.client() as client:
            client.flushall()
        feed = PartitionedFeed(partitions)
        async with (
            rig(redis_server.url, feed, partitions=partitions) as made,
            open_embedded(Settings(log="sqlite::memory:")) as embedded,
        ):
            await made.serve()
            changes = {thread: ThreadChange(UNKNOWN_THREAD, state, ()) for thread, state in states.items()}
            await _commit(made, SqliteViews(embedded.file), changes)
            for asked in queries:
                await _compare_pages(made, embedded.file, asked, random)

    asyncio.run(compare())


async def _commit(made: Rig, sqlite: SqliteViews, changes: dict[ThreadId, ThreadChange]) -> None:
    assert await sqlite.commit(0, (await sqlite.snapshot(0, ())).mark, 1, changes)
    for partition in range(made.partitions):
        own = {thread: c for thread, c in changes.items() if made.feed.partition_of(thread) == partition}
        assert await made.stored.commit(partition, (await made.stored.snapshot(partition, ())).mark, 1, own)


async def _compare_pages(made: Rig, file: SqliteFile, asked: dict[str, object], random: Random) -> None:
    cursor: str | None = None
    for _ in range(1_000):
        query = ListThreadsParams.model_validate({**asked, "cursor": cursor})
        page = await made.shared.page(query)
        expected = await file.read(lambda connection, query=query: page_in(connection, query))  # type: ignore[misc]
        assert rows(page) == rows(expected)
        # Times beyond 2**53 microseconds are not told apart by less than 32 of them, and so cursors round them.
        assert (page.next_cursor is None) == (expected.next_cursor is None)
        cursor = page.next_cursor
        if cursor is None:
            return
        if random.random() < 0.1:
            cursor = cursor.partition("|")[0]
    raise AssertionError("the pages do not end")


def rows(page: RowPage) -> list[tuple[ThreadId, ThreadState]]:
    return [(row.thread_id, row.state) for row in page.rows]
