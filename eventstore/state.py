"""One thread, folded: the head that admission needs and the summary that readers see, event by event.

Pure. The projector stores these states; a reader whose views lag folds the rest of the log by the same `step`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, NamedTuple, assert_never

from eventstore.admission import (
    NO_THREAD,
    Admitted,
    CurrentWriter,
    Head,
    Lifecycle,
    Part,
    PastWriter,
    Verdict,
    admit,
    advance,
    advance_all,
)
from eventstore.codex.metadata import (
    EMPTY,
    NO_FACTS,
    Facts,
    Summary,
    apply_archived,
    apply_facts,
    apply_patch,
    apply_unarchived,
    observe,
)
from eventstore.events import (
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


class IndexEntry(NamedTuple):
    """One admitted record that bears items, and where they stand in the history."""

    offset: int
    ordinal: int
    """Of its first item."""
    items: int


def spanned(span: slice, total: int) -> tuple[int, int]:
    """Return which items, start <= ordinal < stop, the span means of a thread that has so many."""
    start, stop, _ = span.indices(total)
    return start, max(start, stop)


@dataclass(frozen=True, slots=True)
class ThreadState:
    """All that is kept of one thread."""

    head: Head = NO_THREAD
    summary: Summary = EMPTY
    run_facts: Facts = NO_FACTS
    """What the records of the open run say; it counts when the run is complete."""
    start: int = -1
    """The offset of the thread's first admitted record."""
    frozen: str | None = None
    """Why nothing can be folded any more; None for every healthy thread."""


UNKNOWN_THREAD = ThreadState()


def for_verdicts(state: ThreadState) -> ThreadState:
    """Return what later verdicts depend on: without the summary, which takes most of the memory."""
    return replace(state, summary=EMPTY)


class Step(NamedTuple):
    """What one event did."""

    state: ThreadState
    verdict: Verdict
    indexed: tuple[IndexEntry, ...] = ()
    """The records whose items count from now on."""


def step(state: ThreadState, event: Event, *, offset: int) -> Step:
    """Judge the event that lies at `offset` and fold it if it counts, upon a state that is not frozen."""
    verdict = admit(state.head, event)
    if not isinstance(verdict, Admitted):
        return Step(state, verdict)
    head = advance(state.head, event, offset=offset)
    match event:
        case ItemsAppended():
            return _fold_items(state, head, event, verdict, offset)
        case ThreadCreated():
            begun = EMPTY if event.forked_from_id is None else replace(EMPTY, forked_from_id=event.forked_from_id)
            summary = apply_facts(begun, observe(event.thread_id, (event.session_meta,)))
            return Step(ThreadState(head=head, summary=summary, start=offset), verdict, (IndexEntry(offset, 0, 1),))
        case WriterOpened() | WriterClosed():
            return Step(replace(state, head=head, run_facts=NO_FACTS), verdict)
        case MetadataPatched():
            summary = apply_patch(state.summary, event.fields, event.occurred_at)
        case ThreadArchived():
            summary = apply_archived(state.summary, event.occurred_at)
        case ThreadUnarchived():
            summary = apply_unarchived(state.summary, event.occurred_at)
        case ThreadDeleted():
            return Step(ThreadState(head=head, start=state.start), verdict)
        case _:
            assert_never(event)
    return Step(replace(state, head=head, summary=summary), verdict)


def _fold_items(state: ThreadState, head: Head, event: ItemsAppended, verdict: Verdict, offset: int) -> Step:
    facts = observe(event.thread_id, event.items)
    if state.head.run:
        facts = state.run_facts.then(facts)
    if event.more:
        return Step(replace(state, head=head, run_facts=facts), verdict)
    ordinal = state.head.items
    indexed = []
    for part in (*state.head.run, Part(offset, len(event.items))):
        if part.items:
            indexed.append(IndexEntry(part.offset, ordinal, part.items))
        ordinal += part.items
    summary = apply_facts(state.summary, facts)
    return Step(ThreadState(head=head, summary=summary, start=state.start), verdict, tuple(indexed))


def step_all(state: ThreadState, appends: Sequence[tuple[int, ItemsAppended]]) -> Step | None:
    """Do at once what `step` does for appends, each with its offset, of which each `follows` the one before.

    None if the first is not admitted, or completes a run: then they have to be taken one by one.
    """
    if state.head.run or not isinstance(verdict := admit(state.head, appends[0][1]), Admitted):
        return None
    events = [event for _, event in appends]
    facts = observe(events[0].thread_id, chain.from_iterable([event.items for event in events]))
    indexed, ordinal = [], state.head.items
    for offset, event in appends:
        if event.items:
            indexed.append(IndexEntry(offset, ordinal, len(event.items)))
            ordinal += len(event.items)
    head, summary = advance_all(state.head, events), apply_facts(state.summary, facts)
    return Step(ThreadState(head=head, summary=summary, start=state.start), verdict, tuple(indexed))


def freeze(state: ThreadState, why: str, *, offset: int) -> ThreadState:
    """Return the state of a thread whose record at `offset` cannot be understood; a dead thread stays what it is."""
    if state.head.lifecycle is Lifecycle.DELETED:
        return state
    start = state.start if state.start >= 0 else offset
    return replace(state, frozen=f"the record at offset {offset} cannot be understood: {why}", start=start)


def head_to_json(head: Head) -> list[Any]:
    """Return the head as nested lists, for storage."""
    writer = head.writer
    return [
        head.lifecycle.value,
        head.epoch,
        None
        if writer is None
        else [writer.writer_id, writer.last_seq, writer.last_event_id, writer.completed_seq, writer.closed],
        [list(past) for past in head.past],
        list(head.commands),
        head.commands_total,
        [list(part) for part in head.run],
        head.version,
        head.items,
    ]


def head_from_json(stored: list[Any]) -> Head:
    """Return the head that `head_to_json` stored."""
    lifecycle, epoch, writer, past, commands, total, run, version, items = stored
    return Head(
        lifecycle=Lifecycle(lifecycle),
        epoch=epoch,
        writer=None if writer is None else CurrentWriter(*writer),
        past=tuple(PastWriter(*p) for p in past),
        commands=tuple(commands),
        commands_total=total,
        run=tuple(Part(*p) for p in run),
        version=version,
        items=items,
    )
