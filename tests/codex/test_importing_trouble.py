"""Importing when something goes wrong: nothing is half done for good."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from eventstore.codex.homes import find_rollouts
from eventstore.codex.importing import Outcome
from eventstore.documents.items import Position
from eventstore.errors import (
    AppendTooLarge,
    LogUnavailable,
    ThreadNotFound,
    UnreadableEvent,
)
from eventstore.events import Event, WriterOpened
from eventstore.ids import ThreadId
from eventstore.wiring import Embedded
from tests.support.faults import FaultyLog, OvertakenViews, WatchedFeed
from tests.support.files import opened
from tests.support.homes import (
    OTHER,
    THREAD,
    CodexHome,
    a_talk,
    agent,
    an_importer,
    exported,
    import_all,
    import_one,
    lines_of,
    logged,
    rename,
)
from tests.support.threads import a_cold_thread, delete, read, resume, said, say_and_flush


class TestInterrupted:
    """A log that fails or an import that is cancelled at any step is completed by the next import."""

    @staticmethod
    def a_home(home: CodexHome) -> list[str]:
        lines = [*a_talk(1_700), rename(1_800, "by a line")]
        home.write(lines, archived=True)
        home.name("by the index")
        return lines

    async def completed(self, path: Path, home: CodexHome, lines: list[str]) -> None:
        async with opened(path) as parts:
            (imported,) = await import_all(parts, home.path)
            assert imported.error is None
            assert lines_of(lines) == lines_of(await exported(parts))
            thread = await read(parts.store, THREAD)
            assert (thread.name, thread.archived_at is None) == ("by the index", False)
            assert (await import_one(parts, home.path)).outcome is Outcome.UNCHANGED

    @pytest.mark.parametrize("appends", range(5))
    async def test_a_log_that_cannot_be_written_ends_the_import(
        self, tmp_path: Path, home: CodexHome, appends: int
    ) -> None:
        lines = self.a_home(home)
        log = FullAfter(appends)
        async with opened(tmp_path / "threads.db") as parts:
            with pytest.raises(LogUnavailable):
                await import_one(parts, home.path, through=log.through)
        assert log.fired

        await self.completed(tmp_path / "threads.db", home, lines)

    @pytest.mark.parametrize("appends", range(5))
    async def test_an_import_may_be_cancelled(self, tmp_path: Path, home: CodexHome, appends: int) -> None:
        lines = self.a_home(home)
        log = HeldAfter(appends)
        async with opened(tmp_path / "threads.db") as parts:
            task = asyncio.create_task(import_all(parts, home.path, through=log.through))
            await log.holding.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert log.fired

        await self.completed(tmp_path / "threads.db", home, lines)

    async def test_whoever_stops_early_leaves_nothing_running(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        home.write(a_talk(1_000, OTHER), OTHER)
        log = HeldAfter(1)
        importing = an_importer(parts, log.through).import_files(find_rollouts([home.path]))
        await anext(importing)
        await log.holding.wait()

        async with asyncio.timeout(10):
            await importing.aclose()  # type: ignore[attr-defined]

        assert not any("Importer._import" in repr(task) for task in asyncio.all_tasks())
        await import_all(parts, home.path)
        assert lines_of(a_talk(1_000, OTHER)) == lines_of(await exported(parts, OTHER))


class TestOneFilesTrouble:
    """What is wrong with one thread is that file's outcome; the others are imported."""

    async def test_an_item_too_large_to_keep_leaves_nothing_half_imported(
        self, parts: Embedded, home: CodexHome
    ) -> None:
        home.write([*a_talk(1), agent(3, "x" * 17_000_000)])
        home.write(a_talk(1, OTHER), OTHER)

        failed, created = await import_all(parts, home.path)

        assert (failed.outcome, created.outcome) == (Outcome.FAILED, Outcome.CREATED)
        assert isinstance(failed.error, AppendTooLarge)
        assert "line 4" in failed.note
        assert {event.thread_id for event in await logged(parts)} == {OTHER}

    @pytest.mark.parametrize("begun", [True, False])
    async def test_a_frozen_thread_fails(self, parts: Embedded, home: CodexHome, begun: bool) -> None:
        if begun:
            await a_cold_thread(parts.store, thread_id=THREAD)
        await write_garbage(parts, THREAD)
        events = len(await logged(parts))
        home.write(a_talk(1))
        home.write(a_talk(1, OTHER), OTHER)

        failed, created = await import_all(parts, home.path)

        assert (failed.outcome, created.outcome) == (Outcome.FAILED, Outcome.CREATED)
        assert isinstance(failed.error, UnreadableEvent)
        assert {event.thread_id for event in (await logged(parts))[events:]} == {OTHER}

    async def test_a_thread_deleted_meanwhile_fails(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        home.write(a_talk(2))
        views = OvertakenViews()
        views.before_reach = lambda: delete(parts.store, THREAD)

        failed = await import_one(parts, home.path, through=views.through)

        assert views.fired == 1
        assert isinstance(failed.error, ThreadNotFound)

    async def test_a_file_that_vanished_is_unreadable(self, parts: Embedded, home: CodexHome) -> None:
        files = find_rollouts([home.write(a_talk(1))])
        home.file().unlink()

        (imported,) = [imported async for imported in an_importer(parts).import_files(files)]

        assert imported.outcome is Outcome.UNREADABLE


class TestRaces:
    async def test_who_writes_between_comparison_and_takeover_is_not_written_over(
        self, parts: Embedded, home: CodexHome
    ) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await resume(parts.store, THREAD)
        home.write(a_talk(2))
        feed = WatchedFeed()
        feed.before_fetch = lambda: say_and_flush(parts.store, THREAD, "in between")

        imported = await import_one(parts, home.path, through=feed.through)

        assert feed.before_fetch is None
        assert imported.outcome is Outcome.DIVERGED
        assert (await said(parts.store, THREAD))[-1] == "in between"

    async def test_several_importers_at_once_make_one_thread_of_it(self, tmp_path: Path, home: CodexHome) -> None:
        lines = a_talk(3_000)
        home.write(lines)
        home.name("named")
        path = tmp_path / "threads.db"
        async with opened(path) as one, opened(path) as two:
            outcomes = await asyncio.gather(import_one(one, home.path), import_one(two, home.path))

            assert {imported.outcome for imported in outcomes} & {Outcome.CREATED, Outcome.GROWN}
            assert (await import_one(one, home.path)).error is None
            assert lines_of(lines) == lines_of(await exported(two))
            assert (await read(two.store, THREAD)).name == "named"

    async def test_a_thread_that_somebody_created_meanwhile_is_compared_with(
        self, tmp_path: Path, home: CodexHome
    ) -> None:
        home.write(a_talk(2))
        path = tmp_path / "threads.db"
        async with opened(path) as one, opened(path) as two:
            log = OvertakenLog(lambda: import_one(two, home.path))

            assert (await import_one(one, home.path, through=log.through)).outcome is Outcome.UNCHANGED
            assert log.overtaken
            assert await logged(one, WriterOpened) == []


class FullAfter(FaultyLog):
    """A log whose disk is full after so many appends."""

    def __init__(self, appends: int) -> None:
        super().__init__()
        self._left = appends

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        if self._left == 0:
            self.lose_requests(1)
        else:
            self._left -= 1
        return await super().append(events, within=within)


class HeldAfter(FaultyLog):
    """A log that logs and never answers after so many appends."""

    def __init__(self, appends: int) -> None:
        super().__init__()
        self._answered = appends

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        answer = self.appends < self._answered
        positions = await super().append(events, within=within)
        if not answer:
            self.fired += 1
            self.holding.set()
            await asyncio.Event().wait()
        return positions


class OvertakenLog(FaultyLog):
    """A log before whose first append something else happens."""

    def __init__(self, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._happens = happens
        self.overtaken = False

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        if not self.overtaken:
            self.overtaken = True
            await self._happens()
        return await super().append(events, within=within)


async def write_garbage(parts: Embedded, thread_id: ThreadId) -> None:
    """Put a record into the log which nobody understands."""
    record = b"\xc3\x01" + b"\x00" * 9

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", (UUID(thread_id).bytes, record))

    await parts.file.write(write)
