"""A thread's items, read at the thread's own cost.

The views say where the thread's records lie and how far they were folded; indexed records are taken as admitted. What
lies behind the checkpoint is judged here by `step`, so the answer is exact however far the views lag. The plain replay
from the thread's start is always right, and is what serves states of the past.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, repeat
from typing import TypeAlias

from eventstore.admission import Admitted
from eventstore.documents.items import Position, StoredItem
from eventstore.errors import InvalidRequest, LogTruncated, UnknownThread, UnreadableEvent, ViewsUnavailable, quoted
from eventstore.events import Item, items_of
from eventstore.ids import ThreadId
from eventstore.judging import Judged, judge, owner
from eventstore.moments import micros
from eventstore.ports import EventFeed, ThreadView, ThreadViews
from eventstore.state import UNKNOWN_THREAD, IndexEntry, ThreadState, spanned

_RECORDS_AT_A_TIME = 256
"""Indexed records fetched together: bounds the memory of a streaming read."""
_ITEMS_AT_A_TIME = 16_384
"""Items whose places a streaming read knows at a time."""
_LONGEST_VERSION = 18
"""Digits: Python refuses to read a number of thousands of them."""


@dataclass(frozen=True, slots=True)
class AsOf:
    """A point of a thread's past: the last event up to a version, or up to a time (microseconds since the epoch).

    Events are whole: where one bears several items, as those of imported files do (up to 200, with the time of the
    last), a time before that shows none of them.
    """

    version: int | None = None
    micros: int | None = None

    @classmethod
    def parse(cls, text: str) -> AsOf:
        """Read a version (a number) or an RFC 3339 time.

        Raises:
            InvalidRequest: It is neither.
        """
        if text.isascii() and text.isdecimal() and len(text) <= _LONGEST_VERSION:
            return cls(version=int(text))
        at = micros(text)
        if at is None:
            raise InvalidRequest(
                f"{quoted(text)} is neither a version nor a time; give e.g. 12 or 2026-05-01T12:00:00Z"
            )
        return cls(micros=at)


Check: TypeAlias = Callable[[ThreadView | None], ThreadView]
"""Refuses what its caller has no use for: a thread that is missing, or archived."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the items start <= ordinal < stop of a thread lie."""

    records: Sequence[IndexEntry]
    start: int
    stop: int
    total: int
    """How many items the thread has."""


