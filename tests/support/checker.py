"""Judges a run: what writers journaled while they wrote, against what a fresh store reads afterwards.

A journal is a file of JSON lines which a writer adds to just before and just after each of its calls, so that it says
no less than what was acknowledged and no less than what was attempted, whenever its process dies. `judge` is a function
of values: it knows no store, and `objections_to` reads for it what the store has kept.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from eventstore.admission import NO_THREAD, Admitted, Lifecycle, admit, advance
from eventstore.codec import ForeignRecord, UnreadableRecord
from eventstore.documents.items import RolloutItem, StoredItem
from eventstore.documents.params import LoadThreadHistoryParams
from eventstore.errors import EventStoreError
from eventstore.events import Item, ItemsAppended, ThreadCreated, ThreadDeleted, WriterClosed, WriterOpened
from eventstore.ids import ThreadId
from eventstore.ports import Entry, EventFeed
from eventstore.settings import Settings
from eventstore.sqlite.file import SqliteFile
from eventstore.state import IndexEntry, ThreadState
from eventstore.store import ThreadStore
from eventstore.wiring import open_embedded
from projections.fold import fold
from projections.sqlite_views import SqliteViews, mark_in, states_in


class Label(NamedTuple):
    """What names an item for ever, and says how long its text is: so no journal needs to hold a long text."""

    writer: str
    append: int
    item: int
    of: int
    """How many items the append has."""
    size: int

    def __str__(self) -> str:
        return f"{self.writer}/{self.append}/{self.item}.{self.of}/{self.size}"

    @property
    def text(self) -> str:
        return f"{self} ".ljust(self.size, "x")

    @classmethod
    def parse(cls, name: str) -> Label:
        """Read a label back.

        Raises:
            ValueError: It is none.
        """
        writer, append, of, size = name.split("/")
        item, _, total = of.partition(".")
        return cls(writer, int(append), int(item), int(total), int(size))


def labels(writer: str, append: int, *, items: int, size: int = 0) -> list[Label]:
    return [Label(writer, append, item, items, size) for item in range(items)]


def spoken(label: Label) -> RolloutItem:
    return RolloutItem("event_msg", {"type": "user_message", "message": label.text})


@dataclass
class Attempt:
    """One append, as its writer journaled it."""

    thread_id: str
    append_id: str | None
    texts: tuple[str, ...]
    """The labels of its items."""
    received: bool = False
    acknowledged: bool = False


@dataclass
class Journal:
    """All that one writer has noted, in its order."""

    writer: str
    attempts: list[Attempt] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)
    """Every line, also those of other calls than appends."""

    def count(self, what: str) -> int:
        return sum(note["did"] == what for note in self.notes)

    def first(self, what: str) -> dict[str, Any] | None:
        return next((note for note in self.notes if note["did"] == what), None)


class Pen:
    """Writes a journal, a line a call of `write`: what is written outlives the process."""

    def __init__(self, path: Path, writer: str) -> None:
        self.writer = writer
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._attempts = 0
        self.note("began", writer=writer)

    @property
    def attempts(self) -> int:
        """How many were noted; the number of the next."""
        return self._attempts

    def note(self, did: str, **details: object) -> None:
        os.write(self._file, json.dumps({"did": did} | details).encode() + b"\n")

    def attempt(self, thread_id: str, items: Iterable[Label], append_id: str | None = None) -> int:
        """Note that an append is about to be made; return the number to say by what became of it."""
        self.note("attempted", thread=thread_id, append=append_id, texts=[str(label) for label in items])
        self._attempts += 1
        return self._attempts - 1

    def received(self, *numbers: int) -> None:
        self.note("received", numbers=numbers)

    def acknowledged(self, *numbers: int) -> None:
        """Note that a flush returned which began after these appends had returned."""
        self.note("acknowledged", numbers=numbers)

    def close(self) -> None:
        os.close(self._file)


class JournalReader:
    """Reads a journal that grows; a torn last line was being written when the process died, and is not read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        """Bytes of whole lines."""
        self.journal = Journal(path.stem)

    def read_on(self) -> Journal:
        """Return the journal with all lines that are there by now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                lines = file.read().split(b"\n")[:-1]
            self._read += sum(len(line) + 1 for line in lines)
            for line in lines:
                self._take(json.loads(line))
        return self.journal

    def _take(self, note: dict[str, Any]) -> None:
        journal = self.journal
        journal.notes.append(note)
        match note:
            case {"did": "attempted", "thread": thread_id, "append": append_id, "texts": texts}:
                journal.attempts.append(Attempt(thread_id, append_id, tuple(texts)))
            case {"did": "received", "numbers": numbers}:
                for number in numbers:
                    journal.attempts[number].received = True
            case {"did": "acknowledged", "numbers": numbers}:
                for number in numbers:
                    journal.attempts[number].acknowledged = True
            case _:
                pass


def read_journal(path: Path) -> Journal:
    return JournalReader(path).read_on()


class Said(NamedTuple):
    """One item of a history: its ordinal, and its label, or what it is instead."""

    ordinal: int
    text: str


def said_in(items: Iterable[StoredItem]) -> list[Said]:
    """Reduce items to labels; a text that is not exactly what its label promises becomes `?…`."""
    return [Said(item.ordinal, _label_of(item)) for item in items]


def _label_of(item: StoredItem) -> str:
    if item.type == "session_meta":
        return ""
    text = str(item.payload.get("message", ""))
    name = text.split(" ", 1)[0]
    try:
        sound = Label.parse(name).text == text
    except ValueError:
        sound = False
    return name if sound else f"?{text[:60]}"


def judge(
    journals: Sequence[Journal],
    histories: Mapping[str, Sequence[Said]],
    *,
    unrivalled: bool = False,
    fought_for: Collection[str] = (),
) -> list[str]:
    """Say everything that is wrong with the histories, given the journals; nothing if all is well.

    An append that several journals name by one append id is one append. `unrivalled` says that no writer of the run was
    ever fenced but those of threads that were `fought_for`: whatever was received is in the log then, and counts,
    flushed or not.
    """
    return [
        *_ordinals(histories),
        *_invented(journals, histories),
        *_doubled(histories),
        *_torn(journals, histories),
        *_lost(journals, histories, lambda thread_id: unrivalled and thread_id not in fought_for),
        *_reordered(journals, histories),
    ]


def _ordinals(histories: Mapping[str, Sequence[Said]]) -> Iterator[str]:
    for thread_id, history in histories.items():
        found = [item.ordinal for item in history]
        if found != list(range(len(history))):
            hole = next(place for place, ordinal in enumerate(found) if place != ordinal)
            yield f"{thread_id}: the item at place {hole} has ordinal {found[hole]}"
        if [item.ordinal for item in history if not item.text] not in ([], [0]):
            yield f"{thread_id}: a session_meta stands elsewhere than at the start"


def _invented(journals: Sequence[Journal], histories: Mapping[str, Sequence[Said]]) -> Iterator[str]:
    attempted = {(attempt.thread_id, text) for attempt in _attempts(journals) for text in attempt.texts}
    for thread_id, history in histories.items():
        for item in history:
            if item.text and (thread_id, item.text) not in attempted:
                yield f"{thread_id}: {item.text!r} is there and nobody attempted it"


def _doubled(histories: Mapping[str, Sequence[Said]]) -> Iterator[str]:
    for thread_id, history in histories.items():
        for text, times in Counter(item.text for item in history).items():
            if times > 1:
                yield f"{thread_id}: {text!r} is there {times} times"


def _torn(journals: Sequence[Journal], histories: Mapping[str, Sequence[Said]]) -> Iterator[str]:
    places = _places(histories)
    for attempt in _unique(journals):
        found = [places[attempt.thread_id, text] for text in attempt.texts if (attempt.thread_id, text) in places]
        if found and found != list(range(found[0], found[0] + len(attempt.texts))):
            yield f"{attempt.thread_id}: the append of {attempt.texts[0]!r} is torn: places {_short(found)}"


def _lost(
    journals: Sequence[Journal], histories: Mapping[str, Sequence[Said]], is_unrivalled: Callable[[str], bool]
) -> Iterator[str]:
    places = _places(histories)
    for attempt in _attempts(journals):
        for text in attempt.texts:
            if (attempt.thread_id, text) in places:
                continue
            if attempt.acknowledged:
                yield f"{attempt.thread_id}: {text!r} was acknowledged and is lost"
            elif attempt.received and is_unrivalled(attempt.thread_id):
                yield f"{attempt.thread_id}: {text!r} was received and is lost"


def _reordered(journals: Sequence[Journal], histories: Mapping[str, Sequence[Said]]) -> Iterator[str]:
    places = _places(histories)
    for journal in journals:
        for thread_id in histories:
            texts = [text for attempt in journal.attempts if attempt.thread_id == thread_id for text in attempt.texts]
            kept = [text for text in dict.fromkeys(texts) if (thread_id, text) in places]
            for before, after in pairwise(kept):
                if places[thread_id, before] > places[thread_id, after]:
                    yield f"{thread_id}: {after!r} stands before {before!r}"


def _attempts(journals: Sequence[Journal]) -> Iterator[Attempt]:
    for journal in journals:
        yield from journal.attempts


def _unique(journals: Sequence[Journal]) -> Iterator[Attempt]:
    """Every append once, however many journals repeat it."""
    yield from {(attempt.thread_id, attempt.texts): attempt for attempt in _attempts(journals)}.values()


def _places(histories: Mapping[str, Sequence[Said]]) -> dict[tuple[str, str], int]:
    return {(thread, item.text): place for thread, history in histories.items() for place, item in enumerate(history)}


def _short(values: Sequence[object]) -> str:
    return str(values) if len(values) < 8 else f"{str(list(values[:4]))[:-1]}, … {values[-1]}]"


class StoredViews(Protocol):
    """What the judge asks of stored views: everything they know of some threads, and how far they have come."""

    async def everything(self, partition: int, threads: Sequence[ThreadId]) -> tuple[int, dict[ThreadId, ThreadState]]:
        """Return the partition's checkpoint, and those of its threads that are known."""
        ...

    async def index(self, thread_id: ThreadId, *, start: int, stop: int) -> Sequence[IndexEntry]: ...


