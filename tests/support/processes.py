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
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.checker import Journal, Label, Pen, labels, read_journal, spoken

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0
"""Seconds after which a condition that did not come true is a failure, not a slow machine."""


@dataclass
class Child:
    """A process of ours and its journal."""

    process: subprocess.Popen[bytes]
    journal_path: Path

    @property
    def journal(self) -> Journal:
        return read_journal(self.journal_path)

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

    def start(self, job: str, name: str, **spec: object) -> Child:
        """Start a process that does the job, one of the functions of this module that are called `do_…`."""
        journal = self.folder / f"{name}.journal"
        argument = json.dumps({"job": job, "name": name, "journal": str(journal)} | spec)
        with journal.with_suffix(".err").open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.processes", argument],
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


Spec = dict[str, Any]


def main() -> None:
    spec: Spec = json.loads(sys.argv[1])
    jobs: dict[str, Callable[[Spec, Pen], Awaitable[None]]] = {
        name.removeprefix("do_"): job for name, job in globals().items() if name.startswith("do_")
    }
    pen = Pen(Path(spec["journal"]), spec["name"])
    asyncio.run(jobs[spec["job"]](spec, pen))  # type: ignore[arg-type]
    pen.note("over")


async def waits(pen: Pen) -> None:
    """Stand at the waiting place until the test says go."""
    pen.note("ready")
    assert sys.stdin.buffer.readline() == b"go\n"
    pen.note("went")


async def do_append_for_ever(spec: Spec, pen: Pen) -> None:
    """Append to several threads at a time, in all sizes, flushing now and then, until killed.

    The named appends of `retry` are made first: their writer died without knowing what became of them.
    """
    from eventstore import open_store

    dice = random.Random(spec["seed"])
    async with open_store(spec["url"]) as store:
        numbers = iter(range(1_000_000_000))
        threads = spec["threads"]
        await asyncio.gather(*(_writes(store, pen, thread, spec, dice, numbers) for thread in threads))


async def _writes(
    store: Any, pen: Pen, thread_id: str, spec: Spec, dice: random.Random, numbers: Iterable[int]
) -> None:
    from eventstore import AppendThreadItemsParams, new_thread_id

    await _made_live(store, thread_id)
    unflushed: list[int] = []

    async def append(texts: list[Label], append_id: str | None) -> None:
        number = pen.attempt(thread_id, texts, append_id)
        items = [spoken(label) for label in texts]
        await store.append_items(
            AppendThreadItemsParams.model_validate({"thread_id": thread_id, "items": items, "append_id": append_id})
        )
        pen.received(number)
        unflushed.append(number)

    for append_id, texts in spec.get("retry", {}).get(thread_id, []):
        await append([Label.parse(text) for text in texts], append_id)
    for number in numbers:
        items, size, named = dice.choice(spec["shapes"])
        await append(labels(spec["name"], number, items=items, size=size), new_thread_id() if named else None)
        if dice.random() < spec.get("flush", 0.5):
            flushed, unflushed = unflushed, []
            await store.flush_thread(thread_id)
            pen.acknowledged(*flushed)


async def _made_live(store: Any, thread_id: str) -> None:
    """Resume the thread, or create it if it is not stored."""
    from eventstore import CreateThreadParams, ResumeThreadParams
    from eventstore.errors import InvalidRequest

    try:
        await store.resume_thread(ResumeThreadParams(thread_id=thread_id))
    except InvalidRequest:
        await store.create_thread(CreateThreadParams(thread_id=thread_id))
        await store.persist_thread(thread_id)


async def do_import(spec: Spec, pen: Pen) -> None:
    """Store one thread after the other, each in a few large appends with one flush at its end, as an import does."""
    from eventstore import AppendThreadItemsParams, CreateThreadParams, new_thread_id, open_store

    async with open_store(spec["url"]) as store:
        for number in range(spec["threads"]):
            thread_id = new_thread_id()
            await store.create_thread(CreateThreadParams(thread_id=thread_id))
            attempts = []
            for batch in range(4):
                texts = labels(spec["name"], 4 * number + batch, items=100, size=1_000)
                attempts.append(pen.attempt(thread_id, texts))
                await store.append_items(
                    AppendThreadItemsParams(thread_id=thread_id, items=[spoken(label) for label in texts])
                )
            await store.shutdown_thread(thread_id)
            pen.acknowledged(*attempts)


async def do_fold(spec: Spec, pen: Pen) -> None:
    """Fold whatever waits, by asking for a listing."""
    from eventstore import ListThreadsParams, open_store

    async with open_store(spec["url"]) as store:
        pen.note("folding")
        await store.list_threads(ListThreadsParams())


