"""Following partitions of a real topic: a reader is woken by what is its own, and nothing is lost on the way to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import pytest
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest

from eventstore.codec import ForeignRecord
from eventstore.errors import LogTruncated, LogUnavailable, TopicMisconfigured
from eventstore.events import ItemsAppended
from eventstore.kafka.group import KafkaFollower, KafkaGroup
from eventstore.kafka.link import Link
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.records import own_record
from eventstore.ports import Entry
from tests.support.relay import relay_to
from tests.support.topics import OddName, Opened, a_thread, an_append, put_batch, stranger

PARTITIONS = 3
LARGE, MANY = 1024 * 1024, 40
"""Bytes of a record, and records in each partition."""
AT_ONCE = 16 * 1024 * 1024
"""Bytes that all partitions share."""


@asynccontextmanager
async def following(engine: Opened) -> AsyncIterator[KafkaFollower]:
    follower = KafkaFollower(engine.url, engine.feed)
    await follower.follow(range(PARTITIONS), within=20)
    try:
        yield follower
    finally:
        await follower.close(within=20)


@pytest.fixture
async def follower(engine: Opened) -> AsyncIterator[KafkaFollower]:
    async with following(engine) as follower:
        yield follower


async def append_to(engine: Opened, partition: int, *texts: str) -> None:
    thread_id = a_thread(partition, PARTITIONS)
    await engine.log.append([an_append(thread_id, seq, text) for seq, text in enumerate(texts)], within=20)


async def read_some(follower: KafkaFollower, partition: int, start: int, *, limit: int = 100) -> list[tuple[int, str]]:
    """Read until something comes; return offsets and texts."""
    async with asyncio.timeout(20):
        while not (entries := await follower.read(partition, start=start, limit=limit)):
            pass
    return [(entry.position.offset, entry.event.items[0].payload) for entry in entries]  # type: ignore[union-attr]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have who waits for records wait for nothing else, and requests be held back for as long as they may be."""
    monkeypatch.setattr("eventstore.kafka.group._AT_THE_END", 60)
    monkeypatch.setattr("eventstore.kafka.ahead._HELD_MS", 4_000)


class Asked:
    """The requests that were made which a broker may hold back, as the partitions that each names."""

    def __init__(self) -> None:
        self.named: list[list[int]] = []
        self.offsets: list[int] = []
        self._more = asyncio.Event()

    def note(self, request: FetchRequest) -> None:
        self.named.append([partition for _, partitions in request.topics for partition, _, _ in partitions])
        self.offsets += [offset for _, partitions in request.topics for _, offset, _ in partitions]
        self._more.set()

    async def until(self, number: int) -> None:
        """Wait for so many requests to have been made."""
        async with asyncio.timeout(20):
            while len(self.named) < number:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    send = Link.send

    async def noted(link: Link, host: str, port: int, request: FetchRequest) -> Any:
        asked.note(request)
        return await send(link, host, port, request)

    monkeypatch.setattr(Link, "send", noted)
    return asked


@pytest.mark.usefixtures("patient")
async def test_who_waits_is_woken_by_records_of_its_own_partition_only(
    engine: Opened, follower: KafkaFollower, asked: Asked
) -> None:
    """And a record costs one request, which names the partition that moved and no other."""
    waiting = [asyncio.create_task(read_some(follower, partition, 0)) for partition in range(PARTITIONS)]
    await asked.until(PARTITIONS)
    for number in range(5):
        await append_to(engine, 1, f"{number}")
        if number == 0:
            assert [(0, "0")] == await waiting[1]
        else:
            assert [(number, f"{number}")] == await read_some(follower, 1, number)

    assert not waiting[0].done()
    assert not waiting[2].done()
    assert [[0], [1], [2]] == asked.named[:PARTITIONS]
    assert asked.named[PARTITIONS:] in ([[1]] * 4, [[1]] * 5), "the last one may be on its way"

    await append_to(engine, 0, "at last")
    assert [(0, "at last")] == await waiting[0]
    waiting[2].cancel()
    await asyncio.wait([waiting[2]])


