"""The log and its feed on one SQLite file: one partition, offsets without holes.

Appends that wait at the same time are committed together, each whole or not at all. A process keeps its own latest
entries in memory, so that folding what it just appended reads nothing back.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Final, TypeAlias
from uuid import UUID

from eventstore.codec import codec
from eventstore.documents.items import Position
from eventstore.errors import LogTruncated, OutcomeUnknown
from eventstore.events import Event, Item
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.sqlite.edge import Locked
from eventstore.sqlite.file import SqliteFile
from eventstore.sqlite.room import Job

PARTITION: Final = 0
_FIRST: Final = 1
"""The first offset: SQLite counts rows from 1, and leaves no holes."""
_REPLAY_BATCH = 500
"""Records read at a time by a replay."""
_ROWS_AT_A_TIME = 8
"""Rows taken before their bytes are counted: the largest of them take 128 MiB."""
_READ_BYTES = 4 * 1024 * 1024
"""Bytes of records read at a time: bounds the memory of whoever follows a log of large ones."""
_RECENT_EVENTS = 512
_RECENT_BYTES = 8 * 1024 * 1024

_Row = tuple[bytes, bytes]
_AnyRow: TypeAlias = tuple[Any, ...]


class _Append(Job[int]):
    """Rows to insert in one transaction with whoever else waits; the result is the first row's offset."""

    __slots__ = ()

    def __init__(self, rows: Sequence[_Row], *, within: float) -> None:
        super().__init__(partial(_insert, rows), within=within)


def _insert(rows: Sequence[_Row], connection: sqlite3.Connection) -> int:
    offsets = [connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row).lastrowid for row in rows]
    assert offsets[0] is not None
    return offsets[0]


class SqliteLog:
    """The durable order of events in one SQLite file (port `EventLog`)."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self.recent = Recent()
        self.on_append: Callable[[int], None] = lambda entries: None

    async def open(self) -> None:
        await self._file.open(run_together=self._run_together)

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        if not events:
            return []
        rows, size = [], 0
        for event in events:
            record = codec().encode(event)
            rows.append((key_of(event.thread_id), record))
            size += len(record)
        try:
            first = await self._file.writing.hand(_Append(rows, within=within))
        except TimeoutError as exc:
            raise OutcomeUnknown(
                f"{self._file.path} did not take the append within {within:g} s; flush again, it may still land"
            ) from exc
        self.recent.add(first, events, size)
        self.on_append(len(events))
        return [Position(PARTITION, first + i) for i in range(len(events))]

    def _run_together(self, connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> None:
        """Commit neighbouring appends in one transaction; run everything else by itself, in order."""
        start = 0
        while start < len(jobs):
            stop = start + 1
            if isinstance(jobs[start], _Append):
                while stop < len(jobs) and isinstance(jobs[stop], _Append):
                    stop += 1
                self._commit(connection, jobs[start:stop])
            else:
                jobs[start].run(connection)
            if isinstance(jobs[start].error, Locked):
                for later in jobs[stop:]:
                    later.error = jobs[start].error
                return
            start = stop

    def _commit(self, connection: sqlite3.Connection, appends: Sequence[Job[Any]]) -> None:
        error: BaseException | None = None
        try:
            with self._file.transaction(connection, durable=True):
                for append in appends:
                    append.result = append.work(connection)
                self._file.must_be_there()
                self._file.must_be_whole()
        except BaseException as exc:
            error = exc
        for append in appends:
            append.error = error


class Recent:
    """This process's latest events, without holes: what the projector would otherwise read back."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._sizes: deque[int] = deque()
        self._bytes = 0
        self._next = _FIRST
        """The offset behind the last of them."""

    def add(self, first: int, events: Sequence[Event], size: int) -> None:
        """Take in events that lie at offset `first` and behind; their records have so many bytes together."""
        if first != self._next:
            self._events.clear()
            self._sizes.clear()
            self._bytes = 0
        share = size // len(events)
        for event in events:
            self._events.append(event)
            self._sizes.append(share)
        self._next = first + len(events)
        self._bytes += share * len(events)
        while len(self._events) > _RECENT_EVENTS or self._bytes > _RECENT_BYTES:
            self._events.popleft()
            self._bytes -= self._sizes.popleft()

    def since(self, start: int, limit: int) -> list[Entry]:
        """Return the entries from offset `start` on; empty if they must be read from the file."""
        skipped = start - (self._next - len(self._events))
        if not 0 <= skipped < len(self._events):
            return []
        found = islice(self._events, skipped, skipped + limit)
        return [Entry(Position(PARTITION, start + i), event.thread_id, event) for i, event in enumerate(found)]


