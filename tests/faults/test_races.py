"""Several processes racing on one file: every contender says how it ended, and the winners are counted."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from eventstore import CreateThreadParams, ListThreadsParams, new_thread_id
from eventstore.errors import EventStoreError, ThreadExists, Unavailable, ViewsBehind
from eventstore.ids import ThreadId
from eventstore.settings import Settings
from eventstore.wiring import open_embedded, open_store
from tests.support.checker import Journal, Pen, labels, objections, read_journal, spoken
from tests.support.engines import SqliteEngine
from tests.support.faults import OvertakenViews
from tests.support.processes import Child, Nursery
from tests.support.threads import a_cold_thread, append, created, patch, read, resume, said, say

FIGURES = logging.getLogger("figures")
"""Shown by `pytest --log-cli-level=info`."""

CONTENDERS = 4
TURNS = 6


def outcomes(journals: Sequence[Journal]) -> list[Counter[str]]:
    """Return how the contenders ended, turn by turn."""
    notes = [note for journal in journals for note in journal.notes if note["did"] == "outcome"]
    turns = 1 + max(note["turn"] for note in notes)
    return [Counter(note["outcome"] for note in notes if note["turn"] == turn) for turn in range(turns)]


async def a_thread_in(path: Path, pen: Pen) -> ThreadId:
    """Store a thread with one journaled append, closed."""
    thread_id = new_thread_id()
    async with open_store(f"sqlite:{path}") as store:
        await store.create_thread(CreateThreadParams(thread_id=thread_id))
        first = labels(pen.writer, 0, items=1)
        attempt = pen.attempt(thread_id, first)
        await append(store, thread_id, *map(spoken, first))
        await store.shutdown_thread(thread_id)
        pen.acknowledged(attempt)
    return thread_id


async def contend(path: Path, nursery: Nursery, *, apart: bool) -> list[Counter[str]]:
    pen = Pen(nursery.folder / "before.journal", "before")
    thread_id = await a_thread_in(path, pen)
    pen.close()
    for number in range(CONTENDERS):
        nursery.start("contend", f"w{number}", url=f"sqlite:{path}", thread=thread_id, turns=TURNS, apart=apart)
    for _ in range(2 * TURNS if apart else TURNS):
        nursery.all_go()
    journals = [*nursery.join(), read_journal(nursery.folder / "before.journal")]
    assert not await objections(path, journals)
    return outcomes(journals)


async def test_of_processes_that_all_resumed_one_thread_exactly_one_is_acknowledged(
    tmp_path: Path, nursery: Nursery
) -> None:
    found = await contend(tmp_path / "threads.db", nursery, apart=True)

    assert found == [Counter({"acknowledged": 1, "WriterFenced": CONTENDERS - 1})] * TURNS


async def test_processes_that_race_for_one_thread_end_acknowledged_or_fenced(tmp_path: Path, nursery: Nursery) -> None:
    found = await contend(tmp_path / "threads.db", nursery, apart=False)

    assert len(found) == TURNS
    for turn in found:
        assert turn.total() == CONTENDERS
        assert turn["acknowledged"] >= 1
        assert turn["acknowledged"] + turn["WriterFenced"] == CONTENDERS
    assert any(turn["WriterFenced"] for turn in found), "nobody ever met another"


async def test_a_stopped_writer_that_wakes_after_a_takeover_is_fenced_and_adds_nothing(
    tmp_path: Path, nursery: Nursery
) -> None:
    """It may stand still anywhere: between its look and its word, before its verdict, with the write lock in hand."""
    path = tmp_path / "threads.db"
    pen = Pen(tmp_path / "taker.journal", "taker")
    thread_id = await a_thread_in(path, pen)
    child = nursery.start("append_until_fenced", "stopped", url=f"sqlite:{path}", thread=thread_id, turns=TURNS)
    in_the_way = 0
    for turn in range(TURNS):
        nursery.all_go()
        stopped_at_work(child)
        while refusal := await taken_over(path, pen, thread_id, turn):
            # It has the lock, so nobody can write: let it go on, and stop it elsewhere.
            assert "written by another process" in refusal
            in_the_way += 1
            child.wake()
            stopped_at_work(child)
        child.wake()
        child.wait_for(lambda journal, turns=turn + 1: journal.count("outcome") == turns, "fenced")  # type: ignore[misc]
    pen.close()
    journals = [*nursery.join(), read_journal(tmp_path / "taker.journal")]

    FIGURES.info("stopped %d times, %d of them with the write lock in hand", TURNS + in_the_way, in_the_way)
    assert outcomes(journals) == [Counter({"WriterFenced": 1})] * TURNS
    assert not await objections(path, journals)


def stopped_at_work(child: Child) -> None:
    """Stop the child at a random moment, after it was acknowledged once more."""
    before = child.journal.count("acknowledged")
    child.wait_for(lambda journal: journal.count("acknowledged") > before, "at work")
    until = time.monotonic() + random.uniform(0, 0.005)
    while time.monotonic() < until:
        pass
    child.stop()


async def taken_over(path: Path, pen: Pen, thread_id: ThreadId, turn: int) -> str:
    """Resume the thread and append to it; say why the file could not be written, if that was so."""
    async with open_embedded(Settings(log=f"sqlite:{path}", within=0.5)) as parts:
        try:
            await resume(parts.store, thread_id)
        except (Unavailable, ViewsBehind) as exc:
            return str(exc)
        said = labels(pen.writer, turn + 1, items=3)
        attempt = pen.attempt(thread_id, said)
        await append(parts.store, thread_id, *map(spoken, said))
        await parts.store.flush_thread(thread_id)
        pen.acknowledged(attempt)
    return ""


async def test_of_processes_that_create_one_thread_exactly_one_wins(tmp_path: Path, nursery: Nursery) -> None:
    path = tmp_path / "threads.db"
    threads = [new_thread_id() for _ in range(TURNS)]
    for number in range(CONTENDERS):
        nursery.start("create", f"w{number}", url=f"sqlite:{path}", threads=threads)
    for _ in threads:
        nursery.all_go()
    journals = nursery.join()

    assert outcomes(journals) == [Counter({"acknowledged": 1, "ThreadExists": CONTENDERS - 1})] * TURNS
    assert not await objections(path, journals)


async def test_of_processes_that_archive_one_thread_exactly_one_does(tmp_path: Path, nursery: Nursery) -> None:
    path = tmp_path / "threads.db"
    async with open_store(f"sqlite:{path}") as store:
        threads = [await a_cold_thread(store) for _ in range(TURNS)]
    for number in range(CONTENDERS):
        nursery.start("archive", f"w{number}", url=f"sqlite:{path}", threads=threads)
    for _ in threads:
        nursery.all_go()

    assert outcomes(nursery.join()) == [Counter({"acknowledged": 1, "UnknownThread": CONTENDERS - 1})] * TURNS
    async with open_store(f"sqlite:{path}") as store:
        for thread_id in threads:
            thread = await read(store, thread_id)
            # Created, one append, one archive: the refused ones changed nothing.
            assert (thread.archived_at is not None, thread.version) == (True, 3)


async def test_processes_on_one_file_never_meet_a_lock_and_none_is_starved(tmp_path: Path, nursery: Nursery) -> None:
    path = tmp_path / "threads.db"
    count = 300
    for number in range(CONTENDERS):
        nursery.start("append_counted", f"w{number}", url=f"sqlite:{path}", count=count)
    nursery.all_go()
    journals = nursery.join()

    assert [journal.count("acknowledged") for journal in journals] == [count] * CONTENDERS
    assert not await objections(path, journals, unrivalled=True)
    times = [[note["at"] for note in journal.notes if note["did"] == "flushed"] for journal in journals]
    first_done = min(ends[-1] for ends in times)
    behind = min(sum(at <= first_done for at in ends) for ends in times)
    began = min(ends[0] for ends in times)
    longest_wait = max(after - before for ends in times for before, after in pairwise(ends))
    FIGURES.info(
        "slowest/fastest %.2f; the slowest had %d of %d when the first was done; longest wait %.3f s; %.0f flushes/s",
        (max(ends[-1] for ends in times) - began) / (first_done - began),
        behind,
        count,
        longest_wait,
        CONTENDERS * count / (max(ends[-1] for ends in times) - began),
    )
    assert behind >= count // 10, f"one process had {behind} of {count} appends when another had all"


async def test_appends_that_wait_at_the_same_time_share_a_commit(tmp_path: Path) -> None:
    statements: Counter[str] = Counter()

    def watch(connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(lambda sql: statements.update([sql.split("(")[0].strip()]))

    async with open_embedded(Settings(log=f"sqlite:{tmp_path}/threads.db")) as parts:
        threads = [await created(parts.store) for _ in range(8)]
        for thread_id in threads:
            await parts.store.persist_thread(thread_id)
        await parts.file.writing.run(watch, within=5)

        async def writes(thread_id: ThreadId) -> None:
            for number in range(20):
                await say(parts.store, thread_id, f"{number}")

        await asyncio.gather(*map(writes, threads))
        for thread_id in threads:
            assert await said(parts.store, thread_id) == [f"{number}" for number in range(20)]

    inserts = statements["INSERT INTO log"]
    assert inserts == 160
    assert statements["COMMIT"] <= inserts / 4, statements


async def test_a_command_that_was_overtaken_by_more_than_is_remembered_is_applied_once(tmp_path: Path) -> None:
    """Its sender was paused before it learned the verdict; its id is forgotten by then."""
    engine = SqliteEngine(str(tmp_path / "threads.db"))
    views = OvertakenViews()
    store, elsewhere = await engine.open(through=views.through), await engine.open()
    thread_id = await a_cold_thread(store)

    async def seventy_renames() -> None:
        for number in range(70):
            await patch(elsewhere, thread_id, name=f"name {number}")

    views.before_reach = seventy_renames
    await patch(store, thread_id, name="mine")

    assert views.fired == 1
    thread = await read(elsewhere, thread_id)
    assert (thread.name, thread.version) == ("name 69", 2 + 71)
    await engine.end()


async def test_a_creator_that_was_taken_over_more_often_than_is_remembered_is_not_told_that_it_never_created(
    tmp_path: Path,
) -> None:
    """Its thread was created by it: to hear of a conflict at creation, it would believe that nothing of it counts."""
    engine = SqliteEngine(str(tmp_path / "threads.db"))
    views = OvertakenViews()
    store, elsewhere = await engine.open(through=views.through), await engine.open()
    thread_id = await created(store)
    await say(store, thread_id, "the first words")

    async def ten_takeovers() -> None:
        for number in range(10):
            await resume(elsewhere, thread_id)
            await say(elsewhere, thread_id, f"taken over {number}")
            await elsewhere.shutdown_thread(thread_id)
        await store.list_threads(ListThreadsParams())

    views.before_reach = ten_takeovers
    with pytest.raises(EventStoreError) as caught:
        await store.flush_thread(thread_id)

    assert views.fired == 1
    assert not isinstance(caught.value, ThreadExists), caught.value
    assert ["the first words", *(f"taken over {number}" for number in range(10))] == await said(elsewhere, thread_id)
    await engine.end()
