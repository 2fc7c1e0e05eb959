"""Writes records: one idempotent aiokafka producer at a time, replaced whenever it fails.

An idempotent producer whose broker was away for too long fails for ever and looks alive; a failed future does not say
that nothing was written; a cancelled wait unsends nothing. So nothing here is believed but an acknowledgement, every
call has a deadline of its own, and after any failure the next call meets a fresh producer. Whoever gets
`OutcomeUnknown` sends the same events again: the rule takes them at most once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from eventstore.errors import EventStoreError, LogUnavailable, OutcomeUnknown, TopicMisconfigured
from eventstore.kafka.edge import quieten, translated
from eventstore.kafka.records import LARGEST_RECORD, OwnRecord
from eventstore.kafka.url import REQUEST_WITHIN, KafkaUrl

_BATCH_BYTES: Final = 64 * 1024
"""Bytes of records that go together. Larger ones are little faster to write, and a thread that is read takes in whole
batches, of which it wants one record."""
_IN_FLIGHT_BYTES: Final = 64 * 1024 * 1024
"""Bytes handed over and not acknowledged, of all threads of the process; whoever comes then waits."""
_LOOK_EVERY: Final = 0.05
"""Seconds between two looks at the deadlines of calls."""
_ASK_AFTER: Final = 3.0
"""Seconds without an answer after which it is asked whether the topic is there still: aiokafka would try for ever."""
_WEDGED_AFTER: Final = 2 * REQUEST_WITHIN
"""Seconds without any answer after which a call that runs out of time gives the producer up."""
_STOP_WITHIN: Final = 1.0
"""Seconds that a producer has to end once it has nothing left to send."""


class _Session:
    """One aiokafka producer, from its start to its first failure."""

    def __init__(self, url: KafkaUrl) -> None:
        self.producer = AIOKafkaProducer(
            **url.client_settings(),
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
            max_request_size=LARGEST_RECORD,
        )
        # Or an outage longer than a request fails batches whose sequence numbers are spent, which the broker then never
        # forgives. Deadlines are kept here instead.
        self.producer._message_accumulator._batch_ttl = float("inf")
        self.answered_at = asyncio.get_running_loop().time()
        """When it was acknowledged something last, or started."""
        self.failed = False

    def give_up(self, exc: Exception) -> None:
        """Fail whatever is not acknowledged yet."""
        self.failed = True
        self.producer._message_accumulator.fail_all(exc)

    async def stop(self, *, flush_within: float) -> None:
        """End the producer: what it has not sent when so many seconds are over it never sends."""
        stopping = asyncio.ensure_future(self.producer.stop())
        if flush_within:
            await asyncio.wait([stopping], timeout=flush_within)
        if not stopping.done():
            # Its own end waits for every batch, and has no deadline.
            self.give_up(kafka.ProducerClosed())
            await asyncio.wait([stopping], timeout=_STOP_WITHIN)
        if not stopping.done():
            stopping.cancel()
            await asyncio.wait([stopping])
            await self.producer.client.close()
        if not stopping.cancelled():
            stopping.exception()


class _Call:
    """Records handed over together, and the one who waits for their acknowledgement."""

    __slots__ = ("asked_at", "deadline", "left", "offsets", "session", "waiter")

    def __init__(self, session: _Session, records: int, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        self.session = session
        self.deadline = deadline
        self.asked_at = loop.time()
        """When it was last asked whether the topic is there."""
        self.left = records
        self.offsets: list[int] = []
        self.waiter: asyncio.Future[list[int]] = loop.create_future()

    def acknowledged(self, offset: int) -> None:
        self.offsets.append(offset)
        self.left -= 1
        if not self.left and not self.waiter.done():
            self.waiter.set_result(self.offsets)

    def fail(self, error: Exception) -> None:
        if not self.waiter.done():
            self.waiter.set_exception(error)

    def forget(self) -> None:
        """Nobody waits any more, whatever comes."""
        if not self.waiter.cancel() and not self.waiter.cancelled():
            self.waiter.exception()


class Producer:
    """Writes records of one topic, in order; `open` before use, `close` after."""

    def __init__(self, url: KafkaUrl, *, topic_is_there: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        """Name the topic, and say how to ask whether it exists."""
        self._url = url
        self._topic_is_there = topic_is_there
        self._session: _Session | None = None
        self._starting = asyncio.Lock()
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._calls: set[_Call] = set()
        self._watch: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._room = asyncio.Event()
        self._closed = False
        self._endings: set[asyncio.Task[None]] = set()
        self.replaced = 0
        """How many producers have failed."""

    def __repr__(self) -> str:
        return f"<Producer {self._url} in_flight={self._in_flight} replaced={self.replaced}>"

    async def open(self, *, within: float) -> None:
        """Connect.

        Raises:
            LogUnavailable: No broker answered.
            TopicMisconfigured: There is no such topic.
        """
        await self._ready(asyncio.get_running_loop().time() + within)

    async def close(self, *, within: float) -> None:
        """Send what was handed over, for so many seconds at most, and end."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.stop(flush_within=within)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        if self._endings:
            await asyncio.wait(self._endings)

    async def send(self, records: Sequence[OwnRecord], *, within: float) -> list[int]:
        """Write the records, all of one partition, in order; return the offsets that the broker names.

        Calls for one partition are written in the order in which they were made. An offset may be a wrong one, too low,
        where the broker met a repetition.

        Raises:
            LogUnavailable: Nothing was written.
            OutcomeUnknown: Some of them may have been written.
            TopicMisconfigured: The topic is gone, or takes smaller records only.
        """
        deadline = asyncio.get_running_loop().time() + within
        call: _Call | None = None
        try:
            async with asyncio.timeout_at(deadline), self._turns[records[0].partition]:
                session = await self._ready(deadline)
                await self._have_room(records[0].size)
                call = _Call(session, len(records), deadline)
                for record in records:
                    await self._hand_over(call, record)
            return await call.waiter
        except TimeoutError as exc:
            if call is None:
                raise LogUnavailable(
                    f"the log at {self._url.where} took nothing within {within:g} s; try again"
                ) from exc
            raise OutcomeUnknown(
                f"the log at {self._url.where} did not acknowledge within {within:g} s; flush again, it may still land"
            ) from exc
        finally:
            if call is not None:
                self._calls.discard(call)
                call.forget()

    async def _ready(self, deadline: float) -> _Session:
        """Return a producer that has not failed, starting one if there is none."""
        if self._session is not None:
            return self._session
        async with self._starting:
            if self._closed:
                raise LogUnavailable("the store is closed; open it again")
            if self._session is None:
                self._session = await self._started(deadline)
            if self._watch is None:
                self._watch = asyncio.get_running_loop().create_task(self._watch_calls())
            return self._session

    async def _started(self, deadline: float) -> _Session:
        session = _Session(self._url)
        quieten()
        try:
            async with asyncio.timeout_at(deadline):
                await session.producer.start()
                await session.producer.partitions_for(self._url.topic)
        except BaseException as exc:
            await session.stop(flush_within=0)
            if isinstance(exc, kafka.KafkaError | OSError | TimeoutError):
                raise self._translated(exc) from exc
            raise
        return session

    async def _hand_over(self, call: _Call, record: OwnRecord) -> None:
        try:
            future = await self._handed_over(call.session, record)
        except (kafka.KafkaError, OSError) as exc:
            self._replace(call.session, exc)
            raise (self._unknown(exc) if call in self._calls else self._translated(exc)) from exc
        self._calls.add(call)
        self._in_flight += record.size
        future.add_done_callback(partial(self._settled, call, record.size))

    async def _handed_over(self, session: _Session, record: OwnRecord) -> asyncio.Future[Any]:
        while True:
            try:
                future: asyncio.Future[Any] = await session.producer.send(
                    self._url.topic,
                    record.value,
                    record.key,
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                    headers=record.headers,
                )
                return future
            except kafka.KafkaTimeoutError:
                # Its buffer was full for as long as a request may take: nothing was written, and there is time left.
                continue

    def _settled(self, call: _Call, size: int, future: asyncio.Future[Any]) -> None:
        """Take in what became of a record; whoever waited for it may be gone."""
        self._in_flight -= size
        self._room.set()
        exc = future.exception()
        if exc is None:
            call.session.answered_at = asyncio.get_running_loop().time()
            call.acknowledged(int(future.result().offset))
            return
        assert isinstance(exc, Exception)
        self._replace(call.session, exc)
        too_large = isinstance(exc, kafka.MessageSizeTooLargeError)
        call.fail(
            exc if isinstance(exc, TopicMisconfigured) else self._translated(exc) if too_large else self._unknown(exc)
        )

    async def _have_room(self, size: int) -> None:
        while self._in_flight and self._in_flight + size > _IN_FLIGHT_BYTES:
            self._room.clear()
            await self._room.wait()

    async def _watch_calls(self) -> None:
        """End calls whose time is over: one timer for all is cheaper than a timer a call."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            now = clock()
            late = [call for call in self._calls if call.deadline <= now]
            for call in late:
                call.fail(TimeoutError())
                if now - call.session.answered_at > _WEDGED_AFTER:
                    self._replace(call.session, TimeoutError())
            unanswered = [call for call in self._calls if call.asked_at + _ASK_AFTER <= now]
            if unanswered:
                await self._ask_for_topic(unanswered[0].session)
                for call in unanswered:
                    call.asked_at = clock()

    async def _ask_for_topic(self, session: _Session) -> None:
        if not await self._topic_is_there():
            self._replace(
                session,
                TopicMisconfigured(
                    f"topic {self._url.topic} is not at {self._url.where} any more; "
                    "what was not acknowledged is not in it"
                ),
            )

    def _replace(self, session: _Session, exc: Exception) -> None:
        """Let the next call meet a fresh producer, and end this one."""
        if session.failed:
            return
        if self._session is session:
            self._session = None
        self.replaced += 1
        session.give_up(exc)
        ending = asyncio.get_running_loop().create_task(session.stop(flush_within=0))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def _translated(self, exc: Exception) -> EventStoreError:
        return translated(exc, topic=self._url.topic, where=self._url.where)

    def _unknown(self, exc: Exception) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"the log at {self._url.where} failed before it acknowledged ({type(exc).__name__}); flush again"
        )
