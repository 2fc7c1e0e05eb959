"""Codex's rollouts become threads: items as they are, names and archived state as their home says.

Nothing records where an item came from. A file is compared with the thread item by item: what both have is there
already, what only the file has behind it is growth, anything else has diverged and is left alone. An export of a thread
that is here says nothing that is not here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from eventstore.admission import Lifecycle
from eventstore.codex.comparing import Comparison, compared_with_export, compared_with_history
from eventstore.codex.homes import RolloutFile
from eventstore.codex.imported import Takeover, Told, takeover
from eventstore.codex.intake import Intake
from eventstore.codex.rollout import BadLine
from eventstore.codex.rolloutlines import NoRollout, RolloutLines, opened
from eventstore.codex.sessionmeta import copied_session_meta
from eventstore.commands import Commands
from eventstore.documents.params import ArchiveThreadParams
from eventstore.documents.threads import ThreadHistoryMode
from eventstore.errors import (
    Conflict,
    EventStoreError,
    LogTruncated,
    Rejected,
    ThreadNotFound,
    Unknown,
    UnreadableEvent,
)
from eventstore.history import History, readable
from eventstore.ids import ThreadId, new_thread_id
from eventstore.ports import EventFeed, EventLog, ThreadView, ThreadViews
from eventstore.state import ThreadState

_FILES_AT_ONCE = 8
"""Files imported together, so that one commit serves several small threads."""
_ATTEMPTS = 3
"""How often a file is compared anew when somebody else writes its thread meanwhile."""
_OF_ONE_THREAD = (Rejected, Conflict, Unknown, UnreadableEvent, LogTruncated)
"""What ends the import of one file; everything else would meet the other files too."""


class Outcome(StrEnum):
    """What became of a file."""

    CREATED = "created"
    GROWN = "grown"
    UNCHANGED = "unchanged"
    """All its items are here; its name or archived state may have been followed."""
    DIVERGED = "diverged"
    FORKED = "forked"
    """It diverged, and a copy was imported under a fresh id."""
    DELETED = "deleted"
    UNREADABLE = "unreadable"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one file."""

    file: RolloutFile
    outcome: Outcome
    thread_id: ThreadId | None = None
    """The thread that it is about; None if it names none. Of a copy: the copy's."""
    added: int = 0
    """How many items were appended."""
    bad_lines: tuple[BadLine, ...] = ()
    """Lines that were left out; of a diverged file, those up to the first difference."""
    note: str = ""
    """What a person may want to know beside that, in words."""
    error: EventStoreError | None = None
    """Why it failed."""

    @property
    def path(self) -> Path:
        return self.file.path


class _Asked(NamedTuple):
    """One call of `import_files`."""

    fork: bool
    heard: dict[ThreadId, RolloutFile]
    """Which file speaks for each thread's name and archived state: the first that lies in a home."""

    def told(self, file: RolloutFile, of: ThreadId, to: ThreadId) -> Told:
        """Return what the file's home says of its thread to the one here; nothing if another file speaks for that."""
        is_heard = file.home is None or self.heard.setdefault(to, file) is file
        return file.told(of) if is_heard else Told()


class _Taken(NamedTuple):
    """A thread that has all items of its file."""

    outcome: Outcome
    thread_id: ThreadId
    before: ThreadState | None
    after: ThreadState
    known: int = 0
    """How many of the file's lines were here before."""
    is_export: bool = False
    """The file is an export of the thread itself, or goes on from one."""

    @property
    def added(self) -> int:
        return self.after.head.items - (0 if self.before is None else self.before.head.items)


class _AsWantedError(Exception):
    """Somebody else did meanwhile what a command was to do."""


