"""The embedded engine's views: read and folded by the process that asks.

Whoever asks folds what the log holds beyond the checkpoint first. A flush, or a look at one thread, is content with
folding it in memory; a list or a history writes it first, and so does a pause, or a batch that waits. Readers in other
processes do the same, so nothing that was flushed is ever missed by one.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from eventstore.documents.items import Position
from eventstore.documents.params import ListThreadsParams
from eventstore.errors import EventStoreError, LogUnavailable, ViewsBehind, ViewsUnavailable
from eventstore.history import caught_up
from eventstore.ids import ThreadId
from eventstore.ports import NOTHING_ASKED, EventFeed, RowPage, ThreadView
from eventstore.sqlite.file import SqliteFile
from eventstore.sqlite.log import PARTITION, key_of, log_end, thread_of
from eventstore.state import UNKNOWN_THREAD, spanned
from eventstore.tokens import beyond
from projections.listing import page_in
from projections.projector import Projector
from projections.refold import refold
from projections.selection import ids_beginning_with, parse_cursor
from projections.sqlite_views import IS_NOT_DELETED, DamagedRow, SqliteViews, index_in, mark_in, states_in

T = TypeVar("T")

_GRACE = 0.25
"""Seconds beyond the deadline in which a job that waited for a lock until then may say so."""
FOLD_FIRST = 1.0
"""Seconds for which a look at one thread folds everything before it is content with folding that thread."""
FOLD_WHEN_WAITING = 256
"""Own entries not folded yet at which this process folds unasked."""
FOLD_WHEN_IDLE = 0.25
"""Seconds after the last append until its process folds unasked."""


class EmbeddedViews:
    """The views of one SQLite file, kept by this process (port `ThreadViews`)."""

    def __init__(
        self, file: SqliteFile, feed: EventFeed, stored: SqliteViews, projector: Projector, *, within: float
    ) -> None:
        """Take the file and what is stored there; `within` is how many seconds a read may fold before it answers."""
        self._file = file
        self._feed = feed
        self._stored = stored
        self._projector = projector
        self._within = within
        self._closed = False
        self._waiting = 0
        self._idle: asyncio.TimerHandle | None = None
        self._folding: asyncio.Task[None] | None = None

    async def reach(self, position: Position, thread_id: ThreadId, *, within: float) -> ThreadView | None:
        try:
            async with asyncio.timeout(within):
                return await self._reached(position.offset + 1, thread_id)
        except TimeoutError as exc:
            raise ViewsBehind(f"the views did not reach {position} within {round(within, 2):g} s") from exc
        except (LogUnavailable, ViewsUnavailable) as exc:
            raise ViewsBehind(f"it is in the log, and the views cannot be brought up to {position}: {exc}") from exc

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        await self._must_hold(at_least)

        def read(connection: sqlite3.Connection) -> ThreadView | None:
            state = states_in(connection, (thread_id,)).get(thread_id)
            if state is None:
                return None
            start, stop = (0, 0) if span is None else spanned(span, state.head.items)
            indexed = index_in(connection, thread_id, start=start, stop=stop) if start < stop else ()
            return ThreadView(state, mark_in(connection).checkpoint, indexed)

        try:
            async with asyncio.timeout(min(FOLD_FIRST, self._within)):
                if span is not None:
                    return await self._current(read)
                # What is folded in memory is enough for a state, and needs nothing to be written.
                return await self._reached(await self._feed.end(PARTITION), thread_id)
        except (TimeoutError, LogUnavailable, ViewsUnavailable):
            # One thread alone costs little to fold.
            return await self._from_the_log(thread_id, read)

    async def refold(self, thread_id: ThreadId, *, within: float) -> None:
        await self._current(lambda connection: None)
        try:
            await refold(self._feed, self._stored, thread_id, within=within)
        finally:
            self._projector.forget()

    async def page(
        self, query: ListThreadsParams, *, exact: bool = False, at_least: Mapping[int, int] = NOTHING_ASKED
    ) -> RowPage:
        """Return one page of threads, folded to the log's end as sampled in this call, however little is asked."""
        if query.cursor is not None:
            parse_cursor(query.cursor)
        await self._must_hold(at_least.get(PARTITION, 0))
        return await self._current(lambda connection: page_in(connection, query))

    async def matching(self, prefix: str, *, limit: int, deleted: bool = False) -> Sequence[ThreadId]:
        low, high = ids_beginning_with(prefix)

        def read(connection: sqlite3.Connection) -> list[ThreadId]:
            rows = connection.execute(
                f"SELECT id FROM thread WHERE id BETWEEN ? AND ? AND (? OR {IS_NOT_DELETED}) LIMIT ?",
                (low, high, deleted, limit),
            )
            return [thread for (key,) in rows if (thread := thread_of(key)) is not None]

        return await self._current(read)

    async def thread_ids(self, *, after: ThreadId | None, limit: int) -> Sequence[ThreadId]:
        def read(connection: sqlite3.Connection) -> list[ThreadId]:
            rows = connection.execute(
                f"SELECT id FROM thread WHERE id > ? AND {IS_NOT_DELETED} ORDER BY id LIMIT ?",
                (b"" if after is None else key_of(after), limit),
            )
            return [thread for (key,) in rows if (thread := thread_of(key)) is not None]

        return await self._current(read)

    def note_append(self, entries: int) -> None:
        """Take notice of own entries that wait to be folded."""
        if self._closed:
            return
        self._waiting += entries
        if self._waiting >= FOLD_WHEN_WAITING:
            self._fold_soon()
        if self._idle is None:
            self._look_again()

    async def close(self) -> None:
        """Write what was folded and end the folding unasked; whoever folds next goes on from the checkpoint."""
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        if self._folding is not None:
            self._folding.cancel()
            await asyncio.wait([self._folding])
        with suppress(EventStoreError, TimeoutError):
            # Views are disposable: what cannot be written now is folded again by whoever reads next.
            async with asyncio.timeout(FOLD_FIRST):
                await self._projector.write()

    async def _must_hold(self, checkpoint: int) -> None:
        """Refuse what lies beyond the log's end, up to which every read folds."""
        if checkpoint > 0 and (end := await self._feed.end(PARTITION)) < checkpoint:
            raise beyond(PARTITION, checkpoint, end)

    async def _from_the_log(
        self, thread_id: ThreadId, read: Callable[[sqlite3.Connection], ThreadView | None]
    ) -> ThreadView | None:
        """Answer from what is stored, however far that has come, and from the thread's records behind it."""
        try:
            try:
                stored = await self._stored.read(lambda connection: (mark_in(connection).checkpoint, read(connection)))
            except ViewsUnavailable:
                stored = 0, None
            checkpoint, view = stored
            view = await caught_up(self._feed, thread_id, view or ThreadView(UNKNOWN_THREAD, checkpoint))
        except LogUnavailable as exc:
            raise ViewsUnavailable(str(exc)) from exc
        return None if view.state is UNKNOWN_THREAD else view

    async def _current(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Read in one snapshot whose checkpoint is the log's end, folding first when it is not."""
        try:
            async with asyncio.timeout(self._within + _GRACE):
                return await self._folded(read)
        except TimeoutError as exc:
            raise ViewsUnavailable(
                f"the views are being folded, and did not come to the log's end within {self._within:g} s; "
                "call again, they go on from where they are"
            ) from exc

    async def _folded(self, read: Callable[[sqlite3.Connection], T]) -> T:
        until = 0

        def attempt(connection: sqlite3.Connection) -> tuple[T | None, int]:
            # The end sampled first is good enough: others may append faster than this process folds.
            end = until or log_end(connection)
            return (None, end) if mark_in(connection).checkpoint < end else (read(connection), 0)

        while True:
            try:
                found, end = await self._file.read(attempt)
                if not end:
                    return found  # type: ignore[return-value]
                if until:
                    self._projector.forget()
                until = end
                await self._projector.catch_up(until)
            except (LogUnavailable, ViewsUnavailable) as exc:
                if not await self._mended(exc):
                    raise ViewsUnavailable(str(exc)) from exc

    async def _reached(self, until: int, thread_id: ThreadId) -> ThreadView | None:
        """Fold up to the offset, in memory; return the thread as of there or later."""
        while True:
            try:
                if await self._projector.advance(until) < until:
                    raise ViewsBehind(
                        f"the log of {self._file.path} does not come to offset {until} any more; see whether an older "
                        "copy was put in its place"
                    )
                state, checkpoint = await self._projector.state_of(thread_id)
                if checkpoint >= until:
                    return None if state is UNKNOWN_THREAD else ThreadView(state, checkpoint)
                self._projector.forget()
            except (LogUnavailable, ViewsUnavailable) as exc:
                if not await self._mended(exc):
                    raise

    async def _mended(self, found: LogUnavailable | ViewsUnavailable) -> bool:
        """Make the views anew if they are gone or a row is damaged, which is all that can be mended here.

        Say whether that was so.
        """
        try:
            mended = await self._stored.mend(found.thread_id if isinstance(found, DamagedRow) else None)
        except ViewsUnavailable:
            # Why they cannot be read says more than why they cannot be made.
            return False
        if mended:
            self._projector.forget()
        return mended

    def _look_if_idle(self, waiting_before: int) -> None:
        """Fold if nothing came since the last look, otherwise look again later: one timer serves all appends."""
        self._idle = None
        if self._waiting and self._waiting == waiting_before:
            self._fold_soon()
        self._look_again()

    def _look_again(self) -> None:
        if self._waiting:
            self._idle = asyncio.get_running_loop().call_later(FOLD_WHEN_IDLE, self._look_if_idle, self._waiting)

    def _fold_soon(self) -> None:
        """Fold unless this is being done: what waits then is looked at again later."""
        if self._folding is None or self._folding.done():
            self._waiting = 0
            self._folding = asyncio.get_running_loop().create_task(self._fold())

    async def _fold(self) -> None:
        try:
            await self._current(lambda connection: None)
        except EventStoreError:
            # Whoever needs the views folds again and is told; folding unasked has nobody to tell.
            return
