"""Laws of `admit` and `advance`, for any events whatever: senders may be broken, verdicts may not."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any, assert_never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore import admission
from eventstore.admission import NO_THREAD, Admitted, Duplicate, Fenced, Head, Lifecycle, Refused, admit, advance
from eventstore.events import (
    Event,
    Item,
    ItemsAppended,
    MetadataPatched,
    ThreadArchived,
    ThreadCreated,
    ThreadDeleted,
    ThreadUnarchived,
    WriterClosed,
    WriterOpened,
)

ITEM = Item(0, "response_item", "{}")
FEW = st.integers(-1, 4)
"""Seqs, epochs and versions that meet often."""

ENVELOPE: dict[str, Any] = {
    "event_id": st.sampled_from([f"e{number}" for number in range(12)]),
    "thread_id": st.just("t"),
    "occurred_at": st.just(0),
    "actor": st.none(),
    "rule": st.just(1),
}
SAID = {**ENVELOPE, "writer_id": st.sampled_from("ABC"), "writer_seq": FEW}
COMMANDED = {**ENVELOPE, "commands_seen": FEW, "expected_version": st.none() | FEW}
REASON = st.none()

CREATED = st.builds(ThreadCreated, **SAID, session_meta=st.just(ITEM), forked_from_id=st.none())
APPENDED = st.builds(ItemsAppended, **SAID, items=st.sampled_from([(), (ITEM,), (ITEM, ITEM)]), more=st.booleans())
OPENED = st.builds(WriterOpened, **SAID, epoch=FEW, replaces=st.none())
PATCHED = st.builds(MetadataPatched, **COMMANDED, fields=st.just(()))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    APPENDED,
    APPENDED,
    APPENDED,
    PATCHED,
    PATCHED,
    OPENED,
    OPENED,
    CREATED,
    st.builds(WriterClosed, **SAID),
    st.builds(ThreadArchived, **COMMANDED, reason=REASON),
    st.builds(ThreadUnarchived, **COMMANDED, reason=REASON),
    st.builds(ThreadDeleted, **COMMANDED, reason=REASON),
)


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Any events at all, most of them made to fit what came before."""
    begun = draw(st.sampled_from([True, True, True, False]))
    log: list[Event] = [replace(draw(CREATED), writer_seq=0)] if begun else []
    head, _ = fold(log)
    steps = st.tuples(EVENTS, st.sampled_from([True, True, True, False]))
    for event, fits in draw(st.lists(steps, min_size=draw(st.sampled_from([0, 12])), max_size=30)):
        log.append(fitted(head, event) if fits else event)
        if isinstance(admit(head, log[-1]), Admitted):
            head = advance(head, log[-1], offset=len(log) - 1)
    return log


def fitted(head: Head, event: Event) -> Event:
    match event:
        case ThreadCreated():
            return replace(event, writer_seq=0)
        case WriterOpened():
            return replace(event, writer_seq=0, epoch=head.epoch)
        case ItemsAppended() | WriterClosed() if head.writer is not None:
            return replace(event, writer_id=head.writer.writer_id, writer_seq=head.writer.last_seq + 1)
        case MetadataPatched() | ThreadArchived() | ThreadUnarchived() | ThreadDeleted():
            return replace(event, commands_seen=head.commands_total, expected_version=None)
        case _:
            return event


