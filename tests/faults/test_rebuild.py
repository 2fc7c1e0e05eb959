"""Views in Redis rebuilt beside those that serve: while others append, cut short, taken back, and compared."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eventstore import ListThreadsParams, new_thread_id
from eventstore.ids import ThreadId
from eventstore.kafka.group import KafkaFollower
from eventstore.wiring import Clustered, open_clustered, rebuild_of
from projections.ports import Mark
from projections.rebuild import Progress, Rebuild
from projections.redis_views import RedisViews
from projections.verify import first_difference
from tests.support.cluster import a_log, a_worker
from tests.support.threads import a_cold_thread, a_live_thread, append, created, said, say, user_message

PARTITIONS = 2


@asynccontextmanager
async def a_followed_store() -> AsyncIterator[Clustered]:
    async with (
        a_log(partitions=PARTITIONS) as settings,
        a_worker(settings) as worker,
        open_clustered(settings) as parts,
    ):
        await worker.ready()
        yield parts


@asynccontextmanager
async def rebuilding(parts: Clustered) -> AsyncIterator[Rebuild]:
    ahead = KafkaFollower(parts.cluster.topic, parts.cluster.feed)
    await ahead.follow(range(PARTITIONS), within=20)
    try:
        yield rebuild_of(parts, ahead)
    finally:
        await ahead.close(within=20)


async def marks(parts: Clustered) -> list[Mark]:
    views = parts.cluster.stored_views()
    return [(await views.snapshot(partition, ())).mark for partition in range(PARTITIONS)]


async def differences(parts: Clustered) -> list[object]:
    found = [
        await first_difference(parts.feed, parts.stored_views(), partition=partition) for partition in range(PARTITIONS)
    ]
    return [one.difference for one in found if one.difference is not None]


def in_silence(progress: Progress) -> None:
    return


async def listed(parts: Clustered) -> set[ThreadId]:
    return {thread.thread_id for thread in (await parts.store.list_threads(ListThreadsParams(page_size=99))).items}


async def test_views_are_rebuilt_while_appends_go_on() -> None:
    async with a_followed_store() as parts, rebuilding(parts) as rebuild:
        threads = [await a_live_thread(parts.store, "one") for _ in range(8)]
        told: list[Progress] = []
        done = asyncio.Event()

        async def go_on() -> int:
            said_so_far = 0
            while not done.is_set():
                for thread_id in threads:
                    await say(parts.store, thread_id, f"{said_so_far}")
                    await parts.store.flush_thread(thread_id)
                said_so_far += 1
            return said_so_far

        appending = asyncio.create_task(go_on())
        rebuilt = [await rebuild.run(partition, verify=True, tell=told.append) for partition in range(PARTITIONS)]
        done.set()
        rounds = await appending

        assert rounds > 0
        assert [True] * PARTITIONS == [one.switched for one in rebuilt]
        assert [2] * PARTITIONS == [mark.generation for mark in await marks(parts)]
        for thread_id in threads:
            assert ["one", *map(str, range(rounds))] == await said(parts.store, thread_id)
        assert set(threads) == await listed(parts)
        assert [] == await differences(parts)
        assert told
        assert told[-1].folded >= told[-1].end


async def test_a_rebuild_cut_short_leaves_the_views_that_serve_and_nothing_else() -> None:
    async with a_followed_store() as parts, rebuilding(parts) as rebuild:
        thread_id = await a_cold_thread(parts.store, "one")
        partition = parts.feed.partition_of(thread_id)
        begun = asyncio.Event()

        def tell(progress: Progress) -> None:
            begun.set()

        running = asyncio.create_task(rebuild.run(partition, verify=True, tell=tell, batch=1))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

        assert [1] * PARTITIONS == [mark.generation for mark in await marks(parts)]
        assert 1 == len(await parts.cluster.generations.all(partition))
        assert ["one"] == await said(parts.store, thread_id)


async def test_a_rebuild_is_taken_back_unless_readers_would_go_back() -> None:
    async with a_followed_store() as parts, rebuilding(parts) as rebuild:
        thread_id = await a_live_thread(parts.store, "one")
        partition = parts.feed.partition_of(thread_id)
        await rebuild.run(partition, verify=False, tell=in_silence)

        assert await parts.cluster.generations.roll_back(partition)
        assert 1 == (await marks(parts))[partition].generation

        await say(parts.store, thread_id, "two")
        await parts.store.flush_thread(thread_id)
        assert not await parts.cluster.generations.roll_back(partition), "the second has not folded what came since"
        assert ["one", "two"] == await said(parts.store, thread_id)


async def test_all_partitions_are_taken_back_or_none() -> None:
    async with a_followed_store() as parts, rebuilding(parts) as rebuild:
        generations = parts.cluster.generations
        await rebuild.run(1, verify=False, tell=in_silence)
        refused = await generations.roll_back_all(range(PARTITIONS))
        assert ((), {0: "there are none"}) == refused
        assert [1, 2] == [mark.generation for mark in await marks(parts)]

        await rebuild.run(0, verify=False, tell=in_silence)
        ahead = await a_thread_in(parts, 1)
        refused = await generations.roll_back_all(range(PARTITIONS))
        assert ((), [1]) == (refused.switched, [*refused.refused])
        assert re.fullmatch(r"they are at \d+, and those that serve are at \d+", refused.refused[1])
        assert [2, 2] == [mark.generation for mark in await marks(parts)]

        await rebuild.run(1, verify=False, tell=in_silence)
        assert ((0, 1), {}) == await generations.roll_back_all(range(PARTITIONS))
        assert [1, 2] == [mark.generation for mark in await marks(parts)]
        assert {ahead} == await listed(parts)


async def a_thread_in(parts: Clustered, partition: int) -> ThreadId:
    """Make a thread that lies in the partition."""
    thread_id = next(made for made in iter(new_thread_id, None) if parts.feed.partition_of(made) == partition)
    await created(parts.store, thread_id)
    await append(parts.store, thread_id, user_message("hello"))
    await parts.store.flush_thread(thread_id)
    return thread_id


async def test_what_differs_is_told_and_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control of `--verify`: views that lose something on the way are found out."""
    async with a_followed_store() as parts, rebuilding(parts) as rebuild:
        thread_id = await a_cold_thread(parts.store, "one")
        partition = parts.feed.partition_of(thread_id)
        commit = RedisViews.commit

        async def forgetful(views: RedisViews, partition: int, expected: Mark, checkpoint: int, changes, **more):  # type: ignore[no-untyped-def]
            return await commit(views, partition, expected, checkpoint, {}, **more)

        with monkeypatch.context() as patched:
            patched.setattr(RedisViews, "commit", forgetful)
            rebuilt = await rebuild.run(partition, verify=True, tell=in_silence)

        assert not rebuilt.switched
        assert rebuilt.verified is not None
        assert thread_id in str(rebuilt.verified.difference)
        assert 1 == (await marks(parts))[partition].generation
        assert [] == await differences(parts)
