"""A thread that is not stored yet: a few values in memory, which its writer is given when it is to be stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eventstore.actor import acting, acting_as
from eventstore.events import Item
from eventstore.ids import EventId, ThreadId
from eventstore.memory import Memory
from eventstore.splitting import split
from eventstore.writer import Writer


class _Creation(NamedTuple):
    session_meta: Item
    forked_from_id: ThreadId | None
    actor: str | None


class _Append(NamedTuple):
    items: Sequence[Item]
    append_id: EventId
    occurred_at: int
    actor: str | None


class Deferred:
    """What a thread begins with, and the appends to it; each keeps the name of who acted then."""

    def __init__(self, session_meta: Item, forked_from_id: ThreadId | None, memory: Memory) -> None:
        """Begin a thread, whose bytes are counted in the `memory` until they are handed over or dropped.

        Raises:
            TooMany: That takes no more.
        """
        self._memory = memory
        self._size = 0
        self._count([session_meta])
        self._creation = _Creation(session_meta, forked_from_id, acting())
        self._appends: list[_Append] = []

    @property
    def append_ids(self) -> list[EventId]:
        return [append.append_id for append in self._appends]

    def append(self, items: Sequence[Item], append_id: EventId, occurred_at: int) -> None:
        """Keep an append.

        Raises:
            TooMany: The memory takes no more.
            AppendTooLarge: It can never be logged.
        """
        self._count(items)
        self._appends.append(_Append(items, append_id, occurred_at, acting()))

    def hand_to(self, writer: Writer, created_at: int) -> None:
        """Have the writer say all of it; nothing is awaited, so nothing can come between."""
        self.drop()
        session_meta, forked_from_id, actor = self._creation
        with acting_as(actor):
            writer.create(session_meta, forked_from_id, created_at)
        for items, append_id, occurred_at, actor in self._appends:
            with acting_as(actor):
                writer.append(items, append_id, occurred_at)

    def drop(self) -> None:
        """Count it no longer."""
        self._memory.unstored -= self._size
        self._size = 0

    def _count(self, items: Sequence[Item]) -> None:
        self._memory.must_take_unstored()
        size = sum(size for _, size in split(items))
        self._memory.unstored += size
        self._size += size
