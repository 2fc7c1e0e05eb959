"""Processes that write to one file, to be raced and killed: started by a test, told what to do in one JSON argument.

A child journals what it does (see `checker`) and says `ready` before it waits for its start signal and `over` when it
has done everything; a test that kills one asserts that it had not said `over`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from eventstore import ListThreadsParams, ThreadStore, new_thread_id, open_store
from eventstore.errors import EventStoreError, InvalidRequest
from eventstore.ids import ThreadId
from eventstore.settings import Settings
from eventstore.sqlite.file import SqliteFile
from eventstore.wiring import open_embedded
from projections.sqlite_views import SqliteViews
from tests.support.checker import Journal, JournalReader, Label, Pen, labels, spoken
from tests.support.threads import append, archive, created, resume

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0
"""Seconds after which a condition that did not come true is a failure, not a slow machine."""


@dataclass
class Child:
    """A process of ours and its journal."""

    process: subprocess.Popen[bytes]
    journal_path: Path

    def __post_init__(self) -> None:
        self._reader = JournalReader(self.journal_path)

    @property
    def journal(self) -> Journal:
        return self._reader.read_on()

    def go(self) -> None:
        """Let it leave its waiting place."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def wait_for(self, condition: Callable[[Journal], bool], what: str) -> None:
        """Wait until its journal says so.

        Raises:
            AssertionError: The process ended before, or took too long.
        """
        eventually(lambda: condition(self.journal), what, alive=self.process)

    def stop(self) -> None:
        """Let it stand still, wherever it is, until it is woken."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it at once, and prove that it was running still."""
        self.process.send_signal(signal.SIGKILL)
        self._reap()
        assert self.process.returncode == -signal.SIGKILL, self.errors()
        assert not self.journal.count("over"), "the child was done before it was killed"

    def join(self) -> Journal:
        """Wait until it has done everything."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._reap()
        assert self.process.returncode == 0, self.errors()
        assert self.journal.count("over") == 1
        return self.journal

    def errors(self) -> str:
        return self.journal_path.with_suffix(".err").read_text()[-4_000:]

    def _reap(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)


class Nursery:
    """Starts children in one folder, and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[Child] = []

    def start(self, job: str, name: str, *, module: str = __name__, **spec: object) -> Child:
        """Start a process that does the job, one of the functions of this or another module called `do_…`."""
        journal = self.folder / f"{name}.journal"
        argument = json.dumps({"job": job, "name": name, "journal": str(journal)} | spec)
        with journal.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", module, argument],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"},
            )
        child = Child(process, journal)
        self.children.append(child)
        return child

    def all_ready(self) -> None:
        """Wait until every child stands at its waiting place."""
        for child in self.children:
            child.wait_for(lambda journal: journal.count("ready") > journal.count("went"), "ready")

    def all_go(self) -> None:
        """Let all children go at the same time, when all are ready."""
        self.all_ready()
        gone = [child.journal.count("went") for child in self.children]
        for child in self.children:
            child.go()
        for child, before in zip(self.children, gone, strict=True):
            child.wait_for(lambda journal, before=before: journal.count("went") > before, "off")  # type: ignore[misc]

    def join(self) -> list[Journal]:
        return [child.join() for child in self.children]

    def journals(self) -> list[Journal]:
        """Return what every child has ever noted, the killed ones too."""
        return [child.journal for child in self.children]

    def end(self) -> None:
        for child in self.children:
            if child.process.poll() is None:
                child.process.kill()
            child._reap()


