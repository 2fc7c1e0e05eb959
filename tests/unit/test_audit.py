"""What an audit says of each record, and from where on it says it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from random import Random

import pytest

from eventstore.admission import PAST_WRITERS
from eventstore.audit import EventRecord, audit, parse_position
from eventstore.codec import ForeignRecord, UnreadableRecord
from eventstore.documents.items import Position
from eventstore.errors import InvalidRequest
from eventstore.events import Event, ThreadDeleted
from eventstore.ids import EventId, ThreadId
from eventstore.ports import Entry
from projections.fold import fold
from tests.support.logs import ListFeed, RandomLog
from tests.support.tellings import ONE, OTHER, appended, archived, closed, created, deleted, opened


def logged(*events: Event | Entry) -> list[Entry]:
    """Return the events as a log: entries are taken as they are, but for their offsets."""
    entries = [event if isinstance(event, Entry) else Entry(Position(0, 0), event.thread_id, event) for event in events]
    return [entry._replace(position=Position(0, offset)) for offset, entry in enumerate(entries, 1)]


def entry(thread: ThreadId | None, event: Event | ForeignRecord | UnreadableRecord) -> Entry:
    return Entry(Position(0, 0), thread, event)


async def records(
    *events: Event | Entry, thread: ThreadId | None = None, since: Position | None = None
) -> list[EventRecord]:
    return [record async for record in audit(ListFeed(logged(*events)), thread, since=since)]


async def test_each_record_is_told_with_its_verdict_and_why() -> None:
    found = await records(
        created(),
        created(event="again", writer="w2"),
        appended(1, items=3),
        appended(1),
        appended(3),
        opened(1, "w2"),
        opened(1, "w3"),
        appended(2),
        closed(1, "w2"),
        appended(2, writer="w2"),
        archived("a", version=99),
        archived("b"),
        archived("c"),
        archived("b"),
        deleted(),
        appended(5, writer="w9"),
    )
    assert [(record.verdict, record.why) for record in found] == [
        ("admitted", None),
        ("refused", "the thread exists already"),
        ("admitted", None),
        ("duplicate", "a repetition of an event that counts"),
        ("refused", "an earlier event of this writer is missing"),
        ("admitted", None),
        ("refused", "another writer was opened in between"),
        ("fenced", "its writer is not the thread's writer any more"),
        ("admitted", None),
        ("fenced", "its writer is not the thread's writer any more"),
        ("refused", "the thread is not at the expected version"),
        ("admitted", None),
        ("refused", "the thread is archived already"),
        ("duplicate", "a repetition of an event that counts"),
        ("admitted", None),
        ("refused", "the thread is deleted"),
    ]
    assert [record.position for record in found] == [f"0:{offset}" for offset in range(1, 17)]


async def test_a_record_says_who_said_what_and_when() -> None:
    first, second, third = await records(created(), appended(1, items=3), archived("a"))
    assert (first.kind, first.actor, first.writer_id, first.writer_seq, first.items) == (
        "ThreadCreated",
        "ann",
        "w1",
        0,
        1,
    )
    assert (second.kind, second.items, second.event_id) == ("ItemsAppended", 3, "w1-1")
    assert (third.kind, third.writer_id, third.writer_seq) == ("ThreadArchived", None, None)
    assert first.model_dump(mode="json")["occurred_at"] == "1970-01-01T00:00:01Z"


async def test_verdicts_are_right_wherever_the_reading_begins() -> None:
    events: list[Event | Entry] = [
        created(),
        *(opened(i + 1, f"w{i + 2}") for i in range(PAST_WRITERS + 2)),
        appended(1),
    ]
    whole = await records(*events)
    for offset in range(1, len(events) + 2):
        since = await records(*events, since=Position(0, offset))
        assert since == whole[offset - 1 :]
    assert whole[-1].verdict == "fenced"


class SecondPartition(ListFeed):
    """A log whose threads are all in the second of two partitions."""

    @property
    def partitions(self) -> int:
        return 2

    def partition_of(self, thread_id: ThreadId) -> int:
        return 1


async def test_a_thread_is_not_read_from_a_position_in_another_partition() -> None:
    feed = SecondPartition(logged(created()))
    with pytest.raises(InvalidRequest, match=rf"thread {ONE} is in partition 1, and 0:1 is in partition 0; give .*"):
        await anext(audit(feed, ONE, since=Position(0, 1)))


async def test_one_threads_records_are_told_as_among_all() -> None:
    events: list[Event | Entry] = [
        created(),
        created(thread=OTHER, event="other"),
        appended(1),
        created(thread=OTHER, event="again"),
    ]
    whole = await records(*events)
    for thread in (ONE, OTHER):
        assert await records(*events, thread=thread) == [record for record in whole if record.thread_id == thread]


async def test_what_is_not_ours_is_told_and_harms_nobody() -> None:
    told = await records(
        created(),
        entry(ONE, ForeignRecord("not our framing")),
        entry(OTHER, appended(1)),
        entry(None, UnreadableRecord("no schema")),
        appended(1),
    )
    assert [(record.kind, record.verdict, record.why) for record in told] == [
        ("ThreadCreated", "admitted", None),
        ("unknown", "foreign", "not our framing"),
        ("ItemsAppended", "foreign", "its key is not the thread it names"),
        ("unknown", "foreign", "its key is no thread id"),
        ("ItemsAppended", "admitted", None),
    ]


async def test_a_record_that_cannot_be_understood_freezes_its_thread() -> None:
    told = await records(
        created(),
        entry(ONE, UnreadableRecord("schema 07 is not known")),
        created(thread=OTHER, event="other"),
        appended(1),
    )
    frozen = "the thread is frozen: the record at offset 2 cannot be understood: schema 07 is not known"
    assert [(record.thread_id, record.verdict, record.why) for record in told] == [
        (ONE, "admitted", None),
        (ONE, "unreadable", "schema 07 is not known"),
        (OTHER, "admitted", None),
        (ONE, "unreadable", frozen),
    ]


@pytest.mark.parametrize("seed", range(20))
async def test_what_is_admitted_is_what_the_projector_folds(seed: int) -> None:
    """The audit and the views are two readers of one log: they must not disagree on any record."""
    entries = RandomLog(Random(seed), bad_records=True).write(400)
    told = [record async for record in audit(ListFeed(entries))]
    folded = fold({}, entries)
    verdicts = Counter(record.verdict for record in told)
    assert len(told) == len(entries)
    assert verdicts["admitted"] == folded.admitted
    assert verdicts["duplicate"] + verdicts["fenced"] + verdicts["refused"] == folded.void
    assert verdicts["foreign"] == folded.foreign
    assert verdicts["unreadable"] == folded.unreadable + folded.unfolded
    assert min(verdicts[verdict] for verdict in ("admitted", "duplicate", "fenced", "refused", "foreign")) > 0


class _CountedFeed(ListFeed):
    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__(entries)
        self.ends_asked = 0
        self.asked_often = asyncio.Event()

    async def end(self, partition: int) -> int:
        self.ends_asked += 1
        if self.ends_asked == 3:
            self.asked_often.set()
        return await super().end(partition)


async def test_following_goes_on_with_what_comes() -> None:
    feed = _CountedFeed(logged(created()))
    async with aclosing(audit(feed, every=0.0)) as following:
        assert (await anext(following)).kind == "ThreadCreated"
        waiting = asyncio.ensure_future(anext(following))
        await feed.asked_often.wait()
        assert not waiting.done()
        feed.entries = logged(created(), appended(1), appended(1))
        assert (await waiting).verdict == "admitted"
        assert (await anext(following)).verdict == "duplicate"


@pytest.mark.parametrize(
    ("text", "position"), [("0:12", Position(0, 12)), ("12", Position(0, 12)), ("3:0", Position(3, 0))]
)
def test_positions_are_read_as_they_are_shown(text: str, position: Position) -> None:
    assert parse_position(text) == position
    assert parse_position(str(position)) == position


@pytest.mark.parametrize("text", ["", ":", "a", "1:", ":1", "-1", "1:2:3", "1.5", "²", "9" * 19])
def test_other_texts_are_no_positions(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no position"):
        parse_position(text)


async def test_the_reason_of_a_command_is_told() -> None:
    gone = ThreadDeleted(
        event_id=EventId("d"), thread_id=ONE, occurred_at=5_000_000, commands_seen=0, reason="kept twice"
    )

    assert [None, "kept twice"] == [record.reason for record in await records(created(), gone)]