class SqliteFeed:
    """The log of one SQLite file, read in order (port `EventFeed`)."""

    def __init__(self, file: SqliteFile, recent: Recent) -> None:
        self._file = file
        self._recent = recent

    @property
    def identity(self) -> str:
        return f"sqlite/{self._file.identity}"

    @property
    def partitions(self) -> int:
        return 1

    def partition_of(self, thread_id: ThreadId) -> int:
        return PARTITION

    async def end(self, partition: int) -> int:
        return await self._file.read(log_end)

    async def ends(self, partitions: Sequence[int]) -> Sequence[int]:
        return [await self.end(partition) for partition in partitions]

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        recent = self._recent.since(start, limit)
        if recent:
            return recent
        entries = await self._entries(
            "SELECT offset, thread, record FROM log WHERE offset >= ? ORDER BY offset LIMIT ?", start, limit
        )
        for offset, entry in enumerate(entries, start=max(start, _FIRST)):
            if entry.position.offset != offset:
                raise LogTruncated(f"the record at offset {offset} is missing from {self._file.path}; restore a backup")
        return entries

    async def replay(self, thread_id: ThreadId, *, start: int, stop: int) -> AsyncIterator[Sequence[Entry]]:
        while entries := await self._entries(
            "SELECT offset, thread, record FROM log WHERE thread = ? AND offset >= ? AND offset < ?"
            " ORDER BY offset LIMIT ?",
            key_of(thread_id),
            start,
            stop,
            _REPLAY_BATCH,
        ):
            yield entries
            start = entries[-1].position.offset + 1

    async def fetch(self, thread_id: ThreadId, offsets: Sequence[int]) -> Sequence[Sequence[Item]]:
        if not offsets:
            return []
        # The index by thread makes this one walk over the thread's own records, void ones included.
        span = (key_of(thread_id), offsets[0], offsets[-1])
        sql = "SELECT offset, record FROM log WHERE thread = ? AND offset BETWEEN ? AND ? ORDER BY offset"
        wanted = frozenset(offsets)
        found: dict[int, bytes] = dict(await self._file.read(lambda c: _bounded(c.execute(sql, span), wanted)))
        for offset in offsets[: max(1, len(found))]:
            if offset not in found:
                raise LogTruncated(
                    f"the record at offset {offset} of thread {thread_id} is missing from {self._file.path};"
                    " restore a backup"
                )
        return [codec().items(record) for record in found.values()]

    async def _entries(self, sql: str, *values: object) -> list[Entry]:
        rows = await self._file.read(lambda connection: _bounded(connection.execute(sql, values)))
        return [decoded(row) for row in rows]


def _bounded(rows: sqlite3.Cursor, wanted: Collection[int] | None = None) -> list[_AnyRow]:
    """Take the rows, or those at the wanted offsets, at least one of them, until enough bytes are in memory."""
    taken: list[_AnyRow] = []
    size = 0
    while size < _READ_BYTES and (some := rows.fetchmany(_ROWS_AT_A_TIME)):
        kept = some if wanted is None else [row for row in some if row[0] in wanted]
        taken += kept
        # SQLite keeps any type in any column.
        size += sum(len(row[-1]) for row in kept if isinstance(row[-1], bytes))
    return taken


def log_end(connection: sqlite3.Connection) -> int:
    """Return the offset of the next record."""
    (last,) = connection.execute("SELECT max(offset) FROM log").fetchone()
    return _FIRST if last is None else int(last) + 1


@lru_cache(maxsize=4_096)
def key_of(thread_id: ThreadId) -> bytes:
    return bytes.fromhex(thread_id.replace("-", ""))


@lru_cache(maxsize=4_096)
def thread_of(key: object) -> ThreadId | None:
    """Return the thread that the key names; None for one that others wrote: SQLite keeps any type in any column."""
    return ThreadId(str(UUID(bytes=key))) if isinstance(key, bytes) and len(key) == 16 else None


def decoded(row: tuple[int, object, object]) -> Entry:
    offset, key, record = row
    return Entry(
        Position(PARTITION, offset), thread_of(key), codec().decode(record if isinstance(record, bytes) else b"")
    )
