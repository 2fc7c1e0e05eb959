"""The live threads of a server: opened when a call needs one, closed when they rest or room is needed.

Clients know nothing of it. A thread that is stored is taken up again by the next call that writes it, after a restart
of the server as well; only what was never stored is lost with it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import structlog

from eventstore.documents.params import (
    AppendThreadItemsParams,
    CreateThreadParams,
    DeleteThreadParams,
    ReadThreadParams,
    ResumeThreadParams,
)
from eventstore.errors import (
    EventStoreError,
    ThreadNotFound,
    TooMany,
    UnknownThread,
    ViewsBehind,
    WriterFenced,
)
from eventstore.ids import ThreadId
from eventstore.serve.ending import end_each, end_thread

if TYPE_CHECKING:
    from eventstore.serve.turns import Turns
    from eventstore.threads import EventSourcedThreadStore

T = TypeVar("T")

_AGAIN_AFTER = (0.01, 0.5)
"""Seconds at most until a shared thread is taken back: at first, and after many attempts."""

log = structlog.get_logger("eventstore.serve")


class Writers:
    """Which threads are live here, the one used longest ago first. Every call about one holds its turn."""

    def __init__(
        self,
        store: EventSourcedThreadStore,
        turns: Turns,
        *,
        most: int,
        idle_after: float,
        shared: bool = False,
    ) -> None:
        """Keep at most `most` threads live, and close those that nothing was asked of for `idle_after` seconds.

        `shared` if other servers are asked about the same threads: then a thread is stored when it is created, and an
        append is answered when it counts. One that does not, for another server had taken the thread over, is void:
        this one takes it back and appends again.
        """
        self._shared = shared
        self._store = store
        self._turns = turns
        self._most = most
        self._idle_after = idle_after
        self._used: dict[ThreadId, float] = {}

    def __len__(self) -> int:
        return len(self._used)

    async def create(self, params: CreateThreadParams) -> None:
        """Make a new thread live; raises as the store does.

        Raises:
            TooMany: As many as may be are live, and all of them are busy; or there is too much in those not stored.
        """
        await self._make_room()
        await self._make_memory()
        await self._store.create_thread(params)
        self._touch(params.thread_id)
        if self._shared:
            try:
                await self._store.persist_thread(params.thread_id)
            except ViewsBehind:
                log.debug("views behind", thread=params.thread_id)
            except EventStoreError:
                await self._store.discard_thread(params.thread_id)
                self._forget_ended(params.thread_id)
                raise

    async def append(self, params: AppendThreadItemsParams) -> None:
        """Append; raises as the store does.

        Raises:
            ThreadNotFound: The thread is neither live here nor stored.
            WriterFenced: Another one took it over; where threads are shared, again and again.
            TooMany: As many as may be are live, and all of them are busy; or there is too much in those not stored.
        """
        thread_id, give_up = params.thread_id, time.monotonic() + self._turns.within
        if self._store.is_unstored(thread_id):
            await self._make_memory()
        if not self._shared:
            await self.used(thread_id, lambda: self._store.append_items(params))
            return
        for again_after in self._pauses():
            try:
                await self.used(thread_id, lambda: self._append_and_know(params))
                return
            except WriterFenced:
                if time.monotonic() + again_after > give_up:
                    raise
                await asyncio.sleep(again_after)

    async def resume(self, params: ResumeThreadParams) -> None:
        """Make a stored thread live, whoever wrote it until now; raises as the store does.

        One that is live here stays so with all that was appended: its client died, or another one joins it.

        Raises:
            TooMany: As many as may be are live, and all of them are busy.
        """
        thread_id = params.thread_id
        if self._store.is_live(thread_id):
            try:
                await self._store.flush_thread(thread_id)
            except WriterFenced:
                await self._store.discard_thread(thread_id)
        if not self._store.is_live(thread_id):
            await self._make_room()
            await self._store.resume_thread(params)
        self._touch(thread_id)

    async def used(self, thread_id: ThreadId, act: Callable[[], Awaitable[T]]) -> T:
        """Do something that needs the thread live; one that is stored and not live here is taken up.

        Raises:
            ThreadNotFound: It is neither live here nor stored.
            TooMany: As many as may be are live, and all of them are busy.
        """
        if not self._store.is_live(thread_id):
            await self._adopt(thread_id)
        self._touch(thread_id)
        try:
            return await act()
        except WriterFenced:
            # Where a thread is this server's alone, its client has to be told until it resumes the thread.
            if self._shared and self._store.is_live(thread_id):
                await self._store.discard_thread(thread_id)
            raise
        finally:
            self._forget_ended(thread_id)

    async def discard(self, thread_id: ThreadId) -> None:
        """End the thread without storing what is queued; one that is not live here only has to be there.

        A shared one that holds nothing but its beginning is deleted: it is stored only so that all servers know of it.

        Raises:
            ThreadNotFound: It is neither live here nor stored.
        """
        if self._store.is_live(thread_id) and not self._shared:
            await self._store.discard_thread(thread_id)
        else:
            try:
                thread = await self._store.read_thread(ReadThreadParams(thread_id=thread_id, include_archived=True))
            except UnknownThread as exc:
                raise ThreadNotFound(thread_id) from exc
            if self._shared and thread.item_count <= 1:
                await self._store.delete_thread(DeleteThreadParams(thread_id=thread_id, reason="discarded unused"))
            elif self._store.is_live(thread_id):
                await self._store.discard_thread(thread_id)
        self._used.pop(thread_id, None)

    async def close_idle(self) -> None:
        """Close the stored threads that have rested long enough."""
        now = time.monotonic()
        for thread_id, used in list(self._used.items()):
            if now - used < self._idle_after:
                break
            if not self._turns.is_taken(thread_id) and not self._store.is_unstored(thread_id):
                await self._close(thread_id)

    async def close_all(self, *, within: float) -> None:
        """Store and close all threads, as many as can be in so many seconds."""
        await end_each(list(self._used), self._close, within=within)

    async def _append_and_know(self, params: AppendThreadItemsParams) -> None:
        """Append, and wait until it is known whether that counts."""
        await self._store.append_items(params)
        try:
            await self._store.flush_thread(params.thread_id)
        except ViewsBehind:
            # It counts, which is all that an append promises.
            log.debug("views behind", thread=params.thread_id)

    def _pauses(self) -> Iterator[float]:
        """Yield seconds to wait, longer and longer, and not the same as another server does."""
        longest = _AGAIN_AFTER[0]
        while True:
            yield random.uniform(0, longest)
            longest = min(2 * longest, _AGAIN_AFTER[1])

    async def _adopt(self, thread_id: ThreadId) -> None:
        await self._make_room()
        try:
            await self._store.resume_thread(ResumeThreadParams(thread_id=thread_id, include_archived=True))
        except UnknownThread as exc:
            raise ThreadNotFound(thread_id) from exc
        log.debug("adopted", thread=thread_id)

    async def _make_room(self) -> None:
        """Close the threads used longest ago while there are as many as may be.

        Raises:
            TooMany: All of them are busy, or hold what is stored nowhere else.
        """
        while len(self._used) >= self._most:
            resting = [thread_id for thread_id in self._used if not self._turns.is_taken(thread_id)]
            stored = next((each for each in resting if not self._store.is_unstored(each)), None)
            if stored is not None:
                if await self._close(stored):
                    continue
                raise TooMany("no room can be made for another live thread now; try again later")
            # Begun and left: nothing was ever said in it, or its client is gone.
            left = next((each for each in resting if time.monotonic() - self._used[each] >= self._idle_after), None)
            if left is None:
                raise TooMany(f"{len(self._used)} threads are live here, as many as may be; try again later")
            await self._store.discard_thread(left)
            del self._used[left]

    async def _make_memory(self) -> None:
        """Store and close threads that were left before they were stored, while these hold as much as may be."""
        while self._store.memory.is_full_of_unstored:
            left_before = time.monotonic() - self._idle_after
            left = next(
                (
                    thread_id
                    for thread_id, used in self._used.items()
                    if used <= left_before
                    and self._store.is_unstored(thread_id)
                    and not self._turns.is_taken(thread_id)
                ),
                None,
            )
            if left is None or not await self._close(left):
                return

    async def _close(self, thread_id: ThreadId) -> bool:
        """Close a thread; say whether that went well. One that cannot be closed now is kept for a later try."""
        try:
            async with self._turns.asked(thread_id):
                await end_thread(self._store, thread_id)
                self._used.pop(thread_id, None)
        except EventStoreError as exc:
            log.warning("not closed", thread=thread_id, why=str(exc))
            self._touch(thread_id)
            return False
        return True

    def _touch(self, thread_id: ThreadId) -> None:
        self._used.pop(thread_id, None)
        self._used[thread_id] = time.monotonic()

    def _forget_ended(self, thread_id: ThreadId) -> None:
        if not self._store.is_live(thread_id):
            self._used.pop(thread_id, None)
