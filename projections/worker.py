"""The projection worker: keeps the views of the partitions that its group gives it.

One task a partition, each its own judge: it finds out whether there are views to go on with, builds them if not,
follows the log, and tries again whatever fails. What another worker does with the same partition is harmless.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from enum import StrEnum
from typing import Final, Protocol

import structlog

from eventstore.errors import Broken, EventStoreError, LogUnavailable, Unavailable
from eventstore.ports import EventFeed
from projections.fold import Folded
from projections.metrics import Metrics
from projections.ports import Census, Entries, Generations, ViewWriter
from projections.projector import Projector

BATCH: Final = 500
"""Records folded in one step."""
_RECORDS_AT_ONCE: Final = 12_000
"""Records folded in the steps of all partitions together: about 10 KB each, with the states that they are folded upon
and what is sent to the views."""
_STATES_KEPT: Final = 1_024, 8_192
"""Threads whose states stay in memory between steps, about 3 KB each: of one partition, and of all together."""
_AGAIN_AFTER: Final = (0.1, 5.0)
"""Seconds until a failed attempt is repeated: at first, and at most."""
_BROKEN_AGAIN_AFTER: Final = 15.0
"""Seconds until what takes a person to mend is tried again."""
_COUNT_EVERY: Final = 15.0
"""Seconds between two counts of frozen threads, and two notes of checkpoints for those who watch the group."""
_LET_GO_WITHIN: Final = 1.0
"""Seconds that a step has to end when its partition is taken away; then it is cut short, which is harmless. While a
group moves partitions, whoever waits for records waits for this to return, so it is short."""
_VOUCH_EVERY: Final = 0.5
"""Seconds between two looks at whether the views' server is the one that it was."""
_ASK_THE_LOG_EVERY: Final = 10
"""Idle looks after which the log's end is asked for: a client that is cut off looks like a log that gives nothing."""


class Group(Entries, Protocol):
    """Shares a log's partitions among workers. Reading gives none if nothing comes for a moment."""

    def end(self, partition: int) -> int | None:
        """Return the partition's end as far as it is known."""
        ...

    async def note(self, checkpoints: Mapping[int, int]) -> None:
        """Tell those who watch the group how far its members are."""
        ...


class Views(ViewWriter, Protocol):
    """Stored views, of one generation."""

    async def census(self, partition: int) -> Census:
        """Count what they hold."""
        ...


class Stage(StrEnum):
    """What a partition's task is at."""

    STARTING = "starting"
    BUILDING = "building"
    FOLLOWING = "following"
    RETRYING = "retrying"
    BROKEN = "broken"


