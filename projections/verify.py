"""Whether the stored views are what the log says: the log is folded anew, in memory, and compared with them.

Other processes may go on meanwhile: views are compared with the fold at the very checkpoint they were read with, and
a difference counts only if they stood still while it was found.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields, is_dataclass
from typing import NamedTuple, Protocol

from eventstore.admission import Lifecycle
from eventstore.ids import ThreadId
from eventstore.ports import EventFeed
from eventstore.state import IndexEntry, ThreadState
from projections.fold import fold
from projections.ports import DamagedView, Snapshot

_BATCH = 500
"""Entries folded at a time."""
_THREADS_AT_A_TIME = 100
_ALL_ITEMS = 1 << 62
"""An ordinal behind every item."""


class StoredViews(Protocol):
    """What verifying asks of stored views."""

    async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
        """Read mark and states together."""
        ...

    async def index(self, thread_id: ThreadId, *, start: int, stop: int) -> Sequence[IndexEntry]:
        """Return the records that bear the items start <= ordinal < stop, in order.

        Raises:
            DamagedView: They cannot be decoded.
        """
        ...

    async def known_threads(self, partition: int) -> Sequence[ThreadId]:
        """Return every thread that is in the views, deleted and frozen ones too."""
        ...


class Difference(NamedTuple):
    """The first thing that the views say otherwise than the log."""

    thread_id: ThreadId | None
    """None for the views as a whole."""
    what: str
    """Such as `summary.name`."""
    log: str
    views: str

    def __str__(self) -> str:
        whose = "the views" if self.thread_id is None else f"thread {self.thread_id}"
        return f"{whose}: {self.what} is {self.log} by the log, and {self.views} in the views"


class Verified(NamedTuple):
    """What was compared, and the first difference."""

    difference: Difference | None
    threads: int
    records: int


async def first_difference(feed: EventFeed, views: StoredViews, *, partition: int = 0) -> Verified:
    """Compare the states and item indexes of all threads, in the log and in the views.

    Raises:
        LogUnavailable: The log cannot be read.
        ViewsUnavailable: The views cannot be read.
    """
    log = _Fold(feed, partition)
    known = await views.known_threads(partition)
    mark = (await views.snapshot(partition, ())).mark
    await log.reach(mark.checkpoint)
    threads = sorted({*known, *log.states})
    for first in range(0, len(threads), _THREADS_AT_A_TIME):
        found = await _compare(log, views, partition, threads[first : first + _THREADS_AT_A_TIME])
        if found is not None:
            return Verified(found, len(threads), log.records)
    if not threads:
        return Verified(await _compare(log, views, partition, ()), 0, log.records)
    return Verified(None, len(threads), log.records)


class _Fold:
    """The fold of a partition from its start, in memory."""

    def __init__(self, feed: EventFeed, partition: int) -> None:
        self._feed = feed
        self._partition = partition
        self._forget()

    def _forget(self) -> None:
        self.states: dict[ThreadId, ThreadState] = {}
        self.index: dict[ThreadId, list[IndexEntry]] = {}
        self.next = 0
        """The offset behind the last record folded."""
        self.records = 0

    async def reach(self, checkpoint: int) -> bool:
        """Fold exactly what lies before `checkpoint`; say whether the log goes that far."""
        if checkpoint < self.next:
            self._forget()
        end = await self._feed.end(self._partition)
        while self.next < min(checkpoint, end):
            limit = min(_BATCH, checkpoint - self.next)
            entries = await self._feed.read(self._partition, start=self.next, limit=limit)
            entries = [entry for entry in entries if entry.position.offset < checkpoint]
            if not entries:
                break
            for thread_id, change in fold(self.states, entries).changes.items():
                self.states[thread_id] = change.after
                self.index.setdefault(thread_id, []).extend(change.indexed)
                if change.after.head.lifecycle is Lifecycle.DELETED:
                    self.index[thread_id].clear()
            self.next = entries[-1].position.offset + 1
            self.records += len(entries)
        return checkpoint <= end


async def _compare(log: _Fold, views: StoredViews, partition: int, threads: Sequence[ThreadId]) -> Difference | None:
    """Compare some threads at the checkpoint which the views have when they are read."""
    while True:
        read = await _read(views, partition, threads)
        if isinstance(read, Difference):
            return read
        if not await log.reach(read.mark.checkpoint):
            found: Difference | None = Difference(
                None, "the checkpoint", "at most the log's end", f"{read.mark.checkpoint}, beyond it"
            )
        else:
            found = await _first_among(log, views, read, threads)
        if found is None or (await views.snapshot(partition, ())).mark == read.mark:
            return found


async def _read(views: StoredViews, partition: int, threads: Sequence[ThreadId]) -> Snapshot | Difference:
    """Read the states; those that cannot be decoded are a difference."""
    try:
        return await views.snapshot(partition, threads)
    except (DamagedView, ValueError, TypeError, LookupError) as exc:
        if len(threads) <= 1:
            return Difference(next(iter(threads), None), "the state", "sound", f"damaged ({exc.__cause__ or exc})")
    for thread_id in threads:
        found = await _read(views, partition, [thread_id])
        if isinstance(found, Difference):
            return found
    return await views.snapshot(partition, threads)


async def _first_among(
    log: _Fold, views: StoredViews, read: Snapshot, threads: Sequence[ThreadId]
) -> Difference | None:
    for thread_id in threads:
        ours, theirs = log.states.get(thread_id), read.states.get(thread_id)
        if ours is None and theirs is None:
            continue  # it began after the checkpoint
        if ours is None or theirs is None:
            return Difference(thread_id, "the thread", _presence(ours), _presence(theirs))
        different = _difference(ours, theirs)
        if different is not None:
            return Difference(thread_id, *different)
        try:
            stored = list(await views.index(thread_id, start=0, stop=_ALL_ITEMS))
        except DamagedView as exc:
            return Difference(thread_id, "the item index", "sound", f"damaged ({exc})")
        place = _first_unequal(log.index.get(thread_id, []), stored)
        if place is not None:
            return Difference(thread_id, *place)
    return None


def _presence(state: ThreadState | None) -> str:
    return "absent" if state is None else "there"


def _difference(ours: object, theirs: object, name: str = "") -> tuple[str, str, str] | None:
    """Return the first field in which the values differ, and what each has there."""
    if ours == theirs:
        return None
    if is_dataclass(ours) and type(ours) is type(theirs):
        for part in fields(ours):
            within = f"{name}.{part.name}" if name else part.name
            found = _difference(getattr(ours, part.name), getattr(theirs, part.name), within)
            if found is not None:
                return found
    return name or "the state", repr(ours), repr(theirs)


def _first_unequal(ours: Sequence[IndexEntry], theirs: Sequence[IndexEntry]) -> tuple[str, str, str] | None:
    for place in range(max(len(ours), len(theirs))):
        one = ours[place] if place < len(ours) else None
        other = theirs[place] if place < len(theirs) else None
        if one != other:
            return f"entry {place} of the item index", _entry(one), _entry(other)
    return None


def _entry(entry: IndexEntry | None) -> str:
    if entry is None:
        return "absent"
    return f"{entry.items} items from ordinal {entry.ordinal} on at offset {entry.offset}"
