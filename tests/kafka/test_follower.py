"""Following partitions of a real topic: a reader is woken by what is its own, and nothing is lost on the way to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import errors as kafka

from eventstore.codec import ForeignRecord
from eventstore.errors import LogTruncated, LogUnavailable
from eventstore.events import ItemsAppended
from eventstore.kafka.group import KafkaFollower
from eventstore.kafka.records import own_record
from eventstore.ports import Entry
from tests.support.topics import OddName, Opened, a_thread, an_append, put_batch

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


async def test_who_waits_is_woken_by_records_of_its_own_partition_only(
    engine: Opened, follower: KafkaFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    all_looked = asyncio.Event()
    getmany = follower._consumer.getmany

    async def counted(place: Any, **settings: Any) -> Any:
        looks.append(place.partition)
        if len(looks) == PARTITIONS:
            all_looked.set()
        return await getmany(place, **settings)

    monkeypatch.setattr(follower._consumer, "getmany", counted)
    monkeypatch.setattr("eventstore.kafka.group._AT_THE_END_MS", 60_000)
    waiting = [asyncio.create_task(read_some(follower, partition, 0)) for partition in range(PARTITIONS)]
    async with asyncio.timeout(20):
        await all_looked.wait()
    for number in range(5):
        await append_to(engine, 1, f"{number}")
        if number == 0:
            assert [(0, "0")] == await waiting[1]
        else:
            assert [(number, f"{number}")] == await read_some(follower, 1, number)

    assert not waiting[0].done()
    assert not waiting[2].done()
    assert (looks.count(0), looks.count(2)) == (1, 1), "they look once, and are woken by nothing that is not theirs"

    await append_to(engine, 0, "at last")
    assert [(0, "at last")] == await waiting[0]
    waiting[2].cancel()
    await asyncio.wait([waiting[2]])


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
    with pytest.raises(LogTruncated, match="does not hold offset 99"):
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


async def test_what_the_client_has_against_the_consumer_is_told_to_whoever_waits(
    engine: Opened, follower: KafkaFollower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.group._AT_THE_END_MS", 60_000)
    waiting = [asyncio.create_task(follower.read(partition, start=0, limit=9)) for partition in range(PARTITIONS)]
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(follower._arrivals._awaited) == PARTITIONS
    follower._consumer._subscription.abort_waiters(kafka.GroupAuthorizationFailedError("a group"))

    for one in waiting:
        with pytest.raises(LogUnavailable):
            await one


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
    engine: Opened, follower: KafkaFollower
) -> None:
    await append_to(engine, 1, *["small"] * 700)
    for start, count in ((0, 500), (500, 200)):
        found = await read_some(follower, 1, start, limit=500)
        assert list(range(start, start + count)) == [offset for offset, _ in found]
