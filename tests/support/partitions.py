"""A log of several partitions in lists (port `EventFeed`), and states of threads made up to be listed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, cast

from eventstore.admission import CurrentWriter, Head, Lifecycle
from eventstore.codex.metadata import EMPTY
from eventstore.documents.items import Position
from eventstore.events import Event, Item, ItemsAppended, ThreadCreated, ThreadDeleted, items_of
from eventstore.ids import EventId, ThreadId, WriterId, new_event_id, new_thread_id, new_writer_id
from eventstore.jsontext import dumps
from eventstore.ports import Entry
from eventstore.state import ThreadState
from tests.support.logs import NOON, thread_number


class PartitionedFeed:
    """A log in as many lists as it has partitions; offsets have no holes."""

    def __init__(self, partitions: int, entries: Iterable[Entry] = ()) -> None:
        self.partitions: list[list[Entry]] = [[] for _ in range(partitions)]
        self.replayed = 0
        """How many entries were replayed."""
        for entry in entries:
            self.put(entry)

    def put(self, entry: Entry) -> Position:
        """Log the entry's record behind all others of its partition."""
        assert entry.thread_id is not None
        partition = self.partition_of(entry.thread_id)
        position = Position(partition, len(self.partitions[partition]))
        self.partitions[partition].append(entry._replace(position=position))
        return position

    def say(self, event: Event) -> Position:
        return self.put(Entry(Position(0, 0), event.thread_id, event))

    def partition_of(self, thread_id: ThreadId) -> int:
        return int(thread_id[-4:], 16) % len(self.partitions)

    async def end(self, partition: int) -> int:
        return len(self.partitions[partition])

    async def ends(self, partitions: Sequence[int]) -> Sequence[int]:
        return [await self.end(partition) for partition in partitions]

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        return self.partitions[partition][start : start + limit]

    async def replay(self, thread_id: ThreadId, *, start: int, stop: int) -> AsyncIterator[Sequence[Entry]]:
        entries = self.partitions[self.partition_of(thread_id)][start:stop]
        own = [entry for entry in entries if entry.thread_id == thread_id]
        self.replayed += len(own)
        yield own

    async def fetch(self, thread_id: ThreadId, offsets: Sequence[int]) -> Sequence[Sequence[Item]]:
        entries = self.partitions[self.partition_of(thread_id)]
        return [items_of(cast("Event", entries[offset].event)) for offset in offsets]


class Teller:
    """One thread's writer: says events that count."""

    def __init__(self, feed: PartitionedFeed, thread_id: ThreadId | None = None, *, provider: str = "openai") -> None:
        self.feed = feed
        self.thread_id = new_thread_id() if thread_id is None else thread_id
        self._writer = new_writer_id()
        self._seq = 0
        meta = dumps({"id": self.thread_id, "cwd": "/work", "source": "cli", "model_provider": provider})
        self.position = feed.say(
            ThreadCreated(**self._envelope(), **self._turn(), session_meta=Item(NOON // 1000, "session_meta", meta))
        )

    def say(self, *texts: str) -> Position:
        """Append a message of the user for each text; return where they lie."""
        items = tuple(
            Item(NOON // 1000, "event_msg", dumps({"type": "user_message", "message": text})) for text in texts
        )
        self.position = self.feed.say(ItemsAppended(**self._envelope(), **self._turn(), items=items))
        return self.position

    def delete(self) -> Position:
        return self.feed.say(ThreadDeleted(**self._envelope(), commands_seen=0))

    def _envelope(self) -> dict[str, Any]:
        return {"event_id": new_event_id(), "thread_id": self.thread_id, "occurred_at": NOON}

    def _turn(self) -> dict[str, Any]:
        self._seq += 1
        return {"writer_id": self._writer, "writer_seq": self._seq - 1}


def states_to_list(random: Random, count: int) -> dict[ThreadId, ThreadState]:
    """Make up threads with few different times, so that many are equal, and some that no listing shows."""
    return {thread_number(random.getrandbits(60)): _state(random) for _ in range(count)}


def _state(random: Random) -> ThreadState:
    created = NOON + random.randrange(8) * 1_000_000
    lifecycle = random.choice([Lifecycle.ACTIVE] * 6 + [Lifecycle.ARCHIVED] * 3 + [Lifecycle.DELETED])
    if lifecycle is Lifecycle.DELETED:
        return ThreadState(head=Head(lifecycle=lifecycle, epoch=1), start=3)
    words = random.choice(("one needle", "two", "three needles", ""))
    summary = replace(
        EMPTY,
        created_at=created,
        updated_at=random.choice((created, NOON + random.randrange(2**20), 2**57 + random.randrange(2**5) * 64)),
        preview=words,
        title=words,
        name=random.choice((None, "a needle's name")),
        model_provider=random.choice(("openai", "azure", "local", "")),
        source=random.choice((None, '"cli"', '"vscode"', '{"custom":"atlas","a":1}')),
        cwd=random.choice(("/a", "/b/", "/b//c/..", "")),
    )
    writer = CurrentWriter(WriterId("a writer"), 0, EventId("an event"), 0)
    head = Head(lifecycle=lifecycle, epoch=1, writer=writer, version=1, items=0)
    frozen = random.choice((None, None, None, "cold"))
    return ThreadState(head=head, summary=summary, start=random.randrange(100), frozen=frozen)
