"""Commands: what anyone may say about a thread without being its writer.

A command looks at the head, is logged, and learns from the views whether it counts. One that knew too little is sent
again under the same id, which the rule takes at most once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple, TypedDict

from eventstore.actor import acting
from eventstore.admission import RECENT_COMMANDS, Admitted, Head, Reason, Refused, admit
from eventstore.documents.items import Position
from eventstore.documents.params import ArchiveThreadParams, DeleteThreadParams
from eventstore.errors import (
    LogUnavailable,
    OutcomeUnknown,
    Unavailable,
    ViewsBehind,
    ViewsUnavailable,
    WrongExpectedVersion,
)
from eventstore.events import (
    Field,
    MetadataPatched,
    ThreadArchived,
    ThreadDeleted,
    ThreadUnarchived,
)
from eventstore.history import Check, looked_at, readable, replayed, state_at
from eventstore.ids import EventId, ThreadId, new_event_id
from eventstore.ports import EventFeed, EventLog, ThreadView, ThreadViews
from eventstore.splitting import fields_must_fit, must_fit
from eventstore.state import ThreadState
from eventstore.writer import FOR_THE_VIEWS

_CommandEvent = MetadataPatched | ThreadArchived | ThreadUnarchived | ThreadDeleted
_Make = Callable[[Head], _CommandEvent]


_AGAIN_AFTER = 0.02
"""Seconds until a command of unknown outcome is sent again."""


class _Envelope(TypedDict):
    """What a command bears however often it is sent."""

    event_id: EventId
    thread_id: ThreadId
    occurred_at: int
    actor: str | None
    expected_version: int | None


class Counted(NamedTuple):
    """What came of a command that counts."""

    state: ThreadState
    """The thread as of then, or later."""
    position: Position
    """Where the command lies."""


class Commands:
    """Sends commands and waits for their verdicts."""

    def __init__(
        self,
        log: EventLog,
        feed: EventFeed,
        views: ThreadViews,
        *,
        actor: str | None,
        within: float,
        durable: bool = False,
    ) -> None:
        self._log = log
        self._durable = durable
        self._feed = feed
        self._views = views
        self._actor = actor
        self._within = within

    async def patch(
        self,
        thread_id: ThreadId,
        fields: tuple[Field, ...],
        check: Check,
        *,
        version: int | None = None,
        occurred_at: int | None = None,
        deadline: float | None = None,
    ) -> Counted:
        """Set or clear the fields; by the `deadline` on the monotonic clock, if the call it belongs to began before.

        Raises:
            AppendTooLarge: The fields can never be logged.
        """
        fields_must_fit(fields)
        envelope = self._envelope(thread_id, version, occurred_at)
        return await self._say(
            thread_id,
            check,
            lambda head: MetadataPatched(**envelope, commands_seen=head.commands_total, fields=fields),
            deadline=deadline,
        )

    async def archive(self, params: ArchiveThreadParams, check: Check, *, occurred_at: int | None = None) -> Counted:
        return await self._move(ThreadArchived, params, check, occurred_at=occurred_at)

    async def unarchive(self, params: ArchiveThreadParams, check: Check, *, occurred_at: int | None = None) -> Counted:
        return await self._move(ThreadUnarchived, params, check, occurred_at=occurred_at)

    async def delete(self, params: DeleteThreadParams, check: Check) -> Counted:
        return await self._move(ThreadDeleted, params, check)

    async def _move(
        self,
        kind: type[ThreadArchived | ThreadUnarchived | ThreadDeleted],
        params: ArchiveThreadParams | DeleteThreadParams,
        check: Check,
        *,
        occurred_at: int | None = None,
    ) -> Counted:
        """Move the thread to another state of its life.

        Raises:
            AppendTooLarge: The reason can never be logged.
        """
        must_fit(params.reason or "")
        envelope = self._envelope(params.thread_id, params.expected_version, occurred_at)
        return await self._say(
            params.thread_id,
            check,
            lambda head: kind(**envelope, commands_seen=head.commands_total, reason=params.reason),
        )

    async def _say(self, thread_id: ThreadId, check: Check, make: _Make, *, deadline: float | None = None) -> Counted:
        """Log the command until it has a verdict.

        Raises:
            WrongExpectedVersion: The thread is not at the expected version.
            UnreadableEvent: The thread is frozen.
            LogUnavailable: Nothing was logged.
            ViewsUnavailable: Nothing was logged.
            ViewsBehind: It counts, and the views were not brought up to it.
            OutcomeUnknown: It may be logged, and its verdict could not be had in time.
        """
        deadline = deadline or time.monotonic() + self._within
        view = check(await looked_at(self._views, thread_id, within=self._within, deadline=deadline))
        may_be_logged = False
        while (left := deadline - time.monotonic()) > 0:
            readable(thread_id, view.state)
            event = make(view.state.head)
            try:
                (position,) = await self._log.append([event], within=left)
            except OutcomeUnknown:
                # Sent again under the same id it counts once, however often it was logged.
                may_be_logged = True
                await asyncio.sleep(min(max(0.0, deadline - time.monotonic()), _AGAIN_AFTER))
                continue
            except Unavailable as exc:
                if may_be_logged:
                    raise self._unknown(thread_id, str(exc)) from exc
                raise
            may_be_logged = True
            seen, counts = await self._judged(event, position, view, deadline)
            if seen is not None and counts:
                return Counted(seen.state, position)
            # Refused when it was folded. What the thread is now may say why; otherwise it is sent again, knowing more.
            view = check(seen)
            if admit(view.state.head, event) == Refused(Reason.VERSION):
                raise wrong_version(thread_id, view.state.head, event.expected_version)
        if may_be_logged:
            raise self._unknown(thread_id, f"within {self._within:g} s")
        raise LogUnavailable(f"nothing was logged for thread {thread_id} within {self._within:g} s; try again")

    async def _judged(
        self, event: _CommandEvent, position: Position, view: ThreadView, deadline: float
    ) -> tuple[ThreadView | None, bool]:
        """Return the thread as of the position, and whether the command counts, which was made upon `view`.

        Raises:
            ViewsBehind: It counts, and the views were not brought up to it.
            OutcomeUnknown: Neither views nor log answered in time.
        """
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                seen, behind = await self._seen(position, event.thread_id, view, deadline)
                counts = seen is not None and await self._counted(event, position, view, seen.state.head)
        except (Unavailable, TimeoutError) as exc:
            raise self._unknown(event.thread_id, str(exc) or f"within {self._within:g} s") from exc
        if counts and behind is not None:
            raise behind
        return seen, counts

    def _unknown(self, thread_id: ThreadId, why: str) -> OutcomeUnknown:
        return OutcomeUnknown(
            f"no verdict on the command for thread {thread_id}, which may count ({why}); "
            "read the thread before you repeat it"
        )

    async def _seen(
        self, position: Position, thread_id: ThreadId, view: ThreadView, deadline: float
    ) -> tuple[ThreadView | None, ViewsBehind | None]:
        """Return the thread as of the position: from the views or, if these are behind, from the log behind `view`."""
        behind = None
        if not self._durable:
            within = max(0.0, deadline - time.monotonic()) * FOR_THE_VIEWS
            try:
                return await self._views.reach(position, thread_id, within=within), None
            except (ViewsBehind, ViewsUnavailable) as exc:
                behind = ViewsBehind(
                    f"the command for thread {thread_id} is written at {position} and counts: do not repeat it; {exc}"
                )
        state = await state_at(self._feed, thread_id, position, since=view)
        return ThreadView(state, max(view.checkpoint, position.offset + 1)), behind

    async def _counted(self, event: _CommandEvent, position: Position, view: ThreadView, head: Head) -> bool:
        """Say whether the command, made upon `view`, was admitted.

        Where so many followed that the head forgot it, the log is asked: it was not admitted before that view.
        """
        if event.event_id in head.commands:
            return True
        if head.commands_total - event.commands_seen <= RECENT_COMMANDS:
            return False
        judged = replayed(self._feed, event.thread_id, view.state, start=view.checkpoint, stop=position.offset + 1)
        return any(
            [said.event_id == event.event_id and isinstance(done.verdict, Admitted) async for _, said, done in judged]
        )

    def _envelope(self, thread_id: ThreadId, version: int | None, occurred_at: int | None) -> _Envelope:
        return _Envelope(
            event_id=new_event_id(),
            thread_id=thread_id,
            occurred_at=time.time_ns() // 1_000 if occurred_at is None else occurred_at,
            actor=acting() or self._actor,
            expected_version=version,
        )


def wrong_version(thread_id: ThreadId, head: Head, expected: int | None) -> WrongExpectedVersion:
    """Return the error of what was decided upon another version of the thread."""
    return WrongExpectedVersion(
        f"thread {thread_id} is at version {head.version}, not {expected}; read it again and decide anew"
    )
