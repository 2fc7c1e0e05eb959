"""Views of a log in Redis: one script reads mark and threads, one script writes threads, index, lists and checkpoint.

A commit is one compare-and-set on generation and checkpoint, so that repetitions, zombies and lost answers change
nothing. What Redis loses it loses of a whole partition: the views are then behind, and are folded again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from random import randrange
from typing import NamedTuple

from eventstore.admission import Lifecycle
from eventstore.events import Event
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.state import UNKNOWN_THREAD, IndexEntry, ThreadState
from projections.fold import fold_in_force
from projections.ports import Census, Mark, Snapshot, ThreadChange
from projections.redis_coding import LONGEST_ENTRY, StoredThread, changes_as_arguments, key_of, thread_of, threads_of
from projections.redis_shards import MOVED, Shards, script

_IDS_AT_A_TIME = 1_000
_REVISIONS = 1 << 48
"""A Redis integer, and one that Lua tells apart."""


class Reading(NamedTuple):
    """One thread, read in one step."""

    mark: Mark
    state: ThreadState
    """`UNKNOWN_THREAD` if there is none."""
    entries: Sequence[IndexEntry]
    """The records asked for."""
    vouched: bool
    """False: the server may have lost its last writes, and nobody has brought it up to the log since."""


class RedisViews:
    """The stored views of a log's partitions (port `ViewWriter`), for their projectors and for verifying."""

    def __init__(
        self, shards: Shards, *, partition_of: Callable[[ThreadId], int], generation: int | None = None
    ) -> None:
        """Take the shards, what says where a thread lies, and the generation: None for the one that serves."""
        self._shards = shards
        self._partition_of = partition_of
        self._generation = "" if generation is None else generation

    def __repr__(self) -> str:
        return f"<RedisViews {self._shards.name} generation={self._generation or 'serving'} at {self._shards.address}>"

    async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
        keys = [key_of(thread_id) for thread_id in threads]
        generation, checkpoint, revision, *stored = await self._shards.run(
            script("snapshot"), partition, self._generation, fold_in_force(), *keys
        )
        states = {
            thread_id: StoredThread(key, one).state()
            for thread_id, key, one in zip(threads, keys, stored, strict=True)
            if one is not None
        }
        return Snapshot(Mark(generation, checkpoint, revision), states)

    async def commit(
        self,
        partition: int,
        expected: Mark,
        checkpoint: int,
        changes: Mapping[ThreadId, ThreadChange],
        *,
        last: Entry | None = None,
    ) -> bool:
        replaced = any(change.replaces for change in changes.values())
        reply = await self._shards.run(
            script("commit", writes=True),
            partition,
            self._generation,
            fold_in_force(),
            expected.generation,
            expected.checkpoint,
            expected.revision,
            checkpoint,
            # Not counted: a number that was lost with a master's last writes would be given again.
            randrange(1, _REVISIONS) if replaced else expected.revision,
            self._shards.channel(partition),
            "" if last is None else last.position.offset,
            "" if last is None else event_id_of(last),
            *changes_as_arguments(changes),
        )
        return bool(reply[1] != MOVED)

    async def index(self, thread_id: ThreadId, *, start: int, stop: int) -> Sequence[IndexEntry]:
        """Return the records bearing the items start <= ordinal < stop, in order.

        Raises:
            ViewsUnavailable: They cannot be read.
            DamagedView: The index is not whole.
        """
        read = await self.thread(thread_id, start=start)
        return [entry for entry in read.entries if entry.ordinal < stop]

    async def thread(self, thread_id: ThreadId, *, start: int | None = None) -> Reading:
        """Read a thread in one atomic step, with the records that bear its items from ordinal `start` on.

        A negative `start` counts from the end; None asks for no records.

        Raises:
            ViewsUnavailable: It cannot be read.
            DamagedView: It cannot be decoded, or the index is not whole.
        """
        key, partition = key_of(thread_id), self._partition_of(thread_id)
        wanted = "" if start is None else start
        generation, checkpoint, stored, earlier, vouched = await self._shards.run(
            script("thread"), partition, self._generation, fold_in_force(), key, wanted, LONGEST_ENTRY
        )
        mark = Mark(generation, checkpoint)
        if stored is None:
            return Reading(mark, UNKNOWN_THREAD, (), bool(vouched))
        thread = StoredThread(key, stored)
        state = thread.state()
        if start is None or state.head.lifecycle is Lifecycle.DELETED:
            return Reading(mark, state, (), bool(vouched))
        first = max(0, thread.items + start) if start < 0 else start
        return Reading(mark, state, thread.entries(earlier, start=first), bool(vouched))

    async def known_threads(self, partition: int) -> Sequence[ThreadId]:
        """Return every thread that is in the views, deleted and frozen ones too.

        Raises:
            ViewsUnavailable: They cannot be read.
        """
        return [thread for kind in ("i", "d") for thread in await self._ids(partition, kind)]

    async def census(self, partition: int) -> Census:
        """Count what the serving generation of the partition holds.

        Raises:
            ViewsUnavailable: It cannot be read.
        """
        reply = await self._shards.run(script("census"), partition, fold_in_force())
        generation, checkpoint, active, archived, deleted, items, *frozen = reply
        pairs = zip(frozen[::2], frozen[1::2], strict=True)
        return Census(
            generation=generation,
            checkpoint=checkpoint,
            active=active,
            archived=archived,
            deleted=deleted,
            items=items,
            frozen=tuple(sorted((thread_of(key), why.decode()) for key, why in pairs)),
        )

    async def _ids(self, partition: int, kind: str) -> list[ThreadId]:
        found: list[ThreadId] = []
        low: bytes | str = "-"
        while True:
            _, _, keys = await self._shards.run(
                script("ids"), partition, self._generation, fold_in_force(), kind, low, "+", _IDS_AT_A_TIME
            )
            if not keys:
                return found
            found += threads_of(keys)
            low = b"(" + keys[-16:]


def event_id_of(entry: Entry) -> str:
    """Return the id of the entry's event; empty for a record that could not be read."""
    return entry.event.event_id if isinstance(entry.event, Event) else ""
