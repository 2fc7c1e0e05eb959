"""Who calls the store's own service: each caller is to the log what a process is, with live threads of its own.

A caller is a store of its own on the same ports, so that two of one thread fence each other as processes do.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog

from eventstore.errors import EventStoreError, InvalidRequest, TooMany
from eventstore.ids import ThreadId, parse_thread_id
from eventstore.serve.ending import end_each, end_thread
from eventstore.serve.protos import eventstore_threads_pb2 as pb

if TYPE_CHECKING:
    from eventstore.threads import EventSourcedThreadStore

_MOST: Final = 10_000
"""Callers that are known at the same time."""
_LONGEST_ACTOR: Final = 1_000
"""Characters."""

log = structlog.get_logger("eventstore.serve")


@dataclass(slots=True)
class Known:
    """A caller, as the server knows it."""

    store: EventSourcedThreadStore
    used: float = field(default_factory=time.monotonic)
    busy: int = 0
    """Calls of it that are under way."""


class Callers:
    """The callers that were heard of lately, the one heard of longest ago first."""

    def __init__(self, store: EventSourcedThreadStore, *, within: float, writers: int, idle_after: float) -> None:
        """Give no call more than `within` seconds, have at most `writers` threads live, and forget callers that
        nothing was heard of for `idle_after` seconds.
        """
        self._store = store
        self._within = within
        self._writers = writers
        self._idle_after = idle_after
        self._known: dict[str, Known] = {}

    @property
    def live(self) -> int:
        """How many threads are live with them, all told."""
        return sum(len(known.store.live_threads) for known in self._known.values())

    @asynccontextmanager
    async def calling(self, caller: pb.Caller) -> AsyncIterator[EventSourcedThreadStore]:
        """Give the caller's own store for one call. Overlapping ones are that store's to put in order.

        Raises:
            InvalidRequest: The caller is not named, or not as one is.
            TooMany: More callers than there may be.
        """
        known = self._of(caller)
        known.busy += 1
        try:
            yield known.store
        finally:
            known.busy -= 1
            known.used = time.monotonic()

    @asynccontextmanager
    async def opening(self, caller: pb.Caller) -> AsyncIterator[EventSourcedThreadStore]:
        """Give the caller's own store for a call that makes the thread live; raises as `calling` does.

        Raises:
            TooMany: As many threads as may be are live.
        """
        async with self.calling(caller) as store:
            if self.live >= self._writers:
                raise TooMany(f"{self.live} threads are live here, as many as may be; try again later")
            yield store

    async def end(self, caller: pb.Caller) -> None:
        """Forget the caller: its live threads end as discard ends them."""
        known = self._known.pop(_id_of(caller), None)
        if known is not None:
            await known.store.close()

    async def end_idle(self) -> None:
        """Store and close the live threads of callers that have rested long enough, and forget these."""
        for name, known in list(self._known.items()):
            for thread_id in list(known.store.live_threads):
                # While the one before was closed, the caller may have called again, or have been forgotten.
                if self._rests(name, known):
                    await _close(known.store, thread_id)
            if self._rests(name, known) and not known.store.live_threads:
                del self._known[name]
                await known.store.close()

    async def end_all(self, *, within: float) -> None:
        """Store and close all live threads."""
        live = [(known.store, thread_id) for known in self._known.values() for thread_id in known.store.live_threads]
        await end_each(live, lambda each: _close(*each), within=within)
        for known in self._known.values():
            await known.store.close()
        self._known.clear()

    def _rests(self, name: str, known: Known) -> bool:
        """Whether the caller is this one still, and has asked for nothing long enough."""
        idle = not known.busy and time.monotonic() - known.used >= self._idle_after
        return idle and self._known.get(name) is known

    def _of(self, caller: pb.Caller) -> Known:
        name = _id_of(caller)
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _MOST:
                self._forget_one()
            known = Known(self._store_for(caller))
            self._known[name] = known
        return known

    def _forget_one(self) -> None:
        """Make room by forgetting a caller with no live thread.

        Raises:
            TooMany: There is none.
        """
        resting = (name for name, known in self._known.items() if not known.busy and not known.store.live_threads)
        name = next(resting, None)
        if name is None:
            raise TooMany(f"{len(self._known)} callers have live threads here, as many as may be; try again later")
        del self._known[name]

    def _store_for(self, caller: pb.Caller) -> EventSourcedThreadStore:
        if len(caller.actor) > _LONGEST_ACTOR:
            raise InvalidRequest(f"the caller's actor has more than {_LONGEST_ACTOR:,} characters; give a shorter one")
        within = min(caller.within, self._within) if caller.within > 0 else self._within
        return self._store.beside(actor=caller.actor or None, within=within, durable=caller.durable)


def _id_of(caller: pb.Caller) -> str:
    try:
        return parse_thread_id(caller.id)
    except InvalidRequest as exc:
        raise InvalidRequest("the request names no caller; give caller.id, a UUID of the client's own") from exc


async def _close(store: EventSourcedThreadStore, thread_id: ThreadId) -> None:
    """Store and end a live thread; one that cannot be stored now stays live.

    What was begun and never stored is left behind.
    """
    try:
        await end_thread(store, thread_id)
    except EventStoreError as exc:
        log.warning("not closed", thread=thread_id, why=str(exc))
