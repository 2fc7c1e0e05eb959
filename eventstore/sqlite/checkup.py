"""What there is to know of a store's file by looking at it from outside: sizes, settings, soundness.

Looks with a connection of its own, which only reads. What the views say is the projections' business.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventstore.sqlite.edge import connected_to_read, translated
from eventstore.sqlite.log import log_end


@dataclass(frozen=True, slots=True)
class Checkup:
    """The state of a store's file."""

    path: Path
    size: int
    """Bytes of the file."""
    waiting: int
    """Bytes of the write-ahead log beside it."""
    mode: int
    """Permission bits."""
    format: int
    """How many migrations it has had."""
    identity: str
    journal: str
    records: int
    end: int
    """The offset of the next record."""
    unsound: tuple[str, ...]
    """What SQLite's quick check found; empty if all is well."""


def check(path: Path) -> Checkup:
    """Look at the file.

    Raises:
        LogUnavailable: It cannot be read now.
        TopicMisconfigured: It is damaged so that nothing can be said.
    """
    beside = Path(f"{path}-wal")
    stat = path.stat()
    try:
        with closing(connected_to_read(path)) as connection:
            connection.execute("BEGIN")
            return Checkup(
                path=path,
                size=stat.st_size,
                waiting=beside.stat().st_size if beside.exists() else 0,
                mode=stat.st_mode & 0o777,
                format=_one(connection, "PRAGMA user_version"),
                identity=_one(connection, "SELECT id FROM log_identity"),
                journal=_one(connection, "PRAGMA journal_mode"),
                records=_one(connection, "SELECT count(*) FROM log"),
                end=log_end(connection),
                unsound=tuple(text for (text,) in connection.execute("PRAGMA quick_check(5)") if text != "ok"),
            )
    except sqlite3.Error as exc:
        raise translated(exc, str(path)) from exc


def _one(connection: sqlite3.Connection, sql: str) -> Any:
    (value,) = connection.execute(sql).fetchone()
    return value
