"""Calls that change something.

The invariant: those about one thread arrive in the order in which they were made, and each comes to its end though its
caller does not wait for that. What is said behind an append is sent when it is known what became of the append.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple, TypeVar

from google.protobuf.message import Message

from eventstore.documents.items import Receipt
from eventstore.documents.params import AppendThreadItemsParams
from eventstore.errors import (
    Behind,
    Conflict,
    EventStoreError,
    LogUnavailable,
    OutcomeUnknown,
    Rejected,
    Unavailable,
    Unknown,
)
from eventstore.ids import ThreadId, new_event_id
from eventstore.remote.connection import Connection
from eventstore.remote.failures import CutOff, unknown
from eventstore.serve.answered import receipt_of
from eventstore.serve.asked import append_request
from eventstore.serve.protos import eventstore_threads_pb2 as pb
from eventstore.serve.turns import Turn, Turns

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_AGAIN_AFTER: Final = (0.05, 1.0)
"""Seconds at most until an append that was cut off is repeated: at first, and after many attempts."""


class Call(NamedTuple):
    """A call about one thread."""

    deadline: float
    """By `time.monotonic`."""
    turn: Turn


class Changes:
    """Makes such calls over a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._turns = Turns(within=connection.within)
        self._going_on: set[asyncio.Future[Any]] = set()
        self._cut_off: dict[ThreadId, AppendThreadItemsParams] = {}
        """Named appends that may not have arrived, which counts as queued: at most one of a thread, for nothing that
        would acknowledge it, or lie behind it, is sent before it.
        """

    async def settled(self, *, within: float) -> None:
        """Wait for calls whose callers have gone."""
        if self._going_on:
            await asyncio.wait(self._going_on, timeout=within)

    async def append(self, params: AppendThreadItemsParams) -> Receipt:
        """Append in turn, and again under the same name while it is not known what became of it.

        Those behind it wait until that is known: a repetition must not land behind them.
        """
        return await self.in_turn(params.thread_id, lambda call: self._append(params, call.deadline))

    async def catch_up(self, thread_id: ThreadId, deadline: float) -> None:
        """Repeat the thread's append that was cut off for good, if there is one, so that what follows is behind it.

        Raises:
            Unavailable: It is not known yet what became of it, and it is repeated before the next call.
        """
        cut_off = self._cut_off.get(thread_id)
        if cut_off is None:
            return
        try:
            await self._until_known(cut_off, deadline, is_fresh=False)
        except CutOff as exc:
            raise LogUnavailable(
                f"nothing was sent to {self._connection.url.address}: append {cut_off.append_id}, which is before it, "
                f"was cut off ({exc}); try again"
            ) from exc
        except (Rejected, Conflict, Behind, Unknown):
            pass  # It is queued there, or its live thread has ended, which the call that follows is told.
        self.forget(thread_id)

    def forget(self, thread_id: ThreadId) -> None:
        """Forget what was queued: the live thread was ended, or begins anew."""
        self._cut_off.pop(thread_id, None)

    async def told(self, thread_id: ThreadId, method: str, request: Message, reply: type[M]) -> M:
        """Make a call in turn; the next one may follow as soon as it has arrived."""

        async def tell(call: Call) -> M:
            await self.catch_up(thread_id, call.deadline)
            return await self.tell(method, request, reply, call.deadline, arrived=call.turn.end)

        return await self.in_turn(thread_id, tell)

    async def tell(
        self,
        method: str,
        request: Message,
        reply: type[M],
        deadline: float,
        *,
        arrived: Callable[[], None] | None = None,
    ) -> M:
        """Make a call at once; raises as `Connection.tell` does.

        Raises:
            OutcomeUnknown: It was cut off.
        """
        try:
            return await self._connection.tell(method, request, reply, deadline=deadline, arrived=arrived)
        except CutOff as exc:
            raise unknown(self._connection.url.address, str(exc)) from exc

    async def in_turn(
        self,
        thread_id: ThreadId,
        work: Callable[[Call], Coroutine[Any, Any, T]],
        unheard: Callable[[T], Coroutine[Any, Any, None]] | None = None,
    ) -> T:
        """Do a call's work after all earlier calls about the thread, and carry it through even if its caller has gone.

        The work may end its turn early, when the call has arrived; otherwise the turn ends with it. If the caller does
        not wait for the result, `unheard` is given it before any later call about the thread.
        """
        deadline = time.monotonic() + self._connection.within
        turn = self._turns.asked(thread_id)
        await turn.__aenter__()
        going_on = self._kept(_to_its_end(turn, work(Call(deadline, turn))))
        try:
            return await asyncio.shield(going_on)
        except asyncio.CancelledError:
            self._kept(_afterwards(self._turns.asked(thread_id), going_on, unheard))
            raise

    async def _append(self, params: AppendThreadItemsParams, deadline: float) -> Receipt:
        thread_id, address = params.thread_id, self._connection.url.address
        named = params if params.append_id else params.model_copy(update={"append_id": new_event_id()})
        before = self._cut_off.get(thread_id)
        if before is not None and before.append_id != named.append_id:
            await self.catch_up(thread_id, deadline)
        try:
            receipt, was_cut_off = await self._until_known(named, deadline, is_fresh=params.append_id is None)
        except CutOff as exc:
            self._cut_off[thread_id] = named
            raise OutcomeUnknown(
                f"append {named.append_id} was cut off on its way to {address} ({exc}); flush the thread, or append it "
                "again with the same append id"
            ) from exc
        self.forget(thread_id)
        if was_cut_off and params.append_id is None and receipt.append_id is not None:
            # Taken when it was cut off: the repetition had nothing to add.
            return receipt._replace(appended=len(params.items) - len(receipt.dropped))
        return receipt

    async def _until_known(
        self, named: AppendThreadItemsParams, deadline: float, *, is_fresh: bool
    ) -> tuple[Receipt, bool]:
        """Append until the server says what became of it; return that, and whether it had been cut off before.

        Raises:
            CutOff: It did not say so in time, or not of the time before it was cut off.
        """
        longest = _AGAIN_AFTER[0]
        cut: CutOff | None = None
        while True:
            request = append_request(named, is_fresh=is_fresh)
            try:
                answer = await self._connection.tell("AppendItems", request, pb.Receipt, deadline=deadline)
            except CutOff as exc:
                cut = exc
            except (Unavailable, Rejected, Conflict) as exc:
                if cut is None:
                    raise
                if not isinstance(exc, Unavailable):
                    # It may have been taken all the same: in another life of the server, in which the thread was live,
                    # or before the thread had another writer.
                    raise cut from exc
            else:
                return receipt_of(answer), cut is not None
            is_fresh = False
            again_after = random.uniform(0, longest)
            if time.monotonic() + again_after >= deadline:
                raise cut
            await asyncio.sleep(again_after)
            longest = min(2 * longest, _AGAIN_AFTER[1])

    def _kept(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)
        return task


async def _to_its_end(turn: Turn, call: Coroutine[Any, Any, T]) -> T:
    """Make the call in a turn that is taken already, and end it."""
    try:
        return await call
    finally:
        turn.end()


async def _afterwards(
    turn: Turn, going_on: asyncio.Task[T], unheard: Callable[[T], Coroutine[Any, Any, None]] | None
) -> None:
    """Do what a call's result asks for when its caller did not wait for it."""
    # The call ends by its own deadline, and its turn with it. Who waited for that turn might give up just before.
    await asyncio.wait([going_on])
    try:
        async with turn:
            if going_on.cancelled() or going_on.exception() is not None or unheard is None:
                return
            await unheard(going_on.result())
    except EventStoreError:
        pass  # The server ends the thread when it has rested.
