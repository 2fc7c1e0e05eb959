"""What one record of the log does to its thread: the one answer that projector, readers, audits and copies give.

Pure. A record that cannot be understood or folded stops its thread there, if that lives; to a dead one it is nothing.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from eventstore.codec import ForeignRecord, UnreadableRecord
from eventstore.events import Event
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.state import Step, ThreadState, freeze, step


class Judged(NamedTuple):
    """An entry with its event, judged and folded."""

    entry: Entry
    event: Event
    done: Step

    @property
    def state(self) -> ThreadState:
        """The thread behind the entry."""
        return self.done.state


class Stopped(NamedTuple):
    """An entry that cannot be understood or folded."""

    entry: Entry
    why: str
    state: ThreadState
    """The thread behind the entry: frozen, or a dead one as it was."""


Judgement: TypeAlias = Judged | Stopped


def owner(entry: Entry) -> ThreadId | None:
    """Return the thread that the entry is about; None for a record that is not ours, or under another's key."""
    match entry.event:
        case ForeignRecord():
            return None
        case UnreadableRecord():
            return entry.thread_id
        case event:
            return entry.thread_id if event.thread_id == entry.thread_id else None


def judge(state: ThreadState, entry: Entry) -> Judgement:
    """Judge an entry of the thread upon the thread's state, which is not frozen."""
    assert not isinstance(entry.event, ForeignRecord), "it has no owner"
    if isinstance(entry.event, UnreadableRecord):
        return _stopped(state, entry, entry.event.why)
    try:
        return Judged(entry, entry.event, step(state, entry.event, offset=entry.position.offset))
    except Exception as exc:  # one bad record harms one thread, whatever it does to the fold
        return _stopped(state, entry, f"the fold raised {exc!r}")


def _stopped(state: ThreadState, entry: Entry, why: str) -> Stopped:
    return Stopped(entry, why, freeze(state, why, offset=entry.position.offset))
