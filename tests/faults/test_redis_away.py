"""A store whose Redis is away or hangs when it is opened: appends go on, reads say what they can, and it comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis as Client

from compose.services.redis import Redis
from eventstore import ListThreadsParams, ReadThreadParams, new_thread_id
from eventstore.errors import InvalidRequest, TopicMisconfigured, ViewsBehind, ViewsUnavailable, WriterFenced
from eventstore.ids import ThreadId
from eventstore.settings import Settings
from eventstore.store import ThreadStore
from eventstore.wiring import open_clustered
from tests.support.cluster import a_log, a_worker
from tests.support.services import StartRedis
from tests.support.threads import (
    a_cold_thread,
    append,
    archive,
    created,
    patch,
    read,
    resume,
    said,
    say,
    user_message,
)


@asynccontextmanager
async def a_log_with_views_in(redis: Redis, *, within: float = 6.0) -> AsyncIterator[Settings]:
    async with a_log(partitions=2) as settings:
        yield settings.model_copy(update={"views": redis.url(), "within": within})


async def listed(store: ThreadStore) -> set[ThreadId]:
    return {thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items}


@pytest.mark.parametrize("away", ["stopped", "hung"])
async def test_a_store_opens_and_appends_while_redis_is_away_and_is_whole_when_it_is_back(
    own_redis: StartRedis, away: str
) -> None:
    """What is flushed counts, and every other answer is right or says that the views are not to be had."""
    redis = await own_redis()
    await (redis.nodes[0].stop() if away == "stopped" else redis.nodes[0].hang())
    async with a_log_with_views_in(redis) as settings, open_clustered(settings) as parts:
        store = parts.store
        thread_id = await created(store)
        await append(store, thread_id, user_message("one"))
        with pytest.raises(ViewsBehind, match=r"is written up to .* and counts"):
            await store.flush_thread(thread_id)
        await say(store, thread_id, "two")
        with pytest.raises(ViewsBehind):
            await store.flush_thread(thread_id)

        assert ["one", "two"] == await said(store, thread_id)
        assert 3 == (await read(store, thread_id)).item_count
        with pytest.raises(InvalidRequest, match="no rollout found"):
            await read(store, new_thread_id())
        with pytest.raises(ViewsUnavailable, match=redis.url().removesuffix("/0")):
            await listed(store)

        await (redis.start() if away == "stopped" else redis.nodes[0].wake())
        async with a_worker(settings) as worker:
            await worker.ready()
            await store.flush_thread(thread_id)
            assert {thread_id} == await listed(store)
            await store.shutdown_thread(thread_id)
        assert ["one", "two"] == await said(store, thread_id)


async def test_a_durable_store_acknowledges_what_counts_whatever_the_views_do(own_redis: StartRedis) -> None:
    """With the setting `durable` the verdict comes from the log: a flush waits neither for workers nor for Redis."""
    redis = await own_redis()
    await redis.nodes[0].stop()
    async with a_log_with_views_in(redis) as settings:
        durable = settings.model_copy(update={"durable": True})
        async with open_clustered(durable) as parts, open_clustered(durable) as elsewhere:
            store = parts.store
            thread_id = await a_cold_thread(store, "one")
            await resume(store, thread_id)
            for text in ("two", "three"):
                await say(store, thread_id, text)
                token = await store.flush_thread(thread_id)
            parts.cluster.feed.count_cost_anew()
            await say(store, thread_id, "four")
            await store.flush_thread(thread_id)
            cost = replace(parts.cluster.feed.cost)
            seen = await elsewhere.store.read_thread(ReadThreadParams(thread_id=thread_id, at_least=token))
            await resume(elsewhere.store, thread_id)
            await say(store, thread_id, "too late")
            with pytest.raises(WriterFenced):
                await store.flush_thread(thread_id)
            assert "named" == (await patch(elsewhere.store, thread_id, name="named")).name
            await archive(elsewhere.store, thread_id)

            assert (1, 0) == (cost.own, cost.replays), "only what came since the last verdict is read"
            assert 5 == seen.item_count
            assert ["one", "two", "three", "four"] == await said(elsewhere.store, thread_id)


async def test_views_of_another_log_are_found_out_at_the_first_look_at_them(own_redis: StartRedis) -> None:
    redis = await own_redis()
    async with a_log_with_views_in(redis) as settings:
        async with a_worker(settings) as worker, open_clustered(settings) as parts:
            await worker.ready()
            thread_id = await a_cold_thread(parts.store, "one")
            key = parts.cluster.shards.key(parts.feed.partition_of(thread_id))
        await redis.nodes[0].stop()
        async with open_clustered(settings) as parts:
            assert ["one"] == await said(parts.store, thread_id)
            await redis.start()
            async with Client.from_url(redis.url()) as client:
                assert 0 == await client.hset(f"{key}1m", "cluster", "another one")

            for _ in range(2):
                with pytest.raises(TopicMisconfigured, match="were folded from a log on another one"):
                    await listed(parts.store)
                with pytest.raises(TopicMisconfigured):
                    await read(parts.store, thread_id)
        with pytest.raises(TopicMisconfigured):
            async with open_clustered(settings):
                pass
