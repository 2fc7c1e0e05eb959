"""What a writer tells of its words without asking the views or the log for verdicts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from eventstore.documents.items import Position
from eventstore.errors import OutcomeUnknown
from eventstore.events import Event, new_item
from eventstore.ids import new_event_id, new_thread_id
from eventstore.writer import Writer


async def test_a_verdict_that_was_not_had_in_time_names_the_time_of_the_whole_call() -> None:
    nobody: Any = None
    writer = Writer(nobody, nobody, nobody, new_thread_id(), actor=None)
    writer.create(new_item((0, "session_meta", "{}", None)), None, 0)

    with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s; flush it again"):
        await writer.settle(writer.last_seq, within=0.3, deadline=time.monotonic() - 0.2)


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
