"""Importing items: what a file says is here once, and where it says something else than what is here it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.codex.importing import Outcome
from eventstore.codex.rolloutlines import RolloutLines
from eventstore.errors import (
    WriterFenced,
)
from eventstore.events import ItemsAppended, ThreadCreated, WriterClosed
from eventstore.moments import moment
from eventstore.wiring import Embedded
from tests.support.homes import (
    BEGAN,
    OTHER,
    THREAD,
    CodexHome,
    a_talk,
    agent,
    exactly,
    exported,
    good_lines,
    import_all,
    import_one,
    line,
    lines_of,
    logged,
    meta,
    rename,
    user,
)
from tests.support.threads import read, resume, said, say_and_flush


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
        home.write(a_talk(2_000))
        home.write(a_talk(2_001), archived=True)

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

    @pytest.mark.parametrize("missing", [7, 0], ids=["torn", "without its line break"])
    async def test_a_line_that_is_completed_while_it_is_read_ends_the_reading(
        self, parts: Embedded, home: CodexHome, missing: int
    ) -> None:
        last = agent(2)
        cut = len(last) - missing
        file = home.write([meta(), user(1)])
        file.write_text(file.read_text() + last[:cut])

        def written_meanwhile() -> Iterator[bytes]:
            with file.open("rb") as source, file.open("a") as out:
                for text in source:
                    yield text
                    if not text.endswith(b"\n"):
                        out.write(f"{last[cut:]}\n{agent(3)}\n")
                        out.flush()

        lines = RolloutLines(written_meanwhile(), file.name)

        assert [item.at for item in lines.items] == [BEGAN + 1_000 * number for number in range(2 if missing else 3)]
        assert [bad.line_number for bad in lines.bad_lines] == ([3] if missing else [])

        file.write_text("\n".join([meta(), user(1), last[:cut]]))
        await import_one(parts, home.path)
        home.write([meta(), user(1), last, agent(3)])
        grown = await import_one(parts, home.path)
        assert (grown.outcome, grown.added, grown.bad_lines) == (Outcome.GROWN, 2 if missing else 1, ())

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


async def went_on_here(parts: Embedded, text: str) -> None:
    await resume(parts.store, THREAD)
    await say_and_flush(parts.store, THREAD, text)
    await parts.store.shutdown_thread(THREAD)
