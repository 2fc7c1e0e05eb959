"""Topics to test the Kafka engine with: the engine opened on one, and what a stranger's client makes of it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, cast
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from eventstore.events import Item, ItemsAppended
from eventstore.ids import EventId, ThreadId, WriterId, new_thread_id
from eventstore.kafka import topic
from eventstore.kafka.feed import KafkaFeed
from eventstore.kafka.log import KafkaLog
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.records import key_of, partition_of
from eventstore.kafka.url import KafkaUrl
from eventstore.ports import Entry

NOON = 1_735_905_600_000_000
"""2025-01-03T12:00:00Z in microseconds."""


@dataclass
class Opened:
    """The engine on one topic."""

    url: KafkaUrl
    reader: KafkaReader
    log: KafkaLog
    feed: KafkaFeed

    @property
    def replaced(self) -> int:
        """How many of the engine's producers have failed."""
        return self.log._producer.replaced

    @property
    def waiting(self) -> int:
        """How many of its appends have not ended."""
        return self.log._producer.waiting

    @property
    def under_way(self) -> int:
        """How many bytes of its producer are not acknowledged."""
        session = self.log._producer._session
        assert session is not None
        return session._under_way

    def lose_its_session(self) -> None:
        """Let the producer's session, if it has one, be one that has failed."""
        session = self.log._producer._session
        if session is not None:
            self.log._producer._replace(session, kafka_errors.OutOfOrderSequenceNumber())


async def made(url: str, *, partitions: int = 3, replicas: int = 1, min_insync: int = 1) -> KafkaUrl:
    """Make the topic."""
    parsed = KafkaUrl.parse(url)
    await topic.create(parsed, partitions=partitions, replicas=replicas, min_insync=min_insync, within=30)
    return parsed


@asynccontextmanager
async def opened(url: KafkaUrl, *, within: float = 20) -> AsyncIterator[Opened]:
    """Open the engine on a topic that is there; `within` is the deadline of reads."""
    reader = KafkaReader(url, within=within)
    await reader.open()
    try:
        log = KafkaLog(url, reader)
        await log.open(within=20)
        try:
            yield Opened(url, reader, log, KafkaFeed(reader))
        finally:
            await log.close(within=5)
    finally:
        await reader.close()


def an_append(thread_id: ThreadId, seq: int, *texts: str) -> ItemsAppended:
    """Return an event of a thread; without texts it says its seq."""
    return ItemsAppended(
        event_id=EventId(str(uuid4())),
        thread_id=thread_id,
        occurred_at=NOON + seq,
        writer_id=WriterId(thread_id),
        writer_seq=seq,
        items=tuple(Item(seq, "event_msg", text) for text in texts or (f'{{"seq":{seq}}}',)),
    )


def a_thread(partition: int, partitions: int) -> ThreadId:
    """Return the id of a thread that lies in the partition."""
    return next(made for made in iter(new_thread_id, None) if partition_of(key_of(made), partitions) == partition)


async def replayed(feed: KafkaFeed, thread_id: ThreadId, *, start: int = 0, stop: int | None = None) -> list[Entry]:
    """Return all entries of a thread by plain replay."""
    stop = await feed.end(feed.partition_of(thread_id)) if stop is None else stop
    return [entry async for entries in feed.replay(thread_id, start=start, stop=stop) for entry in entries]


async def all_entries(feed: KafkaFeed, partition: int, *, limit: int = 256) -> list[Entry]:
    """Read a partition as a projector does."""
    found: list[Entry] = []
    start = await feed._reader.beginning(partition)
    while entries := await feed.read(partition, start=start, limit=limit):
        assert len(entries) <= limit
        found += entries
        start = entries[-1].position.offset + 1
    return found


