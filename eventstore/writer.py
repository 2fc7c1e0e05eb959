"""A live writer's side of the log: it gives seqs, keeps what is not verified yet, and learns its verdicts.

A seq is given when an append is checked and queued, and never to another event, whatever is cancelled or fails. The
outbox is released by the verdict, not by the log's answer; after any failure everything unverified is sent again, which
the rule takes as repetition.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from eventstore.actor import acting
from eventstore.admission import Head, Lifecycle
from eventstore.documents.items import Position
from eventstore.errors import (
    EventStoreError,
    OutcomeUnknown,
    ThreadExists,
    ThreadNotFound,
    ViewsBehind,
    ViewsUnavailable,
    WriterFenced,
)
from eventstore.events import Item, ItemsAppended, ThreadCreated, WriterClosed, WriterOpened
from eventstore.history import UNSEEN, readable, state_at
from eventstore.ids import EventId, ThreadId, WriterId, new_event_id, new_writer_id
from eventstore.memory import Memory
from eventstore.outbox import Outbox, Unverified
from eventstore.ports import EventFeed, EventLog, ThreadView, ThreadViews
from eventstore.splitting import size_of, split
from eventstore.state import ThreadState

FOR_THE_VIEWS = 0.8
"""The share of the time that is left in which the views may answer; the rest is for asking the log instead."""
VERIFY_WHEN_WAITING = 256
"""Unverified events at which verification begins unasked."""


class LostRace(WriterFenced):
    """Another writer was opened between the look at the head and the asking."""


class Writer:
    """One writer of one thread, from its first event to its last."""

    def __init__(
        self,
        log: EventLog,
        feed: EventFeed,
        views: ThreadViews,
        thread_id: ThreadId,
        *,
        actor: str | None,
        durable: bool = False,
        memory: Memory | None = None,
    ) -> None:
        """Make a writer that has said nothing yet; `actor` is named in its events unless the task acts for somebody.

        Verdicts come from the views or, while these are behind, from the feed; of one that is `durable`, as soon as the
        log has them. What it keeps until then is counted in the `memory`.
        """
        self.thread_id = thread_id
        self.writer_id = new_writer_id()
        self._log = log
        self._feed = feed
        self._views = views
        self._actor = actor
        self._durable = durable
        self._known = UNSEEN
        """The thread as it was last judged: behind that, only what came since is read from the log."""
        self._next_seq = 0
        self._admitted = -1
        self._outbox = Outbox(memory or Memory())
        self._outbox.memory.join(self)
        self._answered = asyncio.Event()
        self._abandoned = False
        self._verifying: asyncio.Task[None] | None = None
        self._ended: Callable[[], EventStoreError] | None = None
        """Makes the error that says what ended it: one that was raised before would keep what the call was given."""
        self.logged: Position | None = None
        """The latest place at which the log has taken a word of this writer."""
        self._unseen: Position | None = None
        """Where the last event lies that counts and was not seen in the views."""

    def __repr__(self) -> str:
        state = "ended" if self._ended else "live"
        return f"<Writer {self.writer_id} {state} said={self._next_seq} admitted={self._admitted + 1}>"

    @property
    def unverified_bytes(self) -> int:
        """Bytes of what was said and is not known to count."""
        return self._outbox.size

    @property
    def unverified(self) -> list[EventId]:
        """The ids of what was said and is not known to count."""
        return [waiting.event.event_id for waiting in self._outbox.waiting]

    @property
    def last_seq(self) -> int:
        """The seq of the last event said."""
        return self._next_seq - 1

    @property
    def start(self) -> int:
        """The offset of the thread's first record; 0 while that is not known."""
        return max(0, self._known.state.start)

    def create(self, session_meta: Item, forked_from_id: ThreadId | None, occurred_at: int) -> None:
        """Queue the thread's creation."""
        event = ThreadCreated(**self._envelope(occurred_at), session_meta=session_meta, forked_from_id=forked_from_id)
        self._outbox.add(event, size_of(session_meta))

    def open(self, view: ThreadView, occurred_at: int) -> None:
        """Queue the request to take the thread, as it was seen, over from whoever has it."""
        head, self._known = view.state.head, ThreadView(view.state, view.checkpoint)
        replaces = head.writer.writer_id if head.writer is not None and not head.writer.closed else None
        self._outbox.add(WriterOpened(**self._envelope(occurred_at), epoch=head.epoch, replaces=replaces), 0)

    def append(self, items: Sequence[Item], append_id: EventId, occurred_at: int) -> Unverified:
        """Queue an append whole: in one record, or in a run of which the last bears the append's id.

        Return what becomes of its last record.

        Raises:
            AppendTooLarge: It can never be logged; nothing was queued.
            WriterFenced: The writer is not the thread's writer any more; nothing was queued.
        """
        self.must_not_have_ended()
        parts, waiting = split(items), None
        for number, (part, size) in enumerate(parts, start=1):
            last = number == len(parts)
            envelope = self._envelope(occurred_at, append_id if last else None)
            waiting = self._outbox.add(ItemsAppended(**envelope, items=tuple(part), more=not last), size)
        assert waiting is not None, "nothing to append is no append"
        return waiting

    def must_not_have_ended(self) -> None:
        """Raise what ended the writer, if anything did."""
        if self._ended is not None:
            raise self._ended()

    def close(self, occurred_at: int) -> None:
        """Queue the writer's last word."""
        self._outbox.add(WriterClosed(**self._envelope(occurred_at)), 0)

    async def send(self, *, within: float) -> None:
        """Log what is queued and was not logged, in order.

        Raises:
            OutcomeUnknown: Some of it may have been logged; all of it stays queued.
        """
        unsent = self._outbox.take_unsent()
        if not unsent:
            return
        try:
            positions = await self._log.append([waiting.event for waiting in unsent], within=within)
            for waiting, position in zip(unsent, positions, strict=True):
                waiting.position = position
            self.logged = positions[-1] if self.logged is None else max(self.logged, positions[-1])
        except BaseException:
            self._outbox.put_back(unsent)
            raise
        finally:
            self._answered.set()
        self._verify_when_waiting(within)

    async def make_room(self, *, within: float) -> None:
        """Wait for verdicts while the outbox is full."""
        if self._outbox.is_full():
            await self.settle(self._outbox.waiting[len(self._outbox.waiting) // 2].event.writer_seq, within=within)

    async def settle(self, seq: int, *, within: float, deadline: float | None = None) -> ThreadState | None:
        """Wait until everything up to `seq` is logged, judged and in the views; return the thread as of then.

        Returns None when that was known before. A caller that has used up some of the `within` seconds gives the
        `deadline` on the monotonic clock.

        Raises:
            WriterFenced: Another writer took the thread over before.
            ThreadExists: The thread was to be created and is there already.
            ThreadNotFound: The thread was deleted.
            UnreadableEvent: The thread is frozen.
            LogUnavailable: The log cannot be written now; everything stays queued.
            ViewsBehind: It is written and counts in the log, and the views were not brought up to it.
            OutcomeUnknown: The time ran out before the verdict.
        """
        deadline = deadline or time.monotonic() + within
        state = None
        while self._admitted < seq:
            self.must_not_have_ended()
            left = deadline - time.monotonic()
            if left <= 0:
                raise OutcomeUnknown(f"no verdict on thread {self.thread_id} within {within:g} s; flush it again")
            await self.send(within=left)
            if self._admitted >= seq:
                break  # another call learned of it while this one was sending
            position = self._outbox.last_position(seq)
            if position is None:
                # Somebody else's call is sending it: see what becomes of it.
                await self._next_answer(left)
                continue
            state, behind = await self._state_at(position, deadline)
            self._learn(state, seq)
            if behind is not None and self._admitted >= seq:
                self._unseen = position if self._unseen is None else max(self._unseen, position)
                raise behind
        if self._unseen is not None:
            await self._see(self._unseen, within=max(0.0, deadline - time.monotonic()))
        return state

    async def _state_at(self, position: Position, deadline: float) -> tuple[ThreadState, ViewsBehind | None]:
        """Return the thread as of the position: from the views or, if these are behind, from the log.

        Raises:
            OutcomeUnknown: The log did not answer in time either.
        """
        behind = None
        if not self._durable:
            left = max(0.0, deadline - time.monotonic())
            try:
                view = await self._views.reach(position, self.thread_id, within=left * FOR_THE_VIEWS)
            except (ViewsBehind, ViewsUnavailable) as exc:
                behind = self._behind(position, exc)
            else:
                if self._unseen is not None and self._unseen <= position:
                    self._unseen = None
                return self._judged(view), None
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                return await self._state_in_the_log(position, deadline), behind
        except TimeoutError as exc:
            raise OutcomeUnknown(f"no verdict on thread {self.thread_id} in time; flush it again") from exc

    async def _state_in_the_log(self, position: Position, deadline: float) -> ThreadState:
        """Return the thread as of the position, of which only what came since it was last judged is read."""
        if self._known is UNSEEN and self._durable:
            # What the views know already need not be read either. They were not asked yet, and may be away.
            with suppress(ViewsUnavailable, TimeoutError):
                async with asyncio.timeout((deadline - time.monotonic()) * FOR_THE_VIEWS / 2):
                    return self._judged(await self._views.get(self.thread_id, at_least=position.offset + 1))
        state = await state_at(self._feed, self.thread_id, position, since=self._known)
        return self._judged(ThreadView(state, max(self._known.checkpoint, position.offset + 1)))

    def _judged(self, view: ThreadView | None) -> ThreadState:
        """Keep how the thread was judged, for the next time; return its state."""
        if view is None:
            return ThreadState()
        if view.state.frozen is None and view.checkpoint > self._known.checkpoint:
            self._known = ThreadView(view.state, view.checkpoint)
        return view.state

    async def _see(self, position: Position, *, within: float) -> None:
        """Wait until the views have folded what is known to count."""
        try:
            await self._views.reach(position, self.thread_id, within=within)
        except (ViewsBehind, ViewsUnavailable) as exc:
            raise self._behind(position, exc) from exc
        if self._unseen is not None and self._unseen <= position:
            self._unseen = None

    def _behind(self, position: Position, exc: EventStoreError) -> ViewsBehind:
        return ViewsBehind(f"thread {self.thread_id} is written up to {position} and counts: do not repeat it; {exc}")

    def abandon(self) -> None:
        """Stop verifying; nothing more is sent by itself."""
        self._abandoned = True
        self._outbox.leave()
        if self._verifying is not None:
            self._verifying.cancel()

    async def _next_answer(self, within: float) -> None:
        """Wait until one of the calls that are sending has come back."""
        self._answered.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._answered.wait()

    def _envelope(self, occurred_at: int, event_id: EventId | None = None) -> dict[str, Any]:
        seq = self._next_seq
        self._next_seq += 1
        return {
            "event_id": event_id or new_event_id(),
            "thread_id": self.thread_id,
            "occurred_at": occurred_at,
            "actor": acting() or self._actor,
            "writer_id": self.writer_id,
            "writer_seq": seq,
        }

    def _learn(self, state: ThreadState, seq: int) -> None:
        """Take in what the thread's state says about this writer's words up to `seq`."""
        readable(self.thread_id, state)
        admitted, current = standing(state.head, self.writer_id)
        known = admitted if admitted is not None else self._admitted
        self._admitted = max(self._admitted, known)
        self._outbox.release(self._admitted)
        if self._admitted >= seq:
            return
        self.must_not_have_ended()
        if state.head.lifecycle is Lifecycle.DELETED:
            self._end(partial(ThreadNotFound, self.thread_id))
        first, logged_at = self._outbox.waiting[0].event, self._outbox.waiting[0].position
        # Where the thread starts at its creation by this writer, it is only forgotten that it was one of its writers.
        if isinstance(first, ThreadCreated) and (logged_at is None or logged_at.offset != state.start):
            self._end(
                partial(
                    ThreadExists,
                    f"thread {self.thread_id} exists already; discard it here, then resume it, or take a fresh id",
                )
            )
        if isinstance(first, WriterOpened):
            self._end(
                partial(LostRace, f"another writer took thread {self.thread_id} over at the same time; resume it again")
            )
        if admitted is None:
            self._end(
                partial(
                    OutcomeUnknown,
                    f"thread {self.thread_id} was taken over many times since; read its history to see what counted",
                )
            )
        if not current:
            self._end(
                partial(
                    WriterFenced, f"another writer took thread {self.thread_id} over; discard it here, then resume it"
                )
            )
        self._outbox.send_all_again()

    def _end(self, made: Callable[[], EventStoreError]) -> None:
        self._ended = made
        self._outbox.clear()
        raise made()

    async def verify(self, *, within: float) -> None:
        """Have all that was said judged, as far as that can be had within so many seconds."""
        if not self._abandoned:
            await asyncio.wait([self._begin_to_verify(within)])

    def _verify_when_waiting(self, within: float) -> None:
        if not self._abandoned and len(self._outbox.waiting) >= VERIFY_WHEN_WAITING:
            self._begin_to_verify(within)

    def _begin_to_verify(self, within: float) -> asyncio.Task[None]:
        if self._verifying is None or self._verifying.done():
            self._verifying = asyncio.get_running_loop().create_task(self._verify(within))
        return self._verifying

    async def _verify(self, within: float) -> None:
        try:
            await self.settle(self.last_seq, within=within)
        except EventStoreError:
            # Kept in `_ended` where it is final; otherwise the next flush meets it again and tells the caller.
            return


def standing(head: Head, writer_id: WriterId) -> tuple[int | None, bool]:
    """Return the writer's last admitted seq, and whether it is the writer still; None if the head forgot it.

    An append counts for good when its last event is admitted, and that is all that callers ask for: of an open run, the
    parts before are admitted and may still be dropped.
    """
    if head.writer is not None and head.writer.writer_id == writer_id:
        return head.writer.last_seq, not head.writer.closed
    for past in head.past:
        if past.writer_id == writer_id:
            return past.completed_seq, False
    return None, False
