"""Errors travel: what the server raises is raised at the client, by the same name or as the nearest that it knows."""

from __future__ import annotations

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from eventstore import errors
from eventstore.errors import EventStoreError, LogUnavailable, Rejected, ThreadNotFound
from eventstore.ids import new_thread_id
from eventstore.remote.failures import error_of
from eventstore.serve.statuses import ReplyTooLarge, naming, status_of, text_of

ALL = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EventStoreError) and kind is not ThreadNotFound
]


def told(error: EventStoreError) -> AioRpcError:
    """Return the failure that the error arrives as."""
    return AioRpcError(status_of(error), Metadata(), Metadata(*naming(error)), details=text_of(error))


@pytest.mark.parametrize("kind", ALL)
def test_every_error_comes_back_as_itself(kind: type[EventStoreError]) -> None:
    back = error_of(told(kind("why it is so")))

    assert (kind, "why it is so") == (type(back), str(back))


def test_a_thread_that_was_not_found_is_named() -> None:
    thread_id = new_thread_id()
    back = error_of(told(ThreadNotFound(thread_id)))

    assert isinstance(back, ThreadNotFound)
    assert (thread_id, f"thread {thread_id} not found") == (back.thread_id, str(back))


def test_an_error_whose_name_is_not_known_comes_back_as_its_kin() -> None:
    class LaterThanThisClientError(LogUnavailable):
        pass

    assert [LogUnavailable, Rejected] == [
        type(error_of(told(error))) for error in (LaterThanThisClientError("x"), ReplyTooLarge("x"))
    ]


def test_what_the_server_did_not_tell_is_no_error_of_the_store() -> None:
    assert error_of(AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), details="Socket closed")) is None
