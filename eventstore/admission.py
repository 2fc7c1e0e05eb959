"""The one rule: whether an event counts, decided from the thread's head, in log order.

Pure. No input or output, clock, randomness or logging: every reader of a log comes to the same verdicts
without asking anybody. A void event (anything but `Admitted`) leaves the head as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple, TypeAlias, assert_never

from eventstore.events import (
    Command,
    Event,
    ItemsAppended,
    MetadataPatched,
    ThreadArchived,
    ThreadCreated,
    ThreadDeleted,
    ThreadUnarchived,
    WriterClosed,
    WriterOpened,
)
from eventstore.ids import EventId, WriterId

PAST_WRITERS = 8
"""How many past writers' last words are remembered: retries of older ones are fenced, not duplicates."""
RECENT_COMMANDS = 64
"""How many command ids are remembered; a command that knows of fewer is stale, for it may be a retry."""
RUN_PARTS = 256
"""The most records one append may take: bounds the head."""


class Lifecycle(StrEnum):
    ABSENT = "absent"
    ACTIVE = "active"
    ARCHIVED = "archived"
    DELETED = "deleted"


class Reason(StrEnum):
    """Why an event is refused."""

    EXISTS = "the thread exists already"
    ABSENT = "the thread does not exist"
    DELETED = "the thread is deleted"
    EPOCH = "another writer was opened in between"
    HOLE = "an earlier event of this writer is missing"
    STALE = "too many commands came in between to tell a retry from a repetition"
    VERSION = "the thread is not at the expected version"
    ARCHIVED = "the thread is archived already"
    NOT_ARCHIVED = "the thread is not archived"


@dataclass(frozen=True, slots=True)
class Admitted:
    """The event counts."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The event is a repetition of one that counts: void, and a success for its sender."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """The event's writer is not the thread's writer any more."""


@dataclass(frozen=True, slots=True)
class Refused:
    reason: Reason


Verdict: TypeAlias = Admitted | Duplicate | Fenced | Refused

ADMITTED, DUPLICATE, FENCED = Admitted(), Duplicate(), Fenced()


class Part(NamedTuple):
    """One record of an append that is not complete yet."""

    offset: int
    items: int


class PastWriter(NamedTuple):
    writer_id: WriterId
    completed_seq: int


@dataclass(frozen=True, slots=True)
class CurrentWriter:
    writer_id: WriterId
    last_seq: int
    last_event_id: EventId
    completed_seq: int
    """Its last seq that is not part of an open run."""
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """All that admission must know of a thread; bounded, about 3 KB at worst."""

    lifecycle: Lifecycle = Lifecycle.ABSENT
    epoch: int = 0
    """How many writers were admitted so far."""
    writer: CurrentWriter | None = None
    past: tuple[PastWriter, ...] = ()
    """The latest past writers, newest last."""
    commands: tuple[EventId, ...] = ()
    """The latest admitted commands, newest last."""
    commands_total: int = 0
    run: tuple[Part, ...] = ()
    """The records of the open run."""
    version: int = 0
    """How often what a reader sees has changed."""
    items: int = 0
    """How many items the thread's history has."""

    @property
    def exists(self) -> bool:
        """Whether there is such a thread: it was created, and not deleted."""
        return self.lifecycle in (Lifecycle.ACTIVE, Lifecycle.ARCHIVED)


NO_THREAD = Head()


def admit(head: Head, event: Event) -> Verdict:
    """Judge the event against its thread's head by rule 1: the first row that fits decides."""
    if _is_repetition(head, event):
        return DUPLICATE
    if head.lifecycle is Lifecycle.DELETED:
        return Refused(Reason.DELETED)
    if isinstance(event, (ThreadCreated, WriterOpened)) and event.writer_seq != 0:
        return Refused(Reason.HOLE)
    absent = head.lifecycle is Lifecycle.ABSENT
    if isinstance(event, ThreadCreated):
        return ADMITTED if absent else Refused(Reason.EXISTS)
    if absent:
        return Refused(Reason.ABSENT)
    match event:
        case WriterOpened():
            return ADMITTED if event.epoch == head.epoch else Refused(Reason.EPOCH)
        case ItemsAppended() | WriterClosed():
            return _admit_writer(head, event)
        case MetadataPatched() | ThreadArchived() | ThreadUnarchived() | ThreadDeleted():
            return _admit_command(head, event)
        case _:
            assert_never(event)


def _is_repetition(head: Head, event: Event) -> bool:
    if isinstance(event, Command):
        return event.event_id in head.commands
    writer = head.writer
    if writer is not None and event.writer_id == writer.writer_id:
        if event.writer_seq == writer.last_seq:
            return event.event_id == writer.last_event_id
        return event.writer_seq < writer.last_seq
    return any(event.writer_id == past.writer_id and event.writer_seq <= past.completed_seq for past in head.past)


