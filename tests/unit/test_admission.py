"""Rule 1, row by row: what a thread has been through, an event, the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from eventstore.admission import (
    ADMITTED,
    DUPLICATE,
    FENCED,
    NO_THREAD,
    PAST_WRITERS,
    RECENT_COMMANDS,
    RUN_PARTS,
    Admitted,
    Head,
    Lifecycle,
    PastWriter,
    Reason,
    Refused,
    Verdict,
    admit,
    advance,
)
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
from eventstore.ids import EventId, ThreadId, WriterId

THREAD = ThreadId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10")
ITEM = Item(0, "response_item", "{}")


def created(writer: str = "A", event_id: str = "", *, seq: int = 0) -> ThreadCreated:
    return ThreadCreated(**_said(writer, seq, event_id), session_meta=ITEM)


def opened(writer: str, epoch: int, event_id: str = "", *, seq: int = 0) -> WriterOpened:
    return WriterOpened(**_said(writer, seq, event_id), epoch=epoch)


def appended(writer: str, seq: int, event_id: str = "", *, items: int = 1, more: bool = False) -> ItemsAppended:
    return ItemsAppended(**_said(writer, seq, event_id), items=(ITEM,) * items, more=more)


def part(writer: str, seq: int, event_id: str = "", *, items: int = 1) -> ItemsAppended:
    return appended(writer, seq, event_id, items=items, more=True)


def closed(writer: str, seq: int) -> WriterClosed:
    return WriterClosed(**_said(writer, seq))


def patched(event_id: str, *, seen: int = 0, expected: int | None = None) -> MetadataPatched:
    return MetadataPatched(**_commanded(event_id, seen, expected), fields=())


def archived(event_id: str, *, seen: int = 0, expected: int | None = None) -> ThreadArchived:
    return ThreadArchived(**_commanded(event_id, seen, expected))


def unarchived(event_id: str, *, seen: int = 0, expected: int | None = None) -> ThreadUnarchived:
    return ThreadUnarchived(**_commanded(event_id, seen, expected))


def deleted(event_id: str, *, seen: int = 0, expected: int | None = None) -> ThreadDeleted:
    return ThreadDeleted(**_commanded(event_id, seen, expected))


def _said(writer: str, seq: int, event_id: str = "") -> dict[str, Any]:
    return {
        "event_id": EventId(event_id or f"{writer}{seq}"),
        "thread_id": THREAD,
        "occurred_at": 0,
        "writer_id": WriterId(writer),
        "writer_seq": seq,
    }


def _commanded(event_id: str, seen: int, expected: int | None) -> dict[str, Any]:
    return {
        "event_id": EventId(event_id),
        "thread_id": THREAD,
        "occurred_at": 0,
        "commands_seen": seen,
        "expected_version": expected,
    }


def after(*events: Event, head: Head = NO_THREAD) -> Head:
    """The head of a thread of which exactly these events count."""
    for offset, event in enumerate(events):
        assert admit(head, event) == ADMITTED, event
        head = advance(head, event, offset=offset)
    return head


def patches(many: int) -> list[MetadataPatched]:
    return [patched(f"c{number}", seen=number) for number in range(many)]


def writers(many: int) -> list[ThreadCreated | WriterOpened]:
    """So many writers after each other, named 0, 1, …"""
    return [created("0"), *(opened(str(epoch), epoch) for epoch in range(1, many))]


class Row(NamedTuple):
    promise: str
    past: Sequence[Event]
    event: Event
    verdict: Verdict


ROW_1_REPETITIONS = [
    Row("the creation again", [created()], created(), DUPLICATE),
    Row("the last word again", [created(), appended("A", 1)], appended("A", 1), DUPLICATE),
    Row("an earlier word again", [created(), appended("A", 1), appended("A", 2)], appended("A", 1), DUPLICATE),
    Row("the creation again, later", [created(), appended("A", 1)], created(), DUPLICATE),
    Row("the opening again", [created(), opened("B", 1)], opened("B", 1), DUPLICATE),
    Row("the closing again", [created(), closed("A", 1)], closed("A", 1), DUPLICATE),
    Row("an append again, closed since", [created(), appended("A", 1), closed("A", 2)], appended("A", 1), DUPLICATE),
    Row("a part again, in mid-run", [created(), part("A", 1)], part("A", 1), DUPLICATE),
    Row("a past writer's append", [created(), appended("A", 1), opened("B", 1)], appended("A", 1), DUPLICATE),
    Row("a past writer's creation", [created(), opened("B", 1)], created(), DUPLICATE),
    Row("a past writer's closing", [created(), closed("A", 1), opened("B", 1)], closed("A", 1), DUPLICATE),
    Row("a past writer's opening", [created(), opened("B", 1), opened("C", 2)], opened("B", 1), DUPLICATE),
    Row("a past writer's dropped part", [created(), part("A", 1), opened("B", 1)], part("A", 1), FENCED),
    Row("a command again", [created(), patched("c")], patched("c"), DUPLICATE),
    Row("a command again, not the last", [created(), patched("c"), archived("d", seen=1)], patched("c"), DUPLICATE),
    Row("an archive again, unarchived since", [created(), archived("c"), unarchived("d")], archived("c"), DUPLICATE),
]

ROWS_2_TO_4_LIFECYCLES = [
    Row("an append to a deleted thread", [created(), deleted("d")], appended("A", 1), Refused(Reason.DELETED)),
    Row("a takeover of a deleted thread", [created(), deleted("d")], opened("B", 1), Refused(Reason.DELETED)),
    Row("a patch of a deleted thread", [created(), deleted("d")], patched("c", seen=1), Refused(Reason.DELETED)),
    Row("a second delete", [created(), deleted("d")], deleted("e", seen=1), Refused(Reason.DELETED)),
    Row("the creation of a deleted thread", [created(), deleted("d")], created("B"), Refused(Reason.DELETED)),
    Row("a creation", [], created(), ADMITTED),
    Row("a creation by another", [created()], created("B"), Refused(Reason.EXISTS)),
    Row("a creation by another, archived since", [created(), archived("c")], created("B"), Refused(Reason.EXISTS)),
    Row("a creation that is no first word", [], created(seq=1), Refused(Reason.HOLE)),
    Row("a takeover of no thread", [], opened("A", 0), Refused(Reason.ABSENT)),
    Row("an append to no thread", [], appended("A", 1), Refused(Reason.ABSENT)),
    Row("a closing of no thread", [], closed("A", 1), Refused(Reason.ABSENT)),
    Row("a patch of no thread", [], patched("c"), Refused(Reason.ABSENT)),
    Row("a delete of no thread", [], deleted("d"), Refused(Reason.ABSENT)),
]

ROW_5_TAKEOVERS = [
    Row("a takeover of a live writer", [created()], opened("B", 1), ADMITTED),
    Row("a takeover of a closed writer", [created(), closed("A", 1)], opened("B", 1), ADMITTED),
    Row("a takeover in mid-run", [created(), part("A", 1)], opened("B", 1), ADMITTED),
    Row("a takeover of an archived thread", [created(), archived("c")], opened("B", 1), ADMITTED),
    Row("a takeover that lost the race", [created(), opened("B", 1)], opened("C", 1), Refused(Reason.EPOCH)),
    Row("a takeover from the future", [created()], opened("B", 2), Refused(Reason.EPOCH)),
    Row("a takeover that is no first word", [created()], opened("B", 1, seq=1), Refused(Reason.HOLE)),
]

ROWS_6_TO_8_WRITERS = [
    Row("an append", [created()], appended("A", 1), ADMITTED),
    Row("an empty append", [created()], appended("A", 1, items=0), ADMITTED),
    Row("an append to an archived thread", [created(), archived("c")], appended("A", 1), ADMITTED),
    Row("an append by whoever took over", [created(), opened("B", 1)], appended("B", 1), ADMITTED),
    Row("an append by a stranger", [created()], appended("X", 1), FENCED),
    Row("an append by a past writer", [created(), opened("B", 1)], appended("A", 1), FENCED),
    Row("a closing by a past writer", [created(), opened("B", 1)], closed("A", 1), FENCED),
    Row("an append after closing", [created(), closed("A", 1)], appended("A", 2), FENCED),
    Row("an append after closing, with a gap", [created(), closed("A", 1)], appended("A", 9), FENCED),
    Row("another event of the last seq", [created(), appended("A", 1)], appended("A", 1, "other"), FENCED),
    Row("a closing of the last seq", [created(), appended("A", 1, "append")], closed("A", 1), FENCED),
    Row("an append that came before its opening", [created()], appended("B", 1), FENCED),
    Row("a seq left out", [created()], appended("A", 2), Refused(Reason.HOLE)),
    Row("a closing with a seq left out", [created()], closed("A", 2), Refused(Reason.HOLE)),
    Row("a part left out", [created(), part("A", 1)], part("A", 3), Refused(Reason.HOLE)),
    Row("a part", [created()], part("A", 1), ADMITTED),
    Row("the next part", [created(), part("A", 1)], part("A", 2), ADMITTED),
    Row("the last part", [created(), part("A", 1)], appended("A", 2), ADMITTED),
    Row("a closing in mid-run", [created(), part("A", 1)], closed("A", 2), ADMITTED),
    Row("a closing", [created()], closed("A", 1), ADMITTED),
]

ROWS_9_AND_10_COMMANDS = [
    Row("a patch", [created()], patched("c"), ADMITTED),
    Row("a patch of an archived thread", [created(), archived("a")], patched("c", seen=1), ADMITTED),
    Row("a patch in mid-run", [created(), part("A", 1)], patched("c"), ADMITTED),
    Row("a patch that knew of 63 fewer", [created(), *patches(63)], patched("c", seen=0), ADMITTED),
    Row("a patch that knew of 64 fewer", [created(), *patches(64)], patched("c", seen=0), Refused(Reason.STALE)),
    Row("a delete that knew of 64 fewer", [created(), *patches(64)], deleted("d", seen=0), Refused(Reason.STALE)),
    Row("a patch at the expected version", [created()], patched("c", expected=1), ADMITTED),
    Row("a patch at another version", [created()], patched("c", expected=2), Refused(Reason.VERSION)),
    Row("a delete at another version", [created()], deleted("d", expected=0), Refused(Reason.VERSION)),
    Row("an archive", [created()], archived("c"), ADMITTED),
    Row("an archive while a writer is open", [created(), opened("B", 1)], archived("c"), ADMITTED),
    Row("an archive of an archived thread", [created(), archived("a")], archived("c"), Refused(Reason.ARCHIVED)),
    Row("an unarchive", [created(), archived("a")], unarchived("c"), ADMITTED),
    Row("an unarchive of an active thread", [created()], unarchived("c"), Refused(Reason.NOT_ARCHIVED)),
    Row("a delete", [created()], deleted("d"), ADMITTED),
    Row("a delete of an archived thread", [created(), archived("a")], deleted("d"), ADMITTED),
]

THE_FIRST_ROW_THAT_FITS = [
    Row("repetition before deleted: an append", [created(), deleted("d")], created(), DUPLICATE),
    Row("repetition before deleted: the delete", [created(), deleted("d")], deleted("d"), DUPLICATE),
    Row("repetition before epoch", [created(), opened("B", 1)], opened("B", 1), DUPLICATE),
    Row("repetition before fenced", [created(), appended("A", 1), closed("A", 2)], appended("A", 1), DUPLICATE),
    Row("repetition before stale", [created(), *patches(64)], patched("c0"), DUPLICATE),
    Row("repetition before version", [created(), patched("c", expected=1)], patched("c", expected=1), DUPLICATE),
    Row("repetition before archived", [created(), archived("c")], archived("c"), DUPLICATE),
    Row("deleted before exists", [created(), deleted("d")], created("B"), Refused(Reason.DELETED)),
    Row("deleted before epoch", [created(), deleted("d")], opened("B", 7), Refused(Reason.DELETED)),
    Row("deleted before fenced", [created(), deleted("d")], appended("X", 1), Refused(Reason.DELETED)),
    Row("absent before stale", [], patched("c", seen=-64), Refused(Reason.ABSENT)),
    Row("fenced before hole", [created()], appended("X", 9), FENCED),
    Row("stale before version", [created(), *patches(64)], patched("c", expected=1), Refused(Reason.STALE)),
    Row("version before archived", [created(), archived("a")], archived("c", expected=1), Refused(Reason.VERSION)),
]

RULE_1 = [
    *ROW_1_REPETITIONS,
    *ROWS_2_TO_4_LIFECYCLES,
    *ROW_5_TAKEOVERS,
    *ROWS_6_TO_8_WRITERS,
    *ROWS_9_AND_10_COMMANDS,
    *THE_FIRST_ROW_THAT_FITS,
]


@pytest.mark.parametrize("row", RULE_1, ids=lambda row: row.promise.replace(" ", "-"))
def test_the_first_row_that_fits_decides(row: Row) -> None:
    assert admit(after(*row.past), row.event) == row.verdict


def test_every_reason_is_in_the_table() -> None:
    assert {row.verdict.reason for row in RULE_1 if isinstance(row.verdict, Refused)} == set(Reason)


@pytest.mark.parametrize("row", RULE_1, ids=lambda row: row.promise.replace(" ", "-"))
def test_a_verdict_can_be_asked_for_again(row: Row) -> None:
    """A head is a value: judging leaves it as it was, whatever the verdict."""
    head = after(*row.past)
    assert admit(head, row.event) == admit(head, row.event)
    assert head == after(*row.past)


def test_an_absent_thread_has_no_writer_no_version_and_no_items() -> None:
    assert Head() == NO_THREAD
    assert (NO_THREAD.lifecycle, NO_THREAD.epoch, NO_THREAD.version, NO_THREAD.items) == (Lifecycle.ABSENT, 0, 0, 0)


def test_a_created_thread_is_at_version_1_with_its_session_meta_as_item_0() -> None:
    head = after(created("A"))
    assert (head.lifecycle, head.epoch, head.version, head.items) == (Lifecycle.ACTIVE, 1, 1, 1)
    assert head.writer is not None
    assert (head.writer.writer_id, head.writer.last_seq, head.writer.closed) == ("A", 0, False)


@pytest.mark.parametrize(
    ("event", "counts"),
    [
        (appended("A", 1), 1),
        (appended("A", 1, items=0), 1),
        (part("A", 1), 0),
        (opened("B", 1), 0),
        (closed("A", 1), 0),
        (patched("c"), 1),
        (archived("c"), 1),
        (deleted("c"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_version_counts_what_a_reader_sees(event: Event, counts: int) -> None:
    assert after(created(), event).version == 1 + counts


def test_an_unarchive_counts_one_version_too() -> None:
    assert after(created(), archived("a"), unarchived("u")).version == 3


def test_the_lifecycle_follows_the_commands() -> None:
    lifecycles = [
        after(created(), *commands).lifecycle
        for commands in ([archived("a")], [archived("a"), unarchived("u")], [archived("a"), deleted("d")])
    ]
    assert lifecycles == [Lifecycle.ARCHIVED, Lifecycle.ACTIVE, Lifecycle.DELETED]


def test_a_run_takes_effect_at_its_last_part_and_counts_once() -> None:
    open_run = after(created(), part("A", 1, items=2), part("A", 2, items=3))
    assert (open_run.items, open_run.version) == (1, 1)
    assert [tuple(record) for record in open_run.run] == [(1, 2), (2, 3)]

    complete = after(appended("A", 3, items=4), head=open_run)
    assert (complete.items, complete.version, complete.run) == (1 + 2 + 3 + 4, 2, ())


def test_commands_may_stand_between_the_parts_of_a_run() -> None:
    head = after(created(), part("A", 1), archived("c"), part("A", 2), patched("d", seen=1), appended("A", 3))
    assert (head.items, head.version, head.lifecycle) == (4, 4, Lifecycle.ARCHIVED)


def test_a_command_between_the_parts_sees_the_version_before_the_run() -> None:
    head = after(created(), part("A", 1))
    assert admit(head, patched("c", expected=1)) == ADMITTED
    assert admit(after(patched("c"), head=head), patched("d", expected=1)) == Refused(Reason.VERSION)


@pytest.mark.parametrize("dropping", [opened("B", 1), closed("A", 2), deleted("d")], ids=["takeover", "close", "end"])
def test_an_open_run_is_dropped(dropping: Event) -> None:
    head = after(created(), part("A", 1, items=5), dropping)
    assert (head.run, head.items) == ((), 1)


def test_an_archive_drops_no_run() -> None:
    assert len(after(created(), part("A", 1), archived("c")).run) == 1


def test_what_a_past_writer_completed_is_repetition_and_its_open_run_is_fenced() -> None:
    head = after(created("A"), appended("A", 1), part("A", 2), part("A", 3), opened("B", 1))

    assert head.past == (PastWriter(WriterId("A"), 1),)
    verdicts = [admit(head, event) for event in (appended("A", 1), part("A", 2), part("A", 3), appended("A", 4))]
    assert verdicts == [DUPLICATE, FENCED, FENCED, FENCED]


def test_a_run_completed_before_a_takeover_is_repetition_in_all_its_parts() -> None:
    head = after(created("A"), part("A", 1), appended("A", 2), opened("B", 1))
    assert [admit(head, event) for event in (part("A", 1), appended("A", 2))] == [DUPLICATE, DUPLICATE]


def test_a_writer_closed_in_mid_run_completed_nothing_of_the_run() -> None:
    head = after(created("A"), appended("A", 1), part("A", 2), closed("A", 3))
    assert head.writer is not None
    assert (head.writer.closed, head.writer.completed_seq) == (True, 1)
    assert after(opened("B", 1), head=head).past == (PastWriter(WriterId("A"), 1),)


def test_a_writer_closed_between_appends_completed_its_closing() -> None:
    head = after(created("A"), appended("A", 1), closed("A", 2), opened("B", 1))
    assert head.past == (PastWriter(WriterId("A"), 2),)


def test_the_next_writer_starts_counting_at_its_opening() -> None:
    head = after(created("A"), appended("A", 1), opened("B", 1), appended("B", 1))
    assert (head.epoch, head.items, head.version) == (2, 3, 3)


def test_only_one_of_two_takeovers_at_the_same_time_counts() -> None:
    both = [opened("B", 1), opened("C", 1)]
    head = after(created("A"))
    winners = 0
    for offset, event in enumerate(both, start=1):
        if isinstance(admit(head, event), Admitted):
            head = advance(head, event, offset=offset)
            winners += 1
    assert winners == 1


def test_the_last_words_of_8_past_writers_are_remembered() -> None:
    head = after(*writers(PAST_WRITERS + 2))

    assert PAST_WRITERS == 8
    assert [past.writer_id for past in head.past] == [str(number) for number in range(1, PAST_WRITERS + 1)]
    assert admit(head, opened("1", 1)) == DUPLICATE


def test_a_forgotten_writer_adds_nothing_all_the_same() -> None:
    head = after(created("0"), appended("0", 1), *writers(PAST_WRITERS + 3)[1:])
    verdicts = [admit(head, event) for event in (created("0"), appended("0", 1), appended("0", 2), opened("1", 1))]
    assert verdicts == [Refused(Reason.EXISTS), FENCED, FENCED, Refused(Reason.EPOCH)]


def test_64_commands_are_remembered_and_all_are_counted() -> None:
    head = after(created(), *patches(RECENT_COMMANDS + 6))

    assert RECENT_COMMANDS == 64
    assert (len(head.commands), head.commands[0], head.commands[-1]) == (64, "c6", "c69")
    assert head.commands_total == 70


def test_no_command_is_forgotten_before_its_repetition_is_stale() -> None:
    """Whatever was said since, a command sent again is a repetition or stale: it never counts twice."""
    first = patched("first", seen=0)
    head = after(created(), first)
    for later in patches(RECENT_COMMANDS + 2):
        assert admit(head, first) in (DUPLICATE, Refused(Reason.STALE))
        head = after(later, head=head)
    assert admit(head, first) == Refused(Reason.STALE)


def test_a_run_has_at_most_256_parts() -> None:
    nearly = after(created(), *(part("A", seq) for seq in range(1, RUN_PARTS)))

    assert RUN_PARTS == 256
    assert len(nearly.run) == RUN_PARTS - 1
    assert admit(nearly, part("A", RUN_PARTS)) == Refused(Reason.HOLE)
    assert after(appended("A", RUN_PARTS), head=nearly).items == 1 + RUN_PARTS


def test_a_run_that_grew_too_long_can_be_closed_or_taken_over() -> None:
    nearly = after(created(), *(part("A", seq) for seq in range(1, RUN_PARTS)))
    assert [admit(nearly, event) for event in (closed("A", RUN_PARTS), opened("B", 1))] == [ADMITTED, ADMITTED]


def test_nothing_but_repetitions_is_heard_after_a_delete() -> None:
    head = after(created("A"), appended("A", 1), archived("a"), deleted("d", seen=1))
    news: list[Event] = [created("B"), opened("B", 1), appended("A", 2), patched("c"), unarchived("u"), deleted("e")]
    old: list[Event] = [appended("A", 1), archived("a"), deleted("d")]
    assert {admit(head, event) for event in news} == {Refused(Reason.DELETED)}
    assert {admit(head, event) for event in old} == {DUPLICATE}
