"""The store on Kafka and Redis against bare aiokafka with the same bytes, on one broker of this machine."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis as RedisClient

from compose.services.kafka import Kafka
from compose.services.ports import Ports
from compose.services.redis import Redis
from eventstore.codec import codec
from eventstore.documents.items import RolloutItem
from eventstore.documents.params import AppendThreadItemsParams, CreateThreadParams, LoadThreadHistoryParams
from eventstore.events import Event, Item, ItemsAppended, ThreadCreated
from eventstore.ids import ThreadId, new_event_id, new_thread_id, new_writer_id
from eventstore.jsontext import dumps
from eventstore.kafka import topic
from eventstore.kafka.group import KafkaFollower
from eventstore.kafka.records import OwnRecord, own_record
from eventstore.settings import Settings
from eventstore.wiring import Clustered, open_cluster, open_clustered, worker_on
from projections.metrics import Metrics
from tests.benchmarks.measure import Figure, items, median, payload, traced, user_message

_WITHIN = 60.0
_THREADS = 1_000
_LONG = 10_000
_SCATTERED = 100
"""Appends of the thread that is looked for among foreign records."""
_LOADS = 200
_DEADLINE = Settings().within


class MakeLog(Protocol):
    def __call__(self, *, partitions: int) -> AbstractAsyncContextManager[Settings]:
        """Make a topic for the block."""
        ...


@asynccontextmanager
async def servers(folder: Path) -> AsyncIterator[MakeLog]:
    """Start a broker and a Redis for the block; give what makes topics there."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    async with AsyncExitStack() as ends:
        ports = ends.enter_context(Ports())
        kafka, redis = Kafka.made(folder / "kafka", ports=ports), Redis.made(folder / "redis", ports=ports)
        for node in (*kafka.nodes, *redis.nodes):
            ends.push_async_callback(node.end)
        await asyncio.gather(kafka.start(), redis.start())
        yield partial(_a_log, kafka, redis)


async def measure(made: MakeLog, *, quick: bool) -> list[Figure]:
    """Return the figures of appends, the worker and histories."""
    return [
        *await _appends(made, 200 if quick else 2_000, 5 if quick else 20),
        *await _backlog(made, 20_000 if quick else 500_000),
        *await _scattered(made, 50_000 if quick else 500_000),
        await _contiguous(made),
    ]


@asynccontextmanager
async def _a_log(kafka: Kafka, redis: Redis, *, partitions: int) -> AsyncIterator[Settings]:
    settings = Settings(
        log=f"kafka://{kafka.bootstrap}/bench-{secrets.token_hex(4)}", views=redis.url(0), actor="bench", within=_WITHIN
    )
    await topic.create(settings.kafka, partitions=partitions, replicas=1, min_insync=1, within=_WITHIN)
    yield settings


@asynccontextmanager
async def _a_worker(settings: Settings, *, batch: int = 500) -> AsyncIterator[None]:
    async with open_cluster(settings) as cluster:
        follower = KafkaFollower(settings.kafka, cluster.feed)
        await follower.follow(range(cluster.feed.partitions), within=_WITHIN)
        worker = worker_on(cluster, follower, metrics=Metrics(), batch=batch)
        await worker.take(range(cluster.feed.partitions))
        try:
            await worker.ready()
            yield
        finally:
            await worker.let_go()
            await follower.close(within=_WITHIN)


@asynccontextmanager
async def worker_process(settings: Settings) -> AsyncIterator[int]:
    """Run a worker as it is run elsewhere, for the block; give its pid."""
    command = (sys.executable, "-m", "projections")
    environment = {**os.environ, "EVENTSTORE_LOG": settings.log, "EVENTSTORE_VIEWS": settings.views}
    worker = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield worker.pid
    finally:
        worker.terminate()
        await worker.wait()


