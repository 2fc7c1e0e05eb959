"""Kafka's records and our events: keys, headers, and which partition is whose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

from aiokafka.partitioner import murmur2

from eventstore.codec import CONFLUENT_MAGIC, FINGERPRINT_HEADER, ForeignRecord, cloud_event_headers, codec
from eventstore.documents.items import Position
from eventstore.errors import InvalidRequest
from eventstore.events import Event
from eventstore.ids import ThreadId, parse_thread_id
from eventstore.kafka.tracing import TRACEPARENT
from eventstore.ports import Entry

LARGEST_BATCH: Final = 16 * 1024 * 1024
"""Bytes: the topic's max.message.bytes."""
LARGEST_RECORD: Final = LARGEST_BATCH - 4 * 1024
"""Bytes of one record: the client refuses a larger one at once, while a refusal by the broker wedges the partition."""

_KEYS_KEPT: Final = 16_384
"""Keys whose thread and partition are remembered, about 250 bytes each; a partition takes 4 µs to be found anew."""

Headers = Sequence[tuple[str, bytes]]


class LoggedRecord(Protocol):
    """A record as aiokafka parses it."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


class OwnRecord(NamedTuple):
    """A record to be written."""

    partition: int
    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory and on the way."""
        return len(self.value) + 512


def key_of(thread_id: ThreadId) -> bytes:
    """Return the record key of the thread's events: the id as text, which every consumer can read."""
    return thread_id.encode()


@lru_cache(maxsize=_KEYS_KEPT)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of the key as Java's default partitioner has it (murmur2)."""
    number: int = murmur2(key) & 0x7FFF_FFFF
    return number % partitions


@lru_cache(maxsize=_KEYS_KEPT)
def thread_of(key: bytes | None) -> ThreadId | None:
    """Return the thread that the key names, in the form in which we write it; None for a key of others."""
    if key is None or len(key) != 36:
        return None
    try:
        thread_id = parse_thread_id(key.decode())
    except (InvalidRequest, UnicodeDecodeError):
        return None
    return thread_id if key == key_of(thread_id) else None


def own_record(event: Event, *, partitions: int, source: str, trace: bytes | None = None) -> OwnRecord:
    """Return the record of the event; `trace` is the `traceparent` of the trace in which it is written, if any."""
    key = key_of(event.thread_id)
    headers = cloud_event_headers(event, source=source)
    if trace is not None:
        headers.append((TRACEPARENT, trace))
    return OwnRecord(
        partition_of(key, partitions),
        key,
        codec().encode(event),
        headers,
        # Kafka has no time before 1970; the event has its own.
        max(0, event.occurred_at // 1_000),
    )


def entry_of(record: LoggedRecord, partition: int, partitions: int) -> Entry:
    """Return the record as an entry of the log; whatever is not ours is a `ForeignRecord`."""
    position = Position(partition, record.offset)
    thread_id = thread_of(record.key)
    if record.value is None:
        return Entry(position, thread_id, ForeignRecord("a tombstone"))
    if record.key is None or thread_id is None:
        return Entry(position, None, ForeignRecord("its key is no thread id"))
    if partition_of(record.key, partitions) != partition:
        return Entry(position, thread_id, ForeignRecord(f"its key does not belong into partition {partition}"))
    return Entry(position, thread_id, codec().decode(record.value, fingerprint_header=fingerprint_of(record)))


def fingerprint_of(record: LoggedRecord) -> bytes | None:
    """Return the header that names the schema; looked for only where the framing does not name it."""
    if record.value is None or record.value[:1] != CONFLUENT_MAGIC:
        return None
    return next((value for name, value in record.headers if name == FINGERPRINT_HEADER), None)
