"""Fetches one partition ahead of its reader, by a connection of its own.

aiokafka's consumer asks for all of its partitions in one request: every answer describes them all, though only one has
moved, and while the reader of one partition is busy, the request has to leave it out or to wait.
"""

from __future__ import annotations

import asyncio
from typing import Final

from eventstore.errors import LogUnavailable
from eventstore.kafka.batches import end_of
from eventstore.kafka.reader import KafkaReader

_HELD_MS: Final = 2_000
"""How long a broker holds a request back while there is nothing; what comes meanwhile comes at once."""


class Ahead:
    """What was fetched of a partition and is not taken yet: one payload, or the request for it that is under way."""

    def __init__(self, reader: KafkaReader, partition: int, *, size: int) -> None:
        """Take a reader that is open, and how many bytes to fetch at a time; a larger record comes all the same."""
        self._reader = reader
        self._partition = partition
        self._size = size
        self._link = reader.link()
        self._start = 0
        self._fetch: asyncio.Task[tuple[bytes, int]] | None = None
        self.end: int | None = None
        """The partition's end as the last answer told it; None before the first."""

    async def payload(self, start: int, *, within: float) -> bytes | None:
        """Return what was fetched from offset `start` on, once; None if nothing comes in so many seconds.

        Raises:
            LogTruncated: The partition does not hold `start`.
            LogUnavailable: Its leader did not answer, or nothing that can be read.
            TopicMisconfigured: The topic is gone.
        """
        if self._start != start or (self._fetch is not None and _has_failed(self._fetch)):
            self._leave()
        fetch = self._fetch or self._begin(start)
        await asyncio.wait([fetch], timeout=within)
        if fetch is not self._fetch or not fetch.done():
            return None
        self._fetch = None
        payload, following = fetch.result()
        self._begin(following)
        return payload

    async def close(self) -> None:
        """End the request under way and the connection, and drop what came."""
        fetch = self._leave()
        if fetch is not None:
            await asyncio.wait([fetch])
        self._link.close()

    def _leave(self) -> asyncio.Task[tuple[bytes, int]] | None:
        fetch, self._fetch = self._fetch, None
        if fetch is not None:
            fetch.cancel()
        return fetch

    def _begin(self, start: int) -> asyncio.Task[tuple[bytes, int]]:
        self._start = start
        self._fetch = asyncio.create_task(self._fetched(start))
        # It may fail when its reader has gone elsewhere.
        self._fetch.add_done_callback(lambda fetch: fetch.cancelled() or fetch.exception())
        return self._fetch

    async def _fetched(self, start: int) -> tuple[bytes, int]:
        """Return a payload and the offset behind it."""
        payload = b""
        while not payload:
            payload, self.end = await self._reader.fetch(
                self._partition, start, size=self._size, held_ms=_HELD_MS, link=self._link
            )
        following = end_of(payload)
        if following <= start:
            raise LogUnavailable(f"nothing of partition {self._partition} at offset {start} came whole; try again")
        return payload, following


def _has_failed(fetch: asyncio.Task[tuple[bytes, int]]) -> bool:
    """Say whether it failed, which was of concern to who waited then: the next one asks anew."""
    return fetch.done() and fetch.exception() is not None
