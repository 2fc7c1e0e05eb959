"""Stores that are broken on purpose: one that does nothing, and sound ones with one lie in their ports.

The contract suite must find each of them out. They replace functions of the product for the whole process, so they are
opened in processes of their own only (`tests.support.subrun`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import eventstore.state
from eventstore.admission import (
    ADMITTED,
    CurrentWriter,
    Duplicate,
    Fenced,
    Head,
    Lifecycle,
    Reason,
    Refused,
    Verdict,
    admit,
)
from eventstore.documents.items import ItemPage, Position, Receipt, StoredItem
from eventstore.documents.params import (
    AppendThreadItemsParams,
    ArchiveThreadParams,
    CreateThreadParams,
    DeleteThreadParams,
    ListThreadsParams,
    LoadThreadHistoryParams,
    ReadItemsParams,
    ReadThreadParams,
    ResumeThreadParams,
    UpdateThreadMetadataParams,
)
from eventstore.documents.records import EventRecord
from eventstore.documents.threads import StoredThread, StoredThreadHistory, ThreadPage
from eventstore.events import Command, Event, Item
from eventstore.ids import AnyId, ThreadId
from eventstore.ports import Entry, EventLog, ThreadView, ThreadViews
from eventstore.store import ThreadStore
from projections import sqlite_views
from projections.ports import Mark, ThreadChange
from projections.sqlite_views import SqliteViews
from tests.support.engines import Engine, MakeEngine, Ports, SqliteEngine, Through, untouched
from tests.support.passing import PassingFeed, PassingViews

if TYPE_CHECKING:
    from eventstore.sqlite.file import SqliteFile


class DoNothingStore:
    """Takes everything, keeps nothing, and never complains (protocol `ThreadStore`)."""

    async def create_thread(self, params: CreateThreadParams) -> None:
        return

    async def resume_thread(self, params: ResumeThreadParams) -> None:
        return

    async def append_items(self, params: AppendThreadItemsParams) -> Receipt:
        return Receipt(append_id=params.append_id, appended=0)

    async def persist_thread(self, thread_id: ThreadId) -> None:
        return

    async def flush_thread(self, thread_id: ThreadId) -> None:
        return

    async def shutdown_thread(self, thread_id: ThreadId) -> None:
        return

    async def discard_thread(self, thread_id: ThreadId) -> None:
        return

    async def load_history(self, params: LoadThreadHistoryParams) -> StoredThreadHistory:
        return StoredThreadHistory(thread_id=params.thread_id, items=())

    async def read_thread(self, params: ReadThreadParams) -> StoredThread:
        return _nothing_known_of(params.thread_id)

    async def list_threads(self, params: ListThreadsParams) -> ThreadPage:
        return ThreadPage(items=())

    async def update_thread_metadata(self, params: UpdateThreadMetadataParams) -> StoredThread:
        return _nothing_known_of(params.thread_id)

    async def archive_thread(self, params: ArchiveThreadParams) -> None:
        return

    async def unarchive_thread(self, params: ArchiveThreadParams) -> StoredThread:
        return _nothing_known_of(params.thread_id)

    async def delete_thread(self, params: DeleteThreadParams) -> None:
        return

    async def read_items(self, params: ReadItemsParams) -> ItemPage:
        return ItemPage(thread_id=params.thread_id, items=())

    async def retry_thread(self, thread_id: ThreadId) -> StoredThread:
        return _nothing_known_of(thread_id)

    async def iter_history(self, params: LoadThreadHistoryParams) -> AsyncGenerator[StoredItem, None]:
        return
        yield

    async def events(
        self, thread_id: AnyId | None = None, *, since: Position | None = None, follow: bool = False
    ) -> AsyncGenerator[EventRecord, None]:
        return
        yield


def _nothing_known_of(thread_id: ThreadId) -> StoredThread:
    beginning = datetime.fromtimestamp(0, UTC)
    return StoredThread(thread_id=thread_id, created_at=beginning, updated_at=beginning, version=0, item_count=0)


class DoNothingEngine:
    """Opens stores that do nothing (protocol `Engine`)."""

    soon = 0.3

    async def open(self, *, through: Through = untouched, within: float = 30.0) -> ThreadStore:
        return DoNothingStore()

    async def close(self, store: ThreadStore) -> None:
        return

    async def crash(self, store: ThreadStore) -> None:
        return

    async def lose_views(self, store: ThreadStore) -> None:
        return

    async def write_record(self, store: ThreadStore, thread_id: ThreadId, record: bytes) -> None:
        return

    def hold_the_log(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def end(self) -> None:
        return


class _SabotagedEngine(SqliteEngine):
    """The SQLite engine with something between every store and its ports."""

    def __init__(self, path: str, between: Through) -> None:
        super().__init__(path)
        self._between = between

    async def open(self, *, through: Through = untouched, within: float = 30.0) -> ThreadStore:
        return await super().open(through=lambda ports: through(self._between(ports)), within=within)


class _ForgetfulLog:
    """Keeps the latest event to itself until the next one comes, and says that it is logged."""

    def __init__(self, ports: Ports) -> None:
        self._log = ports.log
        self.held: Event | None = None

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        unsaid = [*([] if self.held is None else [self.held]), *events]
        before, self.held = unsaid[:-1], unsaid[-1]
        logged = list(await self._log.append(before, within=within)) if before else []
        last = logged[-1] if logged else Position(0, 0)
        return [*logged, Position(last.partition, last.offset + 1)][-len(events) :]


class _ViewsOfWhatIsHeld(PassingViews):
    """Shows the thread as if the event that the log holds back were in it."""

    def __init__(self, views: ThreadViews, log: _ForgetfulLog) -> None:
        super().__init__(views)
        self._log = log

    async def reach(self, position: Position, thread_id: ThreadId, *, within: float) -> ThreadView | None:
        return await self.get(thread_id)

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        view = await self.views.get(thread_id, span=span)
        held = self._log.held
        if held is None or held.thread_id != thread_id:
            return view
        state = eventstore.state.UNKNOWN_THREAD if view is None else view.state
        return ThreadView(eventstore.state.step(state, held, offset=1 << 40).state, 1 << 40)


def forgets_the_last_event(ports: Ports) -> Ports:
    log = _ForgetfulLog(ports)
    return replace(ports, log=log, views=_ViewsOfWhatIsHeld(ports.views, log))


class _NotedLog:
    """Notes what was logged where (port `EventLog`)."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.events: dict[Position, Event] = {}

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        positions = await self._log.append(events, within=within)
        self.events.update(zip(positions, events, strict=True))
        return positions


