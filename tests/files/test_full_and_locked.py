"""A file that is full, not writable, locked, or gone: an answer in a sentence, and nothing lost."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import projections.fold
import projections.sqlite_views
from eventstore import ListThreadsParams
from eventstore.errors import (
    EventStoreError,
    LogUnavailable,
    OutcomeUnknown,
    ViewsUnavailable,
)
from eventstore.sqlite import place
from eventstore.wiring import Embedded, open_store
from tests.support.files import (
    a_file_with_a_thread,
    by_hand,
    opened,
    read_for_long,
    unjournaled_objections,
    value,
)
from tests.support.threads import (
    a_live_thread,
    archive,
    patch,
    read,
    said,
    say,
    say_and_flush,
)


async def limit_pages(parts: Embedded, *, spare: int | None) -> None:
    """Let the file grow by that many pages and no more; None: as it likes."""

    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {4_294_967_294 if spare is None else pages + spare}")

    await parts.file.writing.run(limit, within=5)


async def test_on_a_full_disk_nothing_is_lost_and_with_room_again_everything_is_there_once(parts: Embedded) -> None:
    store = parts.store
    thread_id = await a_live_thread(store, "before")
    await limit_pages(parts, spare=2)
    texts = [f"{number}: {'x' * 20_000}" for number in range(5)]

    refused = 0
    for text in texts:
        with pytest.raises(OutcomeUnknown, match="full") as caught:
            await say(store, thread_id, text)
        assert isinstance(caught.value.__cause__, LogUnavailable)
        refused += 1
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="free some space"):
            await store.flush_thread(thread_id)
        refused += 1
    assert ["before"] == await said(store, thread_id)
    assert refused == 7

    await limit_pages(parts, spare=None)
    await store.flush_thread(thread_id)
    assert ["before", *texts] == await said(store, thread_id)
    assert not await unjournaled_objections(parts)


async def test_on_a_full_disk_a_file_that_nobody_has_open_is_said_to_lack_room(tmp_path: Path) -> None:
    """Opening it makes a file beside it, which SQLite reports as an input or output error where there is no room."""
    path = tmp_path / "threads.db"
    thread_id = await a_file_with_a_thread(path, "before")

    with no_room_for_files(), pytest.raises(LogUnavailable, match="quota is full; free some space and try again"):
        async with opened(path):
            pass

    async with opened(path) as parts:
        assert ["before"] == await said(parts.store, thread_id)


@contextmanager
def no_room_for_files() -> Iterator[None]:
    """Let no file of this process grow beyond 4 KiB for the block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_on_a_full_disk_one_large_append_does_not_keep_a_small_one_of_another_thread_out(parts: Embedded) -> None:
    """They share a commit; the small one can be made again, and then it fits."""
    store = parts.store
    large, small = await a_live_thread(store), await a_live_thread(store)
    await limit_pages(parts, spare=4)

    with pytest.raises(OutcomeUnknown):
        await say(store, large, "x" * 100_000)
    await say(store, small, "small")

    assert ["hello", "small"] == await said(store, small)


async def test_with_no_room_for_the_views_what_is_logged_is_read_later(parts: Embedded) -> None:
    """The log took the append, and the fold of it found the disk full."""
    store = parts.store
    thread_id = await a_live_thread(store, "before")
    texts: list[str] = []

    async def until_it_is_full() -> None:
        for number in range(2_000):
            texts.append(f"{number}")
            await say(store, thread_id, texts[-1])
            await store.flush_thread(thread_id)

    await limit_pages(parts, spare=0)
    with pytest.raises(EventStoreError, match="full"):
        await until_it_is_full()

    await limit_pages(parts, spare=None)
    await store.flush_thread(thread_id)
    assert ["before", *texts] == await said(store, thread_id)


