"""The durable order of events on a topic (port `EventLog`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from eventstore.documents.items import Position
from eventstore.errors import AppendTooLarge, LogUnavailable, OutcomeUnknown
from eventstore.events import Event
from eventstore.kafka.producer import Producer
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.records import LARGEST_RECORD, OwnRecord, own_record
from eventstore.kafka.url import KafkaUrl

_AGAIN_AFTER: Final = 0.1
"""Seconds until records are sent again after a producer has failed."""


class KafkaLog:
    """Writes events to one topic; `open` before use, `close` after."""

    def __init__(self, url: KafkaUrl, reader: KafkaReader) -> None:
        """Take the topic, and a reader of it that is open."""
        self._reader = reader
        self._source = f"eventstore/{url.topic}"
        self._producer = Producer(url, topic_is_there=reader.topic_is_there)
        self._acknowledged: dict[int, int] = {}
        """By partition: an offset before which everything lay that was acknowledged so far."""

    def __repr__(self) -> str:
        return f"<KafkaLog {self._producer!r}>"

    async def open(self, *, within: float) -> None:
        """Connect.

        Raises:
            LogUnavailable: No broker answered.
            TopicMisconfigured: There is no such topic.
        """
        await self._producer.open(within=within)

    async def close(self, *, within: float) -> None:
        """Send what was handed over, for so many seconds at most, and end."""
        await self._producer.close(within=within)

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        records = [own_record(event, partitions=self._reader.partitions, source=self._source) for event in events]
        for record in records:
            if record.size > LARGEST_RECORD:
                raise AppendTooLarge(
                    f"an event of {record.size:,} bytes cannot be kept; the most is {LARGEST_RECORD:,}; shorten it"
                )
        deadline = asyncio.get_running_loop().time() + within
        positions: list[Position] = []
        for partition, group in groupby(records, key=lambda record: record.partition):
            positions += await self._append(partition, list(group), deadline)
        return positions

    async def _append(self, partition: int, records: Sequence[OwnRecord], deadline: float) -> list[Position]:
        floor = await self._floor(partition)
        offsets = await self._acknowledged_offsets(records, deadline)
        if min(offsets) < floor:
            # The broker met a repetition, and names an offset of its own invention.
            last = await self._reader.end(partition) - 1
            return [Position(partition, last)] * len(offsets)
        self._acknowledged[partition] = max(self._acknowledged[partition], offsets[-1] + 1)
        return [Position(partition, offset) for offset in offsets]

    async def _acknowledged_offsets(self, records: Sequence[OwnRecord], deadline: float) -> Sequence[int]:
        """Send the records until they are acknowledged: what is there twice counts once."""
        clock = asyncio.get_running_loop().time
        unknown: OutcomeUnknown | None = None
        while True:
            try:
                return await self._producer.send(records, within=max(0.0, deadline - clock()))
            except (OutcomeUnknown, LogUnavailable) as exc:
                unknown = exc if isinstance(exc, OutcomeUnknown) else unknown
                if clock() + _AGAIN_AFTER >= deadline:
                    raise unknown or exc from exc.__cause__
            await asyncio.sleep(_AGAIN_AFTER)

    async def _floor(self, partition: int) -> int:
        """Return an offset that whatever is written from now on has or exceeds."""
        if partition not in self._acknowledged:
            self._acknowledged[partition] = await self._reader.end(partition)
        return self._acknowledged[partition]
