"""Threads become rollout files that Codex reads (contract §1.6): a single one, or all of them as a home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from eventstore.admission import Admitted, Lifecycle
from eventstore.codex.homes import ACTIVE_FOLDER, ARCHIVED_FOLDER, NAMES_INDEX
from eventstore.codex.imported import is_import
from eventstore.codex.metadata import EMPTY, apply_facts, observe
from eventstore.codex.names import format_name
from eventstore.codex.privatefiles import private_file
from eventstore.codex.rollout import format_line
from eventstore.codex.rolloutfiles import rollout_name
from eventstore.codex.rolloutitems import Rollout
from eventstore.errors import EventStoreError, InvalidRequest, LogTruncated, UnreadableEvent
from eventstore.events import Event, Item, MetadataPatched
from eventstore.folders import make_private_folders
from eventstore.history import readable, replayed_whole
from eventstore.ids import ThreadId
from eventstore.moments import moment
from eventstore.ports import EventFeed, ThreadView, ThreadViews
from eventstore.state import Step, ThreadState

_IDS_AT_A_TIME = 1_000


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of one thread."""

    thread_id: ThreadId
    path: Path | None = None
    """The file it was written to; None if it was left out."""
    lines: int = 0
    note: str = ""
    """Why it was left out."""
    error: EventStoreError | None = None
    unsaid: tuple[str, ...] = ()
    """Fields that were set here and that Codex's files cannot say: whoever reads them sees other values."""


class ExportedLines:
    """A thread as lines of a rollout, without line breaks. It is read once, which raises:

    UnreadableEvent: A record of the thread cannot be understood.
    LogTruncated: A record of the thread is not in the log any more.
    """

    def __init__(self, feed: EventFeed, thread_id: ThreadId, view: ThreadView) -> None:
        self._feed = feed
        self._thread_id = thread_id
        self._view = view
        self._summary, self._retold = EMPTY, EMPTY
        self._set_here: set[str] = set()
        self.was_named = False
        """Whether the thread ever had a name, as far as its lines were read."""

    async def __aiter__(self) -> AsyncIterator[str]:
        rollout = Rollout(self._thread_id)
        end = await self._feed.end(self._feed.partition_of(self._thread_id))
        async for _, event, done in replayed_whole(self._feed, self._thread_id, self._view, stop=end):
            items = tuple(rollout.after(event, done))
            self._hear(event, items, done)
            for item in items:
                yield format_line(item)

    @property
    def unsaid(self) -> list[str]:
        """The fields that were set here and that the lines, all of which were read, do not say; nor the time of it."""
        return sorted(
            name
            for name in self._set_here - {"updated_at"}
            if getattr(self._summary, name) != getattr(self._retold, name)
        )

    def _hear(self, event: Event, items: Sequence[Item], done: Step) -> None:
        self._summary = done.state.summary
        self.was_named = self.was_named or bool(self._summary.name)
        self._retold = apply_facts(self._retold, observe(self._thread_id, items))
        if isinstance(event, MetadataPatched) and isinstance(done.verdict, Admitted) and not is_import(event.fields):
            self._set_here |= {name for name, _ in event.fields if hasattr(EMPTY, name)}


async def export_lines(feed: EventFeed, views: ThreadViews, thread_id: ThreadId) -> ExportedLines:
    """Return the thread as lines of a rollout.

    Raises:
        InvalidRequest: There is no such thread.
        UnreadableEvent: The thread is frozen.
    """
    return ExportedLines(feed, thread_id, await _readable_view(views, thread_id))


async def export_thread(
    feed: EventFeed, views: ThreadViews, thread_id: ThreadId, file: Path, *, overwrite: bool = False
) -> Exported:
    """Write the thread to a file of mode 0600, which is there whole or not at all.

    Raises:
        InvalidRequest: There is no such thread, or the file is there already or cannot be written.
        UnreadableEvent: The thread is frozen.
        LogTruncated: A record of the thread is not in the log any more.
    """
    lines = await export_lines(feed, views, thread_id)
    count = await _write(lines, file, overwrite=overwrite)
    return Exported(thread_id, file, count, unsaid=tuple(lines.unsaid))


async def export_home(feed: EventFeed, views: ThreadViews, directory: Path) -> AsyncIterator[Exported]:
    """Write all threads but deleted ones as a Codex home, and yield what became of each.

    Threads that no listing shows are among them. A frozen one is left out and said so. The home is complete, names
    included, when the iteration ends.

    Raises:
        InvalidRequest: The folder holds something already, or cannot be written.
    """
    _begin_home(directory)
    names: list[tuple[int, str]] = []
    async for thread_id in _all_ids(views):
        try:
            view = await _readable_view(views, thread_id)
            file = directory / _place(view.state, thread_id)
            lines = ExportedLines(feed, thread_id, view)
            count = await _write(lines, file)
        except _GoneError:
            continue
        except (UnreadableEvent, LogTruncated) as exc:
            yield Exported(thread_id, note=str(exc), error=exc)
            continue
        summary = view.state.summary
        if lines.was_named:
            # Without a name now: the entry clears it for who reads it in the lines, or took it over from a home before.
            entry = format_name(thread_id, summary.name, updated_at=summary.updated_at)
            names.append((summary.updated_at, entry))
        yield Exported(thread_id, file, count, unsaid=tuple(field for field in lines.unsaid if field != "name"))
    if names:
        with private_file(directory / NAMES_INDEX) as out:
            # Codex looks names up from the end: the thread that changed last is found first.
            out.writelines(entry + "\n" for _, entry in sorted(names))


class _GoneError(InvalidRequest):
    """There is no such thread, or no more."""


async def _readable_view(views: ThreadViews, thread_id: ThreadId) -> ThreadView:
    view = await views.get(thread_id)
    if view is not None:
        readable(thread_id, view.state)
    if view is None or not view.state.head.exists:
        raise _GoneError(f"no rollout found for thread id {thread_id}")
    return view


async def _write(lines: ExportedLines, file: Path, *, overwrite: bool = False) -> int:
    """Return how many lines were written."""
    count = 0
    with private_file(file, overwrite=overwrite) as out:
        async for line in lines:
            out.write(line + "\n")
            count += 1
    return count


async def _all_ids(views: ThreadViews) -> AsyncIterator[ThreadId]:
    after: ThreadId | None = None
    while ids := await views.thread_ids(after=after, limit=_IDS_AT_A_TIME):
        for thread_id in ids:
            yield thread_id
        after = ids[-1]


def _begin_home(directory: Path) -> None:
    try:
        make_private_folders(directory.absolute())
        if any(directory.iterdir()):
            raise InvalidRequest(f"{directory} is not empty; give a folder that is, or a new one")
    except OSError as exc:
        raise InvalidRequest(f"{directory} cannot be written: {exc.strerror}; give another folder") from exc


def _place(state: ThreadState, thread_id: ThreadId) -> Path:
    """Return where in a home the thread's file lies, by the local time of its creation."""
    created = _local(max(0, state.summary.created_at))
    name = rollout_name(created, thread_id)
    if state.head.lifecycle is Lifecycle.ARCHIVED:
        return Path(ARCHIVED_FOLDER, name)
    return Path(ACTIVE_FOLDER, f"{created:%Y}", f"{created:%m}", f"{created:%d}", name)


def _local(micros: int) -> datetime:
    utc = moment(micros)
    try:
        return utc.astimezone()
    except (OverflowError, ValueError, OSError):
        return utc  # the last day of the calendar has no tomorrow elsewhere