async def _appends(made: MakeLog, serial: int, each: int) -> list[Figure]:
    async with made(partitions=24) as settings, worker_process(settings), open_clustered(settings) as parts:
        thread_id = await _a_live_thread(parts)
        records = [record_of(event, 24) for event in _one_by_one(new_thread_id(), serial)]
        async with bare_producer(settings) as bare:
            ratios = []
            for first in range(0, serial, max(1, serial // 5)):
                some = range(first, min(serial, first + max(1, serial // 5)))
                theirs = median([await _seconds(_send(bare, settings, records[number])) for number in some])
                ours = median([await _seconds(_append_and_flush(parts, thread_id, number)) for number in some])
                ratios.append(ours / theirs)
            threads = [await _a_live_thread(parts) for _ in range(_THREADS)]
            piped = [[record_of(event, 24) for event in _one_by_one(thread, each)] for thread in threads]
            theirs = await _seconds(_all(_send_each(bare, settings, some) for some in piped))
            said = [items(1, first=number) for number in range(each)]
            ours = await _seconds(_all(_append_each(parts, thread, said) for thread in threads))
    return [
        Figure("append + flush until readable", median(ratios), "times a bare send_and_wait", "<= 3, aim 2"),
        Figure(
            f"pipelined appends over {_THREADS:,} threads",
            theirs / ours,
            "of a bare producer's rate",
            ">= 0.3",
            f"ours {_THREADS * each / ours:,.0f}/s",
        ),
    ]


async def _backlog(made: MakeLog, events: int) -> list[Figure]:
    """A worker that folds a backlog of one partition against a loop that consumes and decodes it."""
    async with made(partitions=1) as settings, open_cluster(settings) as cluster:
        threads = max(1, events // 20)
        await _fill(settings, [event for _ in range(threads) for event in _a_thread(19)])
        end = await cluster.feed.end(0)
        gc.freeze()  # a worker's process has not all that the benchmarks have loaded to look through
        began = time.perf_counter()
        await _consume(settings, end)
        bare = time.perf_counter() - began
        began = time.perf_counter()
        async with _a_worker(settings, batch=1_000), open_clustered(settings) as parts:
            await parts.views.thread_ids(after=None, limit=1)  # returns once all of the log is folded
            ours = time.perf_counter() - began
            used = await _redis_bytes(settings) / threads
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        Figure(
            f"projection of {end:,} events",
            bare / ours,
            "of a bare consume-and-decode loop's rate",
            ">= 0.2, aim 0.4",
            f"{end / ours:,.0f} events/s, this process at most {resident:,.0f} MiB",
        ),
        Figure("Redis a thread of 20 appends", used, "bytes", "<= 1,200, aim 800", f"{threads:,} threads"),
    ]


async def _scattered(made: MakeLog, foreign: int) -> list[Figure]:
    async with made(partitions=1) as settings:
        wanted = new_thread_id()
        own = list(_a_thread(_SCATTERED, wanted))
        gap = foreign // len(own)
        strangers = iter([event for _ in range(foreign // 20 + 1) for event in _a_thread(19)])
        log = [event for one in own for event in (one, *(next(strangers) for _ in range(gap)))]
        await _fill(settings, log)
        async with _a_worker(settings, batch=1_000), open_clustered(settings) as parts:
            await parts.views.thread_ids(after=None, limit=1)
            load = partial(parts.store.load_history, LoadThreadHistoryParams(thread_id=wanted))
            assert len((await load()).items) == len(own)
            planned = median([await _seconds(load()) for _ in range(5)])
            end = await parts.feed.end(0)
            replays = [await _seconds(_replayed(parts, wanted, end)) for _ in range(3)]
            together = await _seconds(_all(load() for _ in range(_LOADS)))
            memory = await traced(lambda: _all(load() for _ in range(_LOADS)))
    return [
        Figure(
            f"history of {_SCATTERED} appends among {foreign:,}",
            planned / median(replays),
            "of the plain replay's time",
            "<= 0.1",
            f"{planned * 1000:,.0f} ms",
        ),
        Figure(
            f"{_LOADS} such loads at once",
            together,
            "s",
            f"< {_DEADLINE:g}",
            f"{together / _LOADS / planned:.1f} times as long as one by one",
        ),
        Figure("memory of them, with what they return", memory, "MiB", "< 100"),
    ]


async def _contiguous(made: MakeLog) -> Figure:
    """Load a long thread that has the log to itself, ten items an event."""
    async with made(partitions=1) as settings, worker_process(settings), open_clustered(settings) as parts:
        thread_id = await _a_live_thread(parts)
        for first in range(0, _LONG, 10):
            some = items(10, first=first)
            await parts.store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=some))
        await parts.store.flush_thread(thread_id)
        load = partial(parts.store.load_history, LoadThreadHistoryParams(thread_id=thread_id))
        assert len((await load()).items) == _LONG + 2
        took = median([await _seconds(load()) for _ in range(10)])
    return Figure(f"history of {_LONG:,} items, ten an event", _LONG / took, "items/s", ">= 80,000")


async def _redis_bytes(settings: Settings) -> int:
    async with RedisClient.from_url(settings.views) as redis:
        return int((await redis.info("memory"))["used_memory"])


async def _replayed(parts: Clustered, thread_id: ThreadId, end: int) -> None:
    async for _ in parts.feed.replay(thread_id, start=0, stop=end):
        pass


async def _a_live_thread(parts: Clustered) -> ThreadId:
    thread_id = new_thread_id()
    await parts.store.create_thread(CreateThreadParams(thread_id=thread_id))
    hello = (user_message("measure me"),)
    await parts.store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=hello))
    await parts.store.flush_thread(thread_id)
    return thread_id


async def _append_and_flush(parts: Clustered, thread_id: ThreadId, number: int) -> None:
    await parts.store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=items(1, first=number)))
    await parts.store.flush_thread(thread_id)


async def _append_each(parts: Clustered, thread_id: ThreadId, said: Sequence[tuple[RolloutItem, ...]]) -> None:
    for some in said:
        await parts.store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=some))