class History:
    """Reads items over the ports."""

    def __init__(self, feed: EventFeed, views: ThreadViews) -> None:
        self._feed = feed
        self._views = views

    async def items(self, thread_id: ThreadId, check: Check, *, at_least: int = 0) -> AsyncIterator[list[StoredItem]]:
        """Yield all items in batches, in order, as of the log's end sampled now.

        Raises:
            InvalidRequest: The thread was deleted meanwhile.
            UnreadableEvent: A record of the thread cannot be understood.
            LogTruncated: A record of the thread is not in the log any more.
        """
        start, end = 0, None
        while end is None or start < end:
            window = start + _ITEMS_AT_A_TIME
            span = slice(start, window if end is None else min(window, end))
            places = await self.places(thread_id, span, check, at_least=at_least)
            end = places.total if end is None else end
            async for batch in self.at(thread_id, places):
                yield batch
            start, check = window, _found_before  # it may have been archived since

    async def places(self, thread_id: ThreadId, span: slice, check: Check, *, at_least: int = 0) -> Places:
        """Find the items of the span, as of the log's end sampled now: one look at the views, one at the log's end.

        Raises:
            InvalidRequest: The thread was deleted meanwhile.
            UnreadableEvent: A record of the thread cannot be understood.
            LogTruncated: The views cannot say where the items lie, and records of the thread are missing from the log.
        """
        view = check(await self._views.get(thread_id, span=span, at_least=at_least))
        readable(thread_id, view.state)
        now = await caught_up(self._feed, thread_id, view)
        start, stop = spanned(span, now.state.head.items)
        if not _covers(now.indexed, start, stop):
            # The views lost a part of what they knew; only the log can tell.
            now = await self._from_the_log(thread_id, view)
            start, stop = spanned(span, now.state.head.items)
        if not now.state.head.exists:
            raise UnknownThread(f"no rollout found for thread id {thread_id}")
        wanted = [entry for entry in now.indexed if entry.ordinal < stop and entry.ordinal + entry.items > start]
        return Places(wanted, start, stop, now.state.head.items)

    async def at(self, thread_id: ThreadId, places: Places) -> AsyncIterator[list[StoredItem]]:
        """Yield the items in batches, in order.

        Raises:
            LogTruncated: A record of the thread is not in the log any more.
        """
        partition = self._feed.partition_of(thread_id)
        read = 0
        while records := places.records[read : read + _RECORDS_AT_A_TIME]:
            items = await self._feed.fetch(thread_id, [record.offset for record in records])
            read += len(items)
            yield _between(stored(partition, records[: len(items)], items), places.start, places.stop)

    async def _from_the_log(self, thread_id: ThreadId, view: ThreadView) -> ThreadView:
        state = UNKNOWN_THREAD
        indexed: list[IndexEntry] = []
        end = await self._feed.end(self._feed.partition_of(thread_id))
        async for judged in replayed_whole(self._feed, thread_id, view, stop=end):
            state = judged.done.state
            indexed.extend(judged.done.indexed)
        return ThreadView(state, end, indexed)

    async def as_of(self, thread_id: ThreadId, point: AsOf) -> tuple[ThreadState, list[StoredItem]]:
        """Replay the thread from its start up to a point of its past.

        A time means the longest prefix of the thread's admitted events that had occurred by then; where a clock stepped
        back, the latest time seen so far counts.

        Raises:
            InvalidRequest: The thread has not come to that version.
            UnreadableEvent: A record before that point cannot be understood.
            LogTruncated: Records of the thread are missing.
        """
        view = await self._views.get(thread_id) or UNSEEN
        past = _Past(point)
        end = await self._feed.end(self._feed.partition_of(thread_id))
        try:
            # To the end, whatever the point: only the whole shows that nothing is missing from the part.
            async for judged in replayed_whole(self._feed, thread_id, view, stop=end):
                past.hear(judged)
        except UnreadableEvent:
            if not past.is_complete:
                raise
        reached = past.state.head.version
        if point.version is not None and point.version > reached:
            # Dates without hyphens and years read as versions: what is now would pass for what was then.
            raise InvalidRequest(
                f"thread {thread_id} has not come to version {point.version}, it is at version {reached}; give one up "
                "to that, or a time such as 2026-05-01T12:00:00Z"
            )
        return past.state, past.items(self._feed.partition_of(thread_id))


def _found_before(view: ThreadView | None) -> ThreadView:
    """Take the thread of which something was read already; that it was deleted since is told by its head."""
    return view or UNSEEN


class _Past:
    """A thread up to a point, gathered entry by entry."""

    def __init__(self, point: AsOf) -> None:
        self._point = point
        self._latest = 0
        self._indexed: list[IndexEntry] = []
        self._borne: dict[int, Sequence[Item]] = {}
        self.state = UNKNOWN_THREAD
        self.is_complete = False

    def hear(self, judged: Judged) -> None:
        """Take the thread's next entry, unless it lies beyond the point."""
        entry, event, done = judged
        if self.is_complete or not isinstance(done.verdict, Admitted):
            return
        self._latest = max(self._latest, event.occurred_at)
        if self._is_beyond(done.state):
            self.is_complete = True
            return
        self.state = done.state
        self._indexed.extend(done.indexed)
        self._borne[entry.position.offset] = items_of(event)

    def items(self, partition: int) -> list[StoredItem]:
        return stored(partition, self._indexed, [self._borne[place.offset] for place in self._indexed])

    def _is_beyond(self, state: ThreadState) -> bool:
        version, micros = self._point.version, self._point.micros
        return (version is not None and state.head.version > version) or (micros is not None and self._latest > micros)


async def replayed_whole(feed: EventFeed, thread_id: ThreadId, view: ThreadView, *, stop: int) -> AsyncIterator[Judged]:
    """Judge all of the thread's entries before `stop`, in order, from its first one on.

    A record that is missing from the log leaves no trace there that could be told from a word that was never logged. So
    the view vouches for what lies before its checkpoint: there the replay has to come to the very head that was folded.

    Raises:
        UnreadableEvent: A record of the thread cannot be understood.
        LogTruncated: It comes to another one. What was yielded until then may be too short.
    """
    state = UNKNOWN_THREAD
    is_vouched_for = False
    async for judged in replayed(feed, thread_id, state, start=max(0, view.state.start), stop=stop):
        if not is_vouched_for and judged.entry.position.offset >= view.checkpoint:
            _must_agree(thread_id, state, view)
            is_vouched_for = True
        state = judged.done.state
        yield judged
    if not is_vouched_for:
        _must_agree(thread_id, state, view)


