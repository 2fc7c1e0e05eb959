"""The engine's edge: SQLite's errors become ours, and waiting for the write lock is fair.

SQLite's own busy handler sleeps longer the longer it waits, which starves whoever waits already. Here every waiter
asks again after a short random while, so that all have the same chance.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from eventstore.errors import EventStoreError, LogUnavailable, OutcomeUnknown, TopicMisconfigured


class Locked(LogUnavailable):
    """Another process holds the file's write lock."""


_RETRY_BETWEEN = (0.000_1, 0.001)
"""Seconds between two attempts to take the write lock: about one fsync."""

_READ_WITHIN = 30.0
"""Seconds for which a connection that only reads waits for a lock."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_NOT_WRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
_DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


def translated(exc: sqlite3.Error, path: str, *, committing: bool = False) -> EventStoreError:
    """Return the error of ours that says what to do about SQLite's."""
    whole = getattr(exc, "sqlite_errorcode", 0)
    code = whole & 0xFF
    if code in _BUSY:
        return Locked(f"{path} is being written by another process; try again in a moment")
    # Beside the file there is no room for what its users share in memory; a commit may have taken all the same.
    if code == sqlite3.SQLITE_FULL or (whole == sqlite3.SQLITE_IOERR_SHMSIZE and not committing):
        return LogUnavailable(f"{path} cannot grow: the disk or its quota is full; free some space and try again")
    if code in _NOT_WRITABLE:
        return LogUnavailable(f"{path} cannot be opened for writing ({exc}); check that path and permissions are right")
    if code in _DAMAGED:
        return TopicMisconfigured(
            f"{path} is not a sound SQLite file ({exc}); "
            f"restore a backup, after removing {path}-wal and {path}-shm, or give another path"
        )
    if committing:
        return OutcomeUnknown(f"{path} may or may not have taken the commit ({exc}); flush again")
    return LogUnavailable(f"{path} cannot be used now ({exc}); try again")


class Immediate:
    """Holds the write lock for a block and commits it, or rolls everything back.

    Always BEGIN IMMEDIATE: a transaction that reads first and writes later fails at once when somebody else wrote.
    Entering raises what `patiently` raises; leaving raises `LogUnavailable` if nothing was written, and
    `OutcomeUnknown` if the commit failed in a way that does not say whether it took.
    """

    __slots__ = ("_connection", "_doubt", "_path", "_within")

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: str,
        *,
        within: float,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the connection, the file's path for texts, and how many seconds to wait for the lock.

        `doubt` is called when a commit failed and does not say whether it took.
        """
        self._connection = connection
        self._path = path
        self._within = within
        self._doubt = doubt

    def __enter__(self) -> None:
        patiently(self._connection, "BEGIN IMMEDIATE", self._path, within=self._within)

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, traceback: object) -> None:
        if exc is not None:
            rollback(self._connection)
            if isinstance(exc, sqlite3.Error):
                raise translated(exc, self._path) from exc
            return
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error as failure:
            rollback(self._connection)
            error = translated(failure, self._path, committing=True)
            if isinstance(error, OutcomeUnknown):
                self._doubt()
            raise error from failure


def connected_to_read(path: Path) -> sqlite3.Connection:
    """Return a connection of its own to the file, which only reads, and waits half a minute for whoever writes.

    Raises:
        sqlite3.Error: There is no such file, or it cannot be opened.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=_READ_WITHIN, isolation_level=None)


def patiently(connection: sqlite3.Connection, statement: str, path: str, *, within: float) -> None:
    """Execute a statement that takes a lock, again and again until it is to be had.

    Raises:
        LogUnavailable: It was not within that many seconds, or something else is wrong with the file.
    """
    deadline = None
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.Error as exc:
            deadline = deadline or time.monotonic() + within
            busy = getattr(exc, "sqlite_errorcode", 0) & 0xFF in _BUSY
            if not busy or not within or time.monotonic() > deadline:
                raise translated(exc, path) from exc
        time.sleep(random.uniform(*_RETRY_BETWEEN))


def rollback(connection: sqlite3.Connection) -> None:
    """End the transaction if there is one, raising nothing: what made it fail is the error to tell."""
    if connection.in_transaction:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
