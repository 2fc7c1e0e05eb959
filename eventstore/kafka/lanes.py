"""What waits to be written: calls, in a lane for each partition, which keep their order whatever fails."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice

from eventstore.errors import EventStoreError
from eventstore.kafka.edge import REFUSALS
from eventstore.kafka.records import OwnRecord
from eventstore.kafka.session import OwnBatch, Session


class Call:
    """Records of one partition that were handed over together."""

    __slots__ = ("handed", "offsets", "records", "until", "waiter")

    def __init__(self, records: Sequence[OwnRecord], *, until: float) -> None:
        """Take the records, and when by the loop's clock their caller gives up."""
        self.records = records
        self.until = until
        self.offsets: list[int] = []
        """Of those that are acknowledged."""
        self.handed = False
        """Whether some of them may have reached a broker."""
        self.waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def acknowledge(self, offsets: range) -> None:
        self.offsets += offsets
        if len(self.offsets) == len(self.records) and not self.waiter.done():
            self.waiter.set_result(None)

    def fail(self, error: EventStoreError) -> None:
        if not self.waiter.done():
            self.waiter.set_exception(error)


class Lane:
    """One partition's calls, in the order in which they were made."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.calls: deque[Call] = deque()
        self._filled = asyncio.Event()

    def put(self, call: Call) -> None:
        self.calls.append(call)
        self._filled.set()

    def prune(self) -> None:
        """Drop calls that have ended, or that nobody waits for any more."""
        while self.calls and self.calls[0].waiter.done():
            self.calls.popleft()

    def expire(self, now: float) -> None:
        """End the calls whose time is over; what was handed to a broker of them may land all the same."""
        for call in self.calls:
            if call.until <= now and not call.waiter.done():
                call.waiter.set_exception(TimeoutError())
        self.prune()

    async def filled(self) -> None:
        self.prune()
        while not self.calls:
            self._filled.clear()
            await self._filled.wait()

    async def write(self, session: Session) -> None:
        """Write as many records as go into one batch, and acknowledge them.

        Raises:
            Exception: The session has failed.
        """
        batch = session.batch()
        parts = self._packed(batch)
        if not parts:
            return
        try:
            first = await session.write(batch, partition=self.partition)
        except REFUSALS as exc:
            for call, _ in parts:
                call.fail(session.translated(exc))
            raise
        for call, count in parts:
            call.acknowledge(range(first, first + count))
            first += count

    def _packed(self, batch: OwnBatch) -> list[tuple[Call, int]]:
        """Put records into the batch, oldest first; return how many of which call."""
        parts = []
        for call in self.calls:
            if call.waiter.done():
                continue
            before = batch.records
            whole = all(map(batch.add, islice(call.records, len(call.offsets), None)))
            if batch.records > before:
                call.handed = True
                parts.append((call, batch.records - before))
            if not whole:
                break
        return parts
