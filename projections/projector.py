"""Follows the log of one partition and keeps its views.

One step: entries, one atomic read, fold, one atomic commit. States kept in memory are used only while the mark in the
views is the one of the own last commit; a refused commit empties them. So zombies, replays and rivals change nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection

from eventstore.events import Event
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.state import UNKNOWN_THREAD, ThreadState
from projections.fold import Folded, fold, owner
from projections.ports import Entries, Mark, ThreadChange, ViewWriter

_KEPT_STATES = 1_024
"""Threads whose states stay in memory between steps, about 4 KB each."""


class Projector:
    """The projector of one partition; calls may overlap, steps do not."""

    def __init__(self, feed: Entries, views: ViewWriter, *, partition: int = 0, batch: int = 256) -> None:
        """Take a feed and the views; `batch` is the most entries folded in one step."""
        self._feed = feed
        self._views = views
        self._partition = partition
        self._batch = batch
        self._stepping = asyncio.Lock()
        self._mark: Mark | None = None
        self._last: Entry | None = None
        self._kept: OrderedDict[ThreadId, ThreadState] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Projector partition={self._partition} mark={self._mark}>"

    async def catch_up(self, until: int) -> int:
        """Fold until the checkpoint is at least `until` or the log ends; return the checkpoint."""
        if self._mark is not None and self._mark.checkpoint >= until:
            return self._mark.checkpoint
        async with self._stepping:
            while True:
                mark = await self._marked()
                if mark.checkpoint >= until or await self._step(mark) is None:
                    return (await self._marked()).checkpoint

    async def step(self) -> Folded | None:
        """Fold one batch: one look at the log, at most one at the views, one commit. None when the log gave nothing.

        Raises:
            LogUnavailable: The log cannot be read.
            LogTruncated: It does not hold what is to be folded next.
            ViewsUnavailable: The views cannot be read or written.
        """
        async with self._stepping:
            return await self._step(await self._marked())

    async def check(self) -> None:
        """See whether the views are where this projector left them; if they are not, begin anew from where they are.

        For who follows a log that gives nothing: views that were lost would else be missed only with the next event.

        Raises:
            ViewsUnavailable: The views cannot be read, or are gone.
        """
        async with self._stepping:
            found = (await self._views.snapshot(self._partition, ())).mark
            if found != self._mark:
                self._mark = None

    @property
    def checkpoint(self) -> int | None:
        """The next offset to fold, as of the last step; None while that is not known."""
        return None if self._mark is None else self._mark.checkpoint

    @property
    def folded_until(self) -> int | None:
        """When the last event folded is said to have occurred, microseconds since the epoch; None before the first."""
        event = None if self._last is None else self._last.event
        return event.occurred_at if isinstance(event, Event) else None

    async def state_of(self, thread_id: ThreadId) -> tuple[ThreadState, int]:
        """Return the thread's state and the checkpoint which it is as of."""
        if self._mark is not None and thread_id in self._kept:
            return self._kept[thread_id], self._mark.checkpoint
        snapshot = await self._views.snapshot(self._partition, (thread_id,))
        return snapshot.states.get(thread_id, UNKNOWN_THREAD), snapshot.mark.checkpoint

    def forget(self) -> None:
        """Read everything anew at the next step: somebody has put the views back."""
        self._mark = None

    async def _marked(self) -> Mark:
        if self._mark is None:
            self._kept.clear()
            self._mark = (await self._views.snapshot(self._partition, ())).mark
        return self._mark

    async def _step(self, mark: Mark) -> Folded | None:
        """Fold one batch; None at the end of the log. A refused commit folds nothing and forgets."""
        entries = await self._feed.read(self._partition, start=mark.checkpoint, limit=self._batch)
        if not entries:
            return None
        states = await self._states(mark, {thread for entry in entries if (thread := owner(entry)) is not None})
        if states is None:
            return Folded()
        folded = fold(states, entries)
        checkpoint = entries[-1].position.offset + 1
        # Until the commit's outcome is known, what is kept in memory may not be used: the task can be cancelled there.
        self._mark = None
        if not await self._views.commit(self._partition, mark, checkpoint, folded.changes, last=entries[-1]):
            return Folded()
        self._mark = Mark(mark.generation, checkpoint)
        self._last = entries[-1]
        self._keep(folded.changes)
        return folded

    async def _states(self, mark: Mark, threads: Collection[ThreadId]) -> dict[ThreadId, ThreadState] | None:
        """Return the threads' states as of the mark; None if the views have moved on, to begin again."""
        kept = {thread: self._kept[thread] for thread in threads if thread in self._kept}
        missing = [thread for thread in threads if thread not in kept]
        if not missing:
            return kept
        snapshot = await self._views.snapshot(self._partition, missing)
        if snapshot.mark != mark:
            self._mark = None
            return None
        return kept | dict(snapshot.states)

    def _keep(self, changes: dict[ThreadId, ThreadChange]) -> None:
        for thread_id, change in changes.items():
            self._kept[thread_id] = change.after
            self._kept.move_to_end(thread_id)
        while len(self._kept) > _KEPT_STATES:
            self._kept.popitem(last=False)
