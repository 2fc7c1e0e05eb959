"""What a command says is there is there after a power cut too: the disk knows its name, and the folders above it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from eventstore.codex.exporting import export_home, export_thread
from eventstore.ids import ThreadId
from eventstore.sqlite.backup import backup
from eventstore.wiring import open_store
from tests.support.files import a_file_with_a_thread, opened


async def opens(path: Path, thread_id: ThreadId, target: Path) -> None:
    async with open_store(f"sqlite:{target}"):
        pass


async def copies(path: Path, thread_id: ThreadId, target: Path) -> None:
    target.parent.mkdir(parents=True)
    backup(path, target)


async def exports(path: Path, thread_id: ThreadId, target: Path) -> None:
    async with opened(path) as parts:
        await export_thread(parts.feed, parts.views, thread_id, target)


async def exports_all(path: Path, thread_id: ThreadId, target: Path) -> None:
    async with opened(path) as parts:
        assert [done.error async for done in export_home(parts.feed, parts.views, target)] == [None]


MADE: dict[Callable[[Path, ThreadId, Path], Awaitable[None]], set[str]] = {
    opens: {"a", "a/b"},  # the file's own name is synced by SQLite, with its write-ahead log's
    copies: {"a/b/it"},
    exports: {"a", "a/b", "a/b/it"},
    exports_all: {"a", "a/b", "a/b/it", "a/b/it/sessions", "a/b/it/sessions/*", "a/b/it/sessions/*/*/*/*.jsonl"},
}


@pytest.mark.parametrize("make", MADE)
async def test_what_was_made_is_on_the_disk_by_name(
    path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, ThreadId, Path], Awaitable[None]]
) -> None:
    thread_id = await a_file_with_a_thread(path, "hello")
    lasting: set[tuple[int, int]] = set()
    fsync = os.fsync

    def noting(handle: int) -> None:
        fsync(handle)
        if os.path.isdir(handle):
            named = (os.stat(name, dir_fd=handle) for name in os.listdir(handle))
            lasting.update((found.st_dev, found.st_ino) for found in named)

    monkeypatch.setattr(os, "fsync", noting)
    await make(path, thread_id, path.parent / "a/b/it")

    for pattern in MADE[make]:
        (made,) = path.parent.glob(pattern)
        assert (made.stat().st_dev, made.stat().st_ino) in lasting, made
