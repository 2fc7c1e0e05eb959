"""Processes on Kafka and Redis, to be killed, stopped and deprived of their servers: writers, and workers.

As those of `processes` they journal what they do. A fault that has to hit a certain point is ordered by a file beside
the journal, `NAME.order`: the process commits it against itself when it gets there, and notes that before.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest

from eventstore.cli import main as command_line
from eventstore.errors import Behind, InvalidRequest, ThreadExists, Unavailable, Unknown, WriterFenced
from eventstore.ids import ThreadId, new_thread_id
from eventstore.ports import Entry
from eventstore.settings import Settings
from eventstore.store import ThreadStore
from eventstore.wiring import open_clustered
from projections.ports import Mark, ThreadChange
from projections.redis_generations import Generations
from projections.redis_views import RedisViews
from projections.worker import Worker
from tests.support.checker import Label, Pen, labels
from tests.support.processes import Spec, speaks
from tests.support.threads import created, resume

APPENDS_A_FIGHT = 8
"""Most appends that a fighter makes before it lets others have the thread."""


def main() -> None:
    spec: Spec = json.loads(sys.argv[1])
    Thread(target=end_with_the_test, daemon=True).start()
    journal = Path(spec["journal"])
    pen = Pen(journal, spec["name"])
    for name, value in spec.get("settings", {}).items():
        module, _, attribute = name.rpartition(".")
        setattr(import_module(module), attribute, value)
    orders = Orders(journal.with_suffix(".order"), pen)
    if spec["job"] == "work":
        work(spec, pen, orders)
    else:
        asyncio.run(write(spec, pen, orders))
    pen.note("over")


def end_with_the_test() -> None:
    """Wait for the test to close this process's standard input, or to end, which closes it as well; then end too."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGKILL)


class Orders:
    """What the test wants to happen to this process."""

    def __init__(self, path: Path, pen: Pen) -> None:
        self._path = path
        self._pen = pen

    def obey(self, point: str, **details: object) -> bool:
        """If a fault is ordered for this point, note it and commit it: `die` (SIGKILL) or `stand` still (SIGSTOP).

        Returns whether it was; of those that died nobody is left to be told.
        """
        if not self._path.exists():
            return False
        fault, _, where = self._path.read_text().partition(" ")
        if where != point:
            return False
        self._path.unlink()
        self._pen.note(fault, where=point, **details)
        os.kill(os.getpid(), {"die": signal.SIGKILL, "stand": signal.SIGSTOP}[fault])
        self._pen.note("woke")
        return True


# Workers.


def work(spec: Spec, pen: Pen, orders: Orders) -> None:
    """Run `eventstore worker`, noting what it is given and how its commits end that were ordered to stand still."""
    take, commit, switch = Worker.take, RedisViews.commit, Generations.switch

    async def noted_take(worker: Worker, partitions: Collection[int]) -> None:
        await take(worker, partitions)
        pen.note("took", partitions=sorted(partitions))

    async def noted_commit(
        views: RedisViews,
        partition: int,
        expected: Mark,
        checkpoint: int,
        changes: Mapping[ThreadId, ThreadChange],
        *,
        last: Entry | None = None,
    ) -> bool:
        place = {"partition": partition, "expected": expected.checkpoint, "checkpoint": checkpoint}
        stood = orders.obey("before a commit", **place)
        taken = await commit(views, partition, expected, checkpoint, changes, last=last)
        orders.obey("after a commit", **place)
        if stood or not taken:
            pen.note("committed", taken=taken, **place)
        return taken

    async def noted_switch(generations: Generations, partition: int, generation: int) -> bool:
        switched = await switch(generations, partition, generation)
        if switched:
            pen.note("built", partition=partition, generation=generation)
        return switched

    for owner, name, noted in (
        (Worker, "take", noted_take),
        (RedisViews, "commit", noted_commit),
        (Generations, "switch", noted_switch),
    ):
        setattr(owner, name, noted)
    code = command_line(["--log", spec["log"], "--views", spec["views"], "worker"])
    assert code == 0, code


# Writers.


