"""Importing: what a file says is here once, what was changed here stays, and nothing is half done for good."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from eventstore import ListThreadsParams
from eventstore.codex.homes import find_rollouts
from eventstore.codex.importing import Outcome
from eventstore.codex.moments import moment
from eventstore.documents.items import Position
from eventstore.errors import (
    AppendTooLarge,
    InvalidRequest,
    LogUnavailable,
    ThreadNotFound,
    UnreadableEvent,
    WriterFenced,
)
from eventstore.events import Event, ItemsAppended, MetadataPatched, ThreadCreated, WriterClosed, WriterOpened
from eventstore.ids import ThreadId
from eventstore.wiring import Embedded
from tests.support.faults import FaultyLog, OvertakenViews, WatchedFeed
from tests.support.homes import (
    BEGAN,
    OTHER,
    THREAD,
    CodexHome,
    a_talk,
    agent,
    an_importer,
    exactly,
    exported,
    good_lines,
    import_all,
    import_one,
    line,
    logged,
    meta,
    opened,
    rename,
    user,
)
from tests.support.threads import a_cold_thread, archive, delete, patch, read, resume, said, say_and_flush, unarchive


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Embedded]:
    async with opened(tmp_path / "threads.db") as embedded:
        yield embedded


@pytest.fixture
def home(tmp_path: Path) -> CodexHome:
    return CodexHome(tmp_path / "codex")


class TestFinding:
    def test_a_homes_threads_are_found_with_their_archived_state(self, home: CodexHome) -> None:
        home.write(a_talk(1))
        home.write(a_talk(1, OTHER), OTHER, archived=True)
        (home.path / "history.jsonl").write_text("{}")

        assert [False, True] == [file.archived for file in find_rollouts([home.path])]

    def test_a_lone_file_finds_the_home_it_lies_in(self, home: CodexHome) -> None:
        home.name("named")
        active, archived = home.write(a_talk(1)), home.write(a_talk(1, OTHER), OTHER, archived=True)

        for file in (*find_rollouts([active]), *find_rollouts([active.parent]), *find_rollouts([archived])):
            assert file.home is not None
            assert file.home.names[THREAD].name == "named"

    def test_homes_are_found_below_any_folder(self, home: CodexHome) -> None:
        home.write(a_talk(1), archived=True)

        (file,) = find_rollouts([home.path.parent])

        assert file.home is not None
        assert file.archived

    def test_a_file_outside_of_any_home_knows_no_name(self, home: CodexHome, tmp_path: Path) -> None:
        copy = tmp_path / "copy.jsonl"
        copy.write_bytes(home.write(a_talk(1)).read_bytes())

        (file,) = find_rollouts([copy])

        assert file.home is None

    def test_every_file_is_found_once(self, home: CodexHome) -> None:
        file = home.write(a_talk(1))

        assert len(find_rollouts([home.path, file, file.parent])) == 1

    @pytest.mark.parametrize("path", ["nowhere", "empty"])
    def test_a_path_that_leads_to_no_rollout_is_refused(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "empty").mkdir()

        with pytest.raises(InvalidRequest, match=path):
            find_rollouts([tmp_path / path])


class TestItems:
    async def test_every_line_becomes_an_item(self, parts: Embedded, home: CodexHome) -> None:
        lines = a_talk(3)
        home.write(lines)

        imported = await import_one(parts, home.path)

        assert (imported.outcome, imported.thread_id, imported.added) == (Outcome.CREATED, THREAD, 5)
        assert lines_of(lines) == lines_of(await exported(parts))

    async def test_the_policy_for_live_threads_is_not_applied(self, parts: Embedded, home: CodexHome) -> None:
        home.write([meta(), user(1), line(2, "event_msg", {"type": "never_seen"}), line(3, "neither", [1])])

        assert (await import_one(parts, home.path)).added == 4

    async def test_a_thread_keeps_its_dates(self, parts: Embedded, home: CodexHome) -> None:
        home.name("a name given long after")
        home.write(a_talk(3), archived=True)

        await import_one(parts, home.path)

        thread = await read(parts.store, THREAD)
        assert thread.created_at == moment(BEGAN * 1_000)
        assert thread.updated_at == thread.archived_at == moment((BEGAN + 4_000) * 1_000)

    async def test_events_bear_the_time_of_their_last_line_and_who_imported(
        self, parts: Embedded, home: CodexHome
    ) -> None:
        home.write(a_talk(500))
        await import_one(parts, home.path)

        appends = await logged(parts, ItemsAppended)

        assert [len(event.items) for event in appends] == [200, 200, 101]
        assert all(event.occurred_at == event.items[-1].at * 1_000 for event in appends)
        assert {event.actor for event in await logged(parts)} == {"an importer"}

    async def test_a_writer_is_closed_behind_the_last_line(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)

        kinds = [type(event) for event in await logged(parts)]

        assert kinds == [ThreadCreated, ItemsAppended, WriterClosed]

    async def test_importing_again_writes_nothing(self, parts: Embedded, codex_home: Path) -> None:
        first = await import_all(parts, codex_home)
        events = await logged(parts)

        again = await import_all(parts, codex_home)

        assert {imported.outcome for imported in first} == {Outcome.CREATED}
        assert {(imported.outcome, imported.added) for imported in again} == {(Outcome.UNCHANGED, 0)}
        assert events == await logged(parts)
        assert [imported.bad_lines for imported in first] == [imported.bad_lines for imported in again]

    async def test_a_longer_file_adds_its_growth(self, parts: Embedded, home: CodexHome) -> None:
        for words in (0, 1, 7, 450):
            home.write(a_talk(words))
            await import_one(parts, home.path)

        home.write(a_talk(460))
        grown = await import_one(parts, home.path)

        assert (grown.outcome, grown.added) == (Outcome.GROWN, 10)
        assert lines_of(a_talk(460)) == lines_of(await exported(parts))

    async def test_a_file_that_somebody_went_on_from_here_is_unchanged(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await went_on_here(parts, "only here")

        imported = await import_one(parts, home.path)

        assert imported.outcome is Outcome.UNCHANGED
        assert (await said(parts.store, THREAD))[-1] == "only here"

    async def test_growth_takes_the_thread_over_from_who_was_writing_it(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await resume(parts.store, THREAD)
        home.write(a_talk(2))

        assert (await import_one(parts, home.path)).outcome is Outcome.GROWN
        with pytest.raises(WriterFenced):
            await say_and_flush(parts.store, THREAD, "too late")
        assert "too late" not in await said(parts.store, THREAD)

    async def test_two_files_of_one_thread_are_one_thread(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(2_000), archived=True)
        home.write(a_talk(2_001))

        outcomes = [imported.outcome for imported in await import_all(parts, home.path)]

        assert outcomes == [Outcome.CREATED, Outcome.GROWN]
        assert len(await logged(parts, ThreadCreated)) == 1
        assert lines_of(a_talk(2_001)) == lines_of(await exported(parts))

    async def test_a_file_may_be_larger_than_what_is_in_flight_at_once(self, parts: Embedded, home: CodexHome) -> None:
        lines = [meta(), user(1), *(agent(number, "x" * 200_000) for number in range(2, 150))]
        home.write(lines)

        assert (await import_one(parts, home.path)).outcome is Outcome.CREATED
        assert (await import_one(parts, home.path)).outcome is Outcome.UNCHANGED


class TestBadLines:
    async def test_a_bad_line_is_reported_and_the_rest_imported(self, parts: Embedded, home: CodexHome) -> None:
        home.write([meta(), user(1), "{not json", "", agent(2), '{"type":"event_msg"}'])

        imported = await import_one(parts, home.path)

        assert (imported.outcome, imported.added) == (Outcome.CREATED, 3)
        assert [bad.line_number for bad in imported.bad_lines] == [3, 6]
        assert (await import_one(parts, home.path)).outcome is Outcome.UNCHANGED

    async def test_a_torn_line_that_is_completed_later_is_growth(self, parts: Embedded, home: CodexHome) -> None:
        file = home.write([meta(), user(1)])
        torn = agent(2)
        file.write_text(file.read_text() + torn[:-7])
        assert [bad.line_number for bad in (await import_one(parts, home.path)).bad_lines] == [3]

        file.write_text(file.read_text() + torn[-7:] + "\n" + agent(3))
        grown = await import_one(parts, home.path)

        assert (grown.outcome, grown.added, grown.bad_lines) == (Outcome.GROWN, 2, ())

    async def test_what_stands_before_the_session_meta_is_left_out(self, parts: Embedded, home: CodexHome) -> None:
        home.write(["torn", agent(0), meta(), user(1)])

        imported = await import_one(parts, home.path)

        assert imported.added == 2
        assert [bad.line_number for bad in imported.bad_lines] == [1, 2]

    @pytest.mark.parametrize(
        ("lines", "why"),
        [
            ([], "empty session file"),
            (["", "  "], "empty session file"),
            ([agent(1)], "it has no session_meta"),
            ([line(0, "session_meta", {"id": "nobody"}), meta()], "its session_meta (line 1) has no thread id"),
        ],
    )
    async def test_a_file_that_is_no_rollout_is_said_so_and_the_others_imported(
        self, parts: Embedded, home: CodexHome, lines: list[str], why: str
    ) -> None:
        home.write(lines)
        home.write(a_talk(1, OTHER), OTHER)

        bad, good = await import_all(parts, home.path)

        assert (bad.outcome, bad.note, good.outcome) == (Outcome.UNREADABLE, why, Outcome.CREATED)

    async def test_a_fork_whose_own_session_meta_is_damaged_is_not_its_source(
        self, parts: Embedded, home: CodexHome
    ) -> None:
        home.write([meta(OTHER)[:-9], meta(), user(1)], OTHER)

        assert (await import_one(parts, home.path)).outcome is Outcome.UNREADABLE
        assert await logged(parts) == []

    async def test_a_compressed_file_is_said_to_be_one(self, parts: Embedded, home: CodexHome) -> None:
        plain = home.write(a_talk(1))
        plain.with_name(plain.name + ".zst").write_bytes(b"\x28\xb5\x2f\xfd")
        other = home.file(OTHER)
        other.with_name(other.name + ".zst").write_bytes(b"\x28\xb5\x2f\xfd")

        created, compressed = await import_all(parts, home.path)

        assert (created.outcome, compressed.outcome) == (Outcome.CREATED, Outcome.UNREADABLE)
        assert "zstd -d" in compressed.note


class TestDiverged:
    async def test_a_diverged_file_is_left_alone_and_its_first_difference_named(
        self, parts: Embedded, home: CodexHome
    ) -> None:
        home.write(a_talk(3))
        await import_one(parts, home.path)
        events = await logged(parts)
        home.name("a new name")
        home.write([*a_talk(2), "", agent(4, "something else")])

        imported = await import_one(parts, home.path)

        assert imported.outcome is Outcome.DIVERGED
        assert "line 6" in imported.note
        assert events == await logged(parts)

    @pytest.mark.parametrize(
        "other",
        [
            agent(2, "another payload"),
            line(3, "event_msg", {"type": "agent_message", "message": "word 2"}),
            line(2, "another_type", {"type": "agent_message", "message": "word 2"}),
            line(2, "event_msg", {"type": "agent_message", "message": "word 2"}, metadata={}),
        ],
        ids=["payload", "time", "type", "other keys"],
    )
    async def test_all_of_an_item_is_compared(self, parts: Embedded, home: CodexHome, other: str) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        home.write([*a_talk(0), other])

        assert (await import_one(parts, home.path)).outcome is Outcome.DIVERGED

    async def test_growth_on_both_sides_has_diverged(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await went_on_here(parts, "here")
        home.write(a_talk(2))

        assert (await import_one(parts, home.path)).outcome is Outcome.DIVERGED

    async def test_a_copy_is_imported_when_asked_for(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await went_on_here(parts, "here")
        file = home.write([*a_talk(1), rename(3, "named there")])
        before = await exported(parts)

        copied = await import_one(parts, home.path, fork=True)

        assert copied.outcome is Outcome.FORKED
        assert copied.thread_id not in (None, THREAD)
        assert copied.thread_id is not None
        thread = await read(parts.store, copied.thread_id)
        own, *source = [exactly(text) for text in await exported(parts, copied.thread_id)]
        assert (thread.forked_from_id, thread.name) == (THREAD, "named there")
        assert own["payload"] == exactly(meta())["payload"] | {"id": copied.thread_id, "forked_from_id": THREAD}
        assert source == good_lines(file)
        assert before == await exported(parts)

    async def test_the_lines_of_a_paginated_copy_are_numbered_without_a_gap(
        self, parts: Embedded, home: CodexHome
    ) -> None:
        first = meta(history_mode="paginated", session_id=THREAD)
        home.write([first, line(1, "event_msg", {"type": "a"}, ordinal=1)])
        await import_one(parts, home.path)
        home.write([first, line(1, "event_msg", {"type": "b"}, ordinal=1)])

        copied = await import_one(parts, home.path, fork=True)

        assert copied.thread_id is not None
        own, second = [exactly(text) for text in await exported(parts, copied.thread_id)]
        assert [own["ordinal"], second["ordinal"]] == [("number", "0"), ("number", "1")]
        assert own["payload"]["session_id"] == copied.thread_id

    async def test_only_what_diverged_is_copied(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))

        assert (await import_one(parts, home.path, fork=True)).outcome is Outcome.CREATED
        assert (await import_one(parts, home.path, fork=True)).outcome is Outcome.UNCHANGED


class TestNames:
    async def test_the_last_name_in_the_index_wins(self, parts: Embedded, home: CodexHome) -> None:
        home.name("first")
        home.name("last")
        home.write(a_talk(1))

        assert "name" in (await import_one(parts, home.path)).note
        assert (await read(parts.store, THREAD)).name == "last"

    async def test_the_index_wins_over_the_lines(self, parts: Embedded, home: CodexHome) -> None:
        home.name("by the index")
        for number in (3, 4):
            home.write([*a_talk(1), *(rename(n, f"by line {n}") for n in range(3, number + 1))])
            await import_one(parts, home.path)

            assert (await read(parts.store, THREAD)).name == "by the index"
            assert len(await exported(parts)) == number + 1

    async def test_a_blank_name_clears(self, parts: Embedded, home: CodexHome) -> None:
        home.name("first")
        home.write([*a_talk(1), rename(3, "by a line")])
        await import_one(parts, home.path)
        home.name(" ")

        await import_one(parts, home.path)

        assert (await read(parts.store, THREAD)).name is None

    async def test_a_name_without_an_entry_comes_from_the_lines(self, parts: Embedded, home: CodexHome) -> None:
        home.write([*a_talk(1), rename(3, "by a line")])
        await import_one(parts, home.path)
        home.write([*a_talk(1), rename(3, "by a line"), rename(4, "by another")])

        await import_one(parts, home.path)

        assert (await read(parts.store, THREAD)).name == "by another"
        assert await logged(parts, MetadataPatched) == []

    async def test_a_new_name_there_is_taken_over(self, parts: Embedded, home: CodexHome) -> None:
        home.name("old")
        home.write(a_talk(1))
        await import_one(parts, home.path)
        updated_at = (await read(parts.store, THREAD)).updated_at
        home.name("new")

        assert (await import_one(parts, home.path)).outcome is Outcome.UNCHANGED
        thread = await read(parts.store, THREAD)
        assert (thread.name, thread.updated_at) == ("new", updated_at)

    @pytest.mark.parametrize("name", ["named here", None])
    async def test_a_name_changed_here_is_not_overwritten(
        self, parts: Embedded, home: CodexHome, name: str | None
    ) -> None:
        home.name("old")
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await patch(parts.store, THREAD, name=name)

        for number in (3, 4):
            home.name(f"new {number}")
            home.write([*a_talk(1), *(rename(n, f"new {n}") for n in range(3, number + 1))])
            assert (await import_one(parts, home.path)).outcome is Outcome.GROWN
            assert (await import_one(parts, home.path)).outcome is Outcome.UNCHANGED

        assert (await read(parts.store, THREAD)).name == name

    async def test_a_name_given_here_to_a_nameless_thread_stays(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await patch(parts.store, THREAD, name="named here")
        home.name("named there")

        await import_one(parts, home.path)

        assert (await read(parts.store, THREAD)).name == "named here"

    async def test_a_file_outside_of_its_home_changes_no_name_and_no_archived_state(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        home.name("named")
        file = home.write(a_talk(1), archived=True)
        await import_one(parts, home.path)
        copy = tmp_path / "copy.jsonl"
        copy.write_text(file.read_text() + agent(3))

        assert (await import_one(parts, copy)).outcome is Outcome.GROWN
        thread = await read(parts.store, THREAD)
        assert (thread.name, thread.archived_at is None) == ("named", False)


class TestArchivedState:
    async def test_it_follows_the_home(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        home.archive()

        await import_one(parts, home.path)

        assert [THREAD] == await listed(parts, archived=True)

    async def test_it_is_not_overwritten_when_it_was_changed_here(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1), archived=True)
        home.write(a_talk(1, OTHER), OTHER)
        await import_all(parts, home.path)
        await unarchive(parts.store, THREAD)
        await archive(parts.store, OTHER)

        await import_all(parts, home.path)

        assert ([THREAD], [OTHER]) == (await listed(parts), await listed(parts, archived=True))

    async def test_a_thread_archived_on_both_sides_follows_its_home_again(
        self, parts: Embedded, home: CodexHome
    ) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await archive(parts.store, THREAD)
        home.archive()
        await import_one(parts, home.path)
        home.file(archived=True).rename(home.file())

        await import_one(parts, home.path)

        assert [THREAD] == await listed(parts)


class TestDeletion:
    async def test_a_thread_deleted_here_stays_deleted(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await delete(parts.store, THREAD)
        home.write(a_talk(2))
        events = await logged(parts)

        imported = await import_one(parts, home.path, fork=True)

        assert imported.outcome is Outcome.DELETED
        assert "deleted" in imported.note
        assert events == await logged(parts)


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


async def went_on_here(parts: Embedded, text: str) -> None:
    await resume(parts.store, THREAD)
    await say_and_flush(parts.store, THREAD, text)
    await parts.store.shutdown_thread(THREAD)


async def listed(parts: Embedded, *, archived: bool = False) -> list[ThreadId]:
    page = await parts.store.list_threads(ListThreadsParams(archived=archived))
    return [thread.thread_id for thread in page.items]


async def write_garbage(parts: Embedded, thread_id: ThreadId) -> None:
    """Put a record into the log which nobody understands."""
    record = b"\xc3\x01" + b"\x00" * 9

    def write(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", (UUID(thread_id).bytes, record))

    await parts.file.write(write)


def lines_of(lines: list[str]) -> list[object]:
    return [exactly(text) for text in lines]