class ViewsOfFile:
    """A file's views as they are stored: nothing is folded to read them (protocol `StoredViews`)."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._views = SqliteViews(file)

    async def everything(self, partition: int, threads: Sequence[ThreadId]) -> tuple[int, dict[ThreadId, ThreadState]]:
        return await self._file.read(
            lambda connection: (mark_in(connection).checkpoint, states_in(connection, threads))
        )

    async def index(self, thread_id: ThreadId, *, start: int, stop: int) -> Sequence[IndexEntry]:
        return await self._views.index(thread_id, start=start, stop=stop)


async def objections(path: Path, journals: Sequence[Journal], *, unrivalled: bool = False) -> list[str]:
    """Open a fresh store on the file and say everything that is wrong with what it keeps."""
    async with open_embedded(Settings(log=f"sqlite:{path}", actor="the judge")) as parts:
        views = ViewsOfFile(parts.file)
        return await objections_to(journals, parts.store, parts.feed, views, unrivalled=unrivalled)


async def objections_to(
    journals: Sequence[Journal],
    store: ThreadStore,
    feed: EventFeed,
    views: StoredViews,
    *,
    unrivalled: bool = False,
    fought_for: Collection[str] = (),
) -> list[str]:
    """Read every thread that was attempted and judge it; the store must be a fresh one.

    Three readings of the log have to agree: the store's history, a plain replay by the rule alone, and the views.
    """
    objections: list[str] = []
    histories: dict[str, list[Said]] = {}
    for partition in range(feed.partitions):
        entries = await whole_log(feed, partition)
        by_thread: defaultdict[ThreadId, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.thread_id is not None:
                by_thread[entry.thread_id].append(entry)
        for thread_id, mine in sorted(by_thread.items()):
            replayed = plainly_replayed(mine)
            if not replayed:
                continue
            try:
                history = await store.load_history(LoadThreadHistoryParams(thread_id=thread_id, include_archived=True))
            except EventStoreError as exc:
                objections.append(f"{thread_id}: its history cannot be read: {exc!r}")
                continue
            histories[thread_id] = said_in(history.items)
            if [(item.type, item.text) for item in history.items] != [(item.type, item.payload) for item in replayed]:
                objections.append(f"{thread_id}: its history is not what a replay of the log gives")
        objections += await _differences(entries, partition, sorted(by_thread), views)
    for attempted in {attempt.thread_id for attempt in _attempts(journals)} - histories.keys():
        histories[attempted] = []
    return [*judge(journals, histories, unrivalled=unrivalled, fought_for=fought_for), *objections]


def plainly_replayed(entries: Iterable[Entry]) -> list[Item]:
    """Return a thread's items by the rule alone: no index, no views, nothing remembered."""
    head = NO_THREAD
    items: list[Item] = []
    run: list[Item] = []
    for entry in entries:
        event = entry.event
        if isinstance(event, UnreadableRecord | ForeignRecord) or not isinstance(admit(head, event), Admitted):
            continue
        head = advance(head, event, offset=entry.position.offset)
        match event:
            case ThreadCreated():
                items = [event.session_meta]
            case ItemsAppended():
                run.extend(event.items)
                if not event.more:
                    items.extend(run)
                    run = []
            case WriterOpened() | WriterClosed():
                run = []
            case ThreadDeleted():
                items = []
            case _:
                pass
    return items


