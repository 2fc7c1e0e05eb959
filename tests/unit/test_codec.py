"""Events on the wire: what was written once is read for ever, by us and by any Avro reader."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.codec import (
    FINGERPRINT_HEADER,
    MAGIC,
    Codec,
    ForeignRecord,
    UnreadableRecord,
    cloud_event_headers,
    codec,
    schema_fingerprint,
)
from eventstore.encoding import items_of_append
from eventstore.errors import UnreadableEvent
from eventstore.events import (
    Event,
    Field,
    Item,
    ItemsAppended,
    MetadataPatched,
    ThreadArchived,
    ThreadCreated,
    ThreadDeleted,
    ThreadUnarchived,
    WriterClosed,
    WriterOpened,
    items_of,
)
from eventstore.ids import EventId, ThreadId, WriterId
from eventstore.moments import moment

GOLDEN = json.loads((Path(__file__).parent / "golden" / "event-1.json").read_text("utf-8"))
SCHEMA = files("eventstore.schemas").joinpath("event-1.avsc").read_text("utf-8")
WITHOUT_TIMES = fastavro.parse_schema(json.loads(re.sub(r', "logicalType": "[a-z-]+"', "", SCHEMA)))
PREFIX = 10
"""Bytes before the body: C3 01 and the fingerprint."""
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        ThreadCreated,
        WriterOpened,
        ItemsAppended,
        WriterClosed,
        MetadataPatched,
        ThreadArchived,
        ThreadUnarchived,
        ThreadDeleted,
    )
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LONG = st.integers(-(2**63), 2**63 - 1)
JSON_TEXT = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**22, 10**40) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
).map(json.dumps) | st.sampled_from(["1e400", '"\\ud800"', "123456789012345678901234", '{"b":1,"a":1.0}'])
ITEM = st.builds(Item, at=LONG, type=TEXT, payload=JSON_TEXT, extras=st.none() | JSON_TEXT)
ENVELOPE: dict[str, Any] = {
    "event_id": TEXT,
    "thread_id": TEXT,
    "occurred_at": LONG,
    "actor": st.none() | TEXT,
    "rule": st.just(1),
}
SAID = {**ENVELOPE, "writer_id": TEXT, "writer_seq": LONG}
COMMANDED = {**ENVELOPE, "commands_seen": LONG, "expected_version": st.none() | LONG}
REASONED = {**COMMANDED, "reason": st.none() | TEXT}
EVENTS: dict[str, st.SearchStrategy[Event]] = {
    "ThreadCreated": st.builds(ThreadCreated, **SAID, session_meta=ITEM, forked_from_id=st.none() | TEXT),
    "WriterOpened": st.builds(WriterOpened, **SAID, epoch=LONG, replaces=st.none() | TEXT),
    "ItemsAppended": st.builds(ItemsAppended, **SAID, items=st.lists(ITEM, max_size=4).map(tuple), more=st.booleans()),
    "WriterClosed": st.builds(WriterClosed, **SAID),
    "MetadataPatched": st.builds(
        MetadataPatched,
        **COMMANDED,
        fields=st.lists(st.builds(Field, name=TEXT, value=st.none() | JSON_TEXT), max_size=4).map(tuple),
    ),
    "ThreadArchived": st.builds(ThreadArchived, **REASONED),
    "ThreadUnarchived": st.builds(ThreadUnarchived, **REASONED),
    "ThreadDeleted": st.builds(ThreadDeleted, **REASONED),
}
ANY_EVENT = st.one_of(list(EVENTS.values()))

AN_APPEND = ItemsAppended(
    event_id=EventId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f11"),
    thread_id=ThreadId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10"),
    occurred_at=1_776_964_833_002_345,
    writer_id=WriterId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f12"),
    writer_seq=7,
    items=(Item(1_776_964_833_001, "event_msg", '{"type":"user_message","message":"Fix it"}'),),
)


def test_every_kind_of_event_has_a_strategy_and_a_golden_record() -> None:
    assert KINDS.keys() == EVENTS.keys() == GOLDEN["records"].keys()


@given(ANY_EVENT)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    assert codec().decode(codec().encode(event)) == event


@given(ANY_EVENT)
def test_a_general_avro_writer_makes_the_very_same_bytes(event: Event) -> None:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(SCHEMA)), columns_of(event))
    assert codec().encode(event)[PREFIX:] == out.getvalue()


def columns_of(event: Event) -> dict[str, Any]:
    """The event as a row of the schema; the columns of other kinds are left to their defaults."""
    row = asdict(event) | {"kind": type(event).__name__, "items": items_of(event)}
    return row | {name: [part._asdict() for part in row[name]] for name in ("items", "fields") if name in row}


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_beyond_64_bits_is_refused_before_anything_is_written(number: int) -> None:
    with pytest.raises(OverflowError, match=str(number)):
        codec().encode(replace(AN_APPEND, occurred_at=number))


def test_texts_come_back_to_the_letter() -> None:
    """23-digit integers, 1e400, lone surrogates, key order and spaces survive: the log keeps source text."""
    payload = '{ "b" : 12345678901234567890123, "a" : 1e400, "\\ud800" : "\\uD83D\\uDE00 😀" }'
    event = replace(AN_APPEND, items=(Item(-1, "future_type", payload, '{"ordinal": 007}'),))
    assert codec().decode(codec().encode(event)) == event


def test_a_text_with_a_lone_surrogate_is_refused_before_anything_is_written() -> None:
    with pytest.raises(UnicodeEncodeError):
        codec().encode(replace(AN_APPEND, items=(Item(0, "event_msg", '"\ud800"'),)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_golden_record_is_decoded_for_ever(kind: str) -> None:
    golden = GOLDEN["records"][kind]
    assert codec().decode(bytes.fromhex(golden["hex"])) == golden_event(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_golden_record_is_encoded_to_the_very_same_bytes(kind: str) -> None:
    assert codec().encode(golden_event(kind)).hex() == GOLDEN["records"][kind]["hex"]


def golden_event(kind: str) -> Event:
    values = dict(GOLDEN["records"][kind]["event"])
    if "items" in values:
        values["items"] = tuple(Item(**item) for item in values["items"])
    if "session_meta" in values:
        values["session_meta"] = Item(**values["session_meta"])
    if "fields" in values:
        values["fields"] = tuple(Field(**field) for field in values["fields"])
    return KINDS[kind](**values)


def test_the_schema_and_its_fingerprint_are_those_of_the_golden_records() -> None:
    assert schema_fingerprint(SCHEMA).hex() == GOLDEN["fingerprint"] == codec().fingerprint.hex()


def test_logical_types_do_not_change_the_fingerprint() -> None:
    stripped = re.sub(r', "logicalType": "[a-z-]+"', "", SCHEMA)
    assert "logicalType" in SCHEMA
    assert "logicalType" not in stripped
    assert schema_fingerprint(stripped) == schema_fingerprint(SCHEMA)


def test_the_schema_takes_no_help_to_read() -> None:
    """No union of records, no maps, no uuid: Spark, DuckDB, Polars and Arrow read it as it is."""
    assert '"map"' not in SCHEMA
    assert '"uuid"' not in SCHEMA
    for field in json.loads(SCHEMA)["fields"]:
        if isinstance(field["type"], list):
            assert field["type"] in (["null", "string"], ["null", "long"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_ordinary_avro_reader_needs_nothing_of_ours(kind: str) -> None:
    """Promise 10: every kind of record, all of it, with times for times."""
    event = golden_event(kind)
    body = BytesIO(codec().encode(event)[PREFIX:])
    row: Any = fastavro.schemaless_reader(body, fastavro.parse_schema(json.loads(SCHEMA)), None)

    assert body.read() == b""
    expected = columns_of(event) | {"occurred_at": moment(event.occurred_at)}
    expected["items"] = [item | {"at": moment(item["at"] * 1_000)} for item in expected["items"]]
    expected.pop("session_meta", None)  # it is the only one of the items
    assert expected == {name: row[name] for name in expected}
    assert not any(value for name, value in row.items() if name not in expected)


def test_a_record_begins_with_the_marker_and_the_fingerprint() -> None:
    """Avro's specification, single-object encoding: C3 01, then the fingerprint, little-endian."""
    assert codec().encode(AN_APPEND)[:PREFIX] == b"\xc3\x01" + codec().fingerprint


