"""The store's errors as gRPC says them: families become statuses, and the error's name goes along (contract §7)."""

from __future__ import annotations

from typing import Final

import grpc

from eventstore.errors import (
    AppendTooLarge,
    Behind,
    Broken,
    Conflict,
    EventStoreError,
    LogUnavailable,
    Rejected,
    ThreadExists,
    ThreadNotFound,
    TooMany,
    Unavailable,
    Unknown,
    UnknownThread,
    Unsupported,
    WriterFenced,
)

ERROR_NAME: Final = "eventstore-error"
"""The key, in a call's trailing metadata, of the error's name: a status stands for several."""
ERROR_KIN: Final = "eventstore-kin"
"""The key of the nearest error of `eventstore.errors` that it is one of: what a client takes it for that does not know
the name."""
LONGEST_TEXT: Final = 1_000
"""Characters of an error's text that are sent: it travels in a header, which clients take 8 KB of."""

_STATUSES: Final = (
    (ThreadNotFound, grpc.StatusCode.NOT_FOUND),
    (UnknownThread, grpc.StatusCode.NOT_FOUND),
    (AppendTooLarge, grpc.StatusCode.INVALID_ARGUMENT),
    (Unsupported, grpc.StatusCode.UNIMPLEMENTED),
    (Rejected, grpc.StatusCode.INVALID_ARGUMENT),
    (WriterFenced, grpc.StatusCode.ABORTED),
    (ThreadExists, grpc.StatusCode.ALREADY_EXISTS),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (TooMany, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (Behind, grpc.StatusCode.UNAVAILABLE),
    # What gRPC means by it: the call may have had its effect, and the answer did not come in time.
    (Unknown, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Broken, grpc.StatusCode.INTERNAL),
)


class ReplyTooLarge(Rejected):
    """The answer is larger than the client takes."""


class NotInTime(LogUnavailable):
    """The call took longer than a call may take here, and has changed nothing."""


class NotAuthenticated(Rejected):
    """The caller did not show who it is."""


def status_of(error: EventStoreError) -> grpc.StatusCode:
    """Return the status that tells the caller what the error's family does."""
    if isinstance(error, ReplyTooLarge):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if isinstance(error, NotInTime):
        return grpc.StatusCode.DEADLINE_EXCEEDED
    if isinstance(error, NotAuthenticated):
        return grpc.StatusCode.UNAUTHENTICATED
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.INTERNAL


def kin_of(error: EventStoreError) -> type[EventStoreError]:
    """Return the nearest class in `eventstore.errors` that the error is one of."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == EventStoreError.__module__)


def naming(error: EventStoreError) -> tuple[tuple[str, str], ...]:
    """Return what names the error in a call's trailing metadata."""
    return ((ERROR_NAME, type(error).__name__), (ERROR_KIN, kin_of(error).__name__))


def text_of(error: EventStoreError) -> str:
    """Return the error's text, short enough to travel."""
    text = str(error)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