async def write(spec: Spec, pen: Pen, orders: Orders) -> None:
    """Append to threads of its own and fight for others until told to end (SIGTERM); then flush, and end."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    _obeying_between_produce_and_ack(orders)
    settings = Settings(log=spec["log"], views=spec["views"], actor="a writer", within=spec.get("within", 30.0))
    async with open_clustered(settings) as parts:
        writer = Writer(parts.store, pen, spec, told)
        await asyncio.gather(
            *map(writer.writes, spec.get("threads", ())), *map(writer.fights, spec.get("fought_for", ()))
        )
        pen.note("replaced", producers=parts.log._producer.replaced)  # type: ignore[attr-defined]


def _obeying_between_produce_and_ack(orders: Orders) -> None:
    send = AIOKafkaClient.send

    async def sent(client: AIOKafkaClient, node: int, request: object, **more: Any) -> object:
        response = await send(client, node, request, **more)
        if isinstance(request, ProduceRequest):
            orders.obey("before an ack")
        return response

    AIOKafkaClient.send = sent


class Writer:
    """Writes to many threads at a time, and heeds what errors tell it to do."""

    def __init__(self, store: ThreadStore, pen: Pen, spec: Spec, told: asyncio.Event) -> None:
        self._store = store
        self._pen = pen
        self._spec = spec
        self._told = told
        self._dice = random.Random(spec["seed"])
        self._numbers = count()

    async def writes(self, thread_id: ThreadId) -> None:
        """Append to a thread that is nobody else's, in all sizes, flushing now and then."""
        await self._made_live(thread_id)
        unflushed: list[int] = []
        for append_id, texts in self._spec.get("retry", {}).get(thread_id, []):
            unflushed.append(await self._said(thread_id, [Label.parse(text) for text in texts], append_id))
        while not self._told.is_set():
            items, size, named = self._dice.choice(self._spec["shapes"])
            said = labels(self._pen.writer, next(self._numbers), items=items, size=size)
            unflushed.append(await self._said(thread_id, said, new_thread_id() if named else None))
            if self._dice.random() < self._spec["flush"]:
                await self._flushed(thread_id, unflushed)
            await asyncio.sleep(self._spec["pause"])
        await self._flushed(thread_id, unflushed)
        await self._insisting(partial(self._store.shutdown_thread, thread_id))

    async def fights(self, thread_id: ThreadId) -> None:
        """Take a thread over again and again from whoever has it, and append until somebody else takes it."""
        while not self._told.is_set():
            try:
                await self._made_live(thread_id)
                for _ in range(APPENDS_A_FIGHT):
                    said = labels(self._pen.writer, next(self._numbers), items=2)
                    await self._flushed(thread_id, [await self._said(thread_id, said)])
                    await asyncio.sleep(self._spec["pause"])
            except (WriterFenced, ThreadExists) as exc:
                self._pen.note("outcome", outcome=type(exc).__name__)
            finally:
                if thread_id in self._store._live:  # type: ignore[attr-defined]
                    await self._store.discard_thread(thread_id)
            await asyncio.sleep(self._dice.uniform(0, 0.1))

    async def _made_live(self, thread_id: ThreadId) -> None:
        try:
            await self._insisting(partial(resume, self._store, thread_id))
        except InvalidRequest:
            await created(self._store, thread_id)
            await self._insisting(partial(self._store.persist_thread, thread_id))

    async def _said(self, thread_id: ThreadId, said: Sequence[Label], append_id: str | None = None) -> int:
        number = self._pen.attempts
        try:
            return await speaks(self._store, self._pen, thread_id, list(said), append_id=append_id)
        except Unknown as exc:
            self._pen.note("told", error=type(exc).__name__)
            return number  # it is queued, and a flush sends it again

    async def _flushed(self, thread_id: ThreadId, unflushed: list[int]) -> None:
        await self._insisting(partial(self._store.flush_thread, thread_id))
        self._pen.acknowledged(*unflushed)
        unflushed.clear()

    async def _insisting(self, call: Callable[[], Awaitable[object]]) -> None:
        """Make the call until it is done or refused."""
        while True:
            try:
                await call()
                return
            except (Unavailable, Unknown, Behind) as exc:
                self._pen.note("told", error=type(exc).__name__)


if __name__ == "__main__":
    main()
