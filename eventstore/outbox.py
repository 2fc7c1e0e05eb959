"""What a writer has said and does not know the verdict of yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from eventstore.documents.items import Position
from eventstore.events import ItemsAppended, ThreadCreated, WriterClosed, WriterOpened
from eventstore.memory import Memory

Word: TypeAlias = ThreadCreated | WriterOpened | ItemsAppended | WriterClosed
"""An event that a writer says."""

OUTBOX_EVENTS = 1_024
OUTBOX_BYTES = 16 * 1024 * 1024
"""A fuller outbox makes appends wait for verdicts."""


@dataclass(slots=True)
class Unverified:
    """An event whose verdict is not known yet."""

    event: Word
    size: int
    position: Position | None = None
    """Where it was logged last; None when that is not known."""


@dataclass(slots=True)
class Outbox:
    """Unverified events, oldest first."""

    memory: Memory
    """Where their bytes are counted together with those of other outboxes."""
    waiting: deque[Unverified] = field(default_factory=deque)
    unsent: list[Unverified] = field(default_factory=list)
    """Those of them to be sent (again), in order; the others are in the log or on their way."""
    size: int = 0

    def add(self, event: Word, size: int) -> Unverified:
        unverified = Unverified(event, size)
        self.waiting.append(unverified)
        self.unsent.append(unverified)
        self.size += size
        self.memory.keep(size)
        return unverified

    def release(self, admitted: int) -> None:
        while self.waiting and self.waiting[0].event.writer_seq <= admitted:
            self._give_back(self.waiting.popleft().size)

    def clear(self) -> None:
        """Forget all of them: none will count."""
        self.waiting.clear()
        self.unsent.clear()
        self._give_back(self.size)

    def leave(self) -> None:
        """Give their bytes back to the shared memory; the events stay for the calls that still wait for them."""
        self.memory.give_back(self.size)
        self.memory = Memory()

    def take_unsent(self) -> list[Unverified]:
        taken, self.unsent = self.unsent, []
        return taken

    def put_back(self, unverified: Iterable[Unverified]) -> None:
        """Have them sent again, unless they were verified meanwhile."""
        again = {entry.event.writer_seq for entry in (*self.unsent, *unverified)}
        self.unsent = [entry for entry in self.waiting if entry.event.writer_seq in again]

    def last_position(self, seq: int) -> Position | None:
        """Return the latest place of the events up to `seq`; None if one of them must be sent again.

        Not the place of the last one: an earlier one that failed is logged behind those that did not.
        """
        latest: Position | None = None
        for entry in self.waiting:
            if entry.event.writer_seq > seq:
                break
            if entry.position is None:
                return None
            latest = entry.position if latest is None else max(latest, entry.position)
        return latest

    def send_all_again(self) -> None:
        """Forget where they lie: what the log took of them did not count."""
        for entry in self.waiting:
            entry.position = None
        self.put_back(self.waiting)

    def is_full(self) -> bool:
        return len(self.waiting) >= OUTBOX_EVENTS or self.size >= OUTBOX_BYTES

    def _give_back(self, size: int) -> None:
        self.size -= size
        self.memory.give_back(size)