def eventually(condition: Callable[[], bool], what: str, *, alive: subprocess.Popen[bytes] | None = None) -> None:
    """Poll until the condition holds.

    Raises:
        AssertionError: It did not in time, or the process it depends on has ended.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        ended = alive is not None and alive.poll() is not None
        assert not ended or condition(), f"the child ended without: {what}"
        assert time.monotonic() < deadline, f"not in {PATIENCE:g} s: {what}"
        time.sleep(0.004)


Spec: TypeAlias = dict[str, Any]


def main() -> None:
    spec: Spec = json.loads(sys.argv[1])
    pen = Pen(Path(spec["journal"]), spec["name"])
    asyncio.run(globals()[f"do_{spec['job']}"](spec, pen))
    pen.note("over")


async def waits(pen: Pen) -> None:
    """Stand at the waiting place until the test says go."""
    pen.note("ready")
    assert sys.stdin.buffer.readline() == b"go\n"
    pen.note("went")


async def speaks(
    store: ThreadStore, pen: Pen, thread_id: ThreadId, said: list[Label], *, append_id: str | None = None
) -> int:
    """Append, and note it before and after; return the attempt's number."""
    number = pen.attempt(thread_id, said, append_id)
    await append(store, thread_id, *map(spoken, said), append_id=append_id)
    pen.received(number)
    return number


async def outcome_of(call: Awaitable[object]) -> str:
    """Say how a contender's call ended."""
    try:
        await call
    except EventStoreError as exc:
        return type(exc).__name__
    return "acknowledged"


async def do_append_for_ever(spec: Spec, pen: Pen) -> None:
    """Append to several threads at a time, in all sizes, flushing now and then, until killed.

    The named appends of `retry` are made first: their writer died without knowing what became of them.
    """
    async with open_store(spec["url"]) as store:
        numbers = iter(range(1_000_000_000))
        dice = random.Random(spec["seed"])
        for thread_id in spec["threads"]:
            await _made_live(store, thread_id)
        await asyncio.gather(*(_Scribe(store, pen, thread, dice).writes(spec, numbers) for thread in spec["threads"]))


async def _made_live(store: ThreadStore, thread_id: ThreadId) -> None:
    """Resume the thread, or create it if it is not stored."""
    try:
        await resume(store, thread_id)
    except InvalidRequest:
        await created(store, thread_id)
        await store.persist_thread(thread_id)


@dataclass
class _Scribe:
    store: ThreadStore
    pen: Pen
    thread_id: ThreadId
    dice: random.Random

    async def writes(self, spec: Spec, numbers: Iterator[int]) -> None:
        unflushed: list[int] = []
        for append_id, texts in spec["retry"].get(self.thread_id, []):
            unflushed.append(await self._append([Label.parse(text) for text in texts], append_id))
        for number in numbers:
            items, size, named = self.dice.choice(spec["shapes"])
            said = labels(self.pen.writer, number, items=items, size=size)
            unflushed.append(await self._append(said, new_thread_id() if named else None))
            if self.dice.random() < spec["flush"]:
                await self.store.flush_thread(self.thread_id)
                self.pen.acknowledged(*unflushed)
                unflushed = []

    async def _append(self, said: list[Label], append_id: str | None) -> int:
        return await speaks(self.store, self.pen, self.thread_id, said, append_id=append_id)


async def do_import(spec: Spec, pen: Pen) -> None:
    """Store one thread after the other, each in a few large appends with one flush at its end, as an import does."""
    async with open_store(spec["url"]) as store:
        for number in range(spec["threads"]):
            thread_id = await created(store)
            batches = [labels(pen.writer, 4 * number + batch, items=100, size=1_000) for batch in range(4)]
            attempts = [pen.attempt(thread_id, said) for said in batches]
            for said in batches:
                await append(store, thread_id, *map(spoken, said))
            await store.shutdown_thread(thread_id)
            pen.acknowledged(*attempts)


async def do_fold(spec: Spec, pen: Pen) -> None:
    """Fold whatever waits, by asking for a listing."""
    async with open_store(spec["url"]) as store:
        pen.note("folding")
        await store.list_threads(ListThreadsParams())


async def do_open_new_files(spec: Spec, pen: Pen) -> None:
    """Open one new file after the other, and store a thread in each, until killed."""
    for number in range(1_000_000):
        path = Path(spec["folder"]) / f"{pen.writer}-{number}.db"
        pen.note("opening", path=str(path))
        async with open_store(f"sqlite:{path}") as store:
            pen.note("opened", path=str(path))
            thread_id = await created(store)
            await store.persist_thread(thread_id)
            attempt = await speaks(store, pen, thread_id, labels(pen.writer, number, items=3))
            await store.flush_thread(thread_id)
            pen.acknowledged(attempt)


