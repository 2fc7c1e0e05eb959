"""One SQLite file and the two connections that work on it: one writes, one reads.

WAL mode. Log commits are as durable as `synchronous` says (FULL: one fsync a commit); view commits need none, for views
are disposable. The invariant: every write goes through the writing room, so that a process never waits for itself.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, TypeVar
from weakref import WeakSet

from eventstore.errors import InvalidRequest, LogUnavailable, OutcomeUnknown
from eventstore.sqlite import migrations
from eventstore.sqlite.edge import Immediate, patiently, rollback, translated
from eventstore.sqlite.place import Held, inode_of, make_private
from eventstore.sqlite.room import Room, RunTogether, run_one_by_one

T = TypeVar("T")

Synchronous: TypeAlias = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

MEMORY = ":memory:"
_WAL_PAGES = 1_000
"""Pages in the write-ahead log before they are copied into the file. A larger log is slower: while it grows, each fsync
also has to write the file's new size."""
_WAL_PAGES_FOR_VIEWS = 4 * _WAL_PAGES
"""The same after a commit that was not synced, so that one that was comes first: SQLite tells nobody of an fsync of the
write-ahead log that fails there, and takes the next for a success."""
_WAL_BYTES = 16 * 1024 * 1024
"""Kept of a write-ahead log that grew while somebody read for long, or in one large commit, once it begins anew."""
_CACHE_KIB = 4_096
_PIECE = 1024 * 1024
"""Bytes of the write-ahead log written over at a time."""


