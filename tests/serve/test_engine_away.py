"""A server whose brokers or views are away says so within the deadline, and works again when they are back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path

import grpc
import pytest

from eventstore import ListThreadsParams, open_store
from eventstore.errors import EventStoreError, LogUnavailable, OutcomeUnknown, ViewsBehind, ViewsUnavailable
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


async def works_again(codex: CodexWire, thread: str) -> None:
    """Flush until it goes through; each try waits for what is away, for as long as a call may."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await codex.say("FlushThread", thread)
                return
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
        await codex.create(thread)
        await codex.append(thread, "one")
        await works_again(codex, thread)
        of_client = await a_live_thread(store, "one")

        await kafka.nodes[0].hang()
        without_kafka = [await ended(codex.append(thread, "two")), await ended(codex.say("FlushThread", thread))]
        unknown = [await told(say(store, of_client, "two")), await told(store.flush_thread(of_client))]
        await kafka.nodes[0].wake()
        await works_again(codex, thread)
        await store.flush_thread(of_client)

        await redis.nodes[0].hang()
        await codex.append(thread, "three")
        await say(store, of_client, "three")
        without_redis = [
            await ended(codex.call("ListThreads", pb.ListThreadsRequest(page_size=1))),
            await ended(codex.say("FlushThread", thread)),
        ]
        behind = [await told(store.list_threads(ListThreadsParams())), await told(store.flush_thread(of_client))]
        await redis.nodes[0].wake()
        await works_again(codex, thread)
        texts = [await codex.said(thread), await said(store, of_client)]

    assert {status for status, _ in [*without_kafka, *without_redis]} <= NO_ANSWER
    assert OutcomeUnknown is unknown[0][0]
    assert unknown[1][0] in (LogUnavailable, OutcomeUnknown)
    assert behind[0][0] in (ViewsUnavailable, LogUnavailable)
    assert ViewsBehind is behind[1][0]
    for _, seconds in (*without_kafka, *without_redis, *unknown, *behind):
        assert seconds < 2 * WITHIN + 2
    assert [["one", "two", "three"]] * 2 == texts