def test_a_record_of_an_unknown_schema_is_ours_and_unreadable() -> None:
    found = codec().decode(MAGIC + b"\x00" * 8 + codec().encode(AN_APPEND)[PREFIX:])
    assert found == UnreadableRecord("schema 0000000000000000 is not known to this version")


def encoded(**columns: object) -> bytes:
    """A record as some other version might write it: an append with other values in some columns."""
    out = BytesIO()
    out.write(MAGIC + codec().fingerprint)
    row = {
        "event_id": "e",
        "thread_id": "t",
        "kind": "ItemsAppended",
        "rule": 1,
        "occurred_at": 0,
        "writer_id": "w",
        "writer_seq": 1,
    }
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(SCHEMA)), row | columns)
    return out.getvalue()


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"kind": "ThreadRenamed"}, "kind 'ThreadRenamed': not known to this version"),
        ({"kind": ""}, "kind '': not known to this version"),
        ({"rule": 2}, "kind 'ItemsAppended': admission rule 2 is not known to this version"),
        ({"rule": 0}, "kind 'ItemsAppended': admission rule 0 is not known to this version"),
        ({"writer_seq": None}, "kind 'ItemsAppended': writer_seq is missing"),
        ({"writer_id": None}, "kind 'ItemsAppended': writer_id is missing"),
        ({"kind": "WriterOpened"}, "kind 'WriterOpened': epoch is missing"),
        ({"kind": "ThreadArchived"}, "kind 'ThreadArchived': commands_seen is missing"),
        ({"kind": "MetadataPatched"}, "kind 'MetadataPatched': commands_seen is missing"),
    ],
)
def test_a_record_that_says_what_this_version_cannot_understand_is_unreadable(
    columns: dict[str, object], why: str
) -> None:
    assert codec().decode(encoded(**columns)) == UnreadableRecord(why)


