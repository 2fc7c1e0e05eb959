"""Views folded anew beside those that serve, partition by partition, and put in their place when they are as far.

Appends and readers go on meanwhile. Whatever ends a rebuild early leaves the views that serve as they were.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from eventstore.errors import EventStoreError
from eventstore.ports import EventFeed
from projections.ports import Entries, Generations, ViewWriter
from projections.projector import Projector
from projections.verify import StoredViews, Verified, first_difference


class BuiltViews(StoredViews, ViewWriter, Protocol):
    """Stored views of one generation, to be written and to be compared."""


class Progress(NamedTuple):
    """How far the rebuilding of a partition has come."""

    partition: int
    folded: int
    """The next offset to fold."""
    end: int
    """The log's end, as it was last looked at."""


class Rebuilt(NamedTuple):
    """What became of a partition."""

    partition: int
    generation: int
    verified: Verified | None
    """What the comparison with a fold from the log's start found; None if none was asked for."""
    switched: bool


class Rebuild:
    """Rebuilds the views of a log's partitions."""

    def __init__(
        self, feed: EventFeed, ahead: Entries, generations: Generations, views_of: Callable[[int], BuiltViews]
    ) -> None:
        """Take the log, the same read ahead, the generations, and what gives the views of one of them."""
        self._feed = feed
        self._ahead = ahead
        self._generations = generations
        self._views_of = views_of

    async def run(self, partition: int, *, verify: bool, tell: Callable[[Progress], None], batch: int = 500) -> Rebuilt:
        """Build the partition's views and let them serve; with `verify` only if they are what the log says.

        Cancelled, or failing, it removes what it has built.

        Raises:
            LogUnavailable: The log cannot be read.
            LogTruncated: Its beginning is gone.
            ViewsUnavailable: The views cannot be read or written.
        """
        generation = (await self._generations.begin(partition)).generation
        try:
            views = self._views_of(generation)
            projector = Projector(self._ahead, views, partition=partition, batch=batch)
            await self._fold(partition, projector, tell)
            verified = await first_difference(self._feed, views, partition=partition) if verify else None
            if verified is not None and verified.difference is not None:
                await self._drop(partition, generation)
                return Rebuilt(partition, generation, verified, switched=False)
            while not await self._generations.switch(partition, generation):
                # The views that serve went on: they are followed until they are reached.
                await self._fold(partition, projector, tell)
            return Rebuilt(partition, generation, verified, switched=True)
        except BaseException:
            await self._drop(partition, generation)
            raise

    async def _drop(self, partition: int, generation: int) -> None:
        """Remove what was built, as far as it lets itself be removed: what ended the rebuild is what is told."""
        with suppress(EventStoreError):  # it may serve by now, or Redis is away
            await self._generations.drop(partition, generation)

    async def _fold(self, partition: int, projector: Projector, tell: Callable[[Progress], None]) -> None:
        """Fold to the log's end as it is now."""
        end = await self._feed.end(partition)
        while (projector.checkpoint or 0) < end:
            if await projector.step() is None:
                await self._feed.end(partition)  # nothing came for a moment: is the log there still?
            tell(Progress(partition, projector.checkpoint or 0, end))
