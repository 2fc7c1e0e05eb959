"""A server whose brokers or views are away says so within the deadline, and works again when they are back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import grpc
import pytest

from eventstore import ListThreadsParams, open_store
from eventstore.errors import (
    Behind,
    EventStoreError,
    LogUnavailable,
    OutcomeUnknown,
    Unavailable,
    Unknown,
    ViewsBehind,
    ViewsUnavailable,
)
from eventstore.ids import new_thread_id
from eventstore.kafka import topic
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.settings import Settings
from tests.support.services import StartKafka, StartRedis
from tests.support.serving import a_server
from tests.support.threads import a_live_thread, said, say
from tests.support.wire import CodexWire

WITHIN = 3.0
NO_ANSWER = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
PATIENCE = 60.0


async def ended(call: object) -> tuple[grpc.StatusCode, float]:
    """Return the status that a call fails with, and after how many seconds."""
    begun = time.monotonic()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code(), time.monotonic() - begun


async def works_again(flush: Callable[[], Awaitable[object]]) -> None:
    """Flush until it goes through; each try waits for what is away, for as long as a call may."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await flush()
                return
            except (Unavailable, Behind, Unknown):
                continue
            except grpc.aio.AioRpcError as exc:
                if exc.code() not in NO_ANSWER:
                    raise


async def told(call: Awaitable[object]) -> tuple[type[EventStoreError], float]:
    """Return the error that a call of the store at the server fails with, and after how many seconds."""
    begun = time.monotonic()
    with pytest.raises(EventStoreError) as caught:
        await call
    return type(caught.value), time.monotonic() - begun


async def test_brokers_and_views_go_away_and_come_back(
    own_kafka: StartKafka, own_redis: StartRedis, tmp_path: Path
) -> None:
    kafka, redis = await own_kafka(), await own_redis()
    settings = Settings(log=f"kafka://{kafka.bootstrap}/threads", views=redis.url(0))
    await topic.create(settings.kafka, partitions=2, replicas=1, min_insync=1, within=30)
    async with (
        a_server(settings, tmp_path, "--worker", "--deadline", str(WITHIN)) as server,
        open_store(f"grpc://{server.address}") as store,
    ):
        codex, thread = CodexWire(server.address), new_thread_id()
        of_codex = partial(codex.say, "FlushThread", thread)
        await codex.create(thread)
        await codex.append(thread, "one")
        await works_again(of_codex)
        other = await a_live_thread(store, "one")
        of_client = partial(store.flush_thread, other)

        await kafka.nodes[0].hang()
        appended = await asyncio.gather(ended(codex.append(thread, "two")), told(say(store, other, "two")))
        flushed = await asyncio.gather(ended(of_codex()), told(of_client()))
        await kafka.nodes[0].wake()
        await asyncio.gather(works_again(of_codex), works_again(of_client))

        await redis.nodes[0].hang()
        await codex.append(thread, "three")
        await say(store, other, "three")
        page = pb.ListThreadsRequest(page_size=1)
        listed = await asyncio.gather(
            ended(codex.call("ListThreads", page)), told(store.list_threads(ListThreadsParams()))
        )
        behind = await asyncio.gather(ended(of_codex()), told(of_client()))
        await redis.nodes[0].wake()
        await asyncio.gather(works_again(of_codex), works_again(of_client))
        texts = [await codex.said(thread), await said(store, other)]

    for (status, seconds), (_, seconds_too) in (appended, flushed, listed, behind):
        assert status in NO_ANSWER
        assert max(seconds, seconds_too) < 2 * WITHIN + 2
    assert OutcomeUnknown is appended[1][0]
    assert flushed[1][0] in (LogUnavailable, OutcomeUnknown)
    assert listed[1][0] in (ViewsUnavailable, LogUnavailable)
    assert ViewsBehind is behind[1][0]
    assert [["one", "two", "three"]] * 2 == texts