class Importer:
    """Imports rollout files over an engine's ports."""

    def __init__(
        self, log: EventLog, feed: EventFeed, views: ThreadViews, *, actor: str | None = None, within: float = 30.0
    ) -> None:
        """Stand on the ports; `actor` is named in the events, `within` is the deadline of each step in seconds."""
        self._feed = feed
        self._views = views
        self._history = History(feed, views)
        self._intake = Intake(log, feed, views, actor=actor, within=within)
        self._commands = Commands(log, feed, views, actor=actor, within=within)
        self._busy: WeakValueDictionary[ThreadId, asyncio.Lock] = WeakValueDictionary()

    async def import_files(self, files: Iterable[RolloutFile], *, fork: bool = False) -> AsyncIterator[Imported]:
        """Import the files, several at once, and yield what became of them in their order.

        A file may be imported again and again: it adds its growth, if any. One that diverged from what is here is left
        alone, unless `fork` asks for a copy under a fresh id (each such import makes another one). Whoever stops early
        closes the iterator, which ends what is going on; the next import goes on from there.

        Of several files of one thread, the first that lies in a home says what its name and archived state are: homes
        that say different things would otherwise change them anew with each import.

        Raises:
            LogUnavailable: The log cannot be written. So for any other error that is not about one thread alone.
        """
        going_on: deque[asyncio.Task[Imported]] = deque()
        asked = _Asked(fork, {})
        try:
            for file in files:
                going_on.append(asyncio.create_task(self._import(file, asked)))
                if len(going_on) == _FILES_AT_ONCE:
                    yield await going_on.popleft()
            while going_on:
                yield await going_on.popleft()
        finally:
            for task in going_on:
                task.cancel()
            await asyncio.gather(*going_on, return_exceptions=True)

    async def _import(self, file: RolloutFile, asked: _Asked) -> Imported:
        thread_id: ThreadId | None = None
        attempt = 1
        while True:
            try:
                with opened(file) as lines:
                    thread_id = lines.thread_id
                    # Two files may be about one thread: the second is compared with what the first has left.
                    async with self._busy.setdefault(thread_id, asyncio.Lock()):
                        return await self._take_in(file, lines, asked)
            except NoRollout as exc:
                return Imported(file, Outcome.UNREADABLE, thread_id, note=str(exc))
            except _OF_ONE_THREAD as exc:
                if not isinstance(exc, Conflict) or attempt == _ATTEMPTS:
                    return Imported(file, Outcome.FAILED, thread_id, note=str(exc), error=exc)
                attempt += 1

    async def _take_in(self, file: RolloutFile, lines: RolloutLines, asked: _Asked) -> Imported:
        thread_id = lines.thread_id
        view = await self._views.get(thread_id)
        if view is not None:
            readable(thread_id, view.state)
        if view is None or view.state.head.lifecycle is Lifecycle.ABSENT:
            first = next(lines.items)
            after = await self._intake.create(thread_id, first, lines.items, forked_from=lines.meta.forked_from_id)
            return await self._follow(file, lines, _Taken(Outcome.CREATED, thread_id, None, after), asked)
        if view.state.head.lifecycle is Lifecycle.DELETED:
            return _left_alone(file, lines, Outcome.DELETED, "the thread was deleted here and stays so")
        history = self._history.items(thread_id, lambda view: _present(view, thread_id))
        found = await compared_with_history(lines, history)
        if not found.may_be_export:
            return await self._take_growth(file, lines, view, found, asked)
        with opened(file) as again:
            found = await compared_with_export(again, self._feed, thread_id, view)
            return await self._take_growth(file, again, view, found, asked)

    async def _take_growth(
        self, file: RolloutFile, lines: RolloutLines, view: ThreadView, found: Comparison, asked: _Asked
    ) -> Imported:
        """Append what the file has behind the history's end, if that is how it stands to the thread."""
        thread_id = lines.thread_id
        if found.differs and asked.fork:
            return await self._fork(file, asked)
        if found.differs:
            note = f"line {lines.number} is not what is here; nothing was written"
            return _left_alone(file, lines, Outcome.DIVERGED, note)
        if found.growth is None:
            taken = _Taken(Outcome.UNCHANGED, thread_id, view.state, view.state, lines.taken, found.is_export)
            return await self._follow(file, lines, taken, asked)
        known = lines.taken - 1
        growth = chain((found.growth,), lines.items)
        after = await self._intake.grow(thread_id, view, growth, behind=found.stored, at=found.growth.at)
        taken = _Taken(Outcome.GROWN, thread_id, view.state, after, known, found.is_export)
        return await self._follow(file, lines, taken, asked)

    async def _fork(self, file: RolloutFile, asked: _Asked) -> Imported:
        """Import a copy of the whole file under a fresh id."""
        with opened(file) as lines:
            source, thread_id = lines.thread_id, new_thread_id()
            first = next(lines.items)
            own = copied_session_meta(first, thread_id, forked_from_id=source)
            # Lines of paginated files are numbered: there the copy's session_meta takes the place of its source's.
            paginated = lines.meta.history_mode is ThreadHistoryMode.PAGINATED
            rest = lines.items if paginated else chain((first,), lines.items)
            after = await self._intake.create(thread_id, own, rest, forked_from=source)
            return await self._follow(file, lines, _Taken(Outcome.FORKED, thread_id, None, after), asked)

    async def _follow(self, file: RolloutFile, lines: RolloutLines, taken: _Taken, asked: _Asked) -> Imported:
        """Take over what the home says of the thread, and say what became of the file."""
        told, names = asked.told(file, lines.thread_id, taken.thread_id), lines.names(taken.known)
        if taken.is_export and taken.before is not None:
            told = told.beyond(taken.before)
        due = takeover(told, names, before=taken.before, after=taken.after)
        await self._say(taken.thread_id, due, at=lines.at * 1_000)
        notes = due.in_words()
        if taken.outcome is Outcome.FORKED:
            notes.insert(0, f"a copy of thread {lines.thread_id}")
        return Imported(file, taken.outcome, taken.thread_id, taken.added, tuple(lines.bad_lines), "; ".join(notes))

    async def _say(self, thread_id: ThreadId, due: Takeover, *, at: int) -> None:
        """Send the commands; `at` is what they bear as their time, in microseconds."""
        if due.archived is not None:
            # Before it is remembered: an import that is interrupted between the two is completed by the next.
            await self._shelve(thread_id, due.archived, at)
        if due.fields:
            await self._commands.patch(thread_id, due.fields, lambda view: _present(view, thread_id), occurred_at=at)

    async def _shelve(self, thread_id: ThreadId, archived: bool, at: int) -> None:
        """Archive or unarchive the thread, unless somebody just did."""
        wanted = Lifecycle.ARCHIVED if archived else Lifecycle.ACTIVE

        def check(view: ThreadView | None) -> ThreadView:
            found = _present(view, thread_id)
            if found.state.head.lifecycle is wanted:
                raise _AsWantedError
            return found

        shelve = self._commands.archive if archived else self._commands.unarchive
        with suppress(_AsWantedError):
            await shelve(ArchiveThreadParams(thread_id=thread_id), check, occurred_at=at)


def _left_alone(file: RolloutFile, lines: RolloutLines, outcome: Outcome, note: str) -> Imported:
    return Imported(file, outcome, lines.thread_id, bad_lines=tuple(lines.bad_lines), note=note)


def _present(view: ThreadView | None, thread_id: ThreadId) -> ThreadView:
    if view is None or not view.state.head.exists:
        raise ThreadNotFound(thread_id)
    return view