class SqliteFile:
    """An open file. `path` is for texts; in memory there is one connection for everything."""

    used: ClassVar[WeakSet[SqliteFile]] = WeakSet()
    """The files of this process, so that a forked one knows which were open."""
    inherited: ClassVar[set[tuple[int, int]]] = set()
    """What the processes had open that this one was forked from: SQLite believes to hold their locks here as well."""

    def __init__(self, path: str | Path, *, synchronous: Synchronous = "FULL", within: float = 30.0) -> None:
        """Name the file, not yet opened; `within` is how many seconds to wait for another process's write."""
        self.path = str(path)
        self.within = within
        self.synchronous = synchronous
        self._in_force = ""
        self._place = os.path.abspath(self.path)
        self._opened: tuple[int, int] | None = None
        self._journal = ""
        self._held: Held | None = None
        """The write-ahead log, as it was when the file was opened; None in memory."""
        self._in_doubt = False
        self.identity = ""
        """Names the log in the file; known once it is open."""
        self.migrated_from: Path | None = None
        self.writing: Room
        self.reading: Room
        self.used.add(self)

    def __repr__(self) -> str:
        return f"<SqliteFile {self.path}>"

    async def open(self, *, run_together: RunTogether = run_one_by_one, upgrades: Sequence[str] | None = None) -> None:
        """Open or create the file and bring it to the newest format.

        Raises:
            LogUnavailable: The path cannot be opened or written.
            TopicMisconfigured: It is damaged, another program's, or a newer version's.
            InvalidRequest: It was open when this process was forked.
        """
        # In a thread, which ends with it, for another process may be making or migrating the file just now.
        thread = ThreadPoolExecutor(1, "eventstore-opening")
        opening = asyncio.get_running_loop().run_in_executor(
            thread, self._both, migrations.shipped() if upgrades is None else upgrades
        )
        thread.shutdown(wait=False)
        try:
            first, second = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._close_both)
            raise
        self.writing = Room("eventstore-writing", first, run_together=run_together, patience=self.within)
        self.reading = self.writing
        if second is not first:
            self.reading = Room("eventstore-reading", second, patience=self.within)

    async def close(self) -> None:
        if self.reading is not self.writing:
            await self.reading.close()
        await self.writing.close()
        self._let_go()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the work in one write transaction that needs no fsync.

        Raises:
            LogUnavailable: Nothing was written.
            OutcomeUnknown: The commit may or may not have taken.
        """

        def in_transaction(connection: sqlite3.Connection) -> T:
            with self.transaction(connection, durable=False):
                return work(connection)

        try:
            return await self.writing.run(in_transaction, within=self.within)
        except TimeoutError as exc:
            raise OutcomeUnknown(f"{self.path} did not take a commit within {self.within:g} s; try again") from exc

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run the work in one read transaction: one snapshot of the file.

        Raises:
            LogUnavailable: The file cannot be read now, or is not the one any more that others write.
            TopicMisconfigured: The file is damaged.
        """

        def in_snapshot(connection: sqlite3.Connection) -> T:
            try:
                connection.execute("BEGIN")
                # Takes the snapshot: once it is held, no reading meets a lock.
                patiently(connection, "SELECT 1 FROM sqlite_schema", self.path, within=self.reading.patience)
                self.must_be_there()
                return work(connection)
            except sqlite3.Error as exc:
                raise translated(exc, self.path) from exc
            finally:
                rollback(connection)

        try:
            return await self.reading.run(in_snapshot, within=self.within)
        except TimeoutError as exc:
            raise LogUnavailable(f"{self.path} was not read within {self.within:g} s; try again") from exc

    def transaction(self, connection: sqlite3.Connection, *, durable: bool) -> AbstractContextManager[None]:
        """Return the context of a write transaction; a durable one is fsynced as `synchronous` says."""
        wanted = self.synchronous if durable or self.synchronous == "OFF" else "NORMAL"
        if wanted != self._in_force:
            try:
                connection.execute(f"PRAGMA synchronous = {wanted}")
                pages = _WAL_PAGES_FOR_VIEWS if wanted == "NORMAL" else _WAL_PAGES
                connection.execute(f"PRAGMA wal_autocheckpoint = {pages}")
            except sqlite3.Error as exc:
                raise translated(exc, self.path) from exc
            self._in_force = wanted
        return Immediate(connection, self.path, within=self.writing.patience, doubt=self._doubt)

    def must_be_there(self) -> None:
        """See that the path still leads to what is open: SQLite would go on with a file that is gone.

        So it would with a write-ahead log that was removed, as is due before a backup is copied over the file.

        Raises:
            LogUnavailable: The file or its write-ahead log was removed, or another one has its name.
        """
        if self._held is None:
            return
        if inode_of(self._place) != self._opened or not self._held.is_in_place():
            raise LogUnavailable(f"{self.path} was removed or replaced while it was open; open the store again")

    def must_be_whole(self) -> None:
        """Have the disk take all of the write-ahead log once more, in a write transaction, if a commit failed before.

        After an fsync that failed the system counts as written what it could not write, views' commits among it that
        nobody synced before, and the next fsync succeeds. SQLite recovers nothing behind the gap.

        Raises:
            LogUnavailable: The disk does not take it.
        """
        if self._in_doubt:
            try:
                _write_anew(self._journal)
            except OSError as exc:
                raise LogUnavailable(f"{self._journal} cannot be written ({exc.strerror}); see to the disk") from exc
            self._in_doubt = False

    def _doubt(self) -> None:
        self._in_doubt = True

    def _both(self, upgrades: Sequence[str]) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        """Open the writing and the reading connection, which in memory are one."""
        first = self._prepared(upgrades)
        try:
            if self.path == MEMORY:
                return first, first
            second = self._connected()
            self._journal = f"{os.path.realpath(self._place)}-wal"
            self._held = Held(self._journal)
            self._opened = inode_of(self._place)  # in layers of a container, opening a file may make it another
            return first, second
        except BaseException:
            first.close()
            raise

    def _close_both(self, opening: asyncio.Future[tuple[sqlite3.Connection, sqlite3.Connection]]) -> None:
        if not opening.cancelled() and opening.exception() is None:
            for connection in opening.result():
                connection.close()
            self._let_go()

    def _let_go(self) -> None:
        self._opened = None
        if self._held is not None:
            self._held.close()

    def _prepared(self, upgrades: Sequence[str]) -> sqlite3.Connection:
        if self.path != MEMORY:
            make_private(Path(self.path))
            self._opened = inode_of(self._place)
            if self._opened in self.inherited:
                raise InvalidRequest(
                    f"{self.path} was open when this process was forked, and SQLite's locks are not carried over: fork "
                    "before it is opened, or start the process anew (spawn)"
                )
        with self._connecting() as connection:
            # Only read until it is known to be ours.
            newest = migrations.is_newest(connection, self.path, upgrades)
            # Processes that make the same file at once meet here in a lock that SQLite's own waiting does not cover.
            patiently(connection, "PRAGMA journal_mode = WAL", self.path, within=self.within)
            if not newest:
                self.migrated_from = migrations.migrate(connection, self.path, upgrades, within=self.within)
            (self.identity,) = connection.execute("SELECT id FROM log_identity").fetchone()
            _wait_in_the_room(connection)
        return connection

    def _connected(self) -> sqlite3.Connection:
        with self._connecting() as connection:
            _wait_in_the_room(connection)
        return connection

    @contextmanager
    def _connecting(self) -> Iterator[sqlite3.Connection]:
        """Open a connection, which is closed again if the block fails."""
        try:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=self.within)
            try:
                connection.execute("PRAGMA trusted_schema = OFF")
                connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
                yield connection
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as exc:
            raise translated(exc, self.path) from exc


def _write_anew(path: str) -> None:
    """Write over the file with what it reads as. SQLite has no locks on a write-ahead log that this would drop."""
    handle = os.open(path, os.O_RDWR)
    try:
        at = 0
        while piece := os.pread(handle, _PIECE, at):
            at += os.pwrite(handle, piece, at)
        os.fsync(handle)
    finally:
        os.close(handle)


def _wait_in_the_room(connection: sqlite3.Connection) -> None:
    """From now on whoever meets a lock is told at once, and waits in `edge.patiently`."""
    connection.execute("PRAGMA busy_timeout = 0")


def _note_what_was_open() -> None:
    SqliteFile.inherited.update(file._opened for file in SqliteFile.used if file._opened is not None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_what_was_open)
