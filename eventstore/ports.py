"""The outside world as the write side sees it: the log, its feed, and the views somebody else keeps.

Adapters keep these promises; nothing above them knows SQLite, Kafka or Redis.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from eventstore.codec import ForeignRecord, UnreadableRecord
from eventstore.documents.items import Position
from eventstore.documents.params import ListThreadsParams
from eventstore.events import Event, Item
from eventstore.ids import ThreadId
from eventstore.state import IndexEntry, ThreadState


class Entry(NamedTuple):
    """One record of the log, decoded."""

    position: Position
    thread_id: ThreadId | None
    """The record's key; None if it has none that is a thread id."""
    event: Event | UnreadableRecord | ForeignRecord


class ThreadView(NamedTuple):
    """What the views know of one thread, folded up to `checkpoint`; all of it read in one look."""

    state: ThreadState
    checkpoint: int
    """The next offset of the thread's partition to be folded."""
    indexed: Sequence[IndexEntry] = ()
    """The records that bear the items which were asked for, in order."""


class ThreadRow(NamedTuple):
    """One thread of a listing."""

    thread_id: ThreadId
    state: ThreadState


class RowPage(NamedTuple):
    rows: Sequence[ThreadRow]
    next_cursor: str | None


class EventLog(Protocol):
    """The durable order of events.

    An event is logged whole or not at all. Events of one thread keep the order in which they were logged, for
    ever. Once positions are returned, the events outlive this process. Nothing is promised about who wins a race:
    that is `admission`'s business.
    """

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        """Log the events, in order, and say where they lie.

        The calls for one thread are logged in the order in which they were made. A call that is cancelled or fails
        may have logged some events, none or all.

        Raises:
            AppendTooLarge: The log takes no record of that size; nothing was written.
            LogUnavailable: Nothing was written; the same call may be made again.
            OutcomeUnknown: Some may have been written; append them again with the same event ids.
            TopicMisconfigured: The log is gone, damaged, or not what it was.
        """
        ...


class EventFeed(Protocol):
    """The log, read in order."""

    @property
    def identity(self) -> str:
        """Names the log, in one word, for as long as it is there."""
        ...

    @property
    def partitions(self) -> int:
        """How many partitions there are, numbered from 0."""
        ...

    def partition_of(self, thread_id: ThreadId) -> int:
        """Say which partition holds the thread."""
        ...

    async def end(self, partition: int) -> int:
        """Return the offset which the partition's next record will have or exceed.

        Raises:
            LogUnavailable: The log cannot be reached.
        """
        ...

    async def ends(self, partitions: Sequence[int]) -> Sequence[int]:
        """Return the ends of several partitions, asked for together; raises as `end` does."""
        ...

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        """Return up to `limit` entries of the partition from offset `start` on, at least one; empty at the end.

        Raises:
            LogTruncated: The partition begins after `start`.
            LogUnavailable: The log cannot be reached.
        """
        ...

    def replay(self, thread_id: ThreadId, *, start: int, stop: int) -> AsyncIterator[Sequence[Entry]]:
        """Yield all the thread's entries with start <= offset < stop, void ones too, in order, in batches.

        Raises:
            LogUnavailable: The log cannot be reached.
        """
        ...

    async def fetch(self, thread_id: ThreadId, offsets: Sequence[int]) -> Sequence[Sequence[Item]]:
        """Return the items of the thread's records at exactly these ascending offsets, record by record.

        Of many large records it returns those of the first ones only, of at least one; ask for the others again.

        Raises:
            UnreadableEvent: One of the records cannot be understood.
            LogTruncated: One of them is not in the log any more.
            LogUnavailable: The log cannot be reached.
        """
        ...


NOTHING_ASKED: Final[Mapping[int, int]] = MappingProxyType({})
"""Any checkpoints will do."""


class ThreadViews(Protocol):
    """What the projections know of threads. Answers are as of a checkpoint, which they name."""

    async def reach(self, position: Position, thread_id: ThreadId, *, within: float) -> ThreadView | None:
        """Wait until `position` is folded; return the thread as of then, None if there is none.

        Raises:
            ViewsBehind: Not reached within that many seconds.
            ViewsUnavailable: The views cannot be read.
        """
        ...

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        """Return the thread as of a point behind all that was acknowledged before; None if there is none.

        None is said only when the log, up to its end as sampled in this call, has no such thread. `span` asks for the
        records that bear these items, by ordinal: `slice(-50, None)` for the latest fifty. `at_least` is a checkpoint
        of the thread's partition that the answer has to have come to.

        Raises:
            InvalidRequest: The log does not go as far as `at_least`.
            LogUnavailable: The log, which knows what the views may not, cannot be reached.
            UnreadableEvent: What the views do not know was read from the log, and cannot be understood.
            ViewsUnavailable: The views cannot be read.
        """
        ...

    async def refold(self, thread_id: ThreadId, *, within: float) -> None:
        """Fold a frozen thread anew, from its start in the log up to where the views are; a healthy one is left alone.

        Raises:
            UnreadableEvent: A record of it cannot be understood by this version either. Nothing was changed.
            LogTruncated: Records of it are missing from the log. Nothing was changed.
            ViewsUnavailable: The views cannot be read or written.
        """
        ...

    async def page(
        self, query: ListThreadsParams, *, exact: bool = False, at_least: Mapping[int, int] = NOTHING_ASKED
    ) -> RowPage:
        """Return one page of threads, in which is all that was acknowledged before.

        `exact` asks for the log's end as sampled in this call, `at_least` for checkpoints of some partitions.

        Raises:
            InvalidRequest: The cursor is none, or the log does not go as far as `at_least`.
            LogUnavailable: The log's end was asked for, and it cannot be reached.
            ViewsBehind: The views did not come as far as that in time.
            ViewsUnavailable: The views cannot be read.
        """
        ...

    async def thread_ids(self, *, after: ThreadId | None, limit: int) -> Sequence[ThreadId]:
        """Return up to `limit` ids of all threads but deleted ones, in their order, from behind `after` on.

        Frozen threads and those that no listing shows are among them.

        Raises:
            ViewsUnavailable: The views cannot be read.
        """
        ...

    async def matching(self, prefix: str, *, limit: int, deleted: bool = False) -> Sequence[ThreadId]:
        """Return up to `limit` thread ids that begin with `prefix`; those of deleted threads only if `deleted`.

        The prefix is up to 32 hexadecimal digits, with hyphens or without.

        Raises:
            ViewsUnavailable: The views cannot be read.
        """
        ...
