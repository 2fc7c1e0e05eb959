"""How long a worker waits until it tries again what failed, and what it tells meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import CapturingLogger

from eventstore.errors import TopicMisconfigured, ViewsAheadOfLog, ViewsUnavailable
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from projections.metrics import Metrics
from projections.ports import Census, Mark, Snapshot, ThreadChange
from projections.worker import Worker
from tests.support.partitions import PartitionedFeed, Teller

PARTITION = 0
LONGEST = 5.0
"""Seconds between two attempts at most; between two counts there are more."""


class Views:
    """Views of one partition that can be read, and the generations of which they are one."""

    def __init__(self, *takes: bool) -> None:
        """Say of each commit whether it is taken; those that come later are not."""
        self._takes = list(takes)
        self._mark = Mark(1, 0)

    def views(self, generation: int | None) -> Views:
        return self

    async def verify(self, partition: int) -> None:
        return

    async def serves(self, partition: int) -> bool:
        return True

    async def begin(self, partition: int, *, start: int = 0) -> Mark:
        return self._mark

    async def switch(self, partition: int, generation: int) -> bool:
        return True

    async def vouch(self, partition: int) -> None:
        return

    async def drop(self, partition: int, generation: int) -> None:
        return

    async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
        return Snapshot(self._mark, {})

    async def commit(
        self,
        partition: int,
        expected: Mark,
        checkpoint: int,
        changes: Mapping[ThreadId, ThreadChange],
        *,
        last: Entry | None = None,
    ) -> bool:
        if not (self._takes and self._takes.pop(0)):
            raise ViewsUnavailable("Redis is full")
        self._mark = Mark(1, checkpoint)
        return True

    async def census(self, partition: int) -> Census:
        return Census(1, self._mark.checkpoint, 0, 0, 0, 0, ())


class Unfit(Views):
    """Views of another log first, and then of one that has lost its end."""

    def __init__(self) -> None:
        super().__init__()
        self._wrong = 0

    async def verify(self, partition: int) -> None:
        self._wrong += 1
        raise TopicMisconfigured("of another log") if self._wrong <= 3 else ViewsAheadOfLog("ahead of the log")


class Alone:
    """A group of one, whose member waits a moment for a log that gives nothing."""

    def __init__(self, feed: PartitionedFeed) -> None:
        self._feed = feed

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        await asyncio.sleep(0)
        return await self._feed.read(partition, start=start, limit=limit)

    def end(self, partition: int) -> int | None:
        return None

    async def note(self, checkpoints: Mapping[int, int]) -> None:
        return


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[float]:
    """The seconds that are waited after failures, one after the other; in the test they take no time."""
    made: asyncio.Queue[float] = asyncio.Queue()

    async def pause(worker: Worker, seconds: float) -> None:
        if seconds <= LONGEST:
            made.put_nowait(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(Worker, "_pause", pause)
    return made


@asynccontextmanager
async def keeping(views: Views, metrics: Metrics | None = None) -> AsyncIterator[None]:
    """Have a worker fold a thread of two records, one at a time."""
    feed = PartitionedFeed(1)
    Teller(feed).say("hello")
    worker = Worker(Alone(feed), feed, views, views.views, metrics=metrics or Metrics(), batch=1)  # type: ignore[arg-type]
    await worker.take([PARTITION])
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        await worker.let_go(for_good=True)


async def test_what_fails_again_and_again_is_tried_more_and_more_rarely(pauses: asyncio.Queue[float]) -> None:
    """Though the views can be read each time: it is the folding that fails."""
    async with keeping(Views()):
        assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST, LONGEST] == [await pauses.get() for _ in range(8)]


async def test_once_something_was_folded_it_is_tried_soon_again(pauses: asyncio.Queue[float]) -> None:
    async with keeping(Views(False, False, False, True)):
        assert [0.1, 0.2, 0.4, 0.1, 0.2] == [await pauses.get() for _ in range(5)]


async def test_while_nothing_can_be_folded_the_lag_is_told_by_the_logs_end(pauses: asyncio.Queue[float]) -> None:
    metrics = Metrics()
    async with keeping(Views(True), metrics):
        await pauses.get()
        lag, seconds = (
            metrics.registry.get_sample_value(f"eventstore_lag_{unit}", {"partition": str(PARTITION)})
            for unit in ("events", "seconds")
        )

    assert lag == 1.0
    assert seconds is not None
    assert seconds > 0


async def test_a_person_who_has_mended_one_thing_hears_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    said = CapturingLogger()
    monkeypatch.setattr("projections.worker.structlog.get_logger", lambda _: said)
    tried: asyncio.Queue[None] = asyncio.Queue()

    async def pause(worker: Worker, seconds: float) -> None:
        tried.put_nowait(None)
        await asyncio.sleep(0)

    monkeypatch.setattr(Worker, "_pause", pause)
    async with keeping(Unfit()):
        for _ in range(8):
            await tried.get()

    assert ["of another log", "ahead of the log"] == [
        call.kwargs["why"] for call in said.calls if call.method_name == "error"
    ]