async def test_a_flush_needs_no_views_and_whoever_reads_brings_them_up(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, fired = parts.store, Counter[str]()
    thread_id = await a_live_thread(store, "before")

    async def refuse(*given: object, **named: object) -> bool:
        fired["commits"] += 1
        raise ViewsUnavailable("ordered by the test")

    with monkeypatch.context() as patched:
        patched.setattr(projections.sqlite_views.SqliteViews, "commit", refuse)
        await say(store, thread_id, "logged")
        await store.flush_thread(thread_id)
        assert 0 == fired["commits"]
        assert 3 == (await read(store, thread_id)).item_count
        with pytest.raises(ViewsUnavailable, match="ordered by the test"):
            await store.list_threads(ListThreadsParams())
        assert ["before", "logged"] == await said(store, thread_id)
        assert fired["commits"] >= 2

    async with open_store(f"sqlite:{parts.file.path}") as elsewhere:
        assert ["before", "logged"] == await said(elsewhere, thread_id)
    assert value(Path(parts.file.path), "SELECT checkpoint FROM projection") == await parts.feed.end(0)


async def query_only(parts: Embedded, on: bool) -> None:
    await parts.file.writing.run(lambda connection: connection.execute(f"PRAGMA query_only = {on}"), within=5)


async def test_a_file_that_cannot_be_written_is_read_and_refuses_in_a_sentence(parts: Embedded) -> None:
    store = parts.store
    thread_id = await a_live_thread(store, "before")
    await query_only(parts, True)

    with pytest.raises(OutcomeUnknown, match="permissions") as caught:
        await say(store, thread_id, "during")
    assert isinstance(caught.value.__cause__, LogUnavailable)
    with pytest.raises(LogUnavailable, match=f"{parts.file.path} cannot be opened for writing"):
        await store.flush_thread(thread_id)
    with pytest.raises(LogUnavailable):
        await archive(store, thread_id)
    assert ["before"] == await said(store, thread_id)

    await query_only(parts, False)
    await store.flush_thread(thread_id)
    assert ["before", "during"] == await said(store, thread_id)
    assert (await read(store, thread_id)).archived_at is None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that holds the write lock and does not let it go."""
    with by_hand(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.touch()
    other.replace(path)


def overwritten(path: Path) -> None:
    """Copy a backup over the file, after what lies beside it was removed."""
    content = path.read_bytes()
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink()
    path.write_bytes(content)


def begun_anew(path: Path) -> None:
    """Copy a backup over the file, which another process then opens."""
    overwritten(path)
    Path(f"{path}-wal").touch()


@pytest.mark.parametrize("system", ["Linux", "any"])
@pytest.mark.parametrize("lose", [removed, replaced, overwritten, begun_anew])
async def test_nothing_is_acknowledged_into_or_read_from_a_file_that_is_not_there_any_more(
    path: Path, lose: Callable[[Path], None], system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite goes on writing to what it opened, which is gone with the last process that has it open."""
    if system == "any":
        monkeypatch.setattr(place, "_LINKS", path / "nowhere")
    async with open_store(f"sqlite:{path}") as store:
        thread_id = await a_live_thread(store, "kept")
        lose(path)

        with pytest.raises(OutcomeUnknown, match="removed or replaced"):
            await say(store, thread_id, "lost")
        with pytest.raises(LogUnavailable, match=f"^{path} was removed or replaced .*; open the store again$"):
            await store.flush_thread(thread_id)
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            await patch(store, thread_id, name="lost")
        for look in (said(store, thread_id), store.list_threads(ListThreadsParams())):
            with pytest.raises((LogUnavailable, ViewsUnavailable), match="removed or replaced"):
                await look


async def test_no_commit_asks_when_the_write_ahead_log_was_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system would note the time of each write then, which costs as much as a third of an fsync."""
    asked: list[str] = []
    stat = os.stat

    def noted(path: Any, *more: Any, **named: Any) -> os.stat_result:
        asked.append(str(path))
        return stat(path, *more, **named)

    async with open_store(f"sqlite:{path}") as store:
        thread_id = await a_live_thread(store)
        monkeypatch.setattr(os, "stat", noted)
        await say_and_flush(store, thread_id, "a", "b")
        monkeypatch.undo()
    assert {str(path)} == set(asked)


async def test_a_file_is_found_again_from_another_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    async with open_store(f"sqlite:{path.name}") as store:
        monkeypatch.chdir("/")
        thread_id = await a_live_thread(store, "kept")

        assert ["kept"] == await said(store, thread_id)


@pytest.mark.parametrize("turn", range(3))
async def test_a_lock_that_is_held_too_long_is_an_answer_and_nothing_is_written(path: Path, turn: int) -> None:
    async with opened(path, within=0.2) as parts:
        store = parts.store
        thread_id = await a_live_thread(store, "before")
        other = await a_live_thread(store, "other")
        end = await parts.feed.end(0)
        with locked(path):
            with pytest.raises(OutcomeUnknown, match="written by another process") as caught:
                await say(store, thread_id, "during")
            assert isinstance(caught.value.__cause__, LogUnavailable)
            with pytest.raises(LogUnavailable, match=f"{path} is being written by another process"):
                await store.flush_thread(thread_id)
            with pytest.raises(LogUnavailable, match=f"{path} is being written by another process"):
                await archive(store, other)
            assert ["before"] == await said(store, thread_id)
            assert await parts.feed.end(0) == end

        await store.flush_thread(thread_id)
        assert ["before", "during"] == await said(store, thread_id)
        assert (await read(store, other)).archived_at is None


async def test_a_file_that_another_program_keeps_to_itself_is_an_answer(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path)
    with by_hand(path) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LogUnavailable, match=f"{path} is being written by another process"):
            async with opened(path, within=0.2):
                pass

    async with opened(path) as parts:
        assert ["hello"] == await said(parts.store, thread_id)


async def test_a_write_ahead_log_that_a_long_reader_let_grow_shrinks_again(path: Path) -> None:
    journal = f"{path}-wal"
    async with open_store(f"sqlite:{path}") as store:
        thread_id = await a_live_thread(store)
        with read_for_long(path):
            for _ in range(24):
                await say(store, thread_id, "x" * 1024 * 1024)
            grown = os.stat(journal).st_size
        await say(store, thread_id, "copies all into the file")
        await say(store, thread_id, "begins anew")
        assert os.stat(journal).st_size <= 16 * 1024 * 1024 < grown


async def test_a_lock_that_is_let_go_in_time_is_not_noticed(path: Path) -> None:
    async with opened(path, within=30) as parts:
        thread_id = await a_live_thread(parts.store, "before")
        with by_hand(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            said_it = asyncio.create_task(say(parts.store, thread_id, "during"))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not said_it.done()
            connection.execute("COMMIT")
            await said_it
        await parts.store.flush_thread(thread_id)
        assert ["before", "during"] == await said(parts.store, thread_id)
