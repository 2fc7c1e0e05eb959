"""A partition of the log, read from one offset to another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final

from eventstore.ports import Entry, EventFeed

BATCH: Final = 500
"""Entries read at a time."""


async def entries_between(feed: EventFeed, partition: int, *, start: int, end: int) -> AsyncIterator[Sequence[Entry]]:
    """Yield the partition's entries with start <= offset < end, in batches.

    Raises:
        LogTruncated: The partition begins after `start`.
        LogUnavailable: The log cannot be reached.
    """
    while start < end and (entries := await feed.read(partition, start=start, limit=min(BATCH, end - start))):
        yield [entry for entry in entries if entry.position.offset < end]
        start = entries[-1].position.offset + 1