async def consumed(url: KafkaUrl, *, isolation: str = "read_uncommitted") -> list[Any]:
    """Return all records as a stranger's consumer gets them, in offset order by partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=list(url.servers),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level=isolation,
        max_partition_fetch_bytes=32 * 1024 * 1024,
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(url.topic, number) for number in await _partitions(consumer, url.topic)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[Any] = []
        while True:
            positions = [(await consumer.position(partition), ends[partition]) for partition in partitions]
            if all(at >= end for at, end in positions):
                return sorted(found, key=lambda record: (record.partition, record.offset))
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, name: str) -> Sequence[int]:
    await consumer._client._wait_on_metadata(name)
    return sorted(consumer.partitions_for_topic(name) or ())


@asynccontextmanager
async def stranger(url: KafkaUrl, **settings: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Give somebody else's producer."""
    producer = AIOKafkaProducer(bootstrap_servers=list(url.servers), **settings)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def events_of(entries: Iterable[Entry]) -> list[ItemsAppended]:
    """Return the events of entries that are all appends of ours."""
    events = [entry.event for entry in entries]
    for event in events:
        assert isinstance(event, ItemsAppended)
    return cast("list[ItemsAppended]", events)


def order_of(events: Iterable[ItemsAppended]) -> dict[ThreadId, list[int]]:
    """Return each thread's seqs in order of the first place at which each event lies."""
    seen: set[EventId] = set()
    orders: dict[ThreadId, list[int]] = {}
    for event in events:
        if event.event_id not in seen:
            seen.add(event.event_id)
            orders.setdefault(event.thread_id, []).append(event.writer_seq)
    return orders


class Load:
    """Writers that append to threads of all partitions until they are stopped, with several appends under way together.

    No append may fail.
    """

    def __init__(self, engine: Opened, *, threads: int = 12, pipelined: int = 4, within: float = 60) -> None:
        self._engine = engine
        self._pipelined = pipelined
        self._within = within
        self._stopped = False
        self._progress = asyncio.Event()
        self.threads = [new_thread_id() for _ in range(threads)]
        self.acknowledged: dict[ThreadId, list[ItemsAppended]] = {thread_id: [] for thread_id in self.threads}
        """By thread, in the order in which they were appended."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write while the block runs, and end what is under way then."""
        async with asyncio.TaskGroup() as writers:
            for thread_id in self.threads:
                writers.create_task(self._write(thread_id))
            yield
            self._stopped = True

    async def progress(self, number: int = 20) -> None:
        """Wait until so many more events of every thread are acknowledged."""
        wanted = {thread_id: len(events) + number for thread_id, events in self.acknowledged.items()}
        while any(len(self.acknowledged[thread_id]) < least for thread_id, least in wanted.items()):
            self._progress.clear()
            await self._progress.wait()

    async def check(self) -> None:
        """See that everything acknowledged is in the log, each thread's events in the order of their appends."""
        for thread_id, acknowledged in self.acknowledged.items():
            logged = events_of(await replayed(self._engine.feed, thread_id))
            assert {event.event_id for event in acknowledged} == {event.event_id for event in logged}
            assert {thread_id: [event.writer_seq for event in acknowledged]} == order_of(logged)

    async def _write(self, thread_id: ThreadId) -> None:
        seqs = count()
        under_way: deque[tuple[ItemsAppended, asyncio.Task[Any]]] = deque()
        while not self._stopped or under_way:
            while not self._stopped and len(under_way) < self._pipelined:
                event = an_append(thread_id, next(seqs))
                append = asyncio.ensure_future(self._engine.log.append([event], within=self._within))
                under_way.append((event, append))
            event, append = under_way.popleft()
            await append
            self.acknowledged[thread_id].append(event)
            self._progress.set()


class OddName:
    """A header's name as bytes, where the client's builder expects text."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def encode(self, _: str) -> bytes:
        return self._name


async def put_batch(
    engine: Opened,
    partition: int,
    records: Sequence[tuple[bytes | None, bytes | None, Sequence[tuple[OddName | str, bytes | None]]]],
    *,
    compression: int = 0,
) -> None:
    """Write records (key, value, headers) as one batch, which may be one that no client of Python's writes."""
    builder = _DefaultRecordBatchBuilderPy(2, compression, False, -1, -1, -1, 1 << 20)
    for number, (key, value, headers) in enumerate(records):
        assert builder.append(number, 0, key, value, cast(Any, headers)) is not None
    request = ProduceRequest(None, -1, 10_000, [(engine.url.topic, [(partition, bytes(builder.build()))])])
    response = await engine.reader._client.send(engine.reader._leader(partition), request)
    assert response.topics[0][1][0][1] == 0, "the broker took it"
