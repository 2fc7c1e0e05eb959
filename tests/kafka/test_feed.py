"""Reading a real topic back: the same as a stranger's consumer gets, whatever lies between a thread's own records."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from eventstore.codec import CONFLUENT_MAGIC, FINGERPRINT_HEADER, ForeignRecord, codec
from eventstore.errors import LogTruncated, LogUnavailable, UnreadableEvent
from eventstore.events import ItemsAppended
from eventstore.ids import ThreadId, new_thread_id
from eventstore.kafka.feed import KafkaFeed
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.records import own_record
from eventstore.ports import Entry
from tests.support.topics import (
    OddName,
    Opened,
    a_thread,
    all_entries,
    an_append,
    consumed,
    put_batch,
    replayed,
    stranger,
)

PARTITION = 1
PARTITIONS = 3


async def put(engine: Opened, producer: AIOKafkaProducer, event: ItemsAppended) -> int:
    """Let a stranger write one of our events; return its offset."""
    record = own_record(event, partitions=PARTITIONS, source="elsewhere")
    written = await producer.send_and_wait(
        engine.url.topic, record.value, record.key, partition=record.partition, headers=record.headers
    )
    offset: int = written.offset
    return offset


def offsets_of(entries: Sequence[Entry]) -> list[int]:
    return [entry.position.offset for entry in entries]


async def delete_before(engine: Opened, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=list(engine.url.servers))
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(engine.url.topic, PARTITION): RecordsToDelete(offset)})
    finally:
        await admin.close()


async def same_as_consumed(engine: Opened) -> list[Entry]:
    """See that every partition reads as a stranger's consumer has it, in steps of any size; return all entries."""
    records = await consumed(engine.url)
    found: list[Entry] = []
    for partition in range(PARTITIONS):
        entries = await all_entries(engine.feed, partition)
        expected = [(r.offset, r.key, r.value) for r in records if r.partition == partition]
        assert [offset for offset, _, _ in expected] == offsets_of(entries)
        for entry, (_, _, value) in zip(entries, expected, strict=True):
            if isinstance(entry.event, ItemsAppended):
                assert codec().decode(value) == entry.event
        assert entries == await all_entries(engine.feed, partition, limit=3)
        found += entries
    return found


async def test_a_partition_reads_as_a_strangers_consumer_has_it(engine: Opened) -> None:
    await asyncio.gather(*(engine.log.append([an_append(new_thread_id(), 0)], within=20) for _ in range(200)))
    entries = await same_as_consumed(engine)
    assert len(entries) == 200
    assert all(isinstance(entry.event, ItemsAppended) for entry in entries)