async def do_open_new_files(spec: Spec, pen: Pen) -> None:
    """Open one new file after the other, and store a thread in each, until killed."""
    from eventstore import AppendThreadItemsParams, CreateThreadParams, new_thread_id, open_store

    for number in range(1_000_000):
        path = Path(spec["folder"]) / f"{spec['name']}-{number}.db"
        thread_id = new_thread_id()
        pen.note("opening", path=str(path))
        async with open_store(f"sqlite:{path}") as store:
            pen.note("opened", path=str(path))
            await store.create_thread(CreateThreadParams(thread_id=thread_id))
            texts = labels(spec["name"], number, items=3)
            attempt = pen.attempt(thread_id, texts)
            await store.append_items(
                AppendThreadItemsParams(thread_id=thread_id, items=[spoken(label) for label in texts])
            )
            await store.flush_thread(thread_id)
            pen.acknowledged(attempt)


async def do_open_each(spec: Spec, pen: Pen) -> None:
    """Open one file after the other at the same time as others, with `upgrades` for migrations."""
    from eventstore.sqlite.file import SqliteFile
    from projections.sqlite_views import SqliteViews

    for path in spec["paths"]:
        await waits(pen)
        file = SqliteFile(path)
        pen.note("opening", path=path)
        await file.open(upgrades=spec.get("upgrades"))
        try:
            await SqliteViews(file).open()
            pen.note("opened", path=path, backup=str(file.migrated_from) if file.migrated_from else None)
        finally:
            await file.close()


async def do_contend(spec: Spec, pen: Pen) -> None:
    """Race for one thread: resume, append thrice, flush; say how each turn ended.

    With `apart`, all contenders have resumed before any of them appends; else each does everything at once.
    """
    from eventstore import ResumeThreadParams, open_store
    from eventstore.errors import WriterFenced

    thread_id = spec["thread"]
    async with open_store(spec["url"]) as store:
        for turn in range(spec["turns"]):
            await waits(pen)
            resumed = True
            try:
                await store.resume_thread(ResumeThreadParams(thread_id=thread_id))
            except WriterFenced:
                resumed = False
            if spec["apart"]:
                await waits(pen)
            outcome = await _three_appends(store, pen, thread_id, turn) if resumed else "WriterFenced"
            pen.note("outcome", turn=turn, outcome=outcome)
            if resumed:
                await store.discard_thread(thread_id)


async def _three_appends(store: Any, pen: Pen, thread_id: str, turn: int) -> str:
    from eventstore import AppendThreadItemsParams
    from eventstore.errors import WriterFenced

    attempts = []
    try:
        for number in range(3):
            texts = labels(pen.writer, 3 * turn + number, items=2)
            attempts.append(pen.attempt(thread_id, texts))
            items = [spoken(label) for label in texts]
            await store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=items))
        await store.flush_thread(thread_id)
    except WriterFenced:
        return "WriterFenced"
    pen.acknowledged(*attempts)
    return "acknowledged"


async def do_create(spec: Spec, pen: Pen) -> None:
    """Race to create each of `threads`: say the outcome of each."""
    from eventstore import AppendThreadItemsParams, CreateThreadParams, open_store
    from eventstore.errors import EventStoreError

    async with open_store(spec["url"]) as store:
        for number, thread_id in enumerate(spec["threads"]):
            await store.create_thread(CreateThreadParams(thread_id=thread_id))
            texts = labels(spec["name"], number, items=2)
            attempt = pen.attempt(thread_id, texts)
            await store.append_items(
                AppendThreadItemsParams(thread_id=thread_id, items=[spoken(label) for label in texts])
            )
            await waits(pen)
            try:
                await store.flush_thread(thread_id)
                pen.acknowledged(attempt)
                pen.note("outcome", turn=number, outcome="acknowledged")
            except EventStoreError as exc:
                pen.note("outcome", turn=number, outcome=type(exc).__name__)


async def do_archive(spec: Spec, pen: Pen) -> None:
    """Race to archive each of `threads`: say the outcome of each."""
    from eventstore import ArchiveThreadParams, open_store
    from eventstore.errors import EventStoreError

    async with open_store(spec["url"]) as store:
        for number, thread_id in enumerate(spec["threads"]):
            await waits(pen)
            try:
                await store.archive_thread(ArchiveThreadParams(thread_id=thread_id))
                pen.note("outcome", turn=number, outcome="acknowledged")
            except EventStoreError as exc:
                pen.note("outcome", turn=number, outcome=type(exc).__name__)


async def do_append_counted(spec: Spec, pen: Pen) -> None:
    """Append and flush `count` times to a thread of its own, noting the time of each flush."""
    from eventstore import AppendThreadItemsParams, CreateThreadParams, open_store

    thread_id = spec["thread"]
    async with open_store(spec["url"]) as store:
        await store.create_thread(CreateThreadParams(thread_id=thread_id))
        await waits(pen)
        for number in range(spec["count"]):
            texts = labels(spec["name"], number, items=1, size=300)
            attempt = pen.attempt(thread_id, texts)
            await store.append_items(
                AppendThreadItemsParams(thread_id=thread_id, items=[spoken(label) for label in texts])
            )
            await store.flush_thread(thread_id)
            pen.acknowledged(attempt)
            pen.note("flushed", at=time.monotonic())


if __name__ == "__main__":
    main()
