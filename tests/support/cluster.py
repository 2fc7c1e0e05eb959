"""The engine on real Kafka and Redis under the contract suite: a topic of its own, and a worker in this process."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from unittest.mock import patch

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from redis.asyncio import Redis

from eventstore.ids import ThreadId
from eventstore.kafka import group, topic
from eventstore.kafka.group import KafkaFollower
from eventstore.kafka.records import key_of
from eventstore.settings import Settings
from eventstore.store import ThreadStore
from eventstore.wiring import Clustered, open_cluster, open_clustered, worker_on
from projections.metrics import Metrics
from projections.worker import Worker
from tests.support.engines import OpenStores, Through, untouched
from tests.support.services import joined

PARTITIONS = 2
_WITHIN = 20.0
_IDLE = 0.05
"""How long a worker's request is held back while there is nothing: each test waits for one when it ends."""


class ClusterEngine(OpenStores[Clustered]):
    """Stores on one topic of the run's Kafka, with views in the run's Redis (protocol `Engine`)."""

    soon = 3.0

    def __init__(self) -> None:
        super().__init__()
        self._settings: Settings | None = None
        self._ends = AsyncExitStack()

    async def open(self, *, through: Through = untouched, within: float = 30.0) -> ThreadStore:
        settings = await self._begun()
        opening = open_clustered(settings.model_copy(update={"within": within}))
        return await self._open(opening, through, within=within)

    async def crash(self, store: ThreadStore) -> None:
        # The store is not told. What its producer was handed already lands, as packets on their way do.
        await self._parts(store).log.close(within=_WITHIN)  # type: ignore[attr-defined]

    async def lose_views(self, store: ThreadStore) -> None:
        settings = await self._begun()
        async with Redis.from_url(settings.views) as redis:
            await redis.flushdb()

    async def write_record(self, store: ThreadStore, thread_id: ThreadId, record: bytes) -> None:
        settings = await self._begun()
        producer = AIOKafkaProducer(**settings.kafka.client_settings())
        await producer.start()
        try:
            await producer.send_and_wait(settings.kafka.topic, record, key_of(thread_id))
        finally:
            await producer.stop()

    @asynccontextmanager
    async def hold_the_log(self) -> AsyncIterator[None]:
        released = asyncio.Event()
        send = AIOKafkaClient.send

        async def held(client: AIOKafkaClient, node: int, request: object, **more: object) -> object:
            if isinstance(request, ProduceRequest):
                await released.wait()
            return await send(client, node, request, **more)

        # What is written is held back on its way: with one replica no setting has a broker take nothing.
        with patch.object(AIOKafkaClient, "send", held):
            try:
                yield
            finally:
                released.set()

    async def end(self) -> None:
        await super().end()
        await self._ends.aclose()

    async def _begun(self) -> Settings:
        """Return the settings of this engine's own topic and views, made and followed by a worker."""
        if self._settings is None:
            self._settings = await self._ends.enter_async_context(a_log(partitions=PARTITIONS))
            self._ends.enter_context(patch.object(group, "_AT_THE_END", _IDLE))
            worker = await self._ends.enter_async_context(a_worker(self._settings))
            await worker.ready()
        return self._settings


@asynccontextmanager
async def a_log(*, partitions: int) -> AsyncIterator[Settings]:
    """Make a topic of its own for the block, with an empty place for its views."""
    kafka = await joined().kafka()
    redis, database = await joined().redis()
    settings = Settings(
        log=f"kafka://{kafka.bootstrap}/log-{secrets.token_hex(6)}",
        views=redis.url(database),
        actor="a test",
        within=_WITHIN,
    )
    await topic.create(settings.kafka, partitions=partitions, replicas=1, min_insync=1, within=_WITHIN)
    try:
        yield settings
    finally:
        await _delete(settings)


@asynccontextmanager
async def a_worker(settings: Settings, *, metrics: Metrics | None = None) -> AsyncIterator[Worker]:
    """Run a worker on all partitions in this process."""
    # A worker's log is for those who run one.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with open_cluster(settings) as cluster:
        partitions = range(cluster.feed.partitions)
        follower = KafkaFollower(settings.kafka, cluster.feed)
        await follower.follow(partitions, within=_WITHIN)
        worker = worker_on(cluster, follower, metrics=metrics or Metrics())
        await worker.take(partitions)
        try:
            yield worker
        finally:
            await worker.let_go()
            await follower.close(within=_WITHIN)


async def _delete(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(**settings.kafka.client_settings())
    await admin.start()
    try:
        await admin.delete_topics([settings.kafka.topic])
    finally:
        await admin.close()
    async with Redis.from_url(settings.views) as redis:
        await redis.flushdb()
