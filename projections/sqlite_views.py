"""Views of the embedded engine: tables beside the log, in the same file.

Disposable: tables of another fold are dropped and folded anew. The hot row of a thread is small, for every flush
rewrites it; what seldom changes lies in a table of its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

import orjson

from eventstore.admission import Lifecycle
from eventstore.codex.metadata import EMPTY, NO_FACTS, Facts, Summary
from eventstore.errors import LogUnavailable, OutcomeUnknown, ViewsAheadOfLog, ViewsUnavailable
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.sqlite.file import SqliteFile
from eventstore.sqlite.log import key_of, log_end
from eventstore.state import IndexEntry, ThreadState, head_from_json, head_to_json
from projections.fold import fold_in_force
from projections.ports import DamagedView, Mark, Snapshot, ThreadChange
from projections.selection import comparable_path, comparable_source, shelf_of, sought_in

T = TypeVar("T")

_TABLES = """
CREATE TABLE projection (fold TEXT NOT NULL, generation INTEGER NOT NULL, checkpoint INTEGER NOT NULL);
CREATE TABLE thread (
    no INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    shelf INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    source TEXT NOT NULL,
    provider TEXT NOT NULL,
    cwd TEXT NOT NULL,
    start INTEGER NOT NULL,
    frozen TEXT,
    head BLOB NOT NULL,
    run_facts BLOB
);
CREATE TABLE summary (no INTEGER PRIMARY KEY, summary BLOB NOT NULL, sought TEXT NOT NULL);
CREATE TABLE item_index (
    no INTEGER NOT NULL, ordinal INTEGER NOT NULL, offset INTEGER NOT NULL, items INTEGER NOT NULL,
    PRIMARY KEY (no, ordinal)
) WITHOUT ROWID;
CREATE INDEX thread_by_created ON thread (shelf, created_at, id) WHERE shelf IS NOT NULL;
CREATE INDEX thread_by_updated ON thread (shelf, updated_at, id) WHERE shelf IS NOT NULL;
CREATE INDEX thread_by_source_created ON thread (shelf, source, created_at, id) WHERE shelf IS NOT NULL;
CREATE INDEX thread_by_source_updated ON thread (shelf, source, updated_at, id) WHERE shelf IS NOT NULL;
CREATE INDEX thread_by_provider_created ON thread (shelf, provider, created_at, id) WHERE shelf IS NOT NULL;
CREATE INDEX thread_by_provider_updated ON thread (shelf, provider, updated_at, id) WHERE shelf IS NOT NULL;
CREATE INDEX thread_by_cwd_created ON thread (shelf, cwd, created_at, id) WHERE shelf IS NOT NULL;
CREATE INDEX thread_by_cwd_updated ON thread (shelf, cwd, updated_at, id) WHERE shelf IS NOT NULL;
"""

_NAMES = ("projection", "thread", "summary", "item_index")

THREAD_COLUMNS = "t.id, t.created_at, t.updated_at, t.start, t.frozen, t.head, t.run_facts, s.summary"

IS_NOT_DELETED = f"CAST(substr(head, 1, 10) AS TEXT) <> '[\"{Lifecycle.DELETED}\"'"
"""A condition on `thread` that needs no JSON, which SQLite refuses to search where one head is damaged."""

_SUMMARY_DEFAULTS = {name: getattr(EMPTY, name) for name in Summary.__dataclass_fields__}
_IN_COLUMNS = ("created_at", "updated_at")
_cold_part = attrgetter(*(name for name in Summary.__dataclass_fields__ if name != "updated_at"))
_FACTS_DEFAULTS = {name: getattr(NO_FACTS, name) for name in Facts.__dataclass_fields__}


class DamagedRow(DamagedView):
    """A thread's row cannot be decoded; folding the log anew mends it."""

    def __init__(self, thread_id: ThreadId, why: object) -> None:
        super().__init__(f"the view of thread {thread_id} is damaged ({why}); eventstore verify --repair folds it anew")
        self.thread_id = thread_id