@pytest.fixture(autouse=True, scope="module")
def a_short_memory() -> Any:
    """Bounds that short logs reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission, "PAST_WRITERS", 1)
        patch.setattr(admission, "RECENT_COMMANDS", 2)
        patch.setattr(admission, "RUN_PARTS", 3)
        yield


def fold(events: list[Event]) -> tuple[Head, list[Event]]:
    """The head after a log, and the events that count."""
    head, counted = NO_THREAD, []
    for offset, event in enumerate(events):
        if isinstance(admit(head, event), Admitted):
            head = advance(head, event, offset=offset)
            counted.append(event)
    return head, counted


def without_offsets(head: Head) -> Head:
    parts = tuple(part._replace(offset=0) for part in head.run)
    return Head(**{name: getattr(head, name) for name in Head.__slots__} | {"run": parts})


ON_ANY_LOG = given(logs())


@given(logs(), EVENTS)
def test_every_event_has_a_verdict(events: list[Event], event: Event) -> None:
    verdict = admit(fold(events)[0], event)
    match verdict:
        case Admitted() | Duplicate() | Fenced() | Refused():
            assert verdict == admit(fold(events)[0], event)
        case _:
            assert_never(verdict)


@ON_ANY_LOG
def test_the_events_that_count_alone_give_the_same_head(events: list[Event]) -> None:
    """Void events leave the head as it was; a copied log means the same."""
    head, counted = fold(events)
    assert without_offsets(fold(counted)[0]) == without_offsets(head)
    assert fold(counted)[1] == counted


@ON_ANY_LOG
def test_void_events_between_the_others_change_nothing(events: list[Event]) -> None:
    head, counted = fold(events)
    void = [event for event in events if not isinstance(admit(head, event), Admitted)]
    assert without_offsets(fold(counted + void)[0]) == without_offsets(head)


@ON_ANY_LOG
def test_an_event_that_counts_is_not_admitted_again_at_once(events: list[Event]) -> None:
    """A retry finds the head it left: it is a repetition, whatever the event was."""
    head = NO_THREAD
    for offset, event in enumerate(events):
        if isinstance(admit(head, event), Admitted):
            head = advance(head, event, offset=offset)
            assert admit(head, event) == Duplicate()


@ON_ANY_LOG
def test_a_head_stays_within_its_bounds(events: list[Event]) -> None:
    head, _ = fold(events)
    assert len(head.past) <= admission.PAST_WRITERS
    assert len(head.commands) <= min(admission.RECENT_COMMANDS, head.commands_total)
    assert len(head.run) < admission.RUN_PARTS


@ON_ANY_LOG
def test_versions_epochs_items_and_commands_never_go_back(events: list[Event]) -> None:
    numbers = [
        (head.version, head.epoch, head.items, head.commands_total)
        for head in (fold(events[:length])[0] for length in range(len(events) + 1))
    ]
    for earlier, later in pairwise(numbers):
        assert all(before <= after <= before + 8 for before, after in zip(earlier, later, strict=True))


@ON_ANY_LOG
def test_a_run_is_open_only_while_its_writer_may_go_on(events: list[Event]) -> None:
    head, _ = fold(events)
    if head.run:
        assert head.lifecycle in (Lifecycle.ACTIVE, Lifecycle.ARCHIVED)
        assert head.writer is not None
        assert not head.writer.closed
        assert head.writer.completed_seq < head.writer.last_seq


@ON_ANY_LOG
def test_the_dead_stay_dead(events: list[Event]) -> None:
    head, counted = fold(events)
    deletions = [event for event in counted if isinstance(event, ThreadDeleted)]
    assert len(deletions) == (head.lifecycle is Lifecycle.DELETED)
    assert not deletions or counted[-1] is deletions[0]


def test_the_laws_are_tried_on_logs_that_matter() -> None:
    seen: Counter[str] = Counter()

    @given(logs())
    def look(events: list[Event]) -> None:
        head, counted = fold(events)
        seen["longest run"] += any(len(fold(events[:end])[0].run) == 2 for end in range(len(events)))
        seen["forgotten writer"] += head.epoch > 1 + admission.PAST_WRITERS
        seen["forgotten command"] += head.commands_total > admission.RECENT_COMMANDS
        seen["words to the dead"] += head.lifecycle is Lifecycle.DELETED and not isinstance(events[-1], ThreadDeleted)
        seen["closed"] += head.writer is not None and head.writer.closed
        seen["void events"] += len(events) - len(counted) > 3

    look()

    assert {what: times for what, times in seen.items() if times == 0} == {}
