"""What a writer keeps of its words, and what it tells of them, in whatever order the log and the views answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from eventstore.documents.items import Position
from eventstore.errors import OutcomeUnknown, ViewsUnavailable
from eventstore.events import Event, new_item
from eventstore.ids import ThreadId, new_event_id, new_thread_id
from eventstore.memory import Memory
from eventstore.outbox import Outbox
from eventstore.ports import Entry, ThreadView
from eventstore.writer import Writer
from tests.support.logs import ListFeed
from tests.support.passing import PassingViews
from tests.support.tellings import appended


async def test_a_verdict_that_was_not_had_in_time_names_the_time_of_the_whole_call() -> None:
    nobody: Any = None
    writer = Writer(nobody, nobody, nobody, new_thread_id(), actor=None)
    writer.create(new_item((0, "session_meta", "{}", None)), None, 0)

    with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s; flush it again"):
        await writer.settle(writer.last_seq, within=0.3, deadline=time.monotonic() - 0.2)


class ListLog(ListFeed):
    """A log in a list (ports `EventLog` and `EventFeed`)."""

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        positions = [Position(0, await self.end(0) + number) for number in range(len(events))]
        told = zip(positions, events, strict=True)
        self.entries = [*self.entries, *(Entry(position, event.thread_id, event) for position, event in told)]
        return positions


class Away(PassingViews):
    """Views that cannot be read."""

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        raise ViewsUnavailable("away")


@pytest.mark.parametrize(("bound", "at"), [("OUTBOX_EVENTS", 8), ("OUTBOX_BYTES", 8 * 35)])
async def test_what_is_not_verified_is_halved_when_it_is_as_much_as_may_be(
    monkeypatch: pytest.MonkeyPatch, bound: str, at: int
) -> None:
    nobody: Any = None
    log, item = ListLog([]), new_item((0, "x", "{}", None))
    writer = Writer(log, log, Away(nobody), new_thread_id(), actor=None, durable=True)
    writer.create(item, None, 0)
    for _ in range(7):
        writer.append([item], new_event_id(), 0)
    await writer.send(within=1.0)
    assert (8, 8 * 35) == (len(writer.unverified), writer.unverified_bytes)

    for most, left in ((at + 1, 8), (at, 3)):
        monkeypatch.setattr(f"eventstore.outbox.{bound}", most)
        await writer.make_room(within=1.0)
        assert (left, left * 35) == (len(writer.unverified), writer.unverified_bytes)


class SlowToAnswer:
    """A log that answers its first call when it is told to (port `EventLog`)."""

    def __init__(self) -> None:
        self.end = 0
        self.may_answer = asyncio.Event()

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        positions = [Position(0, self.end + number) for number in range(len(events))]
        self.end += len(events)
        if positions[0].offset == 0:
            await self.may_answer.wait()
        return positions


async def test_the_latest_place_is_kept_though_the_answer_for_an_earlier_one_comes_later() -> None:
    nobody: Any = None
    log, item = SlowToAnswer(), new_item((0, "x", "{}", None))
    writer = Writer(log, nobody, nobody, new_thread_id(), actor=None)
    writer.create(item, None, 0)
    earlier = asyncio.create_task(writer.send(within=1.0))
    await asyncio.sleep(0)
    for _ in range(2):
        writer.append([item], new_event_id(), 0)
    await writer.send(within=1.0)
    assert writer.logged == Position(0, 2)

    log.may_answer.set()
    await earlier

    assert writer.logged == Position(0, 2)


def test_words_are_sent_again_in_their_order_unless_they_were_verified_meanwhile() -> None:
    outbox = Outbox(Memory())
    one, two, three = words = [outbox.add(appended(seq), 1) for seq in range(3)]
    assert words == outbox.take_unsent()
    one.position, two.position = Position(0, 7), Position(0, 5)
    assert outbox.last_position(1) == Position(0, 7), "an earlier word that failed is logged behind a later one"
    assert outbox.last_position(2) is None

    outbox.put_back([three])
    outbox.release(0)
    outbox.put_back([two, one])
    assert [two, three] == outbox.take_unsent()

    outbox.send_all_again()
    assert outbox.last_position(1) is None
    assert [two, three] == outbox.take_unsent()
