"""Events of one thread, as its writers and others say them."""

from __future__ import annotations

from eventstore.events import (
    Item,
    ItemsAppended,
    ThreadArchived,
    ThreadCreated,
    ThreadDeleted,
    WriterClosed,
    WriterOpened,
)
from eventstore.ids import EventId, ThreadId, WriterId

ONE, OTHER = ThreadId("01a00000-0000-7000-8000-000000000001"), ThreadId("01a00000-0000-7000-8000-000000000002")
META = Item(0, "session_meta", "{}")


def created(seq: int = 0, *, thread: ThreadId = ONE, event: str = "created", writer: str = "w1") -> ThreadCreated:
    return ThreadCreated(
        event_id=EventId(event),
        thread_id=thread,
        occurred_at=1_000_000,
        actor="ann",
        writer_id=WriterId(writer),
        writer_seq=seq,
        session_meta=META,
    )


def appended(seq: int, *, event: str | None = None, writer: str = "w1", items: int = 1) -> ItemsAppended:
    return ItemsAppended(
        event_id=EventId(event or f"{writer}-{seq}"),
        thread_id=ONE,
        occurred_at=2_000_000,
        writer_id=WriterId(writer),
        writer_seq=seq,
        items=(Item(0, "x", "{}"),) * items,
    )


def opened(epoch: int, writer: str) -> WriterOpened:
    return WriterOpened(
        event_id=EventId(f"{writer}-0"),
        thread_id=ONE,
        occurred_at=3_000_000,
        writer_id=WriterId(writer),
        writer_seq=0,
        epoch=epoch,
    )


def archived(event: str, *, seen: int = 0, version: int | None = None) -> ThreadArchived:
    return ThreadArchived(
        event_id=EventId(event), thread_id=ONE, occurred_at=4_000_000, commands_seen=seen, expected_version=version
    )


def deleted() -> ThreadDeleted:
    return ThreadDeleted(event_id=EventId("deleted"), thread_id=ONE, occurred_at=5_000_000, commands_seen=0)


def closed(seq: int, writer: str) -> WriterClosed:
    return WriterClosed(
        event_id=EventId(f"{writer}-{seq}"),
        thread_id=ONE,
        occurred_at=1,
        writer_id=WriterId(writer),
        writer_seq=seq,
    )