@pytest.mark.parametrize("items", [0, 2])
def test_a_creation_bears_exactly_one_session_meta(items: int) -> None:
    rows = [{"at": 0, "type": "session_meta", "payload": "{}"}] * items
    assert isinstance(codec().decode(encoded(kind="ThreadCreated", items=rows)), UnreadableRecord)


@pytest.mark.parametrize("at", [0, 63, 64, 8_191, 8_192, 2**20 - 1, 2**20, 2**27, 2**62, 2**63 - 1])
def test_an_append_of_ours_is_read_the_quick_way_at_whatever_time(at: int) -> None:
    lengths = (0, 63, 64, 8_191, 8_192)
    items = [Item(time, "x", "p" * length) for time in (at, ~at) for length in lengths]
    items += [Item(at, "x", "p", "e" * length) for length in lengths]
    event = replace(AN_APPEND, occurred_at=~at, items=tuple(items))

    assert items_of_append(codec().encode(event), PREFIX) == items
    assert codec().decode(codec().encode(event)) == event


@pytest.mark.parametrize("length", range(PREFIX, len(codec().encode(AN_APPEND))))
def test_a_truncated_record_is_unreadable(length: int) -> None:
    assert isinstance(codec().decode(codec().encode(AN_APPEND)[:length]), UnreadableRecord)


def test_bytes_after_the_body_are_not_overlooked() -> None:
    found = codec().decode(codec().encode(AN_APPEND) + b"\x00\x00")
    assert found == UnreadableRecord("the Avro body is damaged: 2 bytes follow it")


@pytest.mark.parametrize("record", [b"", b"\xc3", b"\xc3\x01", b"\xc3\x01\x00", b"{}", b"\xc3\x02" + b"\x00" * 20])
def test_a_record_in_no_framing_of_ours_is_foreign(record: bytes) -> None:
    assert isinstance(codec().decode(record), ForeignRecord)


@given(st.binary(max_size=200))
def test_no_bytes_make_decoding_raise(record: bytes) -> None:
    for framed in (record, MAGIC + record, MAGIC + codec().fingerprint + record):
        codec().decode(framed)
        codec().decode(framed, fingerprint_header=codec().fingerprint)


@given(ANY_EVENT, st.data())
def test_no_damage_makes_decoding_raise(event: Event, data: st.DataObject) -> None:
    record = bytearray(codec().encode(event))
    for _ in range(data.draw(st.integers(1, 4))):
        record[data.draw(st.integers(PREFIX, len(record) - 1))] = data.draw(st.integers(0, 255))
    codec().decode(bytes(record))


@given(ANY_EVENT)
def test_the_items_of_a_record_are_those_of_its_event(event: Event) -> None:
    assert codec().items(codec().encode(event)) == list(items_of(event))


