"""What can happen to a thread: one frozen value per kind of event.

Items are opaque here: their payload is JSON text, never looked into. Only `codec` knows how an event
looks on the wire; only `admission` knows whether it counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

from eventstore.ids import EventId, ThreadId, WriterId

RULE = 1
"""The admission rule which events of this version ask to be judged by."""


class Item(NamedTuple):
    """One line of a conversation.

    A NamedTuple where other values are dataclasses: histories make tens of thousands of them.
    """

    at: int
    """When it was written, milliseconds since the epoch (the sender's clock)."""
    type: str
    payload: str
    """JSON text, as it came."""
    extras: str | None = None
    """A JSON object with the rollout line's other keys, as they came."""


new_item = partial(tuple.__new__, Item)
"""Makes an item of a tuple of all its fields, in a third of the time."""


class Field(NamedTuple):
    """One metadata field of a patch; a value of None clears it."""

    name: str
    value: str | None
    """JSON text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What every event carries."""

    event_id: EventId
    thread_id: ThreadId
    occurred_at: int
    """Microseconds since the epoch by the sender's clock: shown, never trusted for order."""
    actor: str | None = None
    rule: int = RULE


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterEvent(Envelope):
    """A live writer's word; `writer_seq` says its how-manieth."""

    writer_id: WriterId
    writer_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Envelope):
    """Anyone's word about a thread; `commands_seen` is how many of them the sender knew of."""

    commands_seen: int
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadCreated(WriterEvent):
    session_meta: Item
    forked_from_id: ThreadId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOpened(WriterEvent):
    epoch: int
    """How many writers the thread had been granted when this one asked."""
    replaces: WriterId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsAppended(WriterEvent):
    items: tuple[Item, ...]
    more: bool = False
    """The append continues in the writer's next event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterClosed(WriterEvent):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataPatched(Command):
    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadArchived(Command):
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadUnarchived(Command):
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadDeleted(Command):
    reason: str | None = None


Event: TypeAlias = (
    ThreadCreated
    | WriterOpened
    | ItemsAppended
    | WriterClosed
    | MetadataPatched
    | ThreadArchived
    | ThreadUnarchived
    | ThreadDeleted
)


def items_of(event: Event) -> tuple[Item, ...]:
    """Return the items which the event bears (the session_meta of a created thread is its item 0)."""
    if isinstance(event, ItemsAppended):
        return event.items
    return (event.session_meta,) if isinstance(event, ThreadCreated) else ()
