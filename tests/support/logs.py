"""Random logs of a few threads: mostly what writers and commanders say, partly what nobody should."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast
from uuid import UUID

from eventstore.admission import NO_THREAD, Admitted, Head, Lifecycle, admit, advance
from eventstore.codec import ForeignRecord, UnreadableRecord
from eventstore.documents.items import Position
from eventstore.events import (
    Event,
    Field,
    Item,
    ItemsAppended,
    MetadataPatched,
    ThreadArchived,
    ThreadCreated,
    ThreadDeleted,
    ThreadUnarchived,
    WriterClosed,
    WriterOpened,
    items_of,
)
from eventstore.ids import EventId, ThreadId, WriterId
from eventstore.jsontext import dumps
from eventstore.ports import Entry

NOON = 1_735_905_600_000_000
"""2025-01-03T12:00:00Z in microseconds."""


@dataclass
class RandomLog:
    """Writes a log, event by event."""

    random: Random
    threads: int = 3
    bad_records: bool = False
    entries: list[Entry] = field(default_factory=list)
    heads: dict[ThreadId, Head] = field(default_factory=dict)
    said: dict[ThreadId, list[Event]] = field(default_factory=dict)
    """Each thread's admitted events."""

    def write(self, length: int) -> list[Entry]:
        """Write that many more records; return the whole log. Offsets have holes."""
        for _ in range(length):
            thread_id = thread_number(self.random.randrange(self.threads))
            roll = self.random.random()
            if self.bad_records and roll < 0.03:
                self._bad(thread_id)
            elif roll < 0.1 and self.said.get(thread_id):
                self.put(self.random.choice(self.said[thread_id][-12:]))
            else:
                self.put(self._event(thread_id))
        return self.entries

    def put(self, event: Event) -> None:
        offset = self.next_offset()
        self.entries.append(Entry(Position(0, offset), event.thread_id, event))
        head = self.heads.get(event.thread_id, NO_THREAD)
        if isinstance(admit(head, event), Admitted):
            self.heads[event.thread_id] = advance(head, event, offset=offset)
            self.said.setdefault(event.thread_id, []).append(event)

    def next_offset(self) -> int:
        last = self.entries[-1].position.offset if self.entries else 0
        return last + self.random.choice((1, 1, 1, 2, 5))

    def _bad(self, thread_id: ThreadId) -> None:
        other = thread_number(99)
        what: Event | UnreadableRecord | ForeignRecord = self.random.choice(
            (UnreadableRecord("of the future"), ForeignRecord("not ours"), self._created(other))
        )
        self.entries.append(Entry(Position(0, self.next_offset()), thread_id, what))

    def _event(self, thread_id: ThreadId) -> Event:
        head = self.heads.get(thread_id, NO_THREAD)
        if head.lifecycle is Lifecycle.ABSENT and self.random.random() < 0.9:
            return self._created(thread_id)
        kind = self.random.choices(
            ("append", "open", "close", "patch", "archive", "unarchive", "delete", "create"), (60, 8, 4, 12, 6, 6, 1, 1)
        )[0]
        match kind:
            case "create":
                return self._created(thread_id)
            case "open":
                epoch = head.epoch - (self.random.random() < 0.2)
                return WriterOpened(
                    **self._envelope(thread_id), writer_id=WriterId(self._uuid()), writer_seq=0, epoch=epoch
                )
            case "close":
                return WriterClosed(**self._envelope(thread_id), **self._turn(head))
            case "append":
                items = tuple(self._item(thread_id) for _ in range(self.random.randint(1, 3)))
                more = self.random.random() < 0.25
                return ItemsAppended(**self._envelope(thread_id), **self._turn(head), items=items, more=more)
            case _:
                return self._command(kind, thread_id, head)

    def _command(self, kind: str, thread_id: ThreadId, head: Head) -> Event:
        seen = max(0, head.commands_total - self.random.choice((0, 0, 0, 1, 70)))
        version = self.random.choice((None, None, None, head.version, head.version - 1))
        envelope = self._envelope(thread_id) | {"commands_seen": seen, "expected_version": version}
        match kind:
            case "patch":
                name = self.random.choice(("name", "git_branch", "model", "reasoning_effort"))
                value = self.random.choice((None, '"a"', '"b"'))
                return MetadataPatched(**envelope, fields=(Field(name, value),))
            case "archive":
                return ThreadArchived(**envelope)
            case "unarchive":
                return ThreadUnarchived(**envelope)
            case _:
                return ThreadDeleted(**envelope)

    def _created(self, thread_id: ThreadId) -> ThreadCreated:
        meta = Item(
            self._millis(), "session_meta", dumps({"id": thread_id, "cwd": "/work", "model_provider": "openai"})
        )
        return ThreadCreated(
            **self._envelope(thread_id), writer_id=WriterId(self._uuid()), writer_seq=0, session_meta=meta
        )

    def _turn(self, head: Head) -> dict[str, Any]:
        """Whose word it is, and its how-manieth: mostly the next one of the writer."""
        if head.writer is None or self.random.random() < 0.05:
            return {"writer_id": WriterId(self._uuid()), "writer_seq": self.random.randint(0, 3)}
        off_by = self.random.choice((1,) * 12 + (0, 2))
        return {"writer_id": head.writer.writer_id, "writer_seq": head.writer.last_seq + off_by}

    def _item(self, thread_id: ThreadId) -> Item:
        text = f"text {self.random.randrange(100)}"
        payload = self.random.choice(
            (
                {"type": "user_message", "message": text},
                {"type": "agent_message", "message": text},
                {"type": "thread_name_updated", "thread_id": thread_id, "thread_name": text},
                {"type": "token_count", "info": {"total_token_usage": {"total_tokens": self.random.randrange(99)}}},
            )
        )
        if self.random.random() < 0.2:
            return Item(self._millis(), "turn_context", dumps({"model": text, "cwd": f"/{text}"}))
        return Item(self._millis(), "event_msg", dumps(payload))

    def _envelope(self, thread_id: ThreadId) -> dict[str, Any]:
        return {"event_id": EventId(self._uuid()), "thread_id": thread_id, "occurred_at": self._millis() * 1_000}

    def _millis(self) -> int:
        return NOON // 1_000 + self.random.randrange(1_000_000)

    def _uuid(self) -> str:
        return str(UUID(int=self.random.getrandbits(128)))


def thread_number(number: int) -> ThreadId:
    return ThreadId(str(UUID(int=(7 << 76) + number)))


class ListFeed:
    """A log in a list (port `EventFeed`)."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries

    @property
    def partitions(self) -> int:
        return 1

    def partition_of(self, thread_id: ThreadId) -> int:
        return 0

    async def end(self, partition: int) -> int:
        return self.entries[-1].position.offset + 1 if self.entries else 1

    async def ends(self, partitions: Sequence[int]) -> Sequence[int]:
        return [await self.end(partition) for partition in partitions]

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        return [entry for entry in self.entries if entry.position.offset >= start][:limit]

    async def replay(self, thread_id: ThreadId, *, start: int, stop: int) -> AsyncIterator[Sequence[Entry]]:
        yield [e for e in self.entries if e.thread_id == thread_id and start <= e.position.offset < stop]

    async def fetch(self, thread_id: ThreadId, offsets: Sequence[int]) -> Sequence[Sequence[Item]]:
        by_offset = {entry.position.offset: entry.event for entry in self.entries}
        return [items_of(cast("Event", by_offset[offset])) for offset in offsets]
