"""The threads that are live in this process, and their state machine (contract §2.0-2.7).

    create -> deferred -> stored <- resume        shutdown, discard: not live any more

A deferred thread is a few values in memory. It becomes stored by persist, or by flush or shutdown with items queued;
then everything goes through its `Writer`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import dataclass, field

from eventstore.admission import Admitted, Lifecycle
from eventstore.codex.policy import persisted
from eventstore.codex.sessionmeta import new_session_meta
from eventstore.deferred import Deferred
from eventstore.documents.items import Receipt, RolloutItem
from eventstore.documents.params import (
    AppendThreadItemsParams,
    CreateThreadParams,
    ResumeThreadParams,
    ThreadEventPersistenceMode,
)
from eventstore.documents.threads import ThreadHistoryMode
from eventstore.errors import (
    InvalidRequest,
    LogUnavailable,
    OutcomeUnknown,
    ThreadNotFound,
    UnknownThread,
    ViewsBehind,
    WriterFenced,
)
from eventstore.events import ItemsAppended, new_item
from eventstore.history import looked_at, readable, replayed
from eventstore.ids import EventId, ThreadId, new_event_id
from eventstore.jsontext import MalformedJson
from eventstore.memory import Memory
from eventstore.outbox import Unverified
from eventstore.ports import EventFeed, EventLog, ThreadView, ThreadViews
from eventstore.repetition import AppendIds
from eventstore.state import UNKNOWN_THREAD
from eventstore.tokens import token_at
from eventstore.writer import LostRace, Writer


@dataclass(slots=True)
class LiveThread:
    """A thread between create or resume and shutdown or discard."""

    writer: Writer
    event_mode: ThreadEventPersistenceMode
    history_mode: ThreadHistoryMode
    deferred: Deferred | None = None
    """What was said of the thread while it is not stored yet; None once it is."""
    append_ids: AppendIds = field(default_factory=lambda: AppendIds(are_all_known=True))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Makes what was called later wait for an append that has to look something up first.

    Whoever has it gives it back by its own deadline, so that nobody behind waits for longer than its own.
    """
    ending: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Makes a shutdown wait for one that has begun."""
    opening: bool = False
    closing: bool = False
    """Whether nothing more is taken; outside a shutdown, that the writer's last word was said."""

    @property
    def unverified_appends(self) -> list[EventId]:
        """The ids of the appends that are deferred, or said and not known to count."""
        return self.writer.unverified if self.deferred is None else self.deferred.append_ids


