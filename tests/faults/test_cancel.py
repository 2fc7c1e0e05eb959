"""Tasks cancelled at any moment, loops and stores closed in the middle of the work: judged like killed processes."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import threading
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from eventstore import ArchiveThreadParams, CreateThreadParams, ThreadStore, new_thread_id
from eventstore.errors import Behind, EventStoreError, InvalidRequest, OutcomeUnknown, ThreadNotFound, Unavailable
from eventstore.ids import ThreadId
from eventstore.settings import Settings
from eventstore.wiring import Embedded, open_embedded
from tests.support.checker import Label, Pen, labels, objections, read_journal, spoken
from tests.support.threads import a_live_thread, append, created, history, read, resume, said, say, texts

SEEDS = 6
THREADS = 3
TASKS = 4
OPERATIONS = 60
"""Per task."""


@dataclass
class Run:
    """Tasks that write to a few threads of one store, cancelled now and then, and what they noted."""

    parts: Embedded
    pen: Pen
    dice: random.Random
    threads: list[ThreadId]
    cancelled: int = 0
    returned: int = 0
    numbers: dict[ThreadId, int] = field(default_factory=dict)
    received: dict[ThreadId, set[int]] = field(default_factory=dict)

    async def cut(self, call: Awaitable[object]) -> bool:
        """Make the call and cancel it after a few turns of the loop, mostly; say whether it returned."""
        task = asyncio.ensure_future(call)
        if self.dice.random() < 0.8:
            for _ in range(self.dice.randrange(8)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            self.cancelled += 1
            return False
        self.returned += 1
        return True

    async def append(self, thread_id: ThreadId) -> None:
        number = self.numbers[thread_id] = self.numbers.get(thread_id, 0) + 1
        large = self.dice.random() < 0.05
        said = labels(thread_id, number, items=self.dice.choice([1, 1, 3]), size=300_000 if large else 0)
        attempt = self.pen.attempt(thread_id, said)
        if await self.cut(append(self.parts.store, thread_id, *map(spoken, said))):
            self.pen.received(attempt)
            self.received.setdefault(thread_id, set()).add(attempt)

    async def flush(self, thread_id: ThreadId) -> None:
        before = set(self.received.get(thread_id, ()))
        if await self.cut(self.parts.store.flush_thread(thread_id)):
            self.pen.acknowledged(*sorted(before))

    async def look(self, thread_id: ThreadId) -> None:
        """Read while others write: whatever is read is a whole prefix."""
        items = (await history(self.parts.store, thread_id)).items
        assert [item.ordinal for item in items] == list(range(len(items)))
        said = [Label.parse(text.split(" ")[0]) for text in texts(items)]
        for before, after in pairwise(said):
            whole = (before.append, before.item + 1) == (after.append, after.item)
            assert whole or (before.item == before.of - 1 and after.item == 0), (before, after)

    async def writes(self) -> None:
        for _ in range(OPERATIONS):
            thread_id = self.dice.choice(self.threads)
            does = self.dice.choices([self.append, self.flush, self.look], weights=[6, 2, 1])[0]
            await does(thread_id)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_cancelled_calls_leave_no_half_appends_and_lose_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "threads.db"
    pen = Pen(tmp_path / "tasks.journal", "tasks")
    async with open_embedded(Settings(log=f"sqlite:{path}")) as parts:
        run = Run(parts, pen, random.Random(seed), [new_thread_id() for _ in range(THREADS)])
        for thread_id in run.threads:
            await parts.store.create_thread(CreateThreadParams(thread_id=thread_id))
            await parts.store.persist_thread(thread_id)
        await asyncio.gather(*(run.writes() for _ in range(TASKS)))
        for thread_id in run.threads:
            # No writer leaked and none was lost: whatever was cancelled, the thread goes on.
            before = set(run.received[thread_id])
            await parts.store.flush_thread(thread_id)
            pen.acknowledged(*sorted(before))
            with pytest.raises(InvalidRequest, match="already has a live local writer"):
                await resume(parts.store, thread_id)
    pen.close()
    journal = read_journal(tmp_path / "tasks.journal")

    assert run.cancelled > OPERATIONS / 2, (seed, run.cancelled)
    assert run.returned > OPERATIONS / 2, (seed, run.returned)
    assert sum(attempt.acknowledged for attempt in journal.attempts) > 10, seed
    # The judge's order is the order of the attempts, which is the order of the calls: cancelled ones keep their place.
    assert not await objections(path, [journal], unrivalled=True), seed


async def test_cancelled_resumes_and_shutdowns_leak_no_writer(tmp_path: Path) -> None:
    dice = random.Random(1)
    cut: Counter[str] = Counter()
    async with open_embedded(Settings(log=f"sqlite:{tmp_path}/threads.db")) as parts:
        store = parts.store
        thread_id = await a_live_thread(store, "hello")
        for turn in range(150):
            verb = "shutdown" if turn % 2 == 0 else "resume"
            task = asyncio.ensure_future(
                store.shutdown_thread(thread_id) if verb == "shutdown" else resume(store, thread_id)
            )
            for _ in range(dice.randrange(8)):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                cut[verb] += 1
            # Live or not after that: it can be ended, and resumed, and said something in.
            with suppress(ThreadNotFound):
                await store.shutdown_thread(thread_id)
            with pytest.raises(ThreadNotFound):
                await say(store, thread_id, "to nobody")
            await resume(store, thread_id)
            await say(store, thread_id, f"{turn}")
            if turn % 2 == 0:
                await store.shutdown_thread(thread_id)
            else:
                await store.flush_thread(thread_id)
        assert cut["shutdown"] > 10, cut
        assert cut["resume"] > 10, cut
        assert ["hello", *map(str, range(150))] == await said(store, thread_id)


async def test_cancelled_commands_count_once_or_not_at_all(tmp_path: Path) -> None:
    dice = random.Random(2)
    async with open_embedded(Settings(log=f"sqlite:{tmp_path}/threads.db")) as parts:
        store = parts.store
        thread_id = await a_live_thread(store, "hello")
        cut = landed = 0
        for _ in range(80):
            before = await read(store, thread_id)
            archived = before.archived_at is not None
            params = ArchiveThreadParams(thread_id=thread_id)
            task = asyncio.ensure_future(store.unarchive_thread(params) if archived else store.archive_thread(params))
            for _ in range(dice.randrange(8)):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
                finished = True
            except asyncio.CancelledError:
                finished = False
                cut += 1
            # A cancelled command may still be on its way: what is handed over after it finds it done or not to come.
            await parts.file.writing.run(lambda connection: None, within=5)
            after = await read(store, thread_id)
            counted = (after.archived_at is not None) != archived
            landed += counted
            assert counted or not finished
            assert after.version == before.version + counted
        assert 0 < cut < 80
        assert 0 < landed


def in_a_loop_of_its_own(main: Callable[[], Awaitable[None]]) -> None:
    """Run until `main` returns, and close the loop over whatever goes on."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(asyncio.ensure_future(main(), loop=loop))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_a_loop_that_is_closed_while_the_writing_room_is_busy_harms_nothing_acknowledged(tmp_path: Path) -> None:
    """The room's thread waits for another process's lock; when it gets it, nobody is there to be told."""
    path = tmp_path / "threads.db"
    thread_id, other = new_thread_id(), sqlite3.connect(":memory:")
    threads_before = set(threading.enumerate())

    async def main() -> None:
        nonlocal other
        left_open.append(open_embedded(Settings(log=f"sqlite:{path}")))
        parts = await left_open[0].__aenter__()
        await parts.store.create_thread(CreateThreadParams(thread_id=thread_id))
        await say(parts.store, thread_id, "acknowledged")
        await parts.store.flush_thread(thread_id)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        hopeless = asyncio.ensure_future(say(parts.store, thread_id, "on its way"))
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(rooms()) == 1
        assert not hopeless.done()

    def rooms() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in threads_before and thread.is_alive()]

    left_open: list[AbstractAsyncContextManager[Embedded]] = []
    in_a_loop_of_its_own(main)
    (room,) = rooms()
    other.execute("COMMIT")
    other.close()
    room.join(30)
    assert not room.is_alive()

    async def read_again() -> list[str]:
        async with open_embedded(Settings(log=f"sqlite:{path}")) as parts:
            return await said(parts.store, thread_id)

    assert asyncio.run(read_again()) == ["acknowledged", "on its way"]
    # Whoever closes a loop under a store leaves its connections open; newer Pythons warn when they are collected.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        left_open.clear()
        gc.collect()


