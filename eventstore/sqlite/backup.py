"""A copy of a store's file, taken while others write it: one moment of it, whole or not there at all."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import mkstemp

from eventstore.errors import InvalidRequest, LogUnavailable
from eventstore.folders import sync_names
from eventstore.sqlite.edge import connected_to_read, translated

_OF_THE_TARGET = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
"""Errors of SQLite that only the file which is written can be the cause of."""


def backup(source: Path, target: Path) -> int:
    """Copy the store's file to a new file of mode 0600, which opens as a store; return its size in bytes.

    It is one snapshot: writers go on meanwhile, and what they commit from now on is not in it.

    Raises:
        InvalidRequest: The target is there already, or a journal of one that was; or it cannot be written.
        LogUnavailable: The disk is full or fails, or the source cannot be read now.
        TopicMisconfigured: The source is damaged.
    """
    _refuse_existing(target)
    try:
        handle, name = mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.absolute().parent)
    except OSError as exc:
        raise InvalidRequest(f"{target} cannot be written: {exc.strerror}; give another path") from exc
    os.close(handle)
    part = Path(name)
    try:
        _copy(source, part, target)
        _sync(part)
        _publish(part, target)
        sync_names(target.absolute().parent)
    except OSError as exc:
        raise LogUnavailable(f"{target} cannot be written: {exc.strerror}; free some space and try again") from exc
    finally:
        for leftover in (part, Path(f"{part}-journal"), Path(f"{part}-wal"), Path(f"{part}-shm")):
            leftover.unlink(missing_ok=True)
    return target.stat().st_size


def _copy(source: Path, part: Path, target: Path) -> None:
    try:
        with (
            closing(connected_to_read(source)) as reading,
            closing(sqlite3.connect(part, isolation_level=None)) as writing,
        ):
            # All pages in one step: in several, every commit of another process would make it begin again.
            reading.backup(writing)
            # The copy is one file, with no write-ahead log beside it; opening it as a store makes it WAL again.
            writing.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.Error as exc:
        raise translated(exc, str(target if exc.sqlite_errorcode in _OF_THE_TARGET else source)) from exc


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(part: Path, target: Path) -> None:
    """Give the finished copy its name, unless somebody took it meanwhile."""
    try:
        os.link(part, target)
    except FileExistsError:
        _refuse_existing(target)
    except OSError:
        # A file system without hard links: the name is checked and given in two steps.
        _refuse_existing(target)
        part.replace(target)


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise InvalidRequest(f"{target} is there already; give the name of a new file")
    for leftover in (f"{target}-wal", f"{target}-journal"):
        if os.path.lexists(leftover):
            raise InvalidRequest(
                f"{leftover} is left of a file that was at {target}, and SQLite would replay it upon the copy; "
                "remove it, or give another name"
            )