async def whole_log(feed: EventFeed, partition: int) -> list[Entry]:
    """Return all that a partition holds."""
    entries: list[Entry] = []
    start, end = 0, await feed.end(partition)
    while start < end and (read := await feed.read(partition, start=start, limit=1_000)):
        entries.extend(read)
        start = entries[-1].position.offset + 1
    return entries


async def _differences(
    entries: Sequence[Entry], partition: int, threads: Sequence[ThreadId], views: StoredViews
) -> list[str]:
    """Compare a partition's views with the fold of its log from the start, in one batch."""
    folded = fold({}, entries).changes
    checkpoint, states = await views.everything(partition, threads)
    found = []
    if entries and checkpoint != entries[-1].position.offset + 1:
        found.append(f"the views stand at {checkpoint} and the log ends after {entries[-1].position.offset}")
    for thread_id in sorted(folded.keys() | states.keys()):
        change, state = folded.get(thread_id), states.get(thread_id)
        if change is None or state != change.after:
            found.append(f"{thread_id}: its view is not what the fold gives: {state} != {change and change.after}")
            continue
        deleted = change.after.head.lifecycle is Lifecycle.DELETED
        index = await views.index(thread_id, start=0, stop=change.after.head.items)
        if list(index) != ([] if deleted else list(change.indexed)):
            found.append(f"{thread_id}: its index is not what the fold gives")
    return found