def _must_agree(thread_id: ThreadId, state: ThreadState, view: ThreadView) -> None:
    ours, theirs = state.head, view.state.head
    if ours != theirs:
        raise LogTruncated(
            f"the records of thread {thread_id} in the log give {ours.items} items at version {ours.version}, and "
            f"{theirs.items} at version {theirs.version} were folded from them: some are missing, or the view is "
            "wrong; eventstore verify says which, and missing ones are in a backup"
        )


async def replayed(
    feed: EventFeed, thread_id: ThreadId, state: ThreadState, *, start: int, stop: int
) -> AsyncIterator[Judged]:
    """Judge the thread's entries with start <= offset < stop, in order, upon its state at `start`.

    Raises:
        UnreadableEvent: A record of the thread cannot be understood.
    """
    async for entries in feed.replay(thread_id, start=start, stop=stop):
        for entry in entries:
            if owner(entry) != thread_id:
                continue
            judged = judge(state, entry)
            state = judged.state
            if isinstance(judged, Judged):
                yield judged
            elif state.frozen is not None:
                raise UnreadableEvent(
                    f"thread {thread_id} cannot be read past {entry.position}: {judged.why}; "
                    f"upgrade eventstore, then eventstore retry {thread_id}"
                )


async def looked_at(views: ThreadViews, thread_id: ThreadId, *, within: float, deadline: float) -> ThreadView | None:
    """Return the thread as it is now, to a call of `within` seconds whose `deadline` is on the monotonic clock.

    Raises:
        ViewsUnavailable: The views did not show it by then.
    """
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            return await views.get(thread_id)
    except TimeoutError as exc:
        raise ViewsUnavailable(f"the views did not show thread {thread_id} within {within:g} s; try again") from exc


UNSEEN = ThreadView(UNKNOWN_THREAD, 0)
"""What is known of a thread of which nothing was read."""


async def caught_up(feed: EventFeed, thread_id: ThreadId, view: ThreadView) -> ThreadView:
    """Return the view as it is when what lies behind it, up to the log's end sampled now, is folded too.

    Raises:
        UnreadableEvent: A record of the thread there cannot be understood.
    """
    end = await feed.end(feed.partition_of(thread_id))
    if view.checkpoint >= end or view.state.frozen is not None:
        return view
    state, indexed = view.state, [*view.indexed]
    async for judged in replayed(feed, thread_id, state, start=view.checkpoint, stop=end):
        state = judged.done.state
        indexed.extend(judged.done.indexed)
    return ThreadView(state, end, indexed)


async def state_at(
    feed: EventFeed, thread_id: ThreadId, position: Position, *, since: ThreadView = UNSEEN
) -> ThreadState:
    """Return the thread as of its entry at `position`, or as of `since` if that is later, from the log alone.

    Raises:
        UnreadableEvent: A record of the thread up to there cannot be understood.
    """
    state = since.state
    async for _, _, done in replayed(feed, thread_id, state, start=since.checkpoint, stop=position.offset + 1):
        state = done.state
    return state


def readable(thread_id: ThreadId, state: ThreadState) -> None:
    """Refuse a frozen thread.

    Raises:
        UnreadableEvent: The thread is frozen.
    """
    if state.frozen is not None:
        raise UnreadableEvent(
            f"thread {thread_id} is frozen: {state.frozen}; upgrade eventstore, then eventstore retry {thread_id}"
        )


def stored(partition: int, records: Sequence[IndexEntry], items: Sequence[Sequence[Item]]) -> list[StoredItem]:
    """Return the items of admitted records with their ordinals and positions."""
    found: list[StoredItem] = []
    for record, borne in zip(records, items, strict=True):
        # One pass in C over what may be tens of thousands of items.
        position = Position(partition, record.offset)
        found.extend(map(_new_stored_item, zip(count(record.ordinal), repeat(position), borne)))
    return found


_new_stored_item = partial(tuple.__new__, StoredItem)


def _covers(indexed: Sequence[IndexEntry], start: int, stop: int) -> bool:
    """Say whether the records bear all the items start <= ordinal < stop."""
    if start >= stop:
        return True
    reached = indexed[0].ordinal if indexed else stop
    if reached > start:
        return False
    for record in indexed:
        if record.ordinal != reached:
            return False
        reached += record.items
    return reached >= stop


def _between(items: list[StoredItem], start: int, stop: int) -> list[StoredItem]:
    first = items[0].ordinal if items else 0
    return items[max(0, start - first) : max(0, stop - first)]
