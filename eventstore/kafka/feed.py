"""A topic, read in order (port `EventFeed`): one partition for whoever folds it, one thread for whoever reads that.

A thread's records lie scattered among those of thousands. Neighbours are read as one range, distant ones each by a
request of its own; never the whole partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from eventstore.codec import codec
from eventstore.errors import LogTruncated, LogUnavailable
from eventstore.events import Item
from eventstore.ids import ThreadId
from eventstore.kafka.reader import Chunk, KafkaReader
from eventstore.kafka.records import LoggedRecord, entry_of, fingerprint_of, key_of, partition_of
from eventstore.ports import Entry

_SEQUENTIAL_BYTES: Final = 512 * 1024
"""Bytes asked for by a request that reads on and on."""
_READ_OVER_BYTES: Final = 256 * 1024
"""Bytes of foreign records that are read over rather than jumped across: as long takes a request."""
_READ_OVER_RECORDS: Final = 256
"""The same in records: well packed, 256 KiB hold thousands, and those take many times as long to unpack."""
_RANDOM_BYTES: Final = 16 * 1024
"""Bytes asked for beyond what a range is estimated at: a batch has other records too."""
_FETCHED_BYTES: Final = 4 * 1024 * 1024
"""Bytes of a thread's own records after which a fetch stops: bounds the memory of whoever reads large ones."""
_RANGES_AT_FIRST, _RANGES_AT_ONCE = 2, 8
"""Ranges of one fetch under way together: few until they have proved small, for each may bear a record of 16 MiB."""
_FETCHES_AT_ONCE: Final = 8
"""Of this process; others wait for their turn and hold no records meanwhile. More would not end sooner: the time goes
into asking and unpacking, which this process does one after the other."""
_FIRST_GUESS: Final = 1024
"""Bytes of a record in a partition of which nothing was read yet."""


class Range(NamedTuple):
    """Offsets of one thread that are read together."""

    first: int
    wanted: Sequence[int]
    """Ascending, `first` among them."""

    @property
    def stop(self) -> int:
        return self.wanted[-1] + 1


@dataclass(slots=True)
class Cost:
    """What loads of threads cost so far."""

    requests: int = 0
    ranges: int = 0
    """Runs of neighbouring records: one jump each."""
    records: int = 0
    """All that were read, foreign ones too."""
    own: int = 0
    """Of them, the threads' own."""
    bytes: int = 0
    replays: int = 0
    """How often a partition was read from its start, for want of views that say where the thread lies."""


