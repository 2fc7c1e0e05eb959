"""A disk that fails for a moment: what is acknowledged afterwards is on it, with all that it stands upon."""

from __future__ import annotations

import os
import sqlite3
from errno import EIO
from pathlib import Path
from typing import Any

import pytest

from eventstore import ListThreadsParams
from eventstore.errors import LogUnavailable, OutcomeUnknown
from eventstore.wiring import Embedded
from tests.support.files import read_for_long
from tests.support.threads import a_live_thread, said, say


class FailsToSync:
    """A connection whose next commit ends as one does whose fsync failed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.left = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.left:
            self.left -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
            raise error
        return self._connection.execute(sql, *values)


class Disk:
    """What is written past SQLite and synced; fails while it is to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written: dict[int, int] = {}
        """How many bytes were written from the start of a file, by its inode."""
        self.synced: dict[int, int] = {}
        self.fails = False
        pwrite, fsync = os.pwrite, os.fsync

        def writing(handle: int, piece: bytes, at: int) -> int:
            number = os.fstat(handle).st_ino
            assert os.pread(handle, len(piece), at) == piece
            assert at == self.written.get(number, 0)
            self.written[number] = at + len(piece)
            return pwrite(handle, piece, at)

        def syncing(handle: int) -> None:
            if self.fails:
                raise OSError(EIO, os.strerror(EIO))
            fsync(handle)
            self.synced[os.fstat(handle).st_ino] = self.written.pop(os.fstat(handle).st_ino, 0)

        monkeypatch.setattr(os, "pwrite", writing)
        monkeypatch.setattr(os, "fsync", syncing)


async def test_the_write_ahead_log_is_copied_into_the_file_after_commits_that_were_synced(parts: Embedded) -> None:
    """Nobody is told when its fsync fails there; of a commit that was synced before, all is on the disk by then."""
    store, path = parts.store, Path(parts.file.path)
    thread_id = await a_live_thread(store)
    with read_for_long(path):
        for _ in range(6):
            await say(store, thread_id, "x" * 1024 * 1024)
    size = os.stat(path).st_size

    await store.list_threads(ListThreadsParams())  # commits the views
    assert os.stat(path).st_size == size
    await say(store, thread_id, "and the log")
    assert os.stat(path).st_size > size + 6 * 1024 * 1024


async def test_after_a_failed_fsync_nothing_is_acknowledged_behind_a_gap_in_the_write_ahead_log(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system drops what it could not write, the views' unsynced commits too, and the next fsync succeeds."""
    store, room = parts.store, parts.file.writing
    thread_id = await a_live_thread(store, "one")
    await store.list_threads(ListThreadsParams())  # commits the views, which nobody syncs
    journal = os.stat(f"{parts.file.path}-wal")
    failing = FailsToSync(room._connection)
    monkeypatch.setattr(room, "_connection", failing)
    disk = Disk(monkeypatch)

    with pytest.raises(OutcomeUnknown, match="flush again"):
        await say(store, thread_id, "two")
    assert failing.left == 0
    disk.fails = True
    with pytest.raises(LogUnavailable, match=r"wal cannot be written .*see to the disk"):
        await store.flush_thread(thread_id)
    assert disk.synced == {}
    disk.fails = False
    disk.written.clear()
    await store.flush_thread(thread_id)

    assert disk.synced[journal.st_ino] >= journal.st_size > 0
    disk.synced.clear()
    await say(store, thread_id, "three")
    assert disk.synced == {}
    assert ["one", "two", "three"] == await said(store, thread_id)
