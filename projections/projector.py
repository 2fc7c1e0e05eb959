"""Follows the log of one partition and keeps its views.

One step: entries, one atomic read, fold, one atomic commit. States kept in memory are used only while the mark in the
views is the one of the own last commit; a refused commit empties them. So zombies, replays and rivals change nothing.
For who only asks what the log says of a thread, at most one batch is folded in memory; the next commit takes it along.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from eventstore.events import Event
from eventstore.ids import ThreadId
from eventstore.judging import owner
from eventstore.ports import Entry
from eventstore.state import UNKNOWN_THREAD, ThreadState
from projections.fold import Folded, fold
from projections.ports import Entries, Mark, ThreadChange, ViewWriter


class Projector:
    """The projector of one partition; calls may overlap, steps do not."""

    def __init__(
        self, feed: Entries, views: ViewWriter, *, partition: int = 0, batch: int = 256, keep: int = 1_024
    ) -> None:
        """Take a feed and the views; a step folds `batch` entries at most, states of `keep` threads stay in memory."""
        self._feed = feed
        self._views = views
        self._partition = partition
        self._batch = batch
        self._keep_at_most = keep
        self._stepping = asyncio.Lock()
        self._mark: Mark | None = None
        self._last: Entry | None = None
        self._ahead: _Ahead | None = None
        self._kept: OrderedDict[ThreadId, ThreadState] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Projector partition={self._partition} mark={self._mark}>"

    async def advance(self, until: int) -> int:
        """Fold in memory until offset `until` is reached or the log ends; return the next offset to fold.

        Writes the views whenever a whole batch is ahead of them.

        Raises:
            LogUnavailable: The log cannot be read.
            LogTruncated: It does not hold what is to be folded next.
            ViewsUnavailable: The views cannot be read or written.
        """
        if self._mark is not None and self._next(self._mark) >= until:
            return self._next(self._mark)
        async with self._stepping:
            while True:
                mark = await self._marked()
                if self._next(mark) >= until:
                    return self._next(mark)
                if self._room() == 0:
                    await self._commit()
                elif not await self._fold_some(mark):
                    return self._next(mark)

    async def catch_up(self, until: int) -> int:
        """Fold and write until the views' checkpoint is at least `until` or the log ends; return the checkpoint.

        Raises:
            LogUnavailable: The log cannot be read.
            LogTruncated: It does not hold what is to be folded next.
            ViewsUnavailable: The views cannot be read or written.
        """
        if self._mark is not None and self._mark.checkpoint >= until:
            return self._mark.checkpoint
        async with self._stepping:
            while True:
                mark = await self._marked()
                if mark.checkpoint >= until or await self._step(mark, until) is None:
                    return (await self._marked()).checkpoint

    async def write(self) -> None:
        """Write what was folded in memory.

        Raises:
            ViewsUnavailable: The views cannot be written.
        """
        async with self._stepping:
            await self._commit()

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

        For who follows a log that gives nothing: lost views would otherwise go unnoticed until the next event.

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
        """Return the thread's state and the offset up to which the log was folded for it.

        Raises:
            ViewsUnavailable: The views cannot be read.
        """
        known = self._known(thread_id)
        if known is None or known.frozen is not None:
            # A frozen one is not believed: another process may have had it folded anew, which moves no checkpoint.
            stored = await self._views.snapshot(self._partition, (thread_id,))
            if stored.mark != self._mark:
                return stored.states.get(thread_id, UNKNOWN_THREAD), stored.mark.checkpoint
            known = self._known(thread_id) or stored.states.get(thread_id, UNKNOWN_THREAD)
        assert self._mark is not None
        return known, self._next(self._mark)

    def forget(self) -> None:
        """Read everything anew at the next step: somebody has put the views back."""
        self._mark = None

    async def _marked(self) -> Mark:
        if self._mark is None:
            self._ahead = None
            self._kept.clear()
            self._mark = (await self._views.snapshot(self._partition, ())).mark
        return self._mark

    def _next(self, mark: Mark) -> int:
        """Return the next offset to fold, which nobody but this projector knows of yet."""
        return mark.checkpoint if self._ahead is None else self._ahead.checkpoint

    def _room(self) -> int:
        """Return how many more entries may be folded before the views must be written."""
        return self._batch if self._ahead is None else self._batch - self._ahead.entries

    def _known(self, thread_id: ThreadId) -> ThreadState | None:
        """Return the thread's state as of the next offset to fold, if that is in memory."""
        if self._mark is None:
            return None
        if self._ahead is not None and (change := self._ahead.folded.changes.get(thread_id)) is not None:
            return change.after
        return self._kept.get(thread_id)

    async def _step(self, mark: Mark, until: int | None = None) -> Folded | None:
        """Fold one batch, unless `until` was reached in memory already, and write it; None when there is nothing.

        A refused commit folds nothing and forgets.
        """
        enough = self._room() == 0 or (until is not None and self._next(mark) >= until)
        if not enough and not await self._fold_some(mark) and self._ahead is None:
            return None
        return await self._commit()

    async def _fold_some(self, mark: Mark) -> bool:
        """Fold in memory what the log has next, at most to a whole batch; False if it has nothing."""
        entries = await self._feed.read(self._partition, start=self._next(mark), limit=self._room())
        if not entries:
            return False
        states = await self._states(mark, {thread for entry in entries if (thread := owner(entry)) is not None})
        if states is None:
            return True
        folded = fold(states, entries)
        if self._ahead is None:
            self._ahead = _Ahead(folded, entries[-1], len(entries))
        else:
            self._ahead.add(folded, entries)
        return True

    async def _commit(self) -> Folded:
        """Write what is ahead of the views."""
        if self._mark is None or self._ahead is None:
            return Folded()
        mark, ahead = self._mark, self._ahead
        # Until the commit's outcome is known, what is kept in memory may not be used: the task can be cancelled there.
        self._mark = None
        if not await self._views.commit(self._partition, mark, ahead.checkpoint, ahead.folded.changes, last=ahead.last):
            return Folded()
        self._mark, self._ahead = mark._replace(checkpoint=ahead.checkpoint), None
        self._last = ahead.last
        self._keep(ahead.folded.changes)
        return ahead.folded

    async def _states(self, mark: Mark, threads: Collection[ThreadId]) -> dict[ThreadId, ThreadState] | None:
        """Return the threads' states as of the next offset; None if the views have moved on, to begin again."""
        known = {thread: state for thread in threads if (state := self._known(thread)) is not None}
        missing = [thread for thread in threads if thread not in known]
        if not missing:
            return known
        snapshot = await self._views.snapshot(self._partition, missing)
        if snapshot.mark != mark:
            self._mark = None
            return None
        return known | dict(snapshot.states)

    def _keep(self, changes: dict[ThreadId, ThreadChange]) -> None:
        for thread_id, change in changes.items():
            self._kept[thread_id] = change.after
            self._kept.move_to_end(thread_id)
        while len(self._kept) > self._keep_at_most:
            self._kept.popitem(last=False)


@dataclass(slots=True)
class _Ahead:
    """What was folded in memory beyond the views."""

    folded: Folded
    last: Entry
    entries: int

    @property
    def checkpoint(self) -> int:
        return self.last.position.offset + 1

    def add(self, folded: Folded, entries: Sequence[Entry]) -> None:
        self.folded.add(folded)
        self.last = entries[-1]
        self.entries += len(entries)
