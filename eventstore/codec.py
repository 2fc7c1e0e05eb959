"""Events to Avro bytes and back: the only place that knows both.

A record is in Avro's single-object encoding: C3 01, the schema's 8-byte fingerprint, the body. Schema files
are never edited after a release, so old fingerprints decode for ever. A record that is not ours is a
`ForeignRecord`; one that is ours and cannot be understood is an `UnreadableRecord`: its key names the thread to freeze.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO
from operator import itemgetter
from typing import Any, TypeAlias
from zlib import crc32

from eventstore.encoding import SCHEMA_VERSION, body_of, items_of_append
from eventstore.errors import UnreadableEvent
from eventstore.events import (
    RULE,
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
    new_item,
)
from eventstore.moments import in_calendar, moment, rfc_3339

MAGIC = b"\xc3\x01"
CONFLUENT_MAGIC = b"\x00"
FINGERPRINT_HEADER = "avro_fingerprint"
"""The record header that names the schema under any framing."""
_PREFIX = len(MAGIC) + 8
_CONFLUENT_PREFIX = 5

_Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """A record of ours which this version cannot understand."""

    why: str


@dataclass(frozen=True, slots=True)
class ForeignRecord:
    """A record that nothing of ours wrote."""

    why: str


class Codec:
    """Encodes by the schema that `encoding` is written for, decodes by every schema ever released."""

    def __init__(self, schemas: Mapping[int, str]) -> None:
        """Take the schema texts by version."""
        # Here, for a command that meets no record needs no Avro.
        from fastavro import schemaless_reader

        self._read = schemaless_reader
        self._readers = {schema_fingerprint(text): _working_schema(text) for text in schemas.values()}
        self.schema_text = schemas[SCHEMA_VERSION]
        self.fingerprint = schema_fingerprint(self.schema_text)
        self._prefix = MAGIC + self.fingerprint

    def encode(self, event: Event) -> bytes:
        """Return the record's bytes.

        Raises:
            UnicodeEncodeError: A text holds a lone surrogate, which no UTF-8 can carry.
            OverflowError: A number has no 64-bit form.
        """
        return self._prefix + body_of(event)

    def decode(
        self, record: bytes, *, fingerprint_header: bytes | None = None
    ) -> Event | UnreadableRecord | ForeignRecord:
        """Return the event, or what is wrong with the record; never raises for any bytes."""
        row = self._decode_row(record, fingerprint_header)
        if not isinstance(row, dict):
            return row
        try:
            return _event(row)
        except (KeyError, TypeError, ValueError) as exc:
            return UnreadableRecord(f"kind {row.get('kind')!r}: {exc}")

    def items(self, record: bytes, *, fingerprint_header: bytes | None = None) -> list[Item]:
        """Return the items of a record that is known to count, without anything else of it.

        Raises:
            UnreadableEvent: The record cannot be understood.
        """
        quickly = items_of_append(record, _PREFIX) if record.startswith(self._prefix) else None
        if quickly is not None:
            return quickly
        row = self._decode_row(record, fingerprint_header)
        if not isinstance(row, dict):
            raise UnreadableEvent(f"a record cannot be read: {row.why}; restore a backup or upgrade eventstore")
        return items_in(row)

    def _decode_row(self, record: bytes, header: bytes | None) -> _Row | UnreadableRecord | ForeignRecord:
        if record[:2] == MAGIC and len(record) >= _PREFIX:
            wanted, start = record[2:_PREFIX], _PREFIX
        elif record[:1] == CONFLUENT_MAGIC and header is not None and len(record) >= _CONFLUENT_PREFIX:
            wanted, start = header, _CONFLUENT_PREFIX
        else:
            return ForeignRecord("neither Avro's single-object framing nor Confluent's with a fingerprint header")
        schema = self._readers.get(wanted)
        if schema is None:
            return UnreadableRecord(f"schema {wanted.hex()} is not known to this version")
        body = BytesIO(record)
        body.seek(start)
        try:
            row: _Row = self._read(body, schema, None)  # type: ignore[assignment]
        except Exception as exc:  # fastavro raises whatever the damaged bytes lead it into
            return UnreadableRecord(f"the Avro body is damaged: {str(exc) or type(exc).__name__}")
        if body.tell() != len(record):
            return UnreadableRecord(f"the Avro body is damaged: {len(record) - body.tell()} bytes follow it")
        return row


@cache
def codec() -> Codec:
    """Return the codec over the schema files that ship with the package."""
    return Codec(schema_texts())


@cache
def schema_texts() -> Mapping[int, str]:
    """Return the schema files that ship with the package, by version."""
    return {
        int(entry.name.removeprefix("event-").removesuffix(".avsc")): entry.read_text("utf-8")
        for entry in files("eventstore.schemas").iterdir()
        if entry.name.endswith(".avsc")
    }


@cache
def schemas_known() -> str:
    """Return how many schemas can be read, and a text that changes with them, without any Avro."""
    schemas = schema_texts()
    texts = "".join(text for _, text in sorted(schemas.items()))
    return f"{len(schemas)}-{crc32(texts.encode()):08x}"


def schema_fingerprint(schema_text: str) -> bytes:
    """Return the 8 bytes of CRC-64-AVRO over the canonical form, in wire order (Avro specification)."""
    from fastavro.schema import fingerprint, to_parsing_canonical_form

    return bytes.fromhex(fingerprint(to_parsing_canonical_form(json.loads(schema_text)), "CRC-64-AVRO"))


def cloud_event_headers(event: Event, *, source: str) -> list[tuple[str, bytes]]:
    """Return the record's headers: CloudEvents 1.0 in binary mode, and the schema's fingerprint."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event.event_id.encode()),
        ("ce_type", type(event).__name__.encode()),
        ("ce_source", source.encode()),
        ("ce_subject", event.thread_id.encode()),
        ("ce_time", rfc3339_micros(event.occurred_at).encode()),
        ("content-type", b"application/avro"),
        (FINGERPRINT_HEADER, codec().fingerprint),
    ]


