"""The items of a rollout file enter the log: as a new thread, or behind what a thread has.

Events bear the times of their lines, so that threads keep their dates. What these calls return is judged and counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from eventstore.errors import WriterFenced
from eventstore.events import Item
from eventstore.ids import ThreadId, new_event_id
from eventstore.ports import EventFeed, EventLog, ThreadView, ThreadViews
from eventstore.splitting import size_of
from eventstore.state import ThreadState
from eventstore.writer import Writer

_CHUNK_ITEMS = 200
_CHUNK_BYTES = 256 * 1024
"""The most that one append holds: as-of by time sees a thread in steps of this size."""
_CHUNKS_SENT_TOGETHER = 4
"""One durable commit for as many."""


class Intake:
    """Writes items as they are: the persistence policy is for live threads."""

    def __init__(self, log: EventLog, feed: EventFeed, views: ThreadViews, *, actor: str | None, within: float) -> None:
        self._log = log
        self._feed = feed
        self._views = views
        self._actor = actor
        self._within = within

    async def create(
        self, thread_id: ThreadId, first: Item, items: Iterable[Item], *, forked_from: ThreadId | None
    ) -> ThreadState:
        """Create the thread with its session_meta and the items behind it; return it when all of it counts.

        Raises:
            ThreadExists: Somebody else created it meanwhile; nothing was written.
            WriterFenced: Somebody else took it over meanwhile; it has a part of the items.
            OutcomeUnknown: The time ran out; it may have a part of the items.
        """
        writer = self._new_writer(thread_id)
        writer.create(first, forked_from, first.at * 1_000)
        return await self._write(writer, items, first.at)

    async def grow(
        self, thread_id: ThreadId, view: ThreadView, items: Iterable[Item], *, behind: int, at: int
    ) -> ThreadState:
        """Take the thread over and append the items; return it when all of it counts.

        `behind` is how many items it must have for them to fit; `at` is their first one's time in milliseconds.

        Raises:
            WriterFenced: Somebody else wrote it meanwhile; it has none of the items, or a part of them.
            ThreadNotFound: It was deleted meanwhile.
            OutcomeUnknown: The time ran out; it may have a part of the items.
        """
        writer = self._new_writer(thread_id)
        writer.open(view, at * 1_000)
        state = await writer.settle(writer.last_seq, within=self._within)
        if state is None or state.head.items != behind:
            # Its writer until now said something between the comparison and the takeover.
            await self._write(writer, (), at)
            raise WriterFenced(f"thread {thread_id} is being written; import it again when it rests")
        return await self._write(writer, items, at)

    async def _write(self, writer: Writer, items: Iterable[Item], at: int) -> ThreadState:
        try:
            for number, chunk in enumerate(_chunks(items), 1):
                at = chunk[-1].at
                writer.append(chunk, new_event_id(), at * 1_000)
                if number % _CHUNKS_SENT_TOGETHER == 0:
                    await writer.send(within=self._within)
                    await writer.make_room(within=self._within)
            writer.close(at * 1_000)
            state = await writer.settle(writer.last_seq, within=self._within)
        finally:
            writer.abandon()
        assert state is not None, "nobody else asked for the verdict on this writer's last word"
        return state

    def _new_writer(self, thread_id: ThreadId) -> Writer:
        return Writer(self._log, self._feed, self._views, thread_id, actor=self._actor)


def _chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut the items into appends."""
    chunk: list[Item] = []
    filled = 0
    for item in items:
        size = size_of(item)
        if chunk and (len(chunk) == _CHUNK_ITEMS or filled + size > _CHUNK_BYTES):
            yield chunk
            chunk, filled = [], 0
        chunk.append(item)
        filled += size
    if chunk:
        yield chunk