async def do_open_each(spec: Spec, pen: Pen) -> None:
    """Open one file after the other at the same time as others, with `upgrades` for migrations."""
    for path in spec["paths"]:
        await waits(pen)
        file = SqliteFile(path)
        pen.note("opening", path=path)
        await file.open(upgrades=spec["upgrades"])
        try:
            await SqliteViews(file).open()
            pen.note("opened", path=path, backup=str(file.migrated_from) if file.migrated_from else None)
        finally:
            await file.close()


async def do_contend(spec: Spec, pen: Pen) -> None:
    """Race for one thread: resume, append thrice, flush; say how each turn ended.

    With `apart`, all contenders have resumed before any of them appends; else each does everything at once.
    """
    thread_id = spec["thread"]
    async with open_store(spec["url"]) as store:
        for turn in range(spec["turns"]):
            await waits(pen)
            outcome = await outcome_of(resume(store, thread_id))
            resumed = outcome == "acknowledged"
            if spec["apart"]:
                await waits(pen)
            if resumed:
                outcome = await outcome_of(_appends_thrice(store, pen, thread_id, turn))
                await store.discard_thread(thread_id)
            pen.note("outcome", turn=turn, outcome=outcome)


async def _appends_thrice(store: ThreadStore, pen: Pen, thread_id: ThreadId, turn: int) -> None:
    attempts = [
        await speaks(store, pen, thread_id, labels(pen.writer, 3 * turn + number, items=2)) for number in range(3)
    ]
    await store.flush_thread(thread_id)
    pen.acknowledged(*attempts)


async def do_append_until_fenced(spec: Spec, pen: Pen) -> None:
    """Resume the thread, append and flush until another writer takes it over; say so; the same again.

    Without fsync, or it would have the write lock in hand nearly always.
    """
    thread_id = spec["thread"]
    numbers = iter(range(1_000_000_000))
    async with open_embedded(Settings(log=spec["url"], synchronous="OFF")) as parts:
        store = parts.store
        for turn in range(spec["turns"]):
            await waits(pen)
            await resume(store, thread_id)
            outcome = await outcome_of(_appends_on(store, pen, thread_id, numbers))
            pen.note("outcome", turn=turn, outcome=outcome)
            await store.discard_thread(thread_id)


async def _appends_on(store: ThreadStore, pen: Pen, thread_id: ThreadId, numbers: Iterator[int]) -> None:
    for number in numbers:
        attempt = await speaks(store, pen, thread_id, labels(pen.writer, number, items=2))
        await store.flush_thread(thread_id)
        pen.acknowledged(attempt)


async def do_create(spec: Spec, pen: Pen) -> None:
    """Race to create each of `threads`; say how each turn ended."""
    async with open_store(spec["url"]) as store:
        for turn, thread_id in enumerate(spec["threads"]):
            await created(store, thread_id)
            attempt = await speaks(store, pen, thread_id, labels(pen.writer, turn, items=2))
            await waits(pen)
            outcome = await outcome_of(store.flush_thread(thread_id))
            if outcome == "acknowledged":
                pen.acknowledged(attempt)
            pen.note("outcome", turn=turn, outcome=outcome)


async def do_archive(spec: Spec, pen: Pen) -> None:
    """Race to archive each of `threads`; say how each turn ended."""
    async with open_store(spec["url"]) as store:
        for turn, thread_id in enumerate(spec["threads"]):
            await waits(pen)
            pen.note("outcome", turn=turn, outcome=await outcome_of(archive(store, thread_id)))


async def do_append_counted(spec: Spec, pen: Pen) -> None:
    """Append and flush `count` times to a thread of its own, noting the time of each flush."""
    async with open_store(spec["url"]) as store:
        thread_id = await created(store)
        await store.persist_thread(thread_id)
        await waits(pen)
        for number in range(spec["count"]):
            attempt = await speaks(store, pen, thread_id, labels(pen.writer, number, items=1, size=300))
            await store.flush_thread(thread_id)
            pen.acknowledged(attempt)
            pen.note("flushed", at=time.monotonic())


if __name__ == "__main__":
    main()
