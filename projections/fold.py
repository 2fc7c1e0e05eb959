"""A batch of log entries folded into changes of threads. Pure: (states, entries) -> changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from eventstore.admission import Admitted, follows
from eventstore.codec import schemas_known
from eventstore.events import ItemsAppended
from eventstore.ids import ThreadId
from eventstore.judging import Stopped, judge, owner
from eventstore.ports import Entry
from eventstore.state import UNKNOWN_THREAD, IndexEntry, Step, ThreadState, step_all
from projections.ports import ThreadChange

FOLD = 1
"""Raised whenever the same log would give other views: older views are then dropped and folded anew. So also when a
record is understood that was not before: threads which it froze are whole in the views that are folded then."""


def fold_in_force() -> str:
    """Name the fold of this version; one that knows another schema understands other records, so that is named too."""
    return f"{FOLD}/{schemas_known()}"


def is_newer(fold: str) -> bool:
    """Whether that fold, as its version names it, is a later version's than this one's.

    Of any two folds exactly one is: where workers of both are at work, they agree on whose views are to serve.
    """
    return _rank(fold) > _rank(fold_in_force())


def _rank(fold: str) -> tuple[int, int, str]:
    number, _, schemas = fold.partition("/")
    known, _, digest = schemas.partition("-")
    return (int(number), int(known), digest) if number.isdecimal() and known.isdecimal() else (-1, -1, fold)


@dataclass(slots=True)
class Folded:
    """What the entries did, and how many of them did nothing."""

    changes: dict[ThreadId, ThreadChange] = field(default_factory=dict)
    admitted: int = 0
    void: int = 0
    foreign: int = 0
    unreadable: int = 0
    unfolded: int = 0
    """Entries of frozen threads."""

    def add(self, later: Folded) -> None:
        """Take in what the entries behind these did."""
        for thread_id, change in later.changes.items():
            self.changes[thread_id] = self.changes[thread_id].then(change) if thread_id in self.changes else change
        self.admitted += later.admitted
        self.void += later.void
        self.foreign += later.foreign
        self.unreadable += later.unreadable
        self.unfolded += later.unfolded


def fold(states: Mapping[ThreadId, ThreadState], entries: Sequence[Entry]) -> Folded:
    """Fold the entries, in order, upon the states of their threads (absent: the thread is unknown)."""
    folded = Folded()
    own: defaultdict[ThreadId, list[Entry]] = defaultdict(list)
    for entry in entries:
        thread_id = owner(entry)
        if thread_id is None:
            folded.foreign += 1
        else:
            own[thread_id].append(entry)
    # No thread's events say anything of another's.
    changes = []
    for thread_id, its_entries in own.items():
        before = states.get(thread_id, UNKNOWN_THREAD)
        after, indexed = _fold_one_thread(before, its_entries, folded)
        if after is not before:
            changes.append((thread_id, ThreadChange(before, after, indexed)))
    # In the order in which threads were begun, wherever the log is cut into batches.
    folded.changes.update(sorted(changes, key=lambda change: change[1].after.start))
    return folded


def _fold_one_thread(
    state: ThreadState, entries: Sequence[Entry], folded: Folded
) -> tuple[ThreadState, list[IndexEntry]]:
    indexed: list[IndexEntry] = []
    for run in _runs(entries):
        done = _fold_run(state, run) if len(run) > 1 else None
        if done is None:
            for entry in run:
                state = _fold_one(state, entry, folded, indexed)
        else:
            state = done.state
            folded.admitted += len(run)
            indexed.extend(done.indexed)
    return state, indexed


def _runs(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Cut the entries of one thread into such as may be folded at once."""
    start = 0
    for at in range(1, len(entries)):
        if not follows(entries[at].event, entries[at - 1].event):
            yield entries[start:at]
            start = at
    yield entries[start:]


def _fold_run(state: ThreadState, run: Sequence[Entry]) -> Step | None:
    """Fold appends of which each follows the one before; None if that has to be done one by one."""
    if state.frozen is not None:
        return None
    appends = [(entry.position.offset, entry.event) for entry in run if isinstance(entry.event, ItemsAppended)]
    try:
        return step_all(state, appends)
    except Exception:  # which of them it is, they tell one by one
        return None


def _fold_one(state: ThreadState, entry: Entry, folded: Folded, indexed: list[IndexEntry]) -> ThreadState:
    if state.frozen is not None:
        folded.unfolded += 1
        return state
    judged = judge(state, entry)
    if isinstance(judged, Stopped):
        folded.unreadable += 1
        return judged.state
    if isinstance(judged.done.verdict, Admitted):
        folded.admitted += 1
    else:
        folded.void += 1
    indexed.extend(judged.done.indexed)
    return judged.state
