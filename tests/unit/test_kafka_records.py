"""Records, keys and partitions: what is ours is known for sure, and what is not harms nobody."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.codec import FINGERPRINT_HEADER, ForeignRecord, UnreadableRecord, codec
from eventstore.events import Item, ItemsAppended
from eventstore.ids import EventId, ThreadId, WriterId
from eventstore.kafka.feed import planned
from eventstore.kafka.records import entry_of, key_of, own_record, partition_of, thread_of
from eventstore.kafka.tracing import traceparent

AN_APPEND = ItemsAppended(
    event_id=EventId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f11"),
    thread_id=ThreadId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10"),
    occurred_at=1_776_964_833_002_345,
    writer_id=WriterId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f12"),
    writer_seq=7,
    items=(Item(1_776_964_833_001, "event_msg", '{"type":"user_message","message":"Fix it"}'),),
)
KEY = key_of(AN_APPEND.thread_id)
HOME = partition_of(KEY, 24)


@dataclass
class Record:
    """A record as it is fetched."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()
    offset: int = 41


def confluent(event: ItemsAppended) -> bytes:
    """Return the event in the framing of Confluent's registry: a zero, the schema's id there, the body."""
    return b"\x00\x00\x00\x00\x07" + codec().encode(event)[10:]


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # Of Kafka's own test, org.apache.kafka.common.utils.UtilsTest.testMurmur2.
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_a_key_has_the_partition_that_javas_producer_gives_it(key: bytes, hashed: int) -> None:
    for partitions in (1, 3, 24, 1000):
        assert (hashed & 0x7FFF_FFFF) % partitions == partition_of(key, partitions)


@given(st.uuids())
def test_a_key_names_its_thread(uuid: UUID) -> None:
    assert thread_of(str(uuid).encode()) == str(uuid)


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"thread-1",
        KEY.upper(),
        KEY.replace(b"-", b""),
        b"{" + KEY + b"}",
        b"urn:uuid:" + KEY,
        KEY[:-1] + b"\xff",
        KEY[:-1] + b"g",
        b" " + KEY[1:],
        KEY[:-1] + b"\n",
    ],
)
def test_a_key_of_others_names_no_thread(key: bytes | None) -> None:
    assert thread_of(key) is None
    entry = entry_of(Record(key, codec().encode(AN_APPEND)), HOME, 24)
    assert (entry.position, entry.thread_id) == ((HOME, 41), None)
    assert isinstance(entry.event, ForeignRecord)


def test_an_event_comes_back_from_its_own_record() -> None:
    record = own_record(AN_APPEND, partitions=24, source="eventstore/threads")
    assert (record.partition, record.key, record.timestamp_ms) == (HOME, KEY, 1_776_964_833_002)
    entry = entry_of(Record(record.key, record.value, record.headers), HOME, 24)
    assert (entry.position, entry.thread_id, entry.event) == ((HOME, 41), AN_APPEND.thread_id, AN_APPEND)


def test_an_event_before_1970_has_the_earliest_time_that_kafka_knows() -> None:
    event = replace(AN_APPEND, occurred_at=-1)
    record = own_record(event, partitions=24, source="eventstore/threads")
    assert record.timestamp_ms == 0
    assert entry_of(Record(record.key, record.value), HOME, 24).event == event


@pytest.mark.parametrize(
    "value",
    [None, b"", b"\xc3", b"\xc3\x01", b"\xc3\x01short", b"hello", b'{"json": true}', b"\x00", b"\x00\x00\x00\x00\x07"],
)
def test_what_is_not_in_our_framing_is_foreign(value: bytes | None) -> None:
    entry = entry_of(Record(KEY, value), HOME, 24)
    assert entry.thread_id == AN_APPEND.thread_id
    assert isinstance(entry.event, ForeignRecord)


def test_a_record_in_a_partition_that_its_key_does_not_hash_to_is_foreign() -> None:
    value = codec().encode(AN_APPEND)
    elsewhere = [partition for partition in range(24) if partition != HOME]
    assert all(isinstance(entry_of(Record(KEY, value), each, 24).event, ForeignRecord) for each in elsewhere)


def test_a_body_of_another_thread_is_given_with_the_key_it_came_under() -> None:
    """The fold and the audit see that they differ; here both are told."""
    other = replace(AN_APPEND, thread_id=ThreadId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1fff"))
    entry = entry_of(Record(KEY, codec().encode(other)), HOME, 24)
    assert (entry.thread_id, entry.event) == (AN_APPEND.thread_id, other)


def test_confluents_framing_is_ours_where_a_header_names_the_schema() -> None:
    headers: list[tuple[str, bytes | None]] = [("other", None), (FINGERPRINT_HEADER, codec().fingerprint)]
    assert entry_of(Record(KEY, confluent(AN_APPEND), headers), HOME, 24).event == AN_APPEND


@pytest.mark.parametrize("headers", [[], [("other", b"x")], [(FINGERPRINT_HEADER, None)]])
def test_confluents_framing_without_that_header_is_foreign(headers: list[tuple[str, bytes | None]]) -> None:
    assert isinstance(entry_of(Record(KEY, confluent(AN_APPEND), headers), HOME, 24).event, ForeignRecord)


def test_a_schema_of_the_future_freezes_its_thread() -> None:
    """It is ours and cannot be understood, under either framing; that is another thing than foreign."""
    framed = b"\xc3\x01" + b"future!!" + codec().encode(AN_APPEND)[10:]
    for record in (Record(KEY, framed), Record(KEY, confluent(AN_APPEND), [(FINGERPRINT_HEADER, b"future!!")])):
        assert isinstance(entry_of(record, HOME, 24).event, UnreadableRecord)


def test_the_framings_own_fingerprint_goes_before_a_headers() -> None:
    record = Record(KEY, codec().encode(AN_APPEND), [(FINGERPRINT_HEADER, b"future!!")])
    assert entry_of(record, HOME, 24).event == AN_APPEND


def test_neighbours_are_planned_as_one_range() -> None:
    assert planned([], reach=10) == []
    assert [list(place.wanted) for place in planned([3, 13, 24, 25, 99], reach=10)] == [[3, 13], [24, 25], [99]]
    assert [(place.first, place.stop) for place in planned([3, 13, 24], reach=10)] == [(3, 14), (24, 25)]


@given(st.sets(st.integers(0, 5_000), min_size=1), st.integers(1, 400))
def test_planned_ranges_have_every_offset_once_and_none_is_far_from_the_next(wanted: set[int], reach: int) -> None:
    ranges = planned(sorted(wanted), reach=reach)
    assert sorted(wanted) == [offset for place in ranges for offset in place.wanted]
    for place in ranges:
        gaps = [later - earlier for earlier, later in pairwise(place.wanted)]
        assert (place.first, place.stop) == (place.wanted[0], place.wanted[-1] + 1)
        assert all(gap <= reach for gap in gaps)
    assert all(later.first - earlier.stop >= reach for earlier, later in pairwise(ranges))


def test_where_nobody_has_imported_opentelemetry_no_trace_is_active(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert traceparent() is None
    assert "opentelemetry.trace" not in sys.modules

    # Not by `from`, which would give the module that another test has imported.
    trace = import_module("opentelemetry.trace")

    assert traceparent() is None, "there is none"
    context = trace.SpanContext(1, 2, is_remote=False)
    with trace.use_span(trace.NonRecordingSpan(context)):
        assert b"00-00000000000000000000000000000001-0000000000000002-00" == traceparent()
    with trace.use_span(trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT)):
        assert traceparent() is None