class Worker:
    """Keeps views of the partitions it is given (protocol `eventstore.kafka.group.Member`)."""

    def __init__(
        self,
        group: Group,
        feed: EventFeed,
        generations: Generations,
        views_of: Callable[[int | None], Views],
        *,
        metrics: Metrics,
        batch: int = BATCH,
    ) -> None:
        """Take a membership, the log, its generations of views, and what gives the views of one, or those that serve.

        A step folds `batch` records at most.
        """
        self._group = group
        self._feed = feed
        self._generations = generations
        self._views_of = views_of
        self._metrics = metrics
        self._batch = batch
        self._stopping = asyncio.Event()
        self._turn = asyncio.Lock()
        self._at_an_end = False
        self._tasks: list[asyncio.Task[None]] = []
        self._stages: dict[int, Stage] = {}
        self._moved = asyncio.Event()
        self._checkpoints: dict[int, int] = {}
        self._told: dict[int, tuple[Stage, str]] = {}
        """By partition: which trouble was logged last."""
        self._folded_until: dict[int, int] = {}
        """By partition: when the last event folded is said to have occurred, microseconds since the epoch."""
        self._log = structlog.get_logger("eventstore.worker")
        self.is_member = False
        """Whether the group has said which partitions are its; they may be none."""
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when a task has failed in a way that repeating it does not mend: a bug, for whoever runs this."""

    def __repr__(self) -> str:
        return f"<Worker {', '.join(f'{p} {stage}' for p, stage in sorted(self._stages.items())) or 'idle'}>"

    @property
    def stages(self) -> Mapping[int, Stage]:
        """What each of its partitions is at."""
        return self._stages

    @property
    def is_ready(self) -> bool:
        """Whether all its partitions are followed."""
        return self.is_member and all(stage is Stage.FOLLOWING for stage in self._stages.values())

    async def ready(self) -> None:
        """Wait until all its partitions are followed."""
        while not self.is_ready:
            await self._moved.wait()

    async def take(self, partitions: Collection[int]) -> None:
        async with self._turn:
            await self._end_tasks()
            if not self._at_an_end:
                self._begin_tasks(partitions)

    async def let_go(self, *, for_good: bool = False) -> None:
        """Finish the steps under way and end; what is given to a worker that ended for good it does not take."""
        self._at_an_end = self._at_an_end or for_good
        self._stopping.set()
        async with self._turn:
            await self._end_tasks()

    def _begin_tasks(self, partitions: Collection[int]) -> None:
        self._stopping = asyncio.Event()
        self._stages = dict.fromkeys(partitions, Stage.STARTING)
        self.is_member = True
        self._log.info("took partitions", partitions=sorted(partitions))
        for partition in partitions:
            self._tasks.append(asyncio.create_task(self._keep(partition)))
        self._tasks.append(asyncio.create_task(self._count()))
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def _end_tasks(self) -> None:
        self._stopping.set()
        self.is_member = False
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_LET_GO_WITHIN)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._tasks = []
            await self._group.note(self._checkpoints)
        for partition in self._stages:
            self._metrics.forget(partition)
        self._stages, self._told, self._checkpoints, self._folded_until = {}, {}, {}, {}

    async def _keep(self, partition: int) -> None:
        """Keep the partition's views until told to stop, whatever happens."""
        pause = _AGAIN_AFTER[0]
        while not self._stopping.is_set():
            try:
                await self._build_if_none_serve(partition)
                async for _ in self._follow(partition):
                    pause = _AGAIN_AFTER[0]
            except EventStoreError as exc:
                broken = isinstance(exc, Broken)
                self._trouble(partition, exc, Stage.BROKEN if broken else Stage.RETRYING)
                if not isinstance(exc, LogUnavailable):
                    await self._look_how_far_behind(partition)
                await self._pause(_BROKEN_AGAIN_AFTER if broken else pause)
                pause = min(2 * pause, _AGAIN_AFTER[1])

    async def _build_if_none_serve(self, partition: int) -> None:
        await self._generations.verify(partition)
        if await self._generations.serves(partition):
            return
        self._enter(partition, Stage.BUILDING)
        generation = (await self._generations.begin(partition)).generation
        projector = self._projector(partition, generation)
        at_the_end = True
        while not self._stopping.is_set():
            if at_the_end and await self._switch(partition, generation):
                return
            at_the_end = await self._step(partition, projector) is None

    async def _switch(self, partition: int, generation: int) -> bool:
        """Let what was built serve, unless a worker of a later version was first; say whether views serve now."""
        if not await self._generations.serves(partition):
            if not await self._generations.switch(partition, generation):
                return False
            self._log.info("views are built", partition=partition, generation=generation)
        return True

    async def _follow(self, partition: int) -> AsyncIterator[None]:
        """Fold what comes until told to stop; yield when that is known to work, after which a failure is a first one.

        It works when something was folded, or when the log itself said that it has no more. That the views can be read
        proves nothing: those in a Redis that is full can be, and take nothing.
        """
        projector = self._projector(partition, None)
        self._enter(partition, Stage.FOLLOWING)
        idle, looked_at = 0, -_VOUCH_EVERY
        while not self._stopping.is_set():
            if time.monotonic() - looked_at >= _VOUCH_EVERY:
                looked_at = time.monotonic()
                await self._generations.vouch(partition)
            if await self._step(partition, projector) is not None:
                idle = 0
                yield
                continue
            idle += 1
            await projector.check()
            if idle % _ASK_THE_LOG_EVERY == 0:
                await self._feed.end(partition)
                yield

    def _projector(self, partition: int, generation: int | None) -> Projector:
        """Return one that keeps to its partition's share of the memory."""
        sharing = len(self._stages)
        return Projector(
            self._group,
            self._views_of(generation),
            partition=partition,
            batch=min(self._batch, max(1, _RECORDS_AT_ONCE // sharing)),
            keep=min(_STATES_KEPT[0], _STATES_KEPT[1] // sharing),
        )

    async def _step(self, partition: int, projector: Projector) -> Folded | None:
        began = time.monotonic()
        folded = await projector.step()
        checkpoint = projector.checkpoint
        if folded is not None:
            self._metrics.stepped(partition, folded, seconds=time.monotonic() - began)
            self._tell_of_unreadable(partition, folded)
        if checkpoint is not None:
            self._checkpoints[partition] = checkpoint
            if projector.folded_until is not None:
                self._folded_until[partition] = projector.folded_until
            self._tell_how_far_behind(partition, self._group.end(partition))
        return folded

    async def _look_how_far_behind(self, partition: int) -> None:
        """Tell it by the log's end while nothing is folded; what was told last would stand, as if all were well."""
        with suppress(EventStoreError):
            self._tell_how_far_behind(partition, await self._feed.end(partition))

    def _tell_how_far_behind(self, partition: int, end: int | None) -> None:
        checkpoint, until = self._checkpoints.get(partition), self._folded_until.get(partition)
        if checkpoint is None or end is None:
            return
        seconds = 0.0 if until is None else max(0.0, time.time() - until / 1e6)
        self._metrics.lagging(partition, events=max(0, end - checkpoint), seconds=seconds)

    def _tell_of_unreadable(self, partition: int, folded: Folded) -> None:
        for thread_id, change in folded.changes.items():
            if change.after.frozen is not None and change.before.frozen is None:
                self._log.error("thread is frozen", partition=partition, thread=thread_id, why=change.after.frozen)

    async def _count(self) -> None:
        """Now and then count frozen threads, and note the checkpoints."""
        views = self._views_of(None)
        while True:
            for partition in list(self._stages):
                if self._stopping.is_set():
                    return
                try:
                    census = await views.census(partition)
                except (Unavailable, Broken):
                    continue  # the partition's own task says what is wrong
                self._metrics.frozen(partition, len(census.frozen))
            await self._group.note(self._checkpoints)
            await self._pause(_COUNT_EVERY)
            if self._stopping.is_set():
                return

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (exc := task.exception()) is not None and not self.crashed.done():
            self.crashed.set_exception(exc)

    def _enter(self, partition: int, stage: Stage) -> None:
        self._told.pop(partition, None)
        if self._stages.get(partition) is not stage:
            self._stages[partition] = stage
            self._log.info("partition", partition=partition, stage=str(stage))
            self._moved.set()
            self._moved = asyncio.Event()

    def _trouble(self, partition: int, exc: EventStoreError, stage: Stage) -> None:
        self._metrics.failed(partition, exc)
        # A person who has mended one thing has to hear of the next one.
        trouble = stage, str(exc) if stage is Stage.BROKEN else type(exc).__name__
        if self._told.get(partition) != trouble:
            log = self._log.error if stage is Stage.BROKEN else self._log.warning
            log("partition", partition=partition, stage=str(stage), error=type(exc).__name__, why=str(exc))
        self._stages[partition], self._told[partition] = stage, trouble

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