@pytest.mark.usefixtures("patient")
async def test_a_reader_that_is_busy_keeps_no_other_waiting(
    engine: Opened, follower: KafkaFollower, asked: Asked
) -> None:
    """Nor does one that has yet to begin, or much that was fetched and is not taken."""
    await append_to(engine, 0, *["x" * LARGE] * MANY)
    await follower.read(0, start=0, limit=1)
    took = []
    for number in range(5):
        reading = asyncio.create_task(read_some(follower, 1, number))
        await asked.until(3 + number)
        began = monotonic()
        await append_to(engine, 1, f"{number}")
        assert [(number, f"{number}")] == await reading
        took.append(monotonic() - began)
    assert sorted(took)[2] < 0.5, "of 4 s for which requests are held back"


@pytest.mark.usefixtures("patient")
async def test_a_reader_that_goes_elsewhere_does_not_wait_for_the_request_under_way(
    engine: Opened, follower: KafkaFollower, asked: Asked
) -> None:
    await append_to(engine, 1, "a", "b", "c")
    assert [(2, "c")] == await read_some(follower, 1, 2)
    await asked.until(2)

    began = monotonic()
    assert [(0, "a")] == await read_some(follower, 1, 0, limit=1)
    assert [(1, "b"), (2, "c")] == await read_some(follower, 1, 1)
    assert monotonic() - began < 2, "of 4 s for which the request for offset 3 is held back"


async def test_a_read_cancelled_anywhere_loses_no_record(engine: Opened, follower: KafkaFollower) -> None:
    for turns in range(25):
        reading = asyncio.create_task(read_some(follower, 1, turns, limit=1))
        await append_to(engine, 1, f"{turns}")
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert [(turns, f"{turns}")] == await read_some(follower, 1, turns, limit=1)


async def test_a_reader_may_go_back_and_forth(engine: Opened, follower: KafkaFollower) -> None:
    await append_to(engine, 1, "a", "b", "c", "d")
    for start, limit in ((0, 2), (2, 1), (0, 1), (3, 9), (1, 2), (0, 9)):
        expected = [(offset, "abcd"[offset]) for offset in range(start, min(4, start + limit))]
        assert expected == await read_some(follower, 1, start, limit=limit)


async def test_an_offset_that_is_not_there_concerns_its_own_reader_only(
    engine: Opened, follower: KafkaFollower
) -> None:
    waiting = asyncio.create_task(read_some(follower, 0, 0))
    with pytest.raises(LogTruncated, match="asked for 99"):
        await read_some(follower, 1, 99)

    await append_to(engine, 0, "unharmed")
    assert [(0, "unharmed")] == await waiting


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_what_the_client_cannot_read_is_read_all_the_same(
    engine: Opened, follower: KafkaFollower, limit: int
) -> None:
    thread_id = a_thread(1, PARTITIONS)
    events = [an_append(thread_id, seq) for seq in range(6)]
    await engine.log.append(events[:2], within=20)
    odd = (b"not ours", b"foreign", [(OddName(b"\xff\xfe"), b"")])
    await put_batch(engine, 1, [own(events[2]), odd, own(events[3])])
    await engine.log.append(events[4:], within=20)

    found: list[Any] = []
    start = 0
    async with asyncio.timeout(20):
        while len(found) < 7:
            entries = await follower.read(1, start=start, limit=limit)
            assert len(entries) <= limit
            found += entries
            start = found[-1].position.offset + 1 if found else 0

    assert list(range(7)) == [entry.position.offset for entry in found]
    assert found[3].event == ForeignRecord("its key is no thread id")
    assert events == [entry.event for entry in found if isinstance(entry.event, ItemsAppended)]


def own(event: ItemsAppended) -> tuple[bytes, bytes, Any]:
    """Return our record of the event as the parts of a batch's record."""
    record = own_record(event, partitions=PARTITIONS, source="elsewhere")
    return record.key, record.value, record.headers