def _admit_writer(head: Head, event: ItemsAppended | WriterClosed) -> Verdict:
    writer = head.writer
    if writer is None or writer.closed or event.writer_id != writer.writer_id or event.writer_seq <= writer.last_seq:
        return FENCED
    if event.writer_seq != writer.last_seq + 1:
        return Refused(Reason.HOLE)
    if isinstance(event, ItemsAppended) and event.more and len(head.run) >= RUN_PARTS - 1:
        return Refused(Reason.HOLE)
    return ADMITTED


def _admit_command(head: Head, event: Command) -> Verdict:
    if head.commands_total - event.commands_seen >= RECENT_COMMANDS:
        return Refused(Reason.STALE)
    if event.expected_version is not None and event.expected_version != head.version:
        return Refused(Reason.VERSION)
    if isinstance(event, ThreadArchived) and head.lifecycle is Lifecycle.ARCHIVED:
        return Refused(Reason.ARCHIVED)
    if isinstance(event, ThreadUnarchived) and head.lifecycle is not Lifecycle.ARCHIVED:
        return Refused(Reason.NOT_ARCHIVED)
    return ADMITTED


def advance(head: Head, event: Event, *, offset: int) -> Head:
    """Return the head after an admitted event that lies at `offset`."""
    match event:
        case ThreadCreated():
            writer = CurrentWriter(event.writer_id, event.writer_seq, event.event_id, event.writer_seq)
            return Head(lifecycle=Lifecycle.ACTIVE, epoch=1, writer=writer, version=1, items=1)
        case WriterOpened():
            writer = CurrentWriter(event.writer_id, event.writer_seq, event.event_id, event.writer_seq)
            return replace(head, epoch=head.epoch + 1, writer=writer, past=_with_past(head), run=())
        case ItemsAppended():
            return _advance_items(head, event, offset)
        case WriterClosed():
            assert head.writer is not None
            completed = head.writer.completed_seq if head.run else event.writer_seq
            writer = CurrentWriter(event.writer_id, event.writer_seq, event.event_id, completed, closed=True)
            return replace(head, writer=writer, run=())
        case MetadataPatched():
            return _advance_command(head, event, head.lifecycle)
        case ThreadArchived():
            return _advance_command(head, event, Lifecycle.ARCHIVED)
        case ThreadUnarchived():
            return _advance_command(head, event, Lifecycle.ACTIVE)
        case ThreadDeleted():
            return replace(_advance_command(head, event, Lifecycle.DELETED), run=())
        case _:
            assert_never(event)


def follows(event: object, before: object) -> bool:
    """Whether both are whole appends of one writer, made one after the other: if the first is admitted, so is this.

    As nearly every event of a log is; `advance_all` takes such as one.
    """
    return (
        isinstance(event, ItemsAppended)
        and isinstance(before, ItemsAppended)
        and event.writer_seq == before.writer_seq + 1
        and event.writer_id == before.writer_id
        and not event.more
        and not before.more
    )


def advance_all(head: Head, appends: Sequence[ItemsAppended]) -> Head:
    """Return the head after admitted appends of which each `follows` the one before and none belongs to a run."""
    return _completed(head, appends[-1], appends=len(appends), items=sum([len(append.items) for append in appends]))


def _with_past(head: Head) -> tuple[PastWriter, ...]:
    assert head.writer is not None
    return (*head.past, PastWriter(head.writer.writer_id, head.writer.completed_seq))[-PAST_WRITERS:]


def _advance_items(head: Head, event: ItemsAppended, offset: int) -> Head:
    assert head.writer is not None
    if event.more:
        writer = CurrentWriter(event.writer_id, event.writer_seq, event.event_id, head.writer.completed_seq)
        return replace(head, writer=writer, run=(*head.run, Part(offset, len(event.items))))
    return _completed(head, event, appends=1, items=sum([part.items for part in head.run], start=len(event.items)))


def _completed(head: Head, last: ItemsAppended, *, appends: int, items: int) -> Head:
    # Spelled out, for it is the hot path: `replace` takes three times as long.
    return Head(
        head.lifecycle,
        head.epoch,
        CurrentWriter(last.writer_id, last.writer_seq, last.event_id, last.writer_seq),
        head.past,
        head.commands,
        head.commands_total,
        (),
        head.version + appends,
        head.items + items,
    )


def _advance_command(head: Head, event: Command, lifecycle: Lifecycle) -> Head:
    return replace(
        head,
        lifecycle=lifecycle,
        commands=(*head.commands, event.event_id)[-RECENT_COMMANDS:],
        commands_total=head.commands_total + 1,
        version=head.version + 1,
    )