class SqliteViews:
    """The stored views of one file (port `ViewWriter`).

    Once they are open, whatever keeps the file from being read or written is `ViewsUnavailable`.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._began_anew = False

    async def open(self) -> None:
        """Make the tables, dropping those of another fold.

        Raises:
            LogUnavailable: The file cannot be written.
            ViewsAheadOfLog: The log ends before what was folded.
        """
        if not await self._file.read(_is_current):
            await self._file.write(_remake)
        checkpoint, end = await self._file.read(
            lambda connection: (mark_in(connection).checkpoint, log_end(connection))
        )
        if checkpoint > end:
            raise ViewsAheadOfLog(
                f"the log in {self._file.path} ends at {end}, and {checkpoint} was folded already: "
                "records were taken out of it; restore a backup"
            )

    async def mend(self, damaged: ThreadId | None = None) -> bool:
        """Make the tables anew if some are gone, or if the `damaged` thread's row is; say whether to try again.

        Views are begun anew for a damaged row once: one that is damaged again was not damaged by accident.

        Raises:
            ViewsUnavailable: The file cannot be written.
        """
        if not await self.read(_are_there):
            await self._write(_remake)
            return True
        if damaged is None:
            return False
        if not await self.read(lambda connection: _is_damaged(connection, damaged)):
            return True
        if self._began_anew:
            return False
        # Looked at again with the write lock held: a rival may have begun anew, and is not to be disturbed.
        await self._write(lambda connection: _forget(connection) if _is_damaged(connection, damaged) else None)
        self._began_anew = True
        return True

    async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
        return await self.read(lambda connection: Snapshot(mark_in(connection), states_in(connection, threads)))

    async def commit(
        self,
        partition: int,
        expected: Mark,
        checkpoint: int,
        changes: Mapping[ThreadId, ThreadChange],
        *,
        last: Entry | None = None,
    ) -> bool:
        def write(connection: sqlite3.Connection) -> bool:
            # A thread that was folded anew makes it another set of views, whatever the checkpoint.
            replaced = any(change.replaces for change in changes.values())
            moved = connection.execute(
                "UPDATE projection SET checkpoint = ?, generation = generation + ?"
                " WHERE generation = ? AND checkpoint = ? AND fold = ?",
                (checkpoint, replaced, expected.generation, expected.checkpoint, fold_in_force()),
            )
            if moved.rowcount == 0:
                return False
            for thread_id, change in changes.items():
                _write_thread(connection, thread_id, change)
            return True

        return await self._write(write)

    async def index(self, thread_id: ThreadId, *, start: int, stop: int) -> Sequence[IndexEntry]:
        """Return the records bearing the items start <= ordinal < stop, in order.

        Raises:
            ViewsUnavailable: They cannot be read.
        """
        return await self.read(lambda connection: index_in(connection, thread_id, start=start, stop=stop))

    async def begin_anew(self) -> None:
        """Forget everything: whoever reads next folds the log from its start.

        Raises:
            ViewsUnavailable: The file cannot be written.
        """
        await self._write(_forget)

    async def known_threads(self, partition: int) -> Sequence[ThreadId]:
        """Return every thread that is in the views, deleted and frozen ones too.

        Raises:
            ViewsUnavailable: They cannot be read.
        """
        rows = await self.read(lambda connection: connection.execute("SELECT id FROM thread").fetchall())
        return [ThreadId(str(UUID(bytes=key))) for (key,) in rows]

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the work in one snapshot of the file.

        Raises:
            ViewsUnavailable: The file cannot be read.
        """
        try:
            return await self._file.read(work)
        except LogUnavailable as exc:
            raise ViewsUnavailable(str(exc)) from exc

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._file.write(work)
        except (LogUnavailable, OutcomeUnknown) as exc:
            raise ViewsUnavailable(str(exc)) from exc


def mark_in(connection: sqlite3.Connection) -> Mark:
    """Return how far the views have come.

    Raises:
        ViewsUnavailable: They are gone, or another version of this program keeps them now.
    """
    row = connection.execute("SELECT fold, generation, checkpoint FROM projection").fetchone()
    if row is None:
        raise ViewsUnavailable("the views were emptied; open the store again to have them made anew")
    fold, generation, checkpoint = row
    if fold != fold_in_force():
        raise ViewsUnavailable(
            "another version of eventstore has taken the views over; restart with the newest version"
        )
    return Mark(generation, checkpoint)


def states_in(connection: sqlite3.Connection, threads: Collection[ThreadId]) -> dict[ThreadId, ThreadState]:
    """Return the states of those of the threads that are known.

    Raises:
        DamagedRow: One of them cannot be decoded.
    """
    found = {}
    for thread_id in threads:
        row = connection.execute(
            f"SELECT {THREAD_COLUMNS} FROM thread t JOIN summary s ON s.no = t.no WHERE t.id = ?",
            (key_of(thread_id),),
        ).fetchone()
        if row is not None:
            found[thread_id] = state_of(row)
    return found


def index_in(connection: sqlite3.Connection, thread_id: ThreadId, *, start: int, stop: int) -> list[IndexEntry]:
    """Return the records that bear the items start <= ordinal < stop, in order."""
    rows = connection.execute(
        "SELECT offset, ordinal, items FROM item_index WHERE no = (SELECT no FROM thread WHERE id = :id)"
        " AND ordinal < :stop AND ordinal >= (SELECT coalesce(max(ordinal), 0) FROM item_index"
        " WHERE no = (SELECT no FROM thread WHERE id = :id) AND ordinal <= :start) ORDER BY ordinal",
        {"id": key_of(thread_id), "start": start, "stop": stop},
    )
    return list(map(_new_index_entry, rows))


_new_index_entry = partial(tuple.__new__, IndexEntry)


def state_of(row: Sequence[Any]) -> ThreadState:
    """Return the state that a row of `THREAD_COLUMNS` holds.

    Raises:
        DamagedRow: It cannot be decoded.
    """
    key, created_at, updated_at, start, frozen, head, run_facts, summary = row
    try:
        return ThreadState(
            head=head_from_json(orjson.loads(head)),
            summary=Summary(**orjson.loads(summary), created_at=created_at, updated_at=updated_at),
            run_facts=NO_FACTS if run_facts is None else Facts(**orjson.loads(run_facts)),
            start=start,
            frozen=frozen,
        )
    except (ValueError, TypeError, LookupError) as exc:
        raise DamagedRow(ThreadId(str(UUID(bytes=key))), exc) from exc


