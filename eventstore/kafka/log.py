"""The durable order of events on a topic (port `EventLog`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby

from eventstore.documents.items import Position
from eventstore.errors import AppendTooLarge, LogUnavailable, OutcomeUnknown
from eventstore.events import Event
from eventstore.kafka.producer import Producer
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.records import LARGEST_RECORD, own_record
from eventstore.kafka.tracing import traceparent
from eventstore.kafka.url import KafkaUrl


class KafkaLog:
    """Writes events to one topic; `open` before use, `close` after."""

    def __init__(self, url: KafkaUrl, reader: KafkaReader) -> None:
        """Take the topic, and a reader of it that is open."""
        self._reader = reader
        self._source = f"eventstore/{url.topic}"
        self._producer = Producer(url, partitions=reader.partitions, topic_is_there=reader.topic_is_there)

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
        trace = traceparent()
        records = [
            own_record(event, partitions=self._reader.partitions, source=self._source, trace=trace) for event in events
        ]
        for record in records:
            if record.size > LARGEST_RECORD:
                raise AppendTooLarge(
                    f"an event of {record.size:,} bytes cannot be kept; the most is {LARGEST_RECORD:,}; shorten it"
                )
        if len(records) == 1:
            (offset,) = await self._producer.send(records, within=within)
            return [Position(records[0].partition, offset)]
        deadline = asyncio.get_running_loop().time() + within
        positions: list[Position] = []
        for partition, group in groupby(records, key=lambda record: record.partition):
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            try:
                offsets = await self._producer.send(list(group), within=left)
            except LogUnavailable as exc:
                if not positions:
                    raise
                raise OutcomeUnknown(f"some events were written, and then: {exc}") from exc
            positions += [Position(partition, offset) for offset in offsets]
        return positions