class LiveThreads:
    """The registry of live threads, and the verbs that need one."""

    def __init__(
        self,
        log: EventLog,
        feed: EventFeed,
        views: ThreadViews,
        *,
        actor: str | None,
        within: float,
        durable: bool,
        memory: Memory,
    ) -> None:
        self._log = log
        self._durable = durable
        self._feed = feed
        self._views = views
        self._actor = actor
        self._within = within
        self._memory = memory
        self._threads: dict[ThreadId, LiveThread] = {}

    def __len__(self) -> int:
        return len(self._threads)

    @property
    def ids(self) -> Collection[ThreadId]:
        return self._threads.keys()

    def __contains__(self, thread_id: ThreadId) -> bool:
        return thread_id in self._threads and not self._threads[thread_id].opening

    def is_unstored(self, thread_id: ThreadId) -> bool:
        return thread_id in self._threads and self._threads[thread_id].deferred is not None

    def abandon(self) -> None:
        """Forget all live threads."""
        for thread_id, live in list(self._threads.items()):
            self._forget(thread_id, live)

    def create(self, params: CreateThreadParams) -> None:
        self._refuse_second(params.thread_id)
        try:
            meta = new_session_meta(params, at_millis=time.time_ns() // 1_000_000)
        except MalformedJson as exc:
            raise InvalidRequest(f"thread {params.thread_id} cannot be described in JSON: {exc}") from exc
        self._threads[params.thread_id] = LiveThread(
            self._new_writer(params.thread_id),
            params.event_persistence_mode,
            params.history_mode,
            Deferred(meta, params.forked_from_id, self._memory),
        )

    async def resume(self, params: ResumeThreadParams) -> None:
        self._refuse_second(params.thread_id)
        live = LiveThread(
            self._new_writer(params.thread_id),
            params.event_persistence_mode,
            ThreadHistoryMode.LEGACY,
            append_ids=AppendIds(are_all_known=False),
            opening=True,
        )
        self._threads[params.thread_id] = live
        try:
            await self._open(live, params)
        finally:
            if live.opening and self._threads.get(params.thread_id) is live:
                del self._threads[params.thread_id]

    async def append(self, params: AppendThreadItemsParams, *, is_fresh: bool = False) -> Receipt:
        live = self._live(params.thread_id)
        if live.closing:
            raise ThreadNotFound(params.thread_id)
        kept, dropped = persisted(params.items, history_mode=live.history_mode, event_mode=live.event_mode)
        if not kept:
            return Receipt(append_id=None, appended=0, dropped=tuple(dropped))
        append_id = EventId(params.append_id) if params.append_id is not None else new_event_id()
        deadline = time.monotonic() + self._within
        queued: Unverified | None = None
        async with live.turn:
            may_repeat = params.append_id is not None and not is_fresh
            repeated = may_repeat and await self._is_repetition(live, append_id, deadline)
            if repeated:
                live.writer.must_not_have_ended()
            else:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise LogUnavailable(
                        f"append {append_id} is not queued: others of thread {params.thread_id} were before it for "
                        f"{self._within:g} s; try again"
                    )
                if live.deferred is None:
                    await self._memory.make_room(within=left)
                if self._threads.get(params.thread_id) is not live:
                    raise ThreadNotFound(params.thread_id)  # it was ended meanwhile
                queued = self._queue(live, kept, append_id)
                live.append_ids.say(append_id)
        await self._send(live, append_id, deadline)
        # What a repetition repeats lies before all that this writer said.
        position = queued.position if queued is not None else live.writer.logged
        token = None if position is None else token_at(self._feed.identity, position)
        return Receipt(append_id, 0 if repeated else len(kept), tuple(dropped), token)

    async def flush(
        self, thread_id: ThreadId, *, even_if_empty: bool = False, deadline: float | None = None
    ) -> str | None:
        """Have everything said so far judged and seen; return its consistency token, None while nothing is stored."""
        deadline = deadline or time.monotonic() + self._within
        live = self._live(thread_id)
        async with live.turn:
            if live.deferred is not None:
                if not live.deferred.append_ids and not even_if_empty:
                    return None
                live.deferred.hand_to(live.writer, _now_micros())
                live.deferred = None
            seq = live.writer.last_seq
        await live.writer.settle(seq, within=self._within, deadline=deadline)
        return self._token_of(live)

    async def shutdown(self, thread_id: ThreadId) -> str | None:
        """Flush and say the last word; return the consistency token of all that was said, None if nothing is stored.

        Of shutdowns at a time one ends the thread and the others return the same; where it fails, the next one tries.
        """
        live = self._live(thread_id)
        deadline = time.monotonic() + self._within
        async with live.ending:
            if not live.closing and (live.deferred is None or live.deferred.append_ids):
                if self._live(thread_id) is not live:
                    raise ThreadNotFound(thread_id)  # it was discarded meanwhile
                live.closing = True
                try:
                    await self.flush(thread_id, deadline=deadline)
                except BaseException:
                    live.closing = False
                    raise
                live.writer.close(_now_micros())
            if live.closing:
                # Where it was another's shutdown, or one that failed then, only its last word's verdict is missing. If
                # the thread is another writer's, or deleted, all of ours counts already, and there is nothing to close.
                with suppress(WriterFenced, ThreadNotFound):
                    await live.writer.settle(live.writer.last_seq, within=self._within, deadline=deadline)
            self._forget(thread_id, live)
        return self._token_of(live)

    def discard(self, thread_id: ThreadId) -> None:
        live = self._live(thread_id)
        self._forget(thread_id, live)

    def _forget(self, thread_id: ThreadId, live: LiveThread) -> None:
        live.writer.abandon()
        if self._threads.get(thread_id) is live:
            del self._threads[thread_id]
        if live.deferred is not None:
            live.deferred.drop()

    def _live(self, thread_id: ThreadId) -> LiveThread:
        live = self._threads.get(thread_id)
        if live is None or live.opening:
            raise ThreadNotFound(thread_id)
        return live

    def _refuse_second(self, thread_id: ThreadId) -> None:
        if thread_id in self._threads:
            raise InvalidRequest(f"thread {thread_id} already has a live local writer")

    def _new_writer(self, thread_id: ThreadId) -> Writer:
        return Writer(
            self._log,
            self._feed,
            self._views,
            thread_id,
            actor=self._actor,
            durable=self._durable,
            memory=self._memory,
        )

    async def _open(self, live: LiveThread, params: ResumeThreadParams) -> None:
        """Take the thread over; a lost race is tried once more with a fresh look at the head."""
        thread_id, deadline = params.thread_id, time.monotonic() + self._within
        for last_try in (False, True):
            view = await looked_at(self._views, thread_id, within=self._within, deadline=deadline)
            if view is not None:
                readable(thread_id, view.state)
            if view is None or not _may_resume(view, params.include_archived):
                raise _unknown(thread_id)
            live.writer.open(view, _now_micros())
            try:
                await live.writer.settle(live.writer.last_seq, within=self._within, deadline=deadline)
            except LostRace as exc:
                if last_try or time.monotonic() >= deadline:
                    raise WriterFenced(str(exc)) from exc
                live.writer = self._new_writer(thread_id)
                continue
            except ThreadNotFound as exc:
                raise _unknown(thread_id) from exc  # it was deleted meanwhile
            except ViewsBehind:
                # It is the writer; who that is shows in no view, so nobody has to wait for these.
                pass
            live.history_mode = ThreadHistoryMode(view.state.summary.history_mode or "legacy")
            live.opening = False
            return

    def _token_of(self, live: LiveThread) -> str | None:
        logged = live.writer.logged
        return None if logged is None else token_at(self._feed.identity, logged)

    def _queue(self, live: LiveThread, kept: list[RolloutItem], append_id: EventId) -> Unverified | None:
        """Queue the append; return what becomes of it, None of a thread that is not stored yet."""
        now = _now_micros()
        millis = now // 1_000
        items = [new_item((millis, item.type, item.text, None)) for item in kept]
        if live.deferred is not None:
            live.deferred.append(items, append_id, now)
            return None
        return live.writer.append(items, append_id, now)

    async def _send(self, live: LiveThread, append_id: EventId, deadline: float) -> None:
        if live.deferred is not None:
            return
        try:
            await live.writer.send(within=max(0.0, deadline - time.monotonic()))
            await live.writer.make_room(within=max(0.0, deadline - time.monotonic()))
        except LogUnavailable as exc:
            raise OutcomeUnknown(
                f"append {append_id} is queued and not in the log yet ({exc}); flush the thread to send it again"
            ) from exc

    async def _is_repetition(self, live: LiveThread, append_id: EventId, deadline: float) -> bool:
        """Say whether the named append was made before, by this writer or any before it.

        No other writer can add one meanwhile: whoever does, fences this one.

        Raises:
            LogUnavailable: That could not be read in time; nothing was queued.
        """
        known = live.append_ids.has(append_id)
        if known is not None:
            return known
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self._looked_for(live, append_id)
        except TimeoutError as exc:
            raise LogUnavailable(
                f"append {append_id} is not queued: whether thread {live.writer.thread_id} has it already could "
                f"not be read within {self._within:g} s; try again"
            ) from exc

    async def _looked_for(self, live: LiveThread, append_id: EventId) -> bool:
        # In this order: what is verified meanwhile lies before an end that is asked for afterwards.
        unverified = live.unverified_appends
        if append_id in unverified:
            return True
        is_there = False
        for said in unverified:
            live.append_ids.hear(said)
        if live.deferred is None:
            async for past in self._past_appends(live.writer):
                live.append_ids.hear(past)
                is_there = is_there or past == append_id
        live.append_ids.are_all_known = True
        return is_there

    async def _past_appends(self, writer: Writer) -> AsyncIterator[EventId]:
        """Yield the ids of all appends that count."""
        end = await self._feed.end(self._feed.partition_of(writer.thread_id))
        async for _, event, done in replayed(
            self._feed, writer.thread_id, UNKNOWN_THREAD, start=writer.start, stop=end
        ):
            if isinstance(event, ItemsAppended) and isinstance(done.verdict, Admitted):
                yield event.event_id


def _unknown(thread_id: ThreadId) -> UnknownThread:
    return UnknownThread(f"no rollout found for thread id {thread_id}")


def _may_resume(view: ThreadView, include_archived: bool) -> bool:
    match view.state.head.lifecycle:
        case Lifecycle.ACTIVE:
            return True
        case Lifecycle.ARCHIVED:
            return include_archived
        case Lifecycle.ABSENT | Lifecycle.DELETED:
            return False


def _now_micros() -> int:
    return time.time_ns() // 1_000
