"""Writes records, each partition's in the order in which they were handed over, by one session after another.

A failed write does not say that nothing was written, and a cancelled wait unsends nothing. So nothing here is believed
but an acknowledgement: whatever is not acknowledged is written again, in its old order and before all that came later,
until its caller's time is over. What is there twice counts once, by the rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import errors as kafka

from eventstore.errors import EventStoreError, LogUnavailable, OutcomeUnknown, TopicMisconfigured
from eventstore.kafka.edge import translated
from eventstore.kafka.lanes import Call, Lane
from eventstore.kafka.records import OwnRecord
from eventstore.kafka.session import Session
from eventstore.kafka.url import REQUEST_WITHIN, KafkaUrl
from eventstore.life import closed

_AGAIN_AFTER: Final = 0.1
"""Seconds until a session is started after one has failed, or could not be started."""
_START_WITHIN: Final = 3 * REQUEST_WITHIN
_EXPIRE_EVERY: Final = 0.05
"""Seconds between two looks for calls whose time is over."""
_LOOK_EVERY: Final = 0.5
"""Seconds between two looks at whether answers come."""
_ASK_AFTER: Final = 1.0
"""Seconds without an answer after which it is asked whether the topic is there still: aiokafka would try for ever."""
_WEDGED_AFTER: Final = 4 * REQUEST_WITHIN
"""Seconds without an answer after which a session is given up. A broker that hangs is replaced sooner than that."""


class Producer:
    """Writes records of one topic; `open` before use, `close` after."""

    def __init__(
        self, url: KafkaUrl, *, partitions: int, topic_is_there: Callable[[], Coroutine[Any, Any, bool]]
    ) -> None:
        """Name the topic, and say how many partitions it has and how to ask whether it exists."""
        self._url = url
        self._partitions = partitions
        self._topic_is_there = topic_is_there
        self._session: Session | None = None
        self._starting: asyncio.Task[Session] | None = None
        self._trouble: EventStoreError | None = None
        """Why the last start failed."""
        self._lanes: dict[int, Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._clock = asyncio.get_running_loop().time
        self._looking: asyncio.TimerHandle | None = None
        self._closed = False
        self.replaced = 0
        """How many sessions have failed."""

    def __repr__(self) -> str:
        return f"<Producer {self._url} waiting={self.waiting} replaced={self.replaced}>"

    @property
    def waiting(self) -> int:
        """How many calls have not ended."""
        return sum(not call.waiter.done() for lane in self._lanes.values() for call in lane.calls)

    async def open(self, *, within: float) -> None:
        """Connect.

        Raises:
            LogUnavailable: No broker answered.
            TopicMisconfigured: There is no such topic, or it has another number of partitions.
        """
        try:
            async with asyncio.timeout(within):
                await self._ready()
        except BaseException as exc:
            await self.close(within=0)
            if isinstance(exc, TimeoutError):
                raise LogUnavailable(
                    f"the log at {self._url.where} did not answer within {within:g} s; check the address"
                ) from exc
            raise
        self._begin(self._watch())

    async def close(self, *, within: float) -> None:
        """Write what was handed over, for so many seconds at most, and end."""
        self._closed = True
        try:
            waiters = [call.waiter for lane in self._lanes.values() for call in lane.calls]
            if waiters and within > 0:
                await asyncio.wait(waiters, timeout=within)
        finally:
            await self._end()

    async def send(self, records: Sequence[OwnRecord], *, within: float) -> Sequence[int]:
        """Write the records, all of one partition, in order; return their offsets.

        Calls for one partition are written in the order in which they were made.

        Raises:
            LogUnavailable: Nothing was written.
            OutcomeUnknown: Some of them may have been written.
            TopicMisconfigured: The topic is gone, was changed, or does not take such records.
        """
        if self._closed:
            raise closed()
        lane, call = self._lane(records[0].partition), Call(records, until=self._clock() + within)
        lane.put(call)
        if self._looking is None:
            self._look_again()
        try:
            await call.waiter
        except TimeoutError as exc:
            raise self._unfinished(call, f"within {within:g} s") from self._trouble or exc
        finally:
            lane.prune()
        return call.offsets

    def _look(self) -> None:
        """End the calls whose time is over: one timer for all costs less than a timer for each."""
        self._looking = None
        now = self._clock()
        for lane in self._lanes.values():
            lane.expire(now)
        if any(lane.calls for lane in self._lanes.values()):
            self._look_again()

    def _look_again(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(_EXPIRE_EVERY, self._look)

    def _unfinished(self, call: Call, when: str) -> EventStoreError:
        """Return the error for a call that nobody will wait for any longer."""
        if call.handed:
            return OutcomeUnknown(
                f"the log at {self._url.where} did not acknowledge {when}; flush again, it may still land"
            )
        if self._trouble is not None:
            return LogUnavailable(str(self._trouble))
        return LogUnavailable(f"the log at {self._url.where} took nothing {when}; try again")

    def _lane(self, partition: int) -> Lane:
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = Lane(partition)
            self._begin(self._write(lane))
        return lane

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, lane: Lane) -> None:
        """Write what comes to the lane, for as long as the producer is open."""
        while True:
            await lane.filled()
            try:
                session = await self._ready()
            except EventStoreError as exc:
                if isinstance(exc, TopicMisconfigured):
                    self._fail_all(str(exc))
                continue
            try:
                await lane.write(session)
            except Exception as exc:
                # Not only Kafka's errors: aiokafka lets a KeyError or an AssertionError through where things vanish.
                self._replace(session, exc)

    async def _ready(self) -> Session:
        """Return a session that has not failed; whoever asks meanwhile waits for the same start."""
        if self._session is not None:
            return self._session
        if self._starting is None or self._starting.done():
            self._starting = asyncio.get_running_loop().create_task(self._start())
        # Whoever is cancelled, or has little time, takes the start away from nobody.
        return await asyncio.shield(self._starting)

    async def _start(self) -> Session:
        if self.replaced or self._trouble is not None:
            await asyncio.sleep(_AGAIN_AFTER)
        try:
            self._session = await self._started()
        except EventStoreError as exc:
            self._trouble = exc
            raise
        except Exception as exc:
            # Whatever it is, as where records are written: the lanes would end by what is not told them as ours.
            self._trouble = translated(exc, topic=self._url.topic, where=self._url.where)
            raise self._trouble from exc
        self._trouble = None
        return self._session

    async def _started(self) -> Session:
        """Return a session that has started; raises as it does, with nothing left running."""
        session = Session(self._url)
        try:
            async with asyncio.timeout(_START_WITHIN):
                if not await self._topic_is_there():
                    raise TopicMisconfigured(self._gone())
                await session.start(partitions=self._partitions)
        except BaseException:
            await session.stop()
            raise
        return session

    async def _watch(self) -> None:
        """Give up a session that gets no answers any more."""
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            if self._session is not None:
                # Asking may fail in as many ways as writing; then the next look will tell.
                with suppress(Exception):
                    await self._see_that_answers_come(self._session)

    async def _see_that_answers_come(self, session: Session) -> None:
        if session.quiet_for > _WEDGED_AFTER:
            self._replace(session, kafka.RequestTimedOutError())
        elif session.quiet_for > _ASK_AFTER and not await self._topic_is_there():
            self._replace(session, kafka.UnknownTopicOrPartitionError())
            self._fail_all(self._gone())

    def _gone(self) -> str:
        return f"topic {self._url.topic} is not at {self._url.where} any more; what was not acknowledged is not in it"

    def _fail_all(self, why: str) -> None:
        for lane in self._lanes.values():
            for call in lane.calls:
                call.fail(TopicMisconfigured(why))
            lane.prune()

    def _replace(self, session: Session, exc: Exception) -> None:
        """Let what is not acknowledged meet a fresh session, and end this one."""
        if self._session is not session:
            return
        self._session = None
        self.replaced += 1
        session.give_up(exc)
        ending = asyncio.get_running_loop().create_task(session.stop())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _end(self) -> None:
        for lane in self._lanes.values():
            for call in lane.calls:
                call.fail(self._unfinished(call, "before the store was closed"))
        if self._looking is not None:
            self._looking.cancel()
        tasks = [*self._tasks, *([] if self._starting is None else [self._starting])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        session, self._session = self._session, None
        if session is not None:
            await session.stop()
        if self._endings:
            await asyncio.wait(self._endings)
