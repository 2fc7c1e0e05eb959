"""How calls fail: the server's own word on it becomes the very error that was raised there. Pure."""

from __future__ import annotations

import re
from typing import Final

import grpc

from eventstore import errors
from eventstore.errors import (
    AppendTooLarge,
    EventStoreError,
    LogUnavailable,
    OutcomeUnknown,
    ThreadNotFound,
    Unsupported,
)
from eventstore.serve.statuses import ERROR_KIN, ERROR_NAME

_TOO_LARGE: Final = re.compile(r"larger than max \((\d+) vs\. (\d+)\)")
"""How gRPC says that a request is too large: its bytes, and those that are taken."""
_ERRORS: Final = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EventStoreError)
}


class CutOff(Exception):
    """The call ended without the server's word on it; only reads may be repeated without more ado."""


def error_of(failed: grpc.aio.AioRpcError) -> EventStoreError | None:
    """Return the error that the server told; None if it told none."""
    told = dict(failed.trailing_metadata() or ())
    text = failed.details() or ""
    for key in (ERROR_NAME, ERROR_KIN):
        kind = _ERRORS.get(str(told.get(key)))
        if kind is ThreadNotFound:
            return ThreadNotFound(text.removeprefix("thread ").removesuffix(" not found"))
        if kind is not None:
            return kind(text)
    return None


def refusal_of(failed: grpc.aio.AioRpcError, address: str) -> EventStoreError | None:
    """Return the error if gRPC itself refused the call, which then had no effect; None if that is not known."""
    match failed.code():
        case grpc.StatusCode.UNIMPLEMENTED:
            return Unsupported(f"{address} does not offer this; it serves an older version, or something else")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if sizes := _TOO_LARGE.search(failed.details() or ""):
            size, largest = map(int, sizes.groups())
            return AppendTooLarge(
                f"{address} takes requests of {largest:,} bytes, and this one has {size:,}; append fewer items at a "
                "time, or shorten the largest"
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return LogUnavailable(f"{address} has too many calls under way; try again later")
        case _:
            return None


def away(address: str, why: str) -> LogUnavailable:
    """Return the error for a server that did not answer a call which changes nothing, or was never sent."""
    return LogUnavailable(f"the server at {address} does not answer ({why}); see that it runs")


def unknown(address: str, why: str) -> OutcomeUnknown:
    """Return the error for a call that was cut off and may have had its effect."""
    return OutcomeUnknown(f"the call to {address} was cut off ({why}); it may have had its effect: read, or repeat it")
