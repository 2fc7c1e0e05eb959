"""Importing homes: their files, names and archived state; what was changed here stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eventstore import ListThreadsParams
from eventstore.codex.homes import find_rollouts
from eventstore.codex.importing import Outcome
from eventstore.errors import (
    InvalidRequest,
)
from eventstore.events import MetadataPatched, ThreadArchived
from eventstore.ids import ThreadId
from eventstore.wiring import Embedded
from tests.support.homes import (
    OTHER,
    THREAD,
    CodexHome,
    a_talk,
    agent,
    exported,
    import_all,
    import_one,
    logged,
    rename,
)
from tests.support.threads import archive, delete, patch, read, unarchive


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

    def test_links_are_followed_into_each_folder_once(self, home: CodexHome, tmp_path: Path) -> None:
        elsewhere = CodexHome(tmp_path / "elsewhere")
        plain, linked = home.write(a_talk(1)), elsewhere.write(a_talk(1, OTHER), OTHER)
        (home.path / "sessions" / "2025").symlink_to(linked.parent)
        (home.path / "sessions" / "again").symlink_to(linked.parent.parent)
        (plain.parent / "around").symlink_to(home.path / "sessions")
        (linked.parent / "back").symlink_to(plain.parent)

        for path in (home.path, home.path / "sessions"):
            assert [THREAD, OTHER] == [file.path.stem[-36:] for file in find_rollouts([path])]

    async def test_a_link_that_leads_nowhere_is_told_where_it_may_have_led_to_rollouts(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        good = home.write(a_talk(1))
        for name in ("unmounted", "rollout-of-it.jsonl"):
            (good.parent / name).symlink_to(tmp_path / "unmounted")

        of_home = await import_all(parts, home.path)
        of_folder = await import_all(parts, good.parent)

        assert [(one.path.name, one.outcome, one.note) for one in of_home if one.path != good] == [
            (name, Outcome.UNREADABLE, "it cannot be read: No such file or directory")
            for name in ("rollout-of-it.jsonl", "unmounted")
        ]
        assert [one.path.name for one in of_folder] == [good.name, "rollout-of-it.jsonl"]

    @pytest.mark.parametrize("through", ["pipe", "link"])
    def test_a_pipe_is_refused_before_it_is_opened(self, tmp_path: Path, through: str) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("pipe")

        with pytest.raises(InvalidRequest, match=f"{through} is no ordinary file"):
            find_rollouts([tmp_path / through])

    @pytest.mark.parametrize("path", ["nowhere", "empty"])
    def test_a_path_that_leads_to_no_rollout_is_refused(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "empty").mkdir()

        with pytest.raises(InvalidRequest, match=path):
            find_rollouts([tmp_path / path])


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


class TestSeveralPlaces:
    """A thread's files in several places: one of them is heard, so that they do not change it in turns."""

    async def test_what_is_not_archived_is_heard_first(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1), archived=True)
        home.write(a_talk(1))

        for _ in range(2):
            await import_all(parts, home.path)

        assert [THREAD] == await listed(parts)
        assert await logged(parts, MetadataPatched) == await logged(parts, ThreadArchived) == []

    async def test_the_home_given_first_is_heard(self, parts: Embedded, home: CodexHome, tmp_path: Path) -> None:
        other = CodexHome(tmp_path / "a")
        for one, archived in ((home, True), (other, False)):
            one.name(f"of {one.path.name}")
            one.write(a_talk(1), archived=archived)

        await import_all(parts, home.path, other.path)
        events = await logged(parts)
        await import_all(parts, home.path, other.path)

        assert events == await logged(parts)
        assert [THREAD] == await listed(parts, archived=True)
        assert (await read(parts.store, THREAD)).name == "of codex"

        await import_all(parts, other.path, home.path)
        assert (await read(parts.store, THREAD)).name == "of a"

    async def test_a_file_outside_of_any_home_leaves_the_word_to_one(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        copy = tmp_path / "a.jsonl"
        copy.write_bytes(home.write(a_talk(1)).read_bytes())
        home.name("named")

        await import_all(parts, copy, home.path)

        assert (await read(parts.store, THREAD)).name == "named"


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


async def listed(parts: Embedded, *, archived: bool = False) -> list[ThreadId]:
    page = await parts.store.list_threads(ListThreadsParams(archived=archived))
    return [thread.thread_id for thread in page.items]