@given(EVENTS["ItemsAppended"], st.data())
def test_items_are_never_taken_from_a_record_that_is_damaged(event: Event, data: st.DataObject) -> None:
    """Whatever the quick way takes from a record, a general reader reads the very same in it."""
    record = bytearray(codec().encode(event))
    for _ in range(data.draw(st.integers(1, 3))):
        record[data.draw(st.integers(PREFIX, len(record) - 1))] = data.draw(st.integers(0, 255))
    del record[data.draw(st.integers(PREFIX, len(record))) :]
    record += data.draw(st.binary(max_size=3))

    quickly = items_of_append(bytes(record), PREFIX)
    if quickly is not None:
        body = BytesIO(record[PREFIX:])
        row: Any = fastavro.schemaless_reader(body, WITHOUT_TIMES, None)
        assert quickly == [Item(**item) for item in row["items"]]
        assert body.read() == b""


@pytest.mark.parametrize("length", range(PREFIX, len(codec().encode(AN_APPEND))))
def test_a_truncated_record_bears_no_items(length: int) -> None:
    with pytest.raises(UnreadableEvent):
        codec().items(codec().encode(AN_APPEND)[:length])


def test_an_append_in_blocks_as_other_writers_make_them_is_read_too() -> None:
    """Avro's arrays may come in several blocks; ours never do."""
    one = codec().encode(AN_APPEND)
    (item,) = AN_APPEND.items
    written = one.index(b"event_msg") - 1 - len(one_long(item.at))
    end = one.index(b"\x00" * 7, written) + 1
    block = b"\x02" + one[written:end]

    assert codec().items(one[:end] + block + one[end:]) == [item, item]


def one_long(number: int) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, "long", number)
    return out.getvalue()


def test_the_confluent_framing_is_read_by_the_header() -> None:
    body = codec().encode(AN_APPEND)[PREFIX:]
    record = b"\x00" + (42).to_bytes(4, "big") + body

    assert codec().decode(record, fingerprint_header=codec().fingerprint) == AN_APPEND
    assert isinstance(codec().decode(record, fingerprint_header=b"\x01" * 8), UnreadableRecord)
    assert isinstance(codec().decode(record), ForeignRecord)


def test_the_fingerprint_in_the_record_outranks_the_header() -> None:
    assert codec().decode(codec().encode(AN_APPEND), fingerprint_header=b"\x01" * 8) == AN_APPEND


def test_a_codec_with_a_newer_schema_decodes_the_older_one() -> None:
    newer = json.loads(SCHEMA)
    newer["fields"].append({"name": "mood", "type": ["null", "string"], "default": None})
    both = Codec({1: SCHEMA, 2: json.dumps(newer)})
    out = BytesIO()
    out.write(MAGIC + schema_fingerprint(json.dumps(newer)))
    fastavro.schemaless_writer(out, fastavro.parse_schema(newer), columns_of(AN_APPEND) | {"mood": "calm"})

    assert both.decode(codec().encode(AN_APPEND)) == AN_APPEND
    assert both.decode(out.getvalue()) == AN_APPEND
    assert isinstance(codec().decode(out.getvalue()), UnreadableRecord)


def test_the_headers_are_a_cloud_event_in_binary_mode() -> None:
    headers = dict(cloud_event_headers(AN_APPEND, source="/agents/7"))
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": AN_APPEND.event_id.encode(),
        "ce_type": b"ItemsAppended",
        "ce_source": b"/agents/7",
        "ce_subject": AN_APPEND.thread_id.encode(),
        "ce_time": b"2026-04-23T17:20:33.002345Z",
        "content-type": b"application/avro",
        FINGERPRINT_HEADER: codec().fingerprint,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_a_value(kind: str) -> None:
    event = golden_event(kind)
    assert event == golden_event(kind)
    assert hash(event) == hash(golden_event(kind))
    assert asdict(event)["event_id"] == event.event_id


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (2**63 - 1, "9999-12-31T23:59:59.999999Z"),
        (-(2**63), "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_beyond_the_calendar_is_headed_by_the_calendars_end(micros: int, text: str) -> None:
    event = replace(golden_event("WriterClosed"), occurred_at=micros)

    assert dict(cloud_event_headers(event, source="/x"))["ce_time"].decode() == text
