"""Faults to order: ports that fail, hold still or watch when they are told to, and calls cancelled at a chosen await.

Every fault counts how often it fired; a test that ordered one asserts that it did.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from eventstore.documents.items import Position
from eventstore.errors import EventStoreError, LogUnavailable, OutcomeUnknown, ViewsBehind
from eventstore.events import Event, Item
from eventstore.ids import ThreadId
from eventstore.ports import Entry, EventLog, ThreadView
from tests.support.engines import Ports
from tests.support.passing import PassingFeed, PassingViews

T = TypeVar("T")


class FaultyLog:
    """A log that loses what it is told to lose, on the way there or on the way back."""

    def __init__(self) -> None:
        self._log: EventLog
        self.appends = 0
        self.fired = 0
        self._faults: list[EventStoreError] = []
        self._most: int | None = None
        self.before_append: Callable[[], Awaitable[object]] | None = None
        """Happens before the next append is logged."""
        self.held: asyncio.Event | None = None
        """While there is one, what was logged is not answered before it is set."""
        self.holding = asyncio.Event()
        """Set once such an answer is held back."""

    def through(self, ports: Ports) -> Ports:
        self._log = ports.log
        return replace(ports, log=self)

    def lose_requests(self, times: int) -> None:
        """Let the next appends fail with nothing written."""
        self._faults += [LogUnavailable("ordered by the test")] * times

    def lose_answers(self, times: int) -> None:
        """Let the next appends be written and fail all the same."""
        self._faults += [OutcomeUnknown("ordered by the test")] * times

    def lose_all_but(self, events: int) -> None:
        """Let the next append be written up to so many of its events, and fail."""
        self._faults.append(OutcomeUnknown("ordered by the test"))
        self._most = events

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        self.appends += 1
        events, self._most = events[: self._most], None
        if self.before_append is not None:
            happens, self.before_append = self.before_append, None
            await happens()
        fault = self._faults.pop(0) if self._faults else None
        if isinstance(fault, LogUnavailable):
            self.fired += 1
            raise fault
        positions = await self._log.append(events, within=within)
        if fault is not None:
            self.fired += 1
            raise fault
        if self.held is not None:
            self.fired += 1
            self.holding.set()
            await _answered(self.held, within)
        return positions


async def _answered(held: asyncio.Event, within: float) -> None:
    try:
        async with asyncio.timeout(within):
            await held.wait()
    except TimeoutError as exc:
        raise OutcomeUnknown("held back by the test") from exc


class WatchedFeed(PassingFeed):
    """A feed that counts the entries it gave, and before whose next end, replay or fetch something else happens."""

    def __init__(self) -> None:
        self.entries = 0
        self.before_end: Callable[[], Awaitable[object]] | None = None
        self.before_replay: Callable[[], Awaitable[object]] | None = None
        self.before_fetch: Callable[[], Awaitable[object]] | None = None
        self.replays: list[int] = []
        """The offsets from which threads were replayed."""

    def through(self, ports: Ports) -> Ports:
        self.feed = ports.feed
        return replace(ports, feed=self)

    async def end(self, partition: int) -> int:
        if self.before_end is not None:
            happens, self.before_end = self.before_end, None
            await happens()
        return await super().end(partition)

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        return self._counted(await super().read(partition, start=start, limit=limit))

    async def replay(self, thread_id: ThreadId, *, start: int, stop: int) -> AsyncIterator[Sequence[Entry]]:
        self.replays.append(start)
        if self.before_replay is not None:
            happens, self.before_replay = self.before_replay, None
            await happens()
        async for entries in super().replay(thread_id, start=start, stop=stop):
            yield self._counted(entries)

    async def fetch(self, thread_id: ThreadId, offsets: Sequence[int]) -> Sequence[Sequence[Item]]:
        if self.before_fetch is not None:
            happens, self.before_fetch = self.before_fetch, None
            await happens()
        self.entries += len(offsets)
        return await super().fetch(thread_id, offsets)

    def _counted(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        self.entries += len(entries)
        return entries


class OvertakenViews(PassingViews):
    """Views before whose answer something else happens, once, and that can be made to fall behind or to forget."""

    def __init__(self) -> None:
        self.behind = False
        """While true, no position is reached."""
        self.forgetful = False
        """While true, they do not know where a thread's records lie."""
        self.before_reach: Callable[[], Awaitable[object]] | None = None
        self.after_get: Callable[[], Awaitable[object]] | None = None
        """Happens between the next look at a thread and what is made of it."""
        self.within = 0.0
        """Seconds that were given for the last position to be reached."""
        self.fired = 0

    def through(self, ports: Ports) -> Ports:
        self.views = ports.views
        return replace(ports, views=self)

    async def reach(self, position: Position, thread_id: ThreadId, *, within: float) -> ThreadView | None:
        self.within = within
        if self.before_reach is not None:
            happens, self.before_reach = self.before_reach, None
            self.fired += 1
            await happens()
        if self.behind:
            self.fired += 1
            raise ViewsBehind("ordered by the test")
        return await super().reach(position, thread_id, within=within)

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        view = await super().get(thread_id, span=span, at_least=at_least)
        if self.after_get is not None:
            happens, self.after_get = self.after_get, None
            self.fired += 1
            await happens()
        if view is None or not self.forgetful:
            return view
        self.fired += 1
        return view._replace(indexed=())


class _CancelledAt(Awaitable[T]):
    """Runs a coroutine and cancels the task around it at its n-th await."""

    def __init__(self, call: Coroutine[Any, Any, T], number: int) -> None:
        self._call = call
        self._number = number
        self.reached = False

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._call.__await__()
        awaits = 0
        answer: Any = None
        error: BaseException | None = None
        while True:
            try:
                waited_for = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as done:
                result: T = done.value
                return result
            awaits += 1
            if awaits == self._number:
                self.reached = True
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            answer, error = None, None
            try:
                answer = yield waited_for
            except BaseException as exc:
                error = exc


async def cancelled_at(number: int, call: Coroutine[Any, Any, object]) -> bool:
    """Run the call and cancel it at its n-th await, counted from 1; False if it ended before and was not cancelled."""
    cut = _CancelledAt(call, number)

    async def cut_short() -> None:
        await cut

    task = asyncio.get_running_loop().create_task(cut_short())
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is not None:
        task.result()
    return cut.reached