class _FlatteringViews(PassingViews):
    """Says of every event, once it is folded, that it counts."""

    def __init__(self, views: ThreadViews, log: _NotedLog) -> None:
        super().__init__(views)
        self._log = log

    async def reach(self, position: Position, thread_id: ThreadId, *, within: float) -> ThreadView | None:
        view = await self.views.reach(position, thread_id, within=within)
        if view is None:
            return None
        head = _as_if_admitted(view.state.head, self._log.events[position])
        return ThreadView(replace(view.state, head=head), view.checkpoint)


def _as_if_admitted(head: Head, event: Event) -> Head:
    if isinstance(event, Command):
        return replace(head, commands=(*head.commands, event.event_id))
    return replace(head, writer=CurrentWriter(event.writer_id, event.writer_seq, event.event_id, event.writer_seq))


def _reports_refused_as_done(ports: Ports) -> Ports:
    log = _NotedLog(ports.log)
    return replace(ports, log=log, views=_FlatteringViews(ports.views, log))


class _ReorderingFeed(PassingFeed):
    """Gives the records of a history in any order but theirs."""

    async def fetch(self, thread_id: ThreadId, offsets: Sequence[int]) -> Sequence[Sequence[Item]]:
        return (await super().fetch(thread_id, offsets))[::-1]


def _reorders(ports: Ports) -> Ports:
    return replace(ports, feed=_ReorderingFeed(ports.feed))


def without_fencing(head: Head, event: Event) -> Verdict:
    """The last writer wins: whoever writes is the writer."""
    verdict = admit(head, event)
    alive = head.lifecycle in (Lifecycle.ACTIVE, Lifecycle.ARCHIVED)
    if alive and (isinstance(verdict, Fenced) or verdict in (Refused(Reason.HOLE), Refused(Reason.EPOCH))):
        return ADMITTED
    return verdict


def _without_duplicates(head: Head, event: Event) -> Verdict:
    """A repetition counts again."""
    verdict = admit(head, event)
    return ADMITTED if isinstance(verdict, Duplicate) else verdict


def _judging_by(rule: Callable[[Head, Event], Verdict], folder: Path) -> Engine:
    setattr(eventstore.state, "admit", rule)  # noqa: B010 - a function of the product is replaced, which types forbid
    return SqliteEngine(str(folder / "threads.db"))


async def _commit_checkpoint_first(
    self: SqliteViews,
    partition: int,
    expected: Mark,
    checkpoint: int,
    changes: Mapping[ThreadId, ThreadChange],
    *,
    last: Entry | None = None,
) -> bool:
    file: SqliteFile = self._file

    def move(connection: sqlite3.Connection) -> bool:
        moved = connection.execute(
            "UPDATE projection SET checkpoint = ? WHERE generation = ? AND checkpoint = ?",
            (checkpoint, expected.generation, expected.checkpoint),
        )
        return moved.rowcount > 0

    def write(connection: sqlite3.Connection) -> None:
        for thread_id, change in changes.items():
            sqlite_views._write_thread(connection, thread_id, change)

    if not await file.write(move):
        return False
    await file.write(write)
    return True


def _checkpointing_before_views(folder: Path) -> Engine:
    setattr(SqliteViews, "commit", _commit_checkpoint_first)  # noqa: B010 - as above
    return SqliteEngine(str(folder / "threads.db"))


def _between(through: Through, folder: Path) -> Engine:
    return _SabotagedEngine(str(folder / "threads.db"), through)


SABOTEURS: dict[str, MakeEngine] = {
    "does-nothing": lambda folder: DoNothingEngine(),
    "forgets-the-last-event": partial(_between, forgets_the_last_event),
    "last-writer-wins": partial(_judging_by, without_fencing),
    "applies-twice": partial(_judging_by, _without_duplicates),
    "reorders": partial(_between, _reorders),
    "checkpoints-before-views": _checkpointing_before_views,
    "reports-refused-as-done": partial(_between, _reports_refused_as_done),
}
