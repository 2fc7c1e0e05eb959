"""How a log file of one version becomes one of the next.

Numbered SQL files, applied in order and never edited after a release. The file's `user_version` says how many were
applied. Views have no migrations: they are dropped and folded anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from eventstore.errors import LogUnavailable, TopicMisconfigured
from eventstore.sqlite.edge import Immediate, rollback

APPLICATION_ID = 0x45565354
"""`EVST`, in the file's header: this SQLite file is ours."""


def shipped() -> list[str]:
    """Return the SQL of every migration, in order."""
    return [file.read_text("utf-8") for file in sorted(Path(__file__).parent.glob("*.sql"))]


def is_newest(connection: sqlite3.Connection, path: str, migrations: Sequence[str]) -> bool:
    """Say whether nothing is to be done; the file is only read.

    Raises:
        TopicMisconfigured: The file is another program's, or a newer version of this one wrote it.
    """
    connection.execute("BEGIN")  # one moment: another process may be making the file right now
    try:
        return _version(connection, path, len(migrations)) == len(migrations)
    finally:
        rollback(connection)


def migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[str], *, within: float) -> Path | None:
    """Bring the file to the newest version; return where an older file was copied to first, if it was older.

    Raises:
        TopicMisconfigured: The file is another program's, or a newer version of this one wrote it.
        LogUnavailable: The file cannot be read or written.
    """
    with Immediate(connection, path, within=within):
        version = _version(connection, path, len(migrations))
        copied = _copy_beside(connection, path, version) if 0 < version < len(migrations) else None
        for number in range(version, len(migrations)):
            for statement in migrations[number].split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
    return copied


def _version(connection: sqlite3.Connection, path: str, newest: int) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise TopicMisconfigured(f"{path} is a SQLite file of another program; give a path of its own to the store")
    if version > newest:
        raise TopicMisconfigured(
            f"{path} was written by a newer version of eventstore (format {version}, this one knows {newest}); "
            "upgrade eventstore"
        )
    return int(version)


def _copy_beside(connection: sqlite3.Connection, path: str, version: int) -> Path | None:
    """Copy the older file as it is, so that a downgrade stays possible; in-memory files have nothing to keep.

    Raises:
        LogUnavailable: The copy cannot be made.
    """
    (_, _, file) = connection.execute("PRAGMA database_list").fetchone()
    if not file:
        return None
    copy = Path(f"{path}.format-{version}.backup")
    try:
        copy.unlink(missing_ok=True)
        copy.touch(mode=0o600)
    except OSError as exc:
        raise LogUnavailable(f"{copy} cannot be written ({exc.strerror}); make room for the copy there") from exc
    source = sqlite3.connect(file, isolation_level=None)
    target = sqlite3.connect(copy, isolation_level=None)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    return copy
