"""How live threads end at a server: those that nobody uses, and all of them when the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

from eventstore.actor import acting_as
from eventstore.errors import ThreadExists, ThreadNotFound, WriterFenced

if TYPE_CHECKING:
    from eventstore.ids import ThreadId
    from eventstore.threads import EventSourcedThreadStore

T = TypeVar("T")

_TOGETHER: Final = 32
"""Threads ended at the same time when the server ends."""


async def end_thread(store: EventSourcedThreadStore, thread_id: ThreadId) -> None:
    """Store what was appended to the thread, if it is live, and close it; raises as shutdown does."""
    if not store.is_live(thread_id):
        return
    try:
        # The server does so by itself, whoever's call needs the room.
        with acting_as(None):
            await store.shutdown_thread(thread_id)
    except (WriterFenced, ThreadExists, ThreadNotFound):
        # Another's by now, or deleted: what counts of it is stored.
        if store.is_live(thread_id):
            await store.discard_thread(thread_id)


async def end_each(those: Iterable[T], end: Callable[[T], Awaitable[object]], *, within: float) -> None:
    """End them all, some at a time; what has not ended after `within` seconds is left as it is."""
    together = asyncio.Semaphore(_TOGETHER)

    async def end_one(one: T) -> None:
        async with together:
            await end(one)

    ending = [asyncio.ensure_future(end_one(one)) for one in those]
    if ending:
        _, late = await asyncio.wait(ending, timeout=within)
        for task in late:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