def _are_there(connection: sqlite3.Connection) -> bool:
    """Say whether the views have all their tables, and a checkpoint."""
    marks = ", ".join("?" * len(_NAMES))
    sql = f"SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN ({marks})"
    (tables,) = connection.execute(sql, _NAMES).fetchone()
    return tables == len(_NAMES) and connection.execute("SELECT 1 FROM projection").fetchone() is not None


def _is_current(connection: sqlite3.Connection) -> bool:
    if not _are_there(connection):
        return False
    return bool(connection.execute("SELECT fold FROM projection").fetchone() == (fold_in_force(),))


def _is_damaged(connection: sqlite3.Connection, thread_id: ThreadId) -> bool:
    try:
        states_in(connection, (thread_id,))
    except DamagedRow:
        return True
    return False


def _forget(connection: sqlite3.Connection) -> None:
    for table in ("thread", "summary", "item_index"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("UPDATE projection SET generation = generation + 1, checkpoint = 1")


def _remake(connection: sqlite3.Connection) -> None:
    """Begin a generation anew; a rival process that made one meanwhile is left alone."""
    if _is_current(connection):
        return
    generation = 1
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'projection'").fetchone():
        (before,) = connection.execute("SELECT coalesce(max(generation), 0) FROM projection").fetchone()
        generation += before
    for table in _NAMES:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
    for statement in _TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute("INSERT INTO projection VALUES (?, ?, 1)", (fold_in_force(), generation))


def _write_thread(connection: sqlite3.Connection, thread_id: ThreadId, change: ThreadChange) -> None:
    key, after = key_of(thread_id), change.after
    if change.replaces and after.start < 0:
        # What it froze at did not count, and nothing else was said of it: there is no such thread.
        connection.execute("DELETE FROM summary WHERE no = (SELECT no FROM thread WHERE id = ?)", (key,))
        connection.execute("DELETE FROM thread WHERE id = ?", (key,))
        return
    hot = (
        after.summary.updated_at,
        orjson.dumps(head_to_json(after.head)),
        None if after.run_facts == NO_FACTS else _compact(after.run_facts, _FACTS_DEFAULTS),
    )
    if _only_hot(change):
        # Naming a column rewrites every index that has it, whether its value is another one or not.
        connection.execute("UPDATE thread SET updated_at = ?, head = ?, run_facts = ? WHERE id = ?", (*hot, key))
    else:
        _write_whole(connection, key, after, hot)
    if change.replaces or after.head.lifecycle is Lifecycle.DELETED:
        connection.execute("DELETE FROM item_index WHERE no = (SELECT no FROM thread WHERE id = ?)", (key,))
    if change.indexed and after.head.lifecycle is not Lifecycle.DELETED:
        connection.executemany(
            "INSERT INTO item_index (no, ordinal, offset, items) SELECT no, ?, ?, ? FROM thread WHERE id = ?",
            [(entry.ordinal, entry.offset, entry.items, key) for entry in change.indexed],
        )


def _write_whole(connection: sqlite3.Connection, key: bytes, state: ThreadState, hot: tuple[object, ...]) -> None:
    summary = state.summary
    filters = (comparable_source(summary.source), summary.model_provider, comparable_path(summary.cwd))
    (no,) = connection.execute(
        "INSERT INTO thread"
        " (id, shelf, created_at, source, provider, cwd, start, frozen, updated_at, head, run_facts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET shelf = excluded.shelf,"
        " created_at = excluded.created_at, source = excluded.source, provider = excluded.provider,"
        " cwd = excluded.cwd, start = excluded.start, frozen = excluded.frozen, updated_at = excluded.updated_at,"
        " head = excluded.head, run_facts = excluded.run_facts RETURNING no",
        (key, shelf_of(state), summary.created_at, *filters, state.start, state.frozen, *hot),
    ).fetchone()
    connection.execute(
        "INSERT OR REPLACE INTO summary (no, summary, sought) VALUES (?, ?, ?)",
        (no, _compact(summary, _SUMMARY_DEFAULTS, without=_IN_COLUMNS), sought_in(summary)),
    )


def _only_hot(change: ThreadChange) -> bool:
    """Say whether of a thread that is stored already nothing changed but what every append changes."""
    before, after = change.before, change.after
    return (
        before.start >= 0
        and before.frozen == after.frozen
        and before.head.lifecycle is after.head.lifecycle
        and (before.summary is after.summary or _cold_part(before.summary) == _cold_part(after.summary))
    )


def _compact(value: Summary | Facts, defaults: Mapping[str, object], *, without: Collection[str] = ()) -> bytes:
    kept = {name: getattr(value, name) for name in defaults if name not in without}
    return orjson.dumps({name: field for name, field in kept.items() if field != defaults[name]})