class KafkaFeed:
    """One topic's records, decoded."""

    def __init__(self, reader: KafkaReader) -> None:
        """Take a reader that is open."""
        self._reader = reader
        self._kept: dict[int, tuple[int, Chunk]] = {}
        """By partition: what was fetched and not yet asked for, and the offset that it goes on from."""
        self._places = asyncio.Semaphore(_FETCHES_AT_ONCE)
        self._record_bytes: dict[int, float] = {}
        self.cost = Cost()

    def count_cost_anew(self) -> None:
        """Begin the count of what loads cost anew."""
        self.cost = Cost()

    def __repr__(self) -> str:
        return f"<KafkaFeed {self._reader!r}>"

    @property
    def identity(self) -> str:
        return f"kafka/{self._reader.cluster_id}/{self._reader.topic}"

    @property
    def partitions(self) -> int:
        return self._reader.partitions

    def partition_of(self, thread_id: ThreadId) -> int:
        return partition_of(key_of(thread_id), self._reader.partitions)

    async def end(self, partition: int) -> int:
        return await self._reader.end(partition)

    async def ends(self, partitions: Sequence[int]) -> Sequence[int]:
        return await self._reader.ends(partitions)

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        begins, chunk = self._kept.pop(partition, (start, None))
        if begins != start:
            chunk = None
        while chunk is None or not chunk.records:
            # No more than is asked for: of each partition the rest of the last batch stays in memory.
            async with self._place():
                chunk = await self._chunk(partition, start, size=self._size_of(partition, limit), limit=limit)
            if chunk.next >= chunk.end and not chunk.records:
                return []
            start = chunk.next
        taken, left = chunk.records[:limit], chunk.records[limit:]
        if left:
            self._kept[partition] = taken[-1].offset + 1, chunk._replace(records=left)
        return [entry_of(record, partition, self._reader.partitions) for record in taken]

    async def replay(self, thread_id: ThreadId, *, start: int, stop: int) -> AsyncIterator[Sequence[Entry]]:
        partition, key = self.partition_of(thread_id), key_of(thread_id)
        if start == 0 and stop > 0:
            self.cost.replays += 1
        while start < stop:
            async with self._place():
                chunk = await self._chunk(partition, start, size=_SEQUENTIAL_BYTES, stop=stop, key=key)
            self.cost.own += len(chunk.records)
            if chunk.records:
                yield [entry_of(record, partition, self._reader.partitions) for record in chunk.records]
            if chunk.next >= chunk.end:
                return
            start = chunk.next

    async def fetch(self, thread_id: ThreadId, offsets: Sequence[int]) -> Sequence[Sequence[Item]]:
        partition, key = self.partition_of(thread_id), key_of(thread_id)
        reach = min(_READ_OVER_RECORDS, max(1, int(_READ_OVER_BYTES / self._bytes_a_record(partition))))
        async with self._place():
            found = await self._first_of(partition, key, planned(offsets, reach=reach))
            self.cost.own += len(found)
            return [codec().items(record.value or b"", fingerprint_header=fingerprint_of(record)) for record in found]

    async def _first_of(self, partition: int, key: bytes, ranges: Sequence[Range]) -> list[LoggedRecord]:
        """Return the wanted records of the first ranges, until enough bytes are in memory."""
        found: list[LoggedRecord] = []
        done, at_once = 0, _RANGES_AT_FIRST
        while done < len(ranges) and _bytes_in(found) < _FETCHED_BYTES:
            together = ranges[done : done + at_once]
            parts = await asyncio.gather(*(self._range(partition, key, place) for place in together))
            for place, records in zip(together, parts, strict=True):
                found += records
                if len(records) < len(place.wanted):
                    return found
            done, at_once = done + at_once, min(2 * at_once, _RANGES_AT_ONCE)
        return found

    async def _range(self, partition: int, key: bytes, place: Range) -> list[LoggedRecord]:
        """Return the records at the wanted offsets or, of large ones, the first of them."""
        wanted = frozenset(place.wanted)
        found: list[LoggedRecord] = []
        start = place.first
        self.cost.ranges += 1
        while start < place.stop and _bytes_in(found) < _FETCHED_BYTES:
            size = self._size_of(partition, place.stop - start)
            chunk = await self._chunk(partition, start, size=size, stop=place.stop, key=key)
            found += [record for record in chunk.records if record.offset in wanted]
            if chunk.next == start:
                break  # the log ends before
            start = chunk.next
        there = {record.offset for record in found}
        missing = next((offset for offset in place.wanted if offset < start and offset not in there), None)
        if missing is None and not found:
            missing = place.first
        if missing is not None:
            raise LogTruncated(
                f"the record at offset {missing} of partition {partition}, of thread {key.decode()}, is not in the log "
                "any more; the views are of another log, or records were taken out of this one"
            )
        return found

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Wait for one's turn to fetch, in the order of asking."""
        try:
            async with asyncio.timeout(self._reader.within):
                await self._places.acquire()
        except TimeoutError as exc:
            raise LogUnavailable(
                f"so many threads are being read that the next had to wait {self._reader.within:g} s; try again"
            ) from exc
        try:
            yield
        finally:
            self._places.release()

    async def _chunk(
        self,
        partition: int,
        start: int,
        *,
        size: int,
        limit: int | None = None,
        stop: int | None = None,
        key: bytes | None = None,
    ) -> Chunk:
        chunk = await self._reader.chunk(partition, start, size=size, limit=limit, stop=stop, key=key)
        if chunk.record_bytes is not None:
            self._record_bytes[partition] = chunk.record_bytes
        self.cost.requests += 1
        self.cost.records += chunk.looked_at
        self.cost.bytes += chunk.bytes
        return chunk

    def _size_of(self, partition: int, records: int) -> int:
        """Say how many bytes to ask for to get so many records that lie together."""
        return min(_SEQUENTIAL_BYTES, int(records * self._bytes_a_record(partition)) + _RANDOM_BYTES)

    def _bytes_a_record(self, partition: int) -> float:
        return self._record_bytes.get(partition, _FIRST_GUESS)


def _bytes_in(records: Sequence[LoggedRecord]) -> int:
    return sum(len(record.value or b"") for record in records)


def planned(offsets: Sequence[int], *, reach: int) -> list[Range]:
    """Join ascending offsets to ranges: neighbours no more than `reach` records apart are read together."""
    ranges: list[list[int]] = []
    for offset in offsets:
        if ranges and offset - ranges[-1][-1] <= reach:
            ranges[-1].append(offset)
        else:
            ranges.append([offset])
    return [Range(wanted[0], wanted) for wanted in ranges]
