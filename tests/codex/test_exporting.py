"""Exporting: imported lines come out as they went in, and what was said here follows as Codex's own lines."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from eventstore import RolloutItem
from eventstore.codex.exporting import Exported, export_thread
from eventstore.codex.homes import find_rollouts
from eventstore.codex.names import read_names
from eventstore.codex.privatefiles import private_file
from eventstore.codex.rolloutfiles import parse_rollout_name
from eventstore.documents.params import ListThreadsParams
from eventstore.documents.patch import GitInfoPatch
from eventstore.documents.threads import StoredThread, ThreadHistoryMode, ThreadMemoryMode
from eventstore.errors import InvalidRequest, UnreadableEvent
from eventstore.events import Event, Item, ItemsAppended, WriterOpened
from eventstore.ids import ThreadId, new_event_id, new_thread_id, new_writer_id
from eventstore.moments import moment
from eventstore.wiring import Embedded
from tests.support.files import opened
from tests.support.homes import (
    OTHER,
    THREAD,
    CodexHome,
    a_talk,
    agent,
    exactly,
    export_all,
    exported,
    good_lines,
    import_all,
    import_one,
    line,
    meta,
    rename,
    user,
)
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    agent_message,
    append,
    archive,
    created,
    delete,
    patch,
    read,
    resume,
    said,
    say_and_flush,
)


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class TestUntouched:
    async def test_a_whole_home_comes_out_as_it_went_in(
        self, parts: Embedded, codex_home: Path, tmp_path: Path
    ) -> None:
        """Line by line as JSON, numbers digit by digit; bad lines and blank ones are left out."""
        imported = await import_all(parts, codex_home)

        await export_all(parts, tmp_path / "out")

        before = {by_id(file.path): (file.archived, good_lines(file.path)) for file in find_rollouts([codex_home])}
        after = {by_id(file.path): (file.archived, good_lines(file.path)) for file in find_rollouts([tmp_path / "out"])}
        assert len(before) == len(imported)
        assert before == after
        assert names_in(codex_home, before) == names_in(tmp_path / "out", before)

    async def test_an_exported_home_is_the_same_to_whoever_imports_it(
        self, parts: Embedded, codex_home: Path, tmp_path: Path
    ) -> None:
        await import_all(parts, codex_home)
        await export_all(parts, tmp_path / "out")

        async with opened(tmp_path / "other.db") as other:
            await import_all(other, tmp_path / "out")
            assert await everything(parts) == await everything(other)

    @pytest.mark.parametrize(
        "payload",
        [
            '{"n":12345678901234567890123}',
            '{"n":1e400,"m":-0.0e-7,"k":1.10}',
            r'{"text":"\ud83d alone","nul":"\u0000"}',
            '{"b":1,"a":2,"b":3}',
            '{ "spaced" : [ 1 , 2 ] }',
            '"only text"',
            "null",
            '{"other scripts":"日本語 😀"}',
        ],
    )
    async def test_awkward_json_survives(self, parts: Embedded, home: CodexHome, payload: str) -> None:
        stamp = "2026-04-23T17:20:33.000Z"
        awkward = f'{{"payload":{payload},"metadata":{{"n":1e400}},"type":"event_msg","timestamp":"{stamp}"}}'
        home.write([*a_talk(0), awkward])

        await import_one(parts, home.path)

        *_, text = await exported(parts)
        assert exactly(text) == exactly(awkward)
        assert payload in text

    async def test_unusual_timestamps_stay(self, parts: Embedded, home: CodexHome) -> None:
        said = '{"timestamp":"2026-04-23T19:20:31.482123+02:00","type":"event_msg","payload":{}}'
        home.write([*a_talk(0), said, '{"type":"event_msg","payload":{}}'])

        await import_one(parts, home.path)

        assert [exactly(text) for text in await exported(parts)] == good_lines(home.file())

    async def test_a_name_and_archived_state_from_the_home_make_no_lines(
        self, parts: Embedded, home: CodexHome
    ) -> None:
        home.name("named")
        home.write(a_talk(1), archived=True)
        await import_one(parts, home.path)
        home.name("named anew")
        await import_one(parts, home.path)

        assert len(await exported(parts)) == 3


class TestSaidHere:
    async def test_items_appended_here_follow(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await resume(parts.store, THREAD)
        await say_and_flush(parts.store, THREAD, "here")

        *source, here = await exported(parts)

        assert [exactly(text) for text in source] == good_lines(home.file())
        assert exactly(here)["payload"] == {"type": "agent_message", "message": "here"}

    async def test_a_rename_stands_at_its_place_in_the_log(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(0))
        await import_one(parts, home.path)
        await patch(parts.store, THREAD, name="named here")
        home.write(a_talk(1))
        await import_one(parts, home.path)

        _, _, renamed, last = await exported(parts)

        assert json.loads(renamed)["payload"] == {
            "type": "thread_name_updated",
            "thread_id": THREAD,
            "thread_name": "named here",
        }
        assert exactly(last) == exactly(agent(2))

    async def test_a_cleared_name_is_in_the_index_only(self, parts: Embedded, home: CodexHome, tmp_path: Path) -> None:
        home.write([*a_talk(0), rename(2, "by a line")])
        await import_one(parts, home.path)
        await patch(parts.store, THREAD, name=None)

        await export_all(parts, tmp_path / "out")

        assert len(await exported(parts)) == 3
        async with opened(tmp_path / "other.db") as other:
            await import_one(other, tmp_path / "out")
            assert (await read(other.store, THREAD)).name is None

    async def test_git_and_memory_mode_are_said_by_copies_of_the_session_meta(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        home.write([meta(git={"branch": "main", "commit_hash": "abc"}), user(1)])
        await import_one(parts, home.path)
        git = GitInfoPatch(sha="def", branch=None)
        await patch(parts.store, THREAD, git_info=git)
        await patch(parts.store, THREAD, memory_mode=ThreadMemoryMode.DISABLED)

        first, _, *copies = [json.loads(text) for text in await exported(parts)]

        said = {"commit_hash": "def", "branch": None, "repository_url": None}
        assert [copy["payload"] for copy in copies] == [
            first["payload"] | {"git": said},
            first["payload"] | {"git": said, "memory_mode": "disabled"},
        ]
        assert await told_elsewhere(parts, tmp_path) == without_times(await read(parts.store, THREAD))

    async def test_git_info_cleared_here_is_not_brought_back_by_a_later_copy(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        home.write([meta(git={"branch": "main"}), user(1)])
        await import_one(parts, home.path)
        await patch(parts.store, THREAD, git_info=GitInfoPatch(branch=None))
        await patch(parts.store, THREAD, memory_mode=ThreadMemoryMode.DISABLED)

        assert (await told_elsewhere(parts, tmp_path)).git_info is None

    async def test_git_info_set_and_cleared_here_is_said_to_be_cleared(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        home.write(a_talk(0))
        await import_one(parts, home.path)
        await patch(parts.store, THREAD, git_info=GitInfoPatch(branch="main"))
        await patch(parts.store, THREAD, git_info=GitInfoPatch(branch=None))

        assert (await told_elsewhere(parts, tmp_path)).git_info is None

    async def test_other_metadata_has_no_line_and_is_named(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        home.write(a_talk(0))
        await import_one(parts, home.path)
        await patch(parts.store, THREAD, preview="shown", model="m", created_at=moment(0), first_user_message="hello")
        await patch(parts.store, THREAD, name="named here", memory_mode=ThreadMemoryMode.DISABLED)

        assert len(await exported(parts)) == 4
        (done,) = await export_all(parts, tmp_path / "out")
        assert done.unsaid == ("created_at", "model", "preview")

        await resume(parts.store, THREAD)
        await append(parts.store, THREAD, RolloutItem("turn_context", {"cwd": "/p", "model": "n"}))
        await patch(parts.store, THREAD, name=None)
        alone = await export_thread(parts.feed, parts.views, THREAD, tmp_path / "alone.jsonl")
        assert alone.unsaid == ("created_at", "name", "preview")

    async def test_a_paginated_thread_is_numbered_on_and_its_name_is_in_the_index(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        numbered = line(1, "event_msg", {"type": "a"}, ordinal=7)
        home.write([meta(history_mode="paginated"), numbered])
        await import_one(parts, home.path)
        await patch(parts.store, THREAD, name="named here", memory_mode=ThreadMemoryMode.DISABLED)
        await resume(parts.store, THREAD)
        await append(parts.store, THREAD, agent_message("dropped"), *a_turn())
        await parts.store.shutdown_thread(THREAD)

        lines = [json.loads(text) for text in await exported(parts)]
        await export_all(parts, tmp_path / "out")

        assert [(said["ordinal"], said["type"]) for said in lines] == [
            (0, "session_meta"),
            (7, "event_msg"),
            (8, "session_meta"),
            (9, "turn_context"),
            (10, "turn_context"),
        ]
        assert {THREAD: "named here"} == names_in(tmp_path / "out", [THREAD])

    async def test_a_name_cleared_here_is_cleared_where_an_earlier_export_brought_it(
        self, parts: Embedded, tmp_path: Path
    ) -> None:
        thread_id = await created(parts.store, history_mode=ThreadHistoryMode.PAGINATED)
        await append(parts.store, thread_id, *a_turn())
        await patch(parts.store, thread_id, name="named here")
        async with opened(tmp_path / "other.db") as other:
            for name, home in (("named here", "before"), (None, "after")):
                await patch(parts.store, thread_id, name=name)
                await export_all(parts, tmp_path / home)
                await import_one(other, tmp_path / home)
                assert (await read(other.store, thread_id)).name == name

    async def test_a_thread_made_here_is_the_same_after_export_and_import(
        self, parts: Embedded, tmp_path: Path
    ) -> None:
        for mode in ThreadHistoryMode:
            thread_id = await created(parts.store, history_mode=mode)
            await append(parts.store, thread_id, *a_turn())
            await parts.store.shutdown_thread(thread_id)
        await a_cold_thread(parts.store, "hello", "again")

        await export_all(parts, tmp_path / "out")

        async with opened(tmp_path / "other.db") as other:
            outcomes = await import_all(other, tmp_path / "out")
            assert len(outcomes) == 3
            for imported in outcomes:
                assert imported.thread_id is not None
                before = await exported(parts, imported.thread_id)
                assert before == await exported(other, imported.thread_id)

    async def test_what_does_not_count_is_not_exported(self, parts: Embedded, tmp_path: Path) -> None:
        async with opened(tmp_path / "threads.db") as elsewhere:
            thread_id = await a_live_thread(parts.store)
            await resume(elsewhere.store, thread_id)
            await append(parts.store, thread_id, agent_message("fenced"))
            await say_and_flush(elsewhere.store, thread_id, "counts")

            assert ["hello", "counts"] == messages(await exported(parts, thread_id))

    async def test_an_append_that_never_became_whole_is_not_exported(self, parts: Embedded) -> None:
        thread_id = await a_cold_thread(parts.store)
        await parts.log.append(await half_an_append(parts, thread_id, "dropped"), within=5)
        await resume(parts.store, thread_id)
        await say_and_flush(parts.store, thread_id, "counts")

        assert ["hello", "counts"] == messages(await exported(parts, thread_id))

    async def test_an_append_in_several_records_is_whole(self, parts: Embedded, home: CodexHome) -> None:
        thread_id = await a_live_thread(parts.store)
        big = [agent_message(str(number) * 400_000) for number in range(4)]
        await append(parts.store, thread_id, *big)
        await patch(parts.store, thread_id, name="after it")

        assert [len(text) for text in messages(await exported(parts, thread_id))] == [5, *[400_000] * 4]
        assert messages(await exported(parts, thread_id)) == await said(parts.store, thread_id)


class TestFiles:
    async def test_a_file_is_its_owners_only(self, parts: Embedded, tmp_path: Path) -> None:
        thread_id = await a_cold_thread(parts.store)
        file = tmp_path / "some" / "where" / "out.jsonl"

        done = await export_thread(parts.feed, parts.views, thread_id, file)

        assert done == Exported(thread_id, file, lines=2)
        assert len(good_lines(file)) == 2
        assert (0o600, 0o700, 0o700) == (mode(file), mode(file.parent), mode(file.parent.parent))
        assert [file] == list(file.parent.iterdir())

    async def test_a_file_is_replaced_only_when_asked(self, parts: Embedded, tmp_path: Path) -> None:
        thread_id = await a_cold_thread(parts.store)
        file = tmp_path / "out.jsonl"
        file.write_text("precious")

        with pytest.raises(InvalidRequest, match="is there already"):
            await export_thread(parts.feed, parts.views, thread_id, file)
        assert file.read_text() == "precious"

        await export_thread(parts.feed, parts.views, thread_id, file, overwrite=True)
        assert len(good_lines(file)) == 2

    @pytest.mark.parametrize("name", ["", "file/below"])
    async def test_a_place_that_cannot_be_written_is_refused(self, parts: Embedded, tmp_path: Path, name: str) -> None:
        thread_id = await a_cold_thread(parts.store)
        (tmp_path / "file").touch()

        with pytest.raises(InvalidRequest):
            await export_thread(parts.feed, parts.views, thread_id, tmp_path / name, overwrite=True)

    async def test_an_export_that_fails_leaves_nothing(self, parts: Embedded, tmp_path: Path) -> None:
        thread_id = await a_frozen_thread(parts)
        out = tmp_path / "out"
        out.mkdir()

        with pytest.raises(UnreadableEvent):
            await export_thread(parts.feed, parts.views, thread_id, out / "a.jsonl")
        with pytest.raises(InvalidRequest, match=f"no rollout found for thread id {OTHER}"):
            await export_thread(parts.feed, parts.views, OTHER, out / "a.jsonl")

        assert list(out.iterdir()) == []

    @pytest.mark.parametrize("before", [None, "precious"])
    def test_a_file_is_there_whole_or_not_at_all(self, tmp_path: Path, before: str | None) -> None:
        file = tmp_path / "out.jsonl"
        if before is not None:
            file.write_text(before)

        with pytest.raises(UnicodeEncodeError), private_file(file, overwrite=True) as out:
            out.writelines(["half a line", "\ud83d"])

        assert [before] * (before is not None) == [path.read_text() for path in tmp_path.iterdir()]


class TestHomes:
    async def test_a_home_is_laid_out_as_codex_does_in_local_time(
        self, parts: Embedded, home: CodexHome, in_tokyo: None, tmp_path: Path
    ) -> None:
        home.name("named")
        home.write(a_talk(1))
        home.write(a_talk(1, OTHER), OTHER, archived=True)
        await import_all(parts, home.path)

        await export_all(parts, tmp_path / "out")

        files = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
        assert files == {
            Path("session_index.jsonl"),
            Path(f"sessions/2026/04/24/rollout-2026-04-24T02-20-31-{THREAD}.jsonl"),
            Path(f"archived_sessions/rollout-2026-04-24T02-20-31-{OTHER}.jsonl"),
        }
        assert {mode(path) for path in (tmp_path / "out").rglob("*") if path.is_file()} == {0o600}
        assert {mode(path) for path in (tmp_path / "out").rglob("*") if path.is_dir()} == {0o700}

    async def test_all_threads_but_deleted_ones_are_in_it(self, parts: Embedded, tmp_path: Path) -> None:
        unlisted = await created(parts.store)
        await parts.store.persist_thread(unlisted)
        archived, gone = await a_cold_thread(parts.store), await a_cold_thread(parts.store)
        await archive(parts.store, archived)
        await delete(parts.store, gone)

        done = await export_all(parts, tmp_path / "out")

        assert {unlisted, archived} == {found.thread_id for found in done}

    async def test_a_frozen_thread_is_reported_and_left_out(self, parts: Embedded, tmp_path: Path) -> None:
        frozen, sound = await a_frozen_thread(parts), await a_cold_thread(parts.store)

        done = {found.thread_id: found for found in await export_all(parts, tmp_path / "out")}

        assert done[frozen].path is None
        assert isinstance(done[frozen].error, UnreadableEvent)
        assert done[sound].path is not None
        assert [sound] == [by_id(file.path) for file in find_rollouts([tmp_path / "out"])]

    async def test_more_threads_than_are_asked_for_at_once(
        self, parts: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("eventstore.codex.exporting._IDS_AT_A_TIME", 2)
        made = {await a_cold_thread(parts.store) for _ in range(5)}

        assert made == {found.thread_id for found in await export_all(parts, tmp_path / "out")}

    async def test_a_folder_that_holds_something_is_refused(self, parts: Embedded, tmp_path: Path) -> None:
        await a_cold_thread(parts.store)

        with pytest.raises(InvalidRequest, match="is not empty"):
            await export_all(parts, tmp_path)

    async def test_names_changed_last_are_found_first(self, parts: Embedded, tmp_path: Path) -> None:
        threads = [await a_cold_thread(parts.store) for _ in range(3)]
        for thread_id in reversed(threads):
            await patch(parts.store, thread_id, name="same")

        await export_all(parts, tmp_path / "out")

        with (tmp_path / "out" / "session_index.jsonl").open("rb") as index:
            assert list(reversed(threads)) == list(read_names(index))


async def everything(parts: Embedded) -> list[StoredThread]:
    """Return all threads as listings show them, without how often they changed."""
    pages = [await parts.store.list_threads(ListThreadsParams(archived=archived)) for archived in (False, True)]
    return [thread.model_copy(update={"version": 0}) for page in pages for thread in page.items]


async def told_elsewhere(parts: Embedded, tmp_path: Path) -> StoredThread:
    """Return the thread as a store shows it that knows its exported file only."""
    file = tmp_path / "told.jsonl"
    await export_thread(parts.feed, parts.views, THREAD, file)
    async with opened(tmp_path / "other.db") as other:
        await import_one(other, file)
        return without_times(await read(other.store, THREAD))


def without_times(thread: StoredThread) -> StoredThread:
    return thread.model_copy(update={"updated_at": thread.created_at, "version": 0, "item_count": 0})


async def a_frozen_thread(parts: Embedded) -> ThreadId:
    thread_id = await a_cold_thread(parts.store)
    row = UUID(thread_id).bytes, b"\xc3\x01" + b"\x00" * 9
    await parts.file.write(lambda connection: connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row))
    return thread_id


async def half_an_append(parts: Embedded, thread_id: ThreadId, text: str) -> list[Event]:
    """Return the events of a writer that takes the thread over and dies in the middle of an append."""
    view = await parts.views.get(thread_id)
    assert view is not None
    said: dict[str, Any] = {"thread_id": thread_id, "occurred_at": 0, "writer_id": new_writer_id()}
    item = Item(0, "event_msg", json.dumps({"type": "agent_message", "message": text}))
    return [
        WriterOpened(**said, event_id=new_event_id(), writer_seq=0, epoch=view.state.head.epoch),
        ItemsAppended(**said, event_id=new_event_id(), writer_seq=1, items=(item,), more=True),
    ]


def a_turn() -> list[Any]:
    return [RolloutItem("turn_context", {"cwd": "/p", "model": model}) for model in ("m", "n")]


def by_id(file: Path) -> ThreadId:
    named = parse_rollout_name(file.name)
    return new_thread_id() if named is None else named.thread_id


def names_in(home: Path, threads: Any) -> dict[ThreadId, str | None]:
    with (home / "session_index.jsonl").open("rb") as index:
        return {thread_id: entry.name for thread_id, entry in read_names(index).items() if thread_id in threads}


def messages(lines: list[str]) -> list[str]:
    return [said["message"] for text in lines if "message" in (said := json.loads(text)["payload"])]


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)