@pytest.mark.usefixtures("patient")
async def test_that_the_topic_is_gone_is_told_to_whoever_waits(engine: Opened, follower: KafkaFollower) -> None:
    waiting = [asyncio.create_task(follower.read(partition, start=0, limit=9)) for partition in range(PARTITIONS)]
    await append_to(engine, 1, "there")
    await waiting[1]
    admin = AIOKafkaAdminClient(**engine.url.client_settings())
    await admin.start()
    try:
        await admin.delete_topics([engine.url.topic])
    finally:
        await admin.close()

    async with asyncio.timeout(20):
        for one in (waiting[0], waiting[2]):
            with pytest.raises(TopicMisconfigured, match="there is no topic"):
                await one


async def test_what_is_not_followed_any_more_is_not_read(engine: Opened, follower: KafkaFollower) -> None:
    await append_to(engine, 0, "others'", "not read")
    await append_to(engine, 1, "ours")
    assert [(0, "others'")] == await read_some(follower, 0, 0, limit=1)
    waiting = asyncio.create_task(follower.read(2, start=0, limit=9))
    await asyncio.sleep(0)
    await follower._turn_to([1])

    assert not await waiting
    assert not follower._unread
    with pytest.raises(LogUnavailable, match="not followed any more"):
        await follower.read(0, start=0, limit=9)
    assert follower.end(0) is None
    assert [(0, "ours")] == await read_some(follower, 1, 0)
    assert follower.end(1) == 1


@pytest.mark.parametrize("first", [0, 3])
async def test_a_transactions_marker_brings_its_reader_to_the_logs_end(
    engine: Opened, follower: KafkaFollower, first: int
) -> None:
    """Whether it comes behind records or alone."""
    async with stranger(engine.url, transactional_id=f"tx-{engine.url.topic}") as producer, producer.transaction():
        for _ in range(3):
            await producer.send_and_wait(engine.url.topic, b"foreign", partition=1)

    found: list[Entry] = []
    start = first
    async with asyncio.timeout(20):
        while start < 4:
            found += await follower.read(1, start=start, limit=9)
            start = found[-1].position.offset + 1 if found else start
    assert list(range(first, 4)) == [entry.position.offset for entry in found]
    assert found[-1].event == ForeignRecord("a transaction's marker")

    await append_to(engine, 1, "behind it")
    assert [(4, "behind it")] == await read_some(follower, 1, 4)


