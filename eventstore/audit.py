"""The log as it is, record by record, each with its verdict: nothing is left out, and nothing is taken on trust.

Every thread is folded from its first record on, so verdicts are right wherever the reading begins to show them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, assert_never

from eventstore.admission import Admitted, Duplicate, Fenced, Refused, Verdict
from eventstore.codec import ForeignRecord, UnreadableRecord
from eventstore.documents.items import Position
from eventstore.documents.records import EventRecord
from eventstore.errors import InvalidRequest
from eventstore.events import Command, ThreadArchived, ThreadDeleted, ThreadUnarchived, items_of
from eventstore.ids import ThreadId
from eventstore.judging import Stopped, judge, owner
from eventstore.moments import moment
from eventstore.ports import Entry, EventFeed
from eventstore.reading import entries_between
from eventstore.state import UNKNOWN_THREAD, ThreadState, for_verdicts

UNKNOWN_KIND = "unknown"


async def audit(
    feed: EventFeed, thread_id: ThreadId | None = None, *, since: Position | None = None, every: float | None = None
) -> AsyncGenerator[EventRecord, None]:
    """Yield the records of one thread, or of all, with their verdicts, up to the log's end, partition by partition.

    With `since` only those of its partition are shown, from there on. With `every`, the reading goes on for ever,
    looking for more so many seconds after it has come to the end.

    Raises:
        InvalidRequest: `since` is in a partition that the log does not have, or not in the thread's.
        LogTruncated: The log's beginning is gone, and with it the ground for any verdict.
        LogUnavailable: The log cannot be reached.
    """
    if since is not None and since.partition >= feed.partitions:
        raise InvalidRequest(
            f"there is no partition {since.partition}, the last one is {feed.partitions - 1}; give a position as "
            "eventstore events shows it, e.g. 0:12"
        )
    if since is not None and thread_id is not None and since.partition != feed.partition_of(thread_id):
        raise InvalidRequest(
            f"thread {thread_id} is in partition {feed.partition_of(thread_id)}, and {since} is in partition "
            f"{since.partition}; give a position of one of the thread's own events"
        )
    auditors: defaultdict[int, Auditor] = defaultdict(Auditor)
    if thread_id is not None:
        starts = {feed.partition_of(thread_id): 0}
    elif since is not None:
        starts = {since.partition: 0}
    else:
        starts = dict.fromkeys(range(feed.partitions), 0)
    while True:
        ends = await feed.ends(list(starts))
        for (partition, start), end in zip(starts.items(), ends, strict=True):
            async for entries in _entries(feed, partition, thread_id, start, end):
                for entry in entries:
                    record = auditors[partition].judge(entry)
                    if since is None or entry.position >= since:
                        yield record
            starts[partition] = end
            if every is None:
                auditors.clear()  # what comes now is of other threads
        if every is None:
            return
        await asyncio.sleep(every)


def parse_position(text: str) -> Position:
    """Read `PARTITION:OFFSET`, or an offset alone for a log of one partition.

    Raises:
        InvalidRequest: It is neither.
    """
    partition, colon, offset = text.rpartition(":")
    digits = (partition if colon else "0", offset)
    if not all(part.isascii() and part.isdecimal() and len(part) <= 18 for part in digits):
        raise InvalidRequest(f"{text!r} is no position; give one as eventstore events shows it, e.g. 0:12")
    return Position(int(digits[0]), int(digits[1]))


class Auditor:
    """Judges the entries of a partition in log order, as the projector does."""

    def __init__(self) -> None:
        self._states: dict[ThreadId, ThreadState] = {}

    def judge(self, entry: Entry) -> EventRecord:
        """Return the entry as a record with its verdict."""
        thread_id = owner(entry)
        if thread_id is None:
            return _record(entry, verdict="foreign", why=_why_foreign(entry))
        state = self._states.get(thread_id, UNKNOWN_THREAD)
        if state.frozen is not None and not isinstance(entry.event, UnreadableRecord):
            return _record(entry, verdict="unreadable", why=f"the thread is frozen: {state.frozen}")
        judged = judge(state, entry)
        self._states[thread_id] = for_verdicts(judged.state)
        if isinstance(judged, Stopped):
            return _record(entry, verdict="unreadable", why=judged.why)
        return _record(entry, **_told(judged.done.verdict))


def _entries(
    feed: EventFeed, partition: int, thread_id: ThreadId | None, start: int, end: int
) -> AsyncIterator[Sequence[Entry]]:
    """Yield the entries with start <= offset < end, of one thread or of all."""
    if thread_id is None:
        return entries_between(feed, partition, start=start, end=end)
    return feed.replay(thread_id, start=start, stop=end)


def _why_foreign(entry: Entry) -> str:
    match entry.event:
        case ForeignRecord(why=why):
            return why
        case UnreadableRecord():
            return "its key is no thread id"
        case _:
            return "its key is not the thread it names"


def _record(entry: Entry, **verdict: Any) -> EventRecord:
    position, event = str(entry.position), entry.event
    if isinstance(event, ForeignRecord | UnreadableRecord):
        return EventRecord(
            position=position,
            kind=UNKNOWN_KIND,
            event_id=None,
            thread_id=entry.thread_id,
            occurred_at=None,
            **verdict,
        )
    writer = (None, None) if isinstance(event, Command) else (event.writer_id, event.writer_seq)
    return EventRecord(
        position=position,
        kind=type(event).__name__,
        event_id=event.event_id,
        thread_id=event.thread_id,
        occurred_at=moment(event.occurred_at),
        writer_id=writer[0],
        writer_seq=writer[1],
        actor=event.actor,
        reason=event.reason if isinstance(event, ThreadArchived | ThreadUnarchived | ThreadDeleted) else None,
        items=len(items_of(event)),
        **verdict,
    )


def _told(verdict: Verdict) -> dict[str, Any]:
    match verdict:
        case Admitted():
            return {"verdict": "admitted"}
        case Duplicate():
            return {"verdict": "duplicate", "why": "a repetition of an event that counts"}
        case Fenced():
            return {"verdict": "fenced", "why": "its writer is not the thread's writer any more"}
        case Refused(reason=reason):
            return {"verdict": "refused", "why": reason.value}
        case _:
            assert_never(verdict)
