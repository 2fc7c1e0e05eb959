"""Every error that a store raises, in families named by the caller's next move.

Parameters that do not fit are refused when they are made, by pydantic's `ValidationError` (a `ValueError`).
Catch a family to decide what to do next; catch a member to know why. Foreign errors are translated
once, at an engine's edge. Texts that other programs match on are the contract's.
"""

from __future__ import annotations

from typing import ClassVar, Final

_LONGEST_QUOTED: Final = 60
"""Characters of a wrong text that the sentence about it repeats."""


class EventStoreError(Exception):
    """The root of all errors of the store; `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 1


class Rejected(EventStoreError):
    """The request is wrong. Nothing was written; do not repeat it as it is."""

    exit_code = 2


class InvalidRequest(Rejected):
    """The request cannot be carried out as it stands."""


class UnknownThread(InvalidRequest):
    """No thread of this id is stored, or it is archived and only active ones were asked for."""


class ThreadNotFound(Rejected):
    """The thread is not live in this store or, for verbs that need no live one, not stored or deleted."""

    def __init__(self, thread_id: str) -> None:
        super().__init__(f"thread {thread_id} not found")
        self.thread_id = thread_id

    def __reduce__(self) -> tuple[object, ...]:
        # An exception is made anew from its text, which is not what this one is made of.
        return type(self), (self.thread_id,), self.__dict__


class AppendTooLarge(Rejected):
    """The append can never be logged; split it, or shorten its largest item."""


class Unsupported(Rejected):
    """This store does not offer the operation."""


class Conflict(EventStoreError):
    """Someone was first. Nothing of the call counts; reload and decide again."""

    exit_code = 3


class WriterFenced(Conflict):
    """Another writer took the thread over; discard it here, then resume it to write again."""


class WrongExpectedVersion(Conflict):
    """The thread changed since it was read; read it again and decide anew."""


class ThreadExists(Conflict):
    """A thread of this id is there already; discard it here, then resume it, or create one with a fresh id."""


class Unavailable(EventStoreError):
    """Nothing was written. The same call may be made later."""

    exit_code = 4


class LogUnavailable(Unavailable):
    """The log cannot be reached or written now."""


class ViewsUnavailable(Unavailable):
    """The views cannot be read now."""


class TooMany(Unavailable):
    """As much as is taken at once is under way, or kept, already."""


class Behind(EventStoreError):
    """It is written and counts. Wait or read the log; do not repeat it."""

    exit_code = 5


class ViewsBehind(Behind):
    """The views have not folded the position yet."""


class Unknown(EventStoreError):
    """It may have been written. Flush again, or repeat it with the same id."""

    exit_code = 6


class OutcomeUnknown(Unknown):
    """The call ended before its outcome was known."""


class Broken(EventStoreError):
    """Data or deployment is wrong. Call a person."""

    exit_code = 7


class UnreadableEvent(Broken):
    """A record of ours cannot be understood by this version; its thread is frozen there."""


class Superseded(Broken):
    """A later version of this program keeps the views; upgrade this one."""


class LogTruncated(Broken):
    """Records are missing from the log, at its beginning or within; what is read from it would be short."""


class TopicMisconfigured(Broken):
    """The log's file or topic is not one this version can keep threads in."""


class ViewsAheadOfLog(Broken):
    """The views have folded events which the log does not hold."""


def quoted(text: str) -> str:
    """Return a wrong text as the sentence about it repeats it: in quotes, and no more than its beginning."""
    return repr(text[:_LONGEST_QUOTED])