async def test_what_came_damaged_is_refused_and_fetched_again(
    engine: Opened, follower: KafkaFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_to(engine, 1, "whole")
    fetch = KafkaReader.fetch

    async def damaged(reader: KafkaReader, *arguments: Any, **settings: Any) -> tuple[bytes, int]:
        payload, end = await fetch(reader, *arguments, **settings)
        return payload[:-1] + bytes([payload[-1] ^ 1]), end

    with monkeypatch.context() as broken:
        broken.setattr(KafkaReader, "fetch", damaged)
        with pytest.raises(LogUnavailable, match="partition 1 from offset 0 on cannot be read"):
            await read_some(follower, 1, 0)
        assert not await follower.read(0, start=0, limit=9), "what is read of others is not concerned"
    assert [(0, "whole")] == await read_some(follower, 1, 0)


async def test_trouble_that_nobody_waited_for_is_forgotten(
    engine: Opened, follower: KafkaFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append_to(engine, 1, "before")
    fetch, failed = KafkaReader.fetch, asyncio.Event()

    async def failing(reader: KafkaReader, partition: int, start: int, **settings: Any) -> tuple[bytes, int]:
        if start == 0:
            return await fetch(reader, partition, start, **settings)
        failed.set()
        raise LogUnavailable("for a moment")

    with monkeypatch.context() as broken:
        broken.setattr(KafkaReader, "fetch", failing)
        assert [(0, "before")] == await read_some(follower, 1, 0)
        await failed.wait()
        await asyncio.sleep(0)
    await append_to(engine, 1, "after")
    assert [(1, "after")] == await read_some(follower, 1, 1)


async def test_a_link_asks_whom_it_is_told_to_and_connects_again_after_a_break(engine: Opened) -> None:
    host, _, port = engine.url.servers[0].rpartition(":")
    request = FetchRequest(0, 0, 1024, 0, [(engine.url.topic, [(1, 0, 1024)])])
    async with relay_to(int(port)) as before, relay_to(int(port)) as now:
        link = engine.reader.link()
        for leader, times in ((before, 2), (now, 1)):
            for _ in range(times):
                assert (await link.send(host, leader.address, request)).topics
        assert (before.passed, now.passed) == (1, 1)

        await now.cut()
        with suppress(kafka.KafkaConnectionError):
            await link.send(host, now.address, request)
        assert (await link.send(host, now.address, request)).topics
        link.close()


class Told:
    """A member of a group that works on nothing."""

    def __init__(self) -> None:
        self.partitions: set[int] = set()
        self.changed = asyncio.Event()

    async def take(self, partitions: Collection[int]) -> None:
        self.partitions = set(partitions)
        self.changed.set()

    async def let_go(self) -> None:
        self.partitions = set()


async def test_of_a_group_each_follows_its_own_and_the_client_that_keeps_the_membership_fetches_nothing(
    engine: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[object] = []
    send = AIOKafkaClient.send

    async def noted(client: AIOKafkaClient, node: int, request: object, **settings: Any) -> Any:
        if isinstance(request, FetchRequest):
            fetched.append(request)
        return await send(client, node, request, **settings)

    monkeypatch.setattr(AIOKafkaClient, "send", noted)
    for partition in range(PARTITIONS):
        await append_to(engine, partition, f"of {partition}")
    first, second = KafkaGroup(engine.url, engine.feed), KafkaGroup(engine.url, engine.feed)
    told, told_too = Told(), Told()
    async with asyncio.timeout(30):
        await first.join(told, group=engine.url.topic, within=20)
        await told.changed.wait()
        assert set(range(PARTITIONS)) == told.partitions
        for partition in range(PARTITIONS):
            assert [(0, f"of {partition}")] == await read_some(first, partition, 0)

        told.changed.clear()
        await second.join(told_too, group=engine.url.topic, within=20)
        await told_too.changed.wait()
        await told.changed.wait()
        assert set(range(PARTITIONS)) == told.partitions | told_too.partitions
        assert len(told.partitions) + len(told_too.partitions) == PARTITIONS
        for group, theirs, others in ((first, told, told_too), (second, told_too, told)):
            for partition in theirs.partitions:
                assert [(0, f"of {partition}")] == await read_some(group, partition, 0)
            for partition in others.partitions:
                with pytest.raises(LogUnavailable, match="not followed any more"):
                    await group.read(partition, start=0, limit=9)
            await group.note(dict.fromkeys(theirs.partitions, 1))
            group.check()
        await first.close(within=5)
        await second.close(within=5)
    assert not fetched


async def test_of_large_records_few_are_handed_out_at_a_time(engine: Opened, follower: KafkaFollower) -> None:
    """They pack well, as what agents say again and again does, so that much of them is fetched at once."""
    for partition in range(PARTITIONS):
        await append_to(engine, partition, *["x" * LARGE] * MANY)
    starts = [0] * PARTITIONS
    while min(starts) < MANY:
        turn = [follower.read(partition, start=start, limit=500) for partition, start in enumerate(starts)]
        together = await asyncio.gather(*turn)
        assert sum(map(size_of, together)) <= 2 * AT_ONCE
        for partition, entries in enumerate(together):
            expected = range(starts[partition], starts[partition] + len(entries))
            assert list(expected) == [entry.position.offset for entry in entries]
            starts[partition] += len(entries)
    assert starts == [MANY] * PARTITIONS


def size_of(entries: Sequence[Entry]) -> int:
    events = [entry.event for entry in entries if isinstance(entry.event, ItemsAppended)]
    return sum([len(item.payload) for event in events for item in event.items])


async def test_of_small_records_as_many_are_handed_out_as_are_asked_for(
    engine: Opened, follower: KafkaFollower, asked: Asked
) -> None:
    """The others come from memory."""
    await append_to(engine, 1, *["small"] * 700)
    for start, count in ((0, 500), (500, 200)):
        found = await read_some(follower, 1, start, limit=500)
        assert list(range(start, start + count)) == [offset for offset, _ in found]
    await asked.until(2)
    assert [0, 700] == asked.offsets