async def writes_until_refused(store: ThreadStore, pen: Pen, thread_id: ThreadId) -> EventStoreError:
    for number in range(1_000_000):
        said = labels(thread_id, number, items=2)
        attempt = pen.attempt(thread_id, said)
        try:
            await append(store, thread_id, *map(spoken, said))
            pen.received(attempt)
            await store.flush_thread(thread_id)
        except EventStoreError as exc:
            return exc
        pen.acknowledged(attempt)
    raise AssertionError("never refused")


@pytest.mark.parametrize("turns", range(0, 60, 8))
async def test_a_store_that_is_closed_while_appends_are_in_flight_loses_nothing_acknowledged(
    tmp_path: Path, turns: int
) -> None:
    path = tmp_path / "threads.db"
    pen = Pen(tmp_path / "writes.journal", "writes")
    async with open_embedded(Settings(log=f"sqlite:{path}")) as parts:
        threads = [await created(parts.store) for _ in range(4)]
        for thread_id in threads:
            await parts.store.persist_thread(thread_id)
        writers = [asyncio.create_task(writes_until_refused(parts.store, pen, thread)) for thread in threads]
        for _ in range(10_000):
            if any(attempt.acknowledged for attempt in read_journal(tmp_path / "writes.journal").attempts):
                break
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert not any(writer.done() for writer in writers)
    refusals = await asyncio.wait_for(asyncio.gather(*writers), 30)
    pen.close()

    for refusal in refusals:
        assert isinstance(refusal, Unavailable | Behind | ThreadNotFound | OutcomeUnknown), repr(refusal)
    journal = read_journal(tmp_path / "writes.journal")
    assert any(attempt.acknowledged for attempt in journal.attempts)
    assert not await objections(path, [journal], unrivalled=True)


async def test_a_store_that_is_closed_while_it_waits_for_a_lock_ends_in_time(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    other = sqlite3.connect(path, isolation_level=None)
    try:
        async with open_embedded(Settings(log=f"sqlite:{path}", within=0.3)) as parts:
            thread_id = await a_live_thread(parts.store, "acknowledged")
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.create_task(say(parts.store, thread_id, "too late"))
            await asyncio.sleep(0)
            assert not waiting.done()
        with pytest.raises(EventStoreError):
            await waiting
    finally:
        other.close()
    async with open_embedded(Settings(log=f"sqlite:{path}")) as parts:
        assert ["acknowledged"] == await said(parts.store, thread_id)
