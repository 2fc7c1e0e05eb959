"""A frozen thread folded anew from its start in the log, and put in the place of what is stored of it.

One commit, which succeeds only if the views stand where the folding ended. It leaves another mark, so that a worker
that folded upon the frozen state meanwhile is refused and looks again.
"""

from __future__ import annotations

import asyncio

from eventstore.admission import Lifecycle
from eventstore.errors import LogTruncated, UnreadableEvent, ViewsUnavailable
from eventstore.ids import ThreadId
from eventstore.ports import Entry, EventFeed
from eventstore.state import UNKNOWN_THREAD, IndexEntry, ThreadState
from projections.fold import fold
from projections.ports import ThreadChange, ViewWriter


async def refold(feed: EventFeed, views: ViewWriter, thread_id: ThreadId, *, within: float) -> None:
    """Fold the thread anew if it is frozen. Until its last step nothing is changed.

    Raises:
        UnreadableEvent: A record of it cannot be understood by this version either.
        LogTruncated: Records of it are missing from the log.
        LogUnavailable: The log cannot be read.
        ViewsUnavailable: The views cannot be read or written, or were never at rest for `within` seconds.
    """
    try:
        async with asyncio.timeout(within):
            await _refold(feed, views, thread_id)
    except TimeoutError as exc:
        raise ViewsUnavailable(
            f"thread {thread_id} could not be folded anew within {within:g} s; try again: eventstore retry {thread_id}"
        ) from exc


async def _refold(feed: EventFeed, views: ViewWriter, thread_id: ThreadId) -> None:
    partition = feed.partition_of(thread_id)
    refolding: _Refolding | None = None
    while True:
        mark, states = await views.snapshot(partition, (thread_id,))
        stored = states.get(thread_id, UNKNOWN_THREAD)
        if stored.frozen is None:
            return
        if refolding is None or refolding.stored != stored or refolding.next > mark.checkpoint:
            refolding = _Refolding(feed, thread_id, stored)
        # Whoever follows the log has gone on meanwhile: each time less is left to be caught up with.
        await refolding.reach(mark.checkpoint)
        change = ThreadChange(stored, refolding.state, refolding.indexed, replaces=True)
        if await views.commit(partition, mark, mark.checkpoint, {thread_id: change}):
            return


class _Refolding:
    """The fold of one thread from its start on."""

    def __init__(self, feed: EventFeed, thread_id: ThreadId, stored: ThreadState) -> None:
        self._feed = feed
        self._thread_id = thread_id
        self.stored = stored
        self.state = UNKNOWN_THREAD
        self.indexed: list[IndexEntry] = []
        self.next = stored.start
        """The offset to go on from."""
        self._agrees = self.state.head == stored.head

    async def reach(self, checkpoint: int) -> None:
        """Fold what lies before the checkpoint.

        A record that is missing leaves no trace in the log. So the fold has to come by the very head at which the
        thread froze.
        """
        async for entries in self._feed.replay(self._thread_id, start=self.next, stop=checkpoint):
            for entry in entries:
                self._fold(entry)
        self.next = checkpoint
        if not self._agrees:
            head = self.stored.head
            raise LogTruncated(
                f"the records of thread {self._thread_id} in the log never come to where it froze, {head.items} items "
                f"at version {head.version}: some are missing; restore a backup"
            )

    def _fold(self, entry: Entry) -> None:
        change = fold({self._thread_id: self.state}, [entry]).changes.get(self._thread_id)
        if change is None:
            return
        if change.after.frozen is not None:
            raise UnreadableEvent(
                f"thread {self._thread_id} stays frozen at {entry.position}: {change.after.frozen}; nothing was "
                f"changed; upgrade eventstore to a version that understands it, then eventstore retry {self._thread_id}"
            )
        self.state = change.after
        self.indexed += change.indexed
        if self.state.head.lifecycle is Lifecycle.DELETED:
            self.indexed.clear()
        self._agrees = self._agrees or self.state.head == self.stored.head