def _working_schema(schema_text: str) -> Any:
    """Parse for reading: times stay integers, which is the same on the wire and faster."""
    from fastavro.schema import parse_schema

    return parse_schema(_without_logical_types(json.loads(schema_text)))


def _without_logical_types(node: Any) -> Any:
    match node:
        case dict():
            kept = {key: _without_logical_types(value) for key, value in node.items() if key != "logicalType"}
            return kept["type"] if kept.keys() == {"type"} else kept
        case list():
            return [_without_logical_types(value) for value in node]
        case _:
            return node


def _event(row: _Row) -> Event:
    if row["rule"] != RULE:
        raise ValueError(f"admission rule {row['rule']} is not known to this version")
    kind = row["kind"]
    if kind == "ItemsAppended":
        return _items_appended(row)
    envelope: _Row = {name: row[name] for name in ("event_id", "thread_id", "occurred_at", "actor", "rule")}
    if kind in ("ThreadCreated", "WriterOpened", "WriterClosed"):
        writer = envelope | {"writer_id": _present(row, "writer_id"), "writer_seq": _present(row, "writer_seq")}
        match kind:
            case "ThreadCreated":
                (session_meta,) = items_in(row)
                return ThreadCreated(session_meta=session_meta, forked_from_id=row["forked_from_id"], **writer)
            case "WriterOpened":
                return WriterOpened(epoch=_present(row, "epoch"), replaces=row["replaces"], **writer)
            case _:
                return WriterClosed(**writer)
    if kind not in ("MetadataPatched", "ThreadArchived", "ThreadUnarchived", "ThreadDeleted"):
        raise ValueError("not known to this version")
    seen = _present(row, "commands_seen")
    command = envelope | {"commands_seen": seen, "expected_version": row["expected_version"]}
    match kind:
        case "MetadataPatched":
            return MetadataPatched(fields=tuple(Field(**field) for field in row["fields"]), **command)
        case "ThreadArchived":
            return ThreadArchived(reason=row["reason"], **command)
        case "ThreadUnarchived":
            return ThreadUnarchived(reason=row["reason"], **command)
        case _:
            return ThreadDeleted(reason=row["reason"], **command)


def _items_appended(row: _Row) -> ItemsAppended:
    """Spelled out, for it is the hot path of every history."""
    return ItemsAppended(
        event_id=row["event_id"],
        thread_id=row["thread_id"],
        occurred_at=row["occurred_at"],
        actor=row["actor"],
        rule=row["rule"],
        writer_id=_present(row, "writer_id"),
        writer_seq=_present(row, "writer_seq"),
        items=tuple(items_in(row)),
        more=row["more"],
    )


_item_fields = itemgetter(*Item._fields)


def items_in(row: _Row) -> list[Item]:
    return list(map(new_item, map(_item_fields, row["items"])))


def _present(row: _Row, name: str) -> Any:
    value = row[name]
    if value is None:
        raise ValueError(f"{name} is missing")
    return value


def rfc3339_micros(micros: int) -> str:
    """Return the time as RFC 3339; one beyond the calendar as the calendar's nearer end."""
    seconds, fraction = divmod(in_calendar(micros), 1_000_000)
    return f"{_second(seconds)}.{fraction:06}Z" if fraction else f"{_second(seconds)}Z"


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    """Return the second as RFC 3339, without its zone. Remembered: events come in their hundreds a second."""
    return rfc_3339(moment(seconds * 1_000_000)).removesuffix("Z")