async def test_the_ends_of_all_partitions_are_asked_for_together_and_found_where_that_fails(
    engine: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    for partition in range(PARTITIONS):
        some = [an_append(a_thread(partition, PARTITIONS), seq) for seq in range(partition + 1)]
        await engine.log.append(some, within=20)
    requests: list[Any] = []
    send, told_by = KafkaReader._send, KafkaReader._ends_told_by

    async def counted(self: KafkaReader, node: int | None, request: Any, *rest: Any) -> Any:
        requests.append(request)
        return await send(self, node, request, *rest)

    async def of_the_first_alone(self: KafkaReader, leader: int | None, partitions: Sequence[int]) -> Any:
        return (await told_by(self, leader, partitions))[:1]

    monkeypatch.setattr(KafkaReader, "_send", counted)
    assert [1, 2, 3] == await engine.feed.ends(range(PARTITIONS))
    assert 1 == len(requests)
    assert [3, 1] == await engine.feed.ends([2, 0])

    monkeypatch.setattr(KafkaReader, "_ends_told_by", of_the_first_alone)
    assert [1, 2, 3] == await engine.feed.ends(range(PARTITIONS))


async def test_an_empty_partition_is_at_its_end(engine: Opened) -> None:
    assert (await engine.feed.end(PARTITION), await engine.feed.read(PARTITION, start=0, limit=9)) == (0, [])
    assert await replayed(engine.feed, a_thread(PARTITION, PARTITIONS)) == []


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_batches_of_every_compression_are_read(engine: Opened, compression: str | None) -> None:
    thread_id = a_thread(PARTITION, PARTITIONS)
    async with stranger(engine.url, compression_type=compression, linger_ms=50) as producer:
        events = [an_append(thread_id, seq, "the same again " * 50) for seq in range(30)]
        offsets = await asyncio.gather(*(put(engine, producer, event) for event in events))
    assert events == [entry.event for entry in await same_as_consumed(engine)]
    assert [list(event.items) for event in events] == await engine.feed.fetch(thread_id, offsets)


async def test_foreign_records_in_between_are_told_and_harm_nobody(engine: Opened) -> None:
    thread_id = a_thread(PARTITION, PARTITIONS)
    key = thread_id.encode()
    elsewhere = a_thread(0, PARTITIONS).encode()
    value = codec().encode(an_append(thread_id, 0))
    foreign: list[tuple[bytes | None, bytes | None]] = [
        (None, value),
        (b"not ours", value),
        (key, None),
        (key, b"not our framing"),
        (elsewhere, value),
        (None, b"\xff" * 20),
    ]
    own = []
    async with stranger(engine.url) as producer:
        for seq, (other_key, other_value) in enumerate(foreign):
            own.append(await put(engine, producer, an_append(thread_id, seq)))
            await producer.send_and_wait(engine.url.topic, other_value, other_key, partition=PARTITION)
    entries = await same_as_consumed(engine)
    assert own == offsets_of([entry for entry in entries if isinstance(entry.event, ItemsAppended)])
    assert len(foreign) == sum(isinstance(entry.event, ForeignRecord) for entry in entries)
    assert [[0], [1], [2], [3], [4], [5]] == [
        [item.at for item in items] for items in await engine.feed.fetch(thread_id, own)
    ]


@pytest.mark.parametrize("compression", range(5))
async def test_a_header_whose_name_is_no_text_keeps_nobody_from_what_lies_around_it(
    engine: Opened, compression: int
) -> None:
    thread_id = a_thread(PARTITION, PARTITIONS)
    events = [an_append(thread_id, seq, f"{seq} " * 100) for seq in range(4)]
    records = [own_record(event, partitions=PARTITIONS, source="elsewhere") for event in events]
    confluent = CONFLUENT_MAGIC + b"\x00\x00\x00\x07" + codec().encode(events[3])[10:]
    odd, text = OddName(b"na\xffme"), FINGERPRINT_HEADER
    (name,) = {value for header, value in records[3].headers if header == text}
    await put_batch(engine, PARTITION, [(record.key, record.value, record.headers) for record in records[:2]])
    await put_batch(
        engine,
        PARTITION,
        [
            (records[2].key, records[2].value, records[2].headers),
            (None, None, [(odd, None), ("b", b"")]),
            (thread_id.encode(), confluent, [(odd, b"\xff"), (text, name)]),
        ],
        compression=compression,
    )

    entries = await all_entries(engine.feed, PARTITION)
    assert [0, 1, 2, 3, 4] == offsets_of(entries)
    assert events == [entry.event for entry in entries if isinstance(entry.event, ItemsAppended)]
    assert entries[3].event == ForeignRecord("a tombstone")
    assert entries == await all_entries(engine.feed, PARTITION, limit=1)
    assert events == [entry.event for entry in await replayed(engine.feed, thread_id)]
    assert [list(event.items) for event in events] == await engine.feed.fetch(thread_id, [0, 1, 2, 4])


async def test_confluents_framing_is_read_everywhere(engine: Opened) -> None:
    event = an_append(a_thread(PARTITION, PARTITIONS), 0)
    value = b"\x00\x00\x00\x00\x09" + codec().encode(event)[10:]
    headers = [("x", b"y"), (FINGERPRINT_HEADER, codec().fingerprint)]
    async with stranger(engine.url) as producer:
        sent = {"partition": PARTITION, "key": event.thread_id.encode()}
        await producer.send_and_wait(engine.url.topic, value, headers=headers, **sent)
        await producer.send_and_wait(engine.url.topic, value, **sent)
    first, second = await replayed(engine.feed, event.thread_id)
    assert first.event == event
    assert isinstance(second.event, ForeignRecord)
    assert [list(event.items)] == await engine.feed.fetch(event.thread_id, [0])
    with pytest.raises(UnreadableEvent):
        await engine.feed.fetch(event.thread_id, [1])


async def test_offsets_have_holes_where_transactions_end(engine: Opened) -> None:
    """A commit and an abort each take an offset which no record has, and the last ones may be such."""
    thread_id = a_thread(PARTITION, PARTITIONS)
    offsets, events = [], [an_append(thread_id, seq) for seq in range(6)]
    async with stranger(engine.url, transactional_id=f"tx-{engine.url.topic}") as producer:
        for event in events:
            async with producer.transaction():
                offsets.append(await put(engine, producer, event))
    assert offsets == [0, 2, 4, 6, 8, 10]
    while await engine.feed.end(PARTITION) < 12:
        """The last transaction's end is written after its commit returned."""
    assert events == [entry.event for entry in await same_as_consumed(engine)]
    assert offsets == offsets_of(await replayed(engine.feed, thread_id))
    assert [10] == offsets_of(await replayed(engine.feed, thread_id, start=9))
    assert [] == await replayed(engine.feed, thread_id, start=11)
    assert [] == await engine.feed.read(PARTITION, start=11, limit=9)
    assert [list(event.items) for event in events] == await engine.feed.fetch(thread_id, offsets)
    with pytest.raises(LogTruncated, match="offset 3 of partition 1"):
        await engine.feed.fetch(thread_id, [2, 3, 4])


async def test_what_an_aborted_transaction_wrote_is_in_the_log(engine: Opened) -> None:
    """Whether an event counts is decided by the rule alone, so all readers must see the same events, as ordinary
    consumers do. Waiting for the transactions of strangers would let any of them hold up every reader."""
    thread_id = a_thread(PARTITION, PARTITIONS)
    async with stranger(engine.url, transactional_id=f"tx-{engine.url.topic}") as producer:
        await producer.begin_transaction()
        await put(engine, producer, an_append(thread_id, 0))
        await producer.abort_transaction()
        await producer.begin_transaction()
        await put(engine, producer, an_append(thread_id, 1))
        assert [0, 2] == offsets_of(await replayed(engine.feed, thread_id))  # one of them is open still
        assert await engine.feed.end(PARTITION) == 3
        await producer.commit_transaction()
    assert [0, 2] == offsets_of(await same_as_consumed(engine))
    assert [2] == [record.offset for record in await consumed(engine.url, isolation="read_committed")]


async def test_a_replay_gives_what_lies_between_its_bounds(engine: Opened) -> None:
    thread_id = a_thread(PARTITION, PARTITIONS)
    await engine.log.append([an_append(thread_id, seq) for seq in range(100)], within=20)
    for start, stop in ((0, 100), (7, 60), (60, 7), (99, 100), (50, 51), (0, 0)):
        assert list(range(start, stop)) == offsets_of(await replayed(engine.feed, thread_id, start=start, stop=stop))


async def scattered(engine: Opened, thread_id: ThreadId, *, places: int, apart: int) -> list[int]:
    """Put records of a thread far from each other, with many of others between them; return their offsets."""
    others = [a_thread(PARTITION, PARTITIONS) for _ in range(3)]
    own = []
    for seq in range(places):
        (position,) = await engine.log.append([an_append(thread_id, seq, f"{seq}")], within=20)
        own.append(position.offset)
        between = [an_append(others[number % 3], number, "x" * 1_000) for number in range(apart)]
        await engine.log.append(between, within=20)
    return own


async def test_a_fetch_costs_what_the_thread_costs(engine: Opened) -> None:
    """Distant records are a request each, neighbours one for all; how often it asked is counted."""
    thread_id, feed = a_thread(PARTITION, PARTITIONS), engine.feed
    offsets = await scattered(engine, thread_id, places=10, apart=400)
    assert [[str(seq)] for seq in range(10)] == [
        [item.payload for item in items] for items in await feed.fetch(thread_id, offsets)
    ]
    assert feed.cost.own == 10
    assert feed.cost.ranges == 10
    assert feed.cost.requests <= 20
    assert feed.cost.records < 2_000 < await feed.end(PARTITION)

    together = [a_thread(PARTITION, PARTITIONS)] * 50
    positions = await engine.log.append([an_append(each, seq) for seq, each in enumerate(together)], within=20)
    before = feed.cost.requests
    fetched = await feed.fetch(together[0], [position.offset for position in positions])
    assert [items[0].at for items in fetched] == list(range(50))
    assert feed.cost.requests == before + 1


async def test_records_that_pack_well_are_jumped_across_all_the_same(engine: Opened) -> None:
    """Hundreds of them lie in the bytes that a jump is worth, and each costs its time when it is unpacked."""
    thread_id, feed = a_thread(PARTITION, PARTITIONS), engine.feed
    offsets = await scattered(engine, thread_id, places=10, apart=400)
    assert offsets == offsets_of(await replayed(feed, thread_id))
    assert feed.cost.bytes < 256 * 1024
    feed.count_cost_anew()
    assert len(await feed.fetch(thread_id, offsets)) == 10
    assert feed.cost.records < 2_000 < await feed.end(PARTITION)


async def test_a_fetch_of_an_offset_of_others_is_a_damaged_view(engine: Opened) -> None:
    thread_id, other = a_thread(PARTITION, PARTITIONS), a_thread(PARTITION, PARTITIONS)
    await engine.log.append([an_append(thread_id, 0), an_append(other, 0), an_append(thread_id, 1)], within=20)
    for offsets, missing in (([0, 1, 2], 1), ([1], 1), ([3], 3), ([7], 7)):
        with pytest.raises(LogTruncated, match=str(missing)):
            await engine.feed.fetch(thread_id, offsets)
    assert [[0], [1]] == [[item.at for item in items] for items in await engine.feed.fetch(thread_id, [0, 2, 3])]


async def test_a_log_whose_beginning_was_deleted_says_so(engine: Opened) -> None:
    """Never a short history."""
    thread_id = a_thread(PARTITION, PARTITIONS)
    await engine.log.append([an_append(thread_id, seq) for seq in range(10)], within=20)
    await delete_before(engine, 4)
    for reading in (
        engine.feed.read(PARTITION, start=3, limit=9),
        engine.feed.fetch(thread_id, [3, 5]),
        replayed(engine.feed, thread_id, start=0),
        engine.feed.read(PARTITION, start=11, limit=9),
    ):
        with pytest.raises(LogTruncated, match="begins at offset 4"):
            await reading
    assert list(range(4, 10)) == offsets_of(await replayed(engine.feed, thread_id, start=4))
    first = await engine.reader.first(PARTITION)
    assert first is not None
    assert first.offset == 4


@pytest.mark.parametrize("packs", [True, False], ids=["repetitive", "random"])
async def test_a_fetch_of_large_records_gives_the_first_ones_only(engine: Opened, packs: bool) -> None:
    """However many there are, a few MiB of them are in memory at a time; who asks again gets the next."""
    thread_id, other = a_thread(PARTITION, PARTITIONS), a_thread(PARTITION, PARTITIONS)
    random = Random(7)
    texts = [f"{seq}" + ("large " * 350_000 if packs else random.randbytes(1_050_000).hex()) for seq in range(12)]
    left: list[int] = []
    for seq, text in enumerate(texts):
        own, _ = await engine.log.append([an_append(thread_id, seq, text), an_append(other, seq, text)], within=20)
        left.append(own.offset)
    found: list[str] = []
    while left:
        fetched = await engine.feed.fetch(thread_id, left)
        assert 1 <= len(fetched) <= 4
        found += [item.payload for items in fetched for item in items]
        left = left[len(fetched) :]
    assert texts == found


async def test_a_partition_of_large_records_is_read_a_few_at_a_time(engine: Opened) -> None:
    thread_id = a_thread(PARTITION, PARTITIONS)
    events = [an_append(thread_id, seq, "large " * 350_000) for seq in range(8)]
    await engine.log.append(events, within=20)
    assert len(await engine.feed.read(PARTITION, start=0, limit=256)) <= 3
    assert events == [entry.event for entry in await all_entries(engine.feed, PARTITION)]


async def test_of_a_look_at_one_record_one_batch_stays_in_memory(engine: Opened) -> None:
    """A worker looks at the first record of each of its partitions, and never goes on from there."""
    thread_id = a_thread(PARTITION, PARTITIONS)
    await engine.log.append([an_append(thread_id, seq, "x" * 1_000) for seq in range(2_000)], within=20)
    (entry,) = await engine.feed.read(PARTITION, start=0, limit=1)
    assert entry.position.offset == 0
    assert engine.feed.cost.records <= 100


async def test_more_loads_than_places_wait_for_their_turn(engine: Opened) -> None:
    threads = {a_thread(PARTITION, PARTITIONS): number for number in range(100)}
    offsets = {}
    for thread_id, number in threads.items():
        events = [an_append(thread_id, seq, f"{number}.{seq}") for seq in range(3)]
        offsets[thread_id] = [position.offset for position in await engine.log.append(events, within=20)]
    fetched = await asyncio.gather(*(engine.feed.fetch(each, places) for each, places in offsets.items()))
    assert [[f"{number}.{seq}" for seq in range(3)] for number in threads.values()] == [
        [items[0].payload for items in records] for records in fetched
    ]


async def test_many_loads_at_once_take_no_more_memory_than_a_few(engine: Opened) -> None:
    """Those that wait for their turn hold no records."""
    text = "large " * 350_000
    offsets = {}
    for thread_id in [a_thread(PARTITION, PARTITIONS) for _ in range(80)]:
        positions = await engine.log.append([an_append(thread_id, seq, text) for seq in range(2)], within=20)
        offsets[thread_id] = [position.offset for position in positions]

    async def load(thread_id: ThreadId) -> int:
        return sum(
            len(item.payload) for items in await engine.feed.fetch(thread_id, offsets[thread_id]) for item in items
        )

    tracemalloc.start()
    try:
        assert [2 * len(text)] * len(offsets) == await asyncio.gather(*map(load, offsets))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * 2 * len(text), "what a few of them take"


async def test_a_load_that_finds_no_place_in_time_says_so(engine: Opened) -> None:
    thread_id = a_thread(PARTITION, PARTITIONS)
    await engine.log.append([an_append(thread_id, 0)], within=20)
    places = engine.feed._places
    while not places.locked():
        await places.acquire()
    engine.reader.within = 0.05
    with pytest.raises(LogUnavailable, match="so many threads are being read"):
        await engine.feed.fetch(thread_id, [0])
    places.release()
    engine.reader.within = 20
    assert len(await engine.feed.fetch(thread_id, [0])) == 1


async def test_a_reader_of_many_partitions_fetches_each_record_once(engine: Opened) -> None:
    """A projector takes some entries of each partition in turn; what it leaves is kept for its next turn."""
    for partition in range(PARTITIONS):
        thread_id = a_thread(partition, PARTITIONS)
        await engine.log.append([an_append(thread_id, seq) for seq in range(60)], within=20)
    feed = KafkaFeed(engine.reader)
    starts = dict.fromkeys(range(PARTITIONS), 0)
    found: dict[int, list[Any]] = {partition: [] for partition in starts}
    for _ in range(12):
        for partition, start in starts.items():
            entries = await feed.read(partition, start=start, limit=5)
            found[partition] += offsets_of(entries)
            starts[partition] = entries[-1].position.offset + 1
    assert found == {partition: list(range(60)) for partition in starts}
    assert feed.cost.records == 3 * 60
    assert all(later == earlier + 1 for offsets in found.values() for earlier, later in pairwise(offsets))
