"""What a fetch brings: batches of records, unpacked one after the other as they are asked for.

The client below stops at a header whose name is not UTF-8. Brokers take such names, and whoever may write to the topic
may send one; it must keep nobody from what lies behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from aiokafka import codec
from aiokafka import errors as kafka
from aiokafka.record.memory_records import MemoryRecords

from eventstore.kafka.records import LoggedRecord

_BASE_OFFSET: Final = slice(0, 8)
_LENGTH: Final = slice(8, 12)
"""Of what follows it."""
_ATTRIBUTES: Final = slice(21, 23)
_COUNT: Final = slice(57, 61)
_RECORDS: Final = 61
"""Where they begin (Kafka protocol, record batch v2)."""
_CODEC_BITS: Final = 0x07
_UNPACK: Final[dict[int, Callable[[bytes], bytes]]] = {
    0: bytes,
    1: codec.gzip_decode,
    2: codec.snappy_decode,
    3: codec.lz4_decode,
    4: codec.zstd_decode,
}


class PlainRecord(NamedTuple):
    """A record as `LoggedRecord` has it; in names of headers, what is not UTF-8 has become U+FFFD."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Batch(NamedTuple):
    """A batch of a fetched payload."""

    first: int
    """The offset at which it begins."""
    next: int
    """The offset behind it."""
    stop: int
    """Where in the payload it ends."""
    records: Iterable[LoggedRecord]
    """Unpacked as they are asked for; none of a transaction's marker, nor of what lies before the start."""


def batches_of(payload: bytes, start: int) -> Iterator[Batch]:
    """Return the payload's batches, for who reads from offset `start` on.

    Raises:
        KafkaError: A batch came damaged.
    """
    batches, source = MemoryRecords(payload), memoryview(payload)
    at = 0
    while batches.has_next():
        batch, begins = batches.next_batch(), at
        at += _size_of(source, begins)
        records: Iterable[LoggedRecord] = ()
        if not batch.is_control_batch and batch.next_offset > start:
            if not batch.validate_crc():
                raise kafka.CorruptRecordException(f"the batch at offset {batch.base_offset} came damaged")
            records = _records_of(batch, source[begins:at])
        yield Batch(batch.base_offset, batch.next_offset, at, records)


def end_of(payload: bytes) -> int:
    """Return the offset behind the payload's last whole batch; -1 if there is none."""
    batches, last = MemoryRecords(payload), None
    while batches.has_next():
        last = batches.next_batch()
    return -1 if last is None else int(last.next_offset)


class Unread:
    """The records of a fetched payload that nobody has taken yet."""

    def __init__(self, payload: bytes, start: int) -> None:
        """Take them from offset `start` on."""
        self.next = start
        """The offset to go on from: offsets have holes."""
        self._records = self._unpacked(payload, start)

    def take(self, limit: int, *, size: int) -> list[LoggedRecord]:
        """Return up to `limit` records, and no further ones once there are `size` bytes of them.

        Raises:
            KafkaError, ValueError: What comes next is damaged.
        """
        taken: list[LoggedRecord] = []
        for record in self._records:
            taken.append(record)
            self.next = record.offset + 1
            size -= len(record.value or b"")
            if len(taken) >= limit or size <= 0:
                break
        return taken

    def _unpacked(self, payload: bytes, start: int) -> Iterator[LoggedRecord]:
        for batch in batches_of(payload, start):
            for record in batch.records:
                if record.offset >= start:
                    yield record
            self.next = max(self.next, batch.next)


def _size_of(payload: memoryview, at: int) -> int:
    """Return how many bytes the batch takes that begins there."""
    return _LENGTH.stop + int.from_bytes(payload[at:][_LENGTH], "big")


def _records_of(batch: Iterable[LoggedRecord], source: memoryview) -> Iterator[LoggedRecord]:
    """Return the batch's records; those that the client cannot read, from the batch's bytes in `source`."""
    read = 0
    try:
        for record in batch:
            yield record
            read += 1
    except UnicodeDecodeError:
        yield from islice(unpacked(bytes(source)), read, None)


def unpacked(batch: bytes) -> Iterator[PlainRecord]:
    """Read a whole batch (v2: older ones have no headers)."""
    first = int.from_bytes(batch[_BASE_OFFSET], "big")
    attributes = int.from_bytes(batch[_ATTRIBUTES], "big")
    records = _Bytes(_UNPACK[attributes & _CODEC_BITS](batch[_RECORDS:]))
    for _ in range(int.from_bytes(batch[_COUNT], "big")):
        records.number()  # its length
        records.take(1)  # attributes, of which there are none
        records.number()  # its time, as seen from the batch's
        yield PlainRecord(
            first + records.number(),
            records.some(),
            records.some(),
            tuple(((records.some() or b"").decode(errors="replace"), records.some()) for _ in range(records.number())),
        )


class _Bytes:
    """Bytes, read from their beginning on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def number(self) -> int:
        """Read a zigzag variable-length number."""
        found, shift = 0, 0
        while True:
            (digit,) = self.take(1)
            found |= (digit & 0x7F) << shift
            if digit < 0x80:
                return found >> 1 ^ -(found & 1)
            shift += 7

    def some(self) -> bytes | None:
        """Read bytes behind their count, which is -1 for none."""
        count = self.number()
        return None if count < 0 else self.take(count)
