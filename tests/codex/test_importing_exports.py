"""Importing exports: a thread's own one says nothing, and another store's brings what was said there."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from eventstore import RolloutItem
from eventstore.codex.importing import Outcome
from eventstore.documents.patch import GitInfoPatch
from eventstore.documents.threads import ThreadHistoryMode, ThreadMemoryMode
from eventstore.events import ItemsAppended, ThreadCreated
from eventstore.ids import ThreadId
from eventstore.wiring import Embedded
from tests.support.files import opened
from tests.support.homes import (
    THREAD,
    CodexHome,
    a_talk,
    agent,
    export_all,
    exported,
    import_all,
    import_one,
    logged,
    rename,
)
from tests.support.threads import append, archive, created, patch, read, resume

Said = Callable[[Embedded, ThreadId], Awaitable[object]]


def a_turn(model: str) -> RolloutItem:
    """Return an item that threads of any history mode keep."""
    return RolloutItem("turn_context", {"cwd": "/p", "model": model})


async def a_thread(parts: Embedded, mode: ThreadHistoryMode = ThreadHistoryMode.LEGACY) -> ThreadId:
    thread_id = await created(parts.store, history_mode=mode)
    await append(parts.store, thread_id, a_turn("first"))
    await parts.store.shutdown_thread(thread_id)
    return thread_id


async def named(parts: Embedded, thread_id: ThreadId, name: str | None = "named here") -> None:
    await patch(parts.store, thread_id, name=name)


async def forgetful(parts: Embedded, thread_id: ThreadId) -> None:
    await patch(parts.store, thread_id, memory_mode=ThreadMemoryMode.DISABLED)


async def went_on(parts: Embedded, thread_id: ThreadId, *items: RolloutItem) -> None:
    await resume(parts.store, thread_id)
    await append(parts.store, thread_id, *(items or (a_turn("more"),)))
    await parts.store.shutdown_thread(thread_id)


async def named_and_went_on(parts: Embedded, thread_id: ThreadId) -> None:
    await named(parts, thread_id)
    await went_on(parts, thread_id)
    await forgetful(parts, thread_id)
    await patch(parts.store, thread_id, git_info=GitInfoPatch(branch="main"), name="named again")
    await went_on(parts, thread_id)


async def named_and_cleared(parts: Embedded, thread_id: ThreadId) -> None:
    await named(parts, thread_id)
    await named(parts, thread_id, None)


async def named_twice_the_same_with_a_line_of_it(parts: Embedded, thread_id: ThreadId) -> None:
    """As an earlier import of an export left it: what was said here is an item as well."""
    await named(parts, thread_id)
    *_, line = await exported(parts, thread_id)
    line = line.removeprefix("{").removesuffix("}")
    payload = line[line.index('"payload":') + len('"payload":') :]
    await went_on(parts, thread_id, RolloutItem.from_text("event_msg", payload))
    await named(parts, thread_id)


async def said_over_lines(parts: Embedded, thread_id: ThreadId) -> None:
    await went_on(parts, thread_id, RolloutItem.from_text("turn_context", '{\n  "cwd": "/p"\n}'))


async def archived(parts: Embedded, thread_id: ThreadId) -> None:
    await archive(parts.store, thread_id)


SAID = [
    named,
    forgetful,
    named_and_went_on,
    named_and_cleared,
    named_twice_the_same_with_a_line_of_it,
    said_over_lines,
    archived,
]


class TestOwn:
    @pytest.mark.parametrize("mode", ThreadHistoryMode)
    @pytest.mark.parametrize("say", SAID)
    async def test_a_thread_is_the_same_after_any_number_of_rounds(
        self, parts: Embedded, tmp_path: Path, say: Said, mode: ThreadHistoryMode
    ) -> None:
        thread_id = await a_thread(parts, mode)
        await say(parts, thread_id)
        thread, lines = await read(parts.store, thread_id), await exported(parts, thread_id)
        before = len(await logged(parts))

        counts = []
        for number in range(3):
            await export_all(parts, tmp_path / str(number))
            again = await import_one(parts, tmp_path / str(number))
            assert (again.outcome, again.added, again.bad_lines) == (Outcome.UNCHANGED, 0, ())
            counts.append(len(await logged(parts)))

        # That it is archived there too may be noted, once.
        assert counts == [before + (say is archived)] * 3
        assert thread == (await read(parts.store, thread_id)).model_copy(update={"version": thread.version})
        assert lines == await exported(parts, thread_id)

    async def test_so_is_an_imported_one_and_what_was_said_here_still_counts_for_it(
        self, parts: Embedded, codex_home: Path, tmp_path: Path
    ) -> None:
        for imported in await import_all(parts, codex_home):
            assert imported.thread_id is not None
            await named(parts, imported.thread_id)
        await export_all(parts, tmp_path / "out")
        events = await logged(parts)

        assert {one.outcome for one in await import_all(parts, tmp_path / "out")} == {Outcome.UNCHANGED}
        assert {one.outcome for one in await import_all(parts, codex_home)} == {Outcome.UNCHANGED}
        assert events == await logged(parts)

    async def test_so_is_one_with_lines_that_bear_no_time(
        self, parts: Embedded, home: CodexHome, tmp_path: Path
    ) -> None:
        """They are taken to be as old as the line before, and in an export what was said here is before them."""
        timeless = {"type": "event_msg", "payload": {"type": "agent_message", "message": "when?"}}
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await named(parts, THREAD)
        home.write([*a_talk(1), json.dumps(timeless)])
        assert (await import_one(parts, home.path)).outcome is Outcome.GROWN
        await export_all(parts, tmp_path / "out")

        assert (await import_one(parts, tmp_path / "out")).outcome is Outcome.UNCHANGED

    async def test_an_earlier_export_says_nothing_either(self, parts: Embedded, tmp_path: Path) -> None:
        thread_id = await a_thread(parts)
        await named(parts, thread_id)
        await export_all(parts, tmp_path / "out")
        await named(parts, thread_id, "named again")
        await went_on(parts, thread_id)
        events = await logged(parts)

        assert (await import_one(parts, tmp_path / "out")).outcome is Outcome.UNCHANGED
        assert events == await logged(parts)

    async def test_what_an_export_holds_in_another_place_has_diverged(self, parts: Embedded, tmp_path: Path) -> None:
        thread_id = await a_thread(parts)
        await named(parts, thread_id)
        await went_on(parts, thread_id)
        meta, first, name, more = await exported(parts, thread_id)
        file = tmp_path / "out.jsonl"
        file.write_text("\n".join([meta, name, first, more, ""]))

        again = await import_one(parts, file)

        assert (again.outcome, again.note) == (Outcome.DIVERGED, "line 2 is not what is here; nothing was written")

    async def test_what_codex_writes_behind_an_export_is_growth(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await named(parts, THREAD)
        lines = await exported(parts)
        home.write([*lines, agent(3), rename(4, "named there")])

        grown = await import_one(parts, home.path)

        assert (grown.outcome, grown.added) == (Outcome.GROWN, 2)
        assert (await read(parts.store, THREAD)).name == "named there"
        assert (await import_one(parts, home.path)).outcome is Outcome.UNCHANGED
        assert (await exported(parts))[: len(lines)] == lines

    async def test_a_file_that_lacks_what_was_said_here_still_grows(self, parts: Embedded, home: CodexHome) -> None:
        home.write(a_talk(1))
        await import_one(parts, home.path)
        await named(parts, THREAD)
        home.write(a_talk(2))

        assert (await import_one(parts, home.path)).added == 1
        assert (await read(parts.store, THREAD)).name == "named here"


class TestAnother:
    @pytest.mark.parametrize("own", [named, forgetful, archived])
    async def test_what_is_said_in_the_other_store_arrives_once(
        self, parts: Embedded, tmp_path: Path, own: Said
    ) -> None:
        thread_id = await a_thread(parts)
        await own(parts, thread_id)
        async with opened(tmp_path / "other.db") as other:
            await export_all(parts, tmp_path / "there")
            await import_all(other, tmp_path / "there")
            await named(other, thread_id, "named there")
            await went_on(other, thread_id)
            await export_all(other, tmp_path / "back")

            back = await import_one(parts, tmp_path / "back")

            assert (back.outcome, back.added) == (Outcome.GROWN, 2)
            assert (await import_one(parts, tmp_path / "back")).outcome is Outcome.UNCHANGED
            assert await told(parts, thread_id) == await told(other, thread_id)
            assert await exported(parts, thread_id) == await exported(other, thread_id)

    async def test_stores_that_exchange_exports_come_to_rest(self, parts: Embedded, tmp_path: Path) -> None:
        thread_id = await a_thread(parts)
        await named_and_went_on(parts, thread_id)
        async with opened(tmp_path / "other.db") as other:
            for number in range(3):
                await export_all(parts, tmp_path / f"there{number}")
                await import_all(other, tmp_path / f"there{number}")
                await export_all(other, tmp_path / f"back{number}")
                assert (await import_one(parts, tmp_path / f"back{number}")).outcome is Outcome.UNCHANGED

            assert await exported(parts, thread_id) == await exported(other, thread_id)
            assert len(await logged(parts, ItemsAppended)) == 3
            assert len(await logged(other, ThreadCreated)) == 1


async def told(parts: Embedded, thread_id: ThreadId) -> Any:
    """Return the thread as it is shown, without what each store counts for itself."""
    thread = await read(parts.store, thread_id)
    own = {"version": 0, "item_count": 0, "updated_at": None, "archived_at": thread.archived_at is None}
    return thread.model_copy(update=own)
