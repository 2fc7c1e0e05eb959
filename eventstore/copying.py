"""One log's events into another, verbatim: what counts there counts here, and means the same.

Ids, epochs and seqs fence, not offsets or clocks, so a copied log is judged as its source was, on whatever engine and
with any number of partitions. Copying again adds what is missing; what is there already is left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from eventstore.admission import Admitted
from eventstore.errors import UnreadableEvent
from eventstore.events import Event, items_of
from eventstore.ids import ThreadId
from eventstore.judging import Judged, Stopped, judge, owner
from eventstore.ports import Entry, EventFeed, EventLog
from eventstore.reading import entries_between
from eventstore.state import UNKNOWN_THREAD, ThreadState, for_verdicts, step

States: TypeAlias = dict[ThreadId, ThreadState]


@dataclass(slots=True)
class Copied:
    """What a copy has done so far."""

    read: int = 0
    """Records of the source."""
    copied: int = 0
    there: int = 0
    """Events that count and were in the target already."""
    void: int = 0
    """Records that do not count, or are not ours: they stay behind."""
    refused: Counter[ThreadId] = field(default_factory=Counter)
    """Events that count in the source and would not in the target, by thread: it went on there in another way, or was
    deleted. They stay behind as well."""


async def copy(
    source: EventFeed, target: EventFeed, log: EventLog, *, within: float, tell: Callable[[Copied], None]
) -> Copied:
    """Copy the events that count, up to the source's ends as they are now; `log` writes what `target` reads.

    What would not count in the target, as it is now, is not written there. While others write to the same threads, some
    of what is written may be overtaken.

    `within` is the deadline of each batch in seconds. It may be ended at any point and begun again.

    Raises:
        UnreadableEvent: The source has a record which this version cannot understand; what lies before is copied.
        LogUnavailable: One of the logs cannot be reached; copy again.
        OutcomeUnknown: Some of the last batch may have been written; copy again.
    """
    done = Copied()
    theirs: States = {}
    there = {_name_of(event) async for event in _events(target, theirs, keep=for_verdicts)}
    for partition in range(source.partitions):
        ours: States = {}
        async for entries in _now(source, partition):
            events, unreadable = _counted(ours, entries)
            fresh = [event for event in events if _name_of(event) not in there]
            wanted: list[Event] = []
            for event in fresh:
                if _would_count(theirs, event):
                    wanted.append(event)
                else:
                    done.refused[event.thread_id] += 1
            await _write(target, log, wanted, within)
            if unreadable is not None:
                raise unreadable
            done.read += len(entries)
            done.copied += len(wanted)
            done.there += len(events) - len(fresh)
            done.void += len(entries) - len(events)
            tell(done)
    return done


def _name_of(event: Event) -> bytes:
    """Name the event in few bytes: with its thread, for the id of an append is its caller's, who may use it in two."""
    return blake2b(f"{event.thread_id} {event.event_id}".encode(), digest_size=16).digest()


async def _write(target: EventFeed, log: EventLog, events: Sequence[Event], within: float) -> None:
    """Write the events, those of one partition in their order."""
    by_partition: defaultdict[int, list[Event]] = defaultdict(list)
    for event in events:
        by_partition[target.partition_of(event.thread_id)].append(event)
    await asyncio.gather(*(log.append(some, within=within) for some in by_partition.values()))


def _would_count(states: States, event: Event) -> bool:
    """Judge an event that would be written next; take it in if it counts."""
    done = step(states.get(event.thread_id, UNKNOWN_THREAD), event, offset=0)
    states[event.thread_id] = for_verdicts(done.state)
    return isinstance(done.verdict, Admitted)


def _counted(states: States, entries: Sequence[Entry]) -> tuple[list[Event], UnreadableEvent | None]:
    """Return the events that count, up to one that cannot be understood, and what is wrong with that."""
    events: list[Event] = []
    for entry in entries:
        try:
            event = _counting(states, entry, for_verdicts)
        except UnreadableEvent as exc:
            return events, exc
        if event is not None:
            events.append(event)
    return events, None


def _counting(states: States, entry: Entry, keep: Callable[[ThreadState], ThreadState]) -> Event | None:
    """Judge the entry; return its event if it counts."""
    thread_id = owner(entry)
    if thread_id is None:
        return None
    judged = judge(states.get(thread_id, UNKNOWN_THREAD), entry)
    if isinstance(judged, Stopped) and judged.state.frozen is not None:
        raise UnreadableEvent(f"the record at {entry.position} cannot be copied: {judged.why}; upgrade eventstore")
    states[thread_id] = keep(judged.state)
    return judged.event if isinstance(judged, Judged) and isinstance(judged.done.verdict, Admitted) else None


class Meaning(NamedTuple):
    """What a log says of one thread, whatever engine it is on."""

    lifecycle: str
    epoch: int
    version: int
    items: int
    summary: str
    digest: bytes
    """Of all items that were admitted, in order."""


class Compared(NamedTuple):
    """What came of comparing a copy with its source."""

    difference: str | None
    """The first thread of the source that is not the same in the target, and why, in words."""
    more: int
    """How many threads the target has that the source has not: a log may take in several others."""


async def compared(source: EventFeed, target: EventFeed) -> Compared:
    """Fold both logs from their starts and compare the threads of the source.

    Raises:
        UnreadableEvent: One of them has a record which this version cannot understand.
        LogUnavailable: One of them cannot be reached.
    """
    ours, theirs = await meanings(source), await meanings(target)
    differences = (_difference(thread_id, ours[thread_id], theirs.get(thread_id)) for thread_id in sorted(ours))
    return Compared(next(filter(None, differences), None), len(theirs.keys() - ours.keys()))


def _difference(thread_id: ThreadId, here: Meaning, there: Meaning | None) -> str | None:
    if there is None:
        return f"thread {thread_id} is in the source only"
    names = (name for name, value in here._asdict().items() if value != getattr(there, name))
    name = next(names, None)
    return None if name is None else f"thread {thread_id} is not the same in both: {name} differs"


async def meanings(feed: EventFeed) -> dict[ThreadId, Meaning]:
    """Fold the log from its start."""
    states: States = {}
    digests: defaultdict[ThreadId, blake2b] = defaultdict(lambda: blake2b(digest_size=16))
    async for event in _events(feed, states):
        for item in items_of(event):
            digests[event.thread_id].update(repr(item).encode("utf-8", "surrogatepass"))
    return {
        thread_id: Meaning(
            state.head.lifecycle,
            state.head.epoch,
            state.head.version,
            state.head.items,
            repr(state.summary),
            digests[thread_id].digest(),
        )
        for thread_id, state in states.items()
        if state is not UNKNOWN_THREAD
    }


async def _events(
    feed: EventFeed, states: States, keep: Callable[[ThreadState], ThreadState] = lambda state: state
) -> AsyncIterator[Event]:
    """Yield the events of the log that count, partition by partition; `keep` of the threads' states in `states`."""
    for partition in range(feed.partitions):
        async for entries in _now(feed, partition):
            for entry in entries:
                event = _counting(states, entry, keep)
                if event is not None:
                    yield event


async def _now(feed: EventFeed, partition: int) -> AsyncIterator[Sequence[Entry]]:
    """Yield a partition's entries, up to its end as it is now."""
    async for entries in entries_between(feed, partition, start=0, end=await feed.end(partition)):
        yield entries