def _one_by_one(thread_id: ThreadId, count: int) -> list[Event]:
    return list(_a_thread(count, thread_id))[1:]


def _a_thread(appends: int, thread_id: ThreadId | None = None) -> list[Event]:
    """Return a thread's creation and so many appends of one item."""
    thread_id, writer, now = thread_id or new_thread_id(), new_writer_id(), time.time_ns() // 1_000
    meta = {"id": thread_id, "timestamp": "2026-05-01T00:00:00.000Z", "cwd": "/home/dev", "source": "cli"}
    events: list[Event] = [
        ThreadCreated(
            event_id=new_event_id(), thread_id=thread_id, occurred_at=now, writer_id=writer, writer_seq=0,
            session_meta=Item(now // 1_000, "session_meta", dumps(meta)),
        )
    ]  # fmt: skip
    for number in range(1, appends + 1):
        said = {"type": "user_message", "message": f"question {number}"} if number == 1 else payload(number)
        kind = "event_msg" if number == 1 else "response_item"
        item = Item(now // 1_000, kind, dumps(said))
        events.append(
            ItemsAppended(
                event_id=new_event_id(), thread_id=thread_id, occurred_at=now, writer_id=writer, writer_seq=number,
                items=(item,),
            )
        )  # fmt: skip
    return events


def record_of(event: Event, partitions: int) -> OwnRecord:
    return own_record(event, partitions=partitions, source="bench")


@asynccontextmanager
async def bare_producer(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(
        **settings.kafka.client_settings(), enable_idempotence=True, compression_type="zstd", max_batch_size=65_536
    ) as producer:
        yield producer


async def _send(producer: AIOKafkaProducer, settings: Settings, record: OwnRecord) -> None:
    await producer.send_and_wait(
        settings.kafka.topic, record.value, record.key, partition=record.partition, headers=list(record.headers)
    )


async def _send_each(producer: AIOKafkaProducer, settings: Settings, records: Sequence[OwnRecord]) -> None:
    for record in records:
        await _send(producer, settings, record)


async def _fill(settings: Settings, events: Sequence[Event]) -> None:
    """Write the events to the topic's one partition, as fast as may be."""
    async with bare_producer(settings) as producer:
        waiting = []
        for event in events:
            record = record_of(event, 1)
            sent = await producer.send(
                settings.kafka.topic, record.value, record.key, partition=0, headers=list(record.headers)
            )
            waiting.append(sent)
        await asyncio.gather(*waiting)


async def _consume(settings: Settings, end: int) -> None:
    """Read the partition and decode every record: what any consumer has to do."""
    consumer = AIOKafkaConsumer(**settings.kafka.client_settings(), auto_offset_reset="none")
    await consumer.start()
    try:
        place = TopicPartition(settings.kafka.topic, 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        read = 0
        while read < end:
            for record in (await consumer.getmany(place, timeout_ms=500, max_records=1_000)).get(place, ()):
                codec().decode(record.value)
                read = record.offset + 1
    finally:
        await consumer.stop()


async def _all(calls: Iterable[Awaitable[object]]) -> None:
    await asyncio.gather(*calls)


async def _seconds(call: Awaitable[object]) -> float:
    began = time.perf_counter()
    await call
    return time.perf_counter() - began
