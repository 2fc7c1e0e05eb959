"""Whatever a client sends, it is told a status that is documented and a sentence; nothing of it shows the inside."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from eventstore.ids import new_thread_id
from eventstore.serve.asked import SERVICE as THREADS
from eventstore.serve.calls import UNEXPECTED
from eventstore.serve.codex_service import SERVICE as CODEX
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.protos.eventstore_threads_pb2 import FollowEventsRequest
from tests.support.serve_rig import Rig, a_rig
from tests.support.threads_wire import STREAMING, UNARY
from tests.support.wire import REQUESTS, item, told

DOCUMENTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
}
"""What a request may end with on a store that is well."""
KNOWN = [new_thread_id() for _ in range(3)]
JSON_TEXTS = [
    "",
    "{",
    "null",
    "{}",
    '{"text":"x"}',
    '{"cwd":"/x","model_provider":"p","memory_mode":"disabled"}',
    item("event_msg", {"type": "user_message", "message": "m"}),
    item("event_msg", {"type": "user_message", "message": 7}),
    item("response_item", {"type": "message", "role": "user", "content": []}),
    item("session_meta", {"id": KNOWN[0]}),
    item("session_meta", 7),
    item("compacted", {"message": "", "replacement_history": []}),
    '{"type":"\\ud83d","payload":"\\ud83d"}',
    '{"type":"event_msg","payload":1e999}',
    '{"type":"event_msg","payload":{"type":"user_message","message":"' + "m" * 5_000 + '"}}',
]
STRINGS = st.one_of(
    st.sampled_from(KNOWN), st.sampled_from(JSON_TEXTS), st.text(st.characters(codec="utf-8"), max_size=8)
)


def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Return messages of the kind, with any value that its schema allows in any field, or none."""
    fields = {field.name: values_of(field) for field in kind.DESCRIPTOR.fields}
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: kind(**values))


def values_of(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            one: st.SearchStrategy[Any] = st.sampled_from(KNOWN) if field.name in ("thread_id", "id") else STRINGS
            one = one | STRINGS
        case FieldDescriptor.TYPE_BOOL:
            one = st.booleans()
        case FieldDescriptor.TYPE_DOUBLE:
            one = st.sampled_from([0.0, 30.0, -1.0, math.inf, math.nan, 1e300])
        case FieldDescriptor.TYPE_ENUM:
            one = st.sampled_from([*(value.number for value in field.enum_type.values), 99, -1])
        case FieldDescriptor.TYPE_UINT32:
            one = st.sampled_from([0, 1, 2, 1_000, 2**32 - 1])
        case FieldDescriptor.TYPE_INT32:
            one = st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31)])
        case FieldDescriptor.TYPE_INT64:
            one = st.sampled_from([0, 1, 2, -1, 2**63 - 1, -(2**63)])
        case FieldDescriptor.TYPE_MESSAGE:
            one = messages(field.message_type._concrete_class)
        case kind:
            raise AssertionError(f"no values for a field of type {kind}")
    return st.lists(one, max_size=3) if field.is_repeated else one


CALLS: dict[str, type[Message]] = {
    **{f"{CODEX}/{name}": request for name, request in REQUESTS.items()},
    **{f"{THREADS}/{name}": request for name, (request, _) in (UNARY | STREAMING).items()},
}
CALL = st.sampled_from(sorted(CALLS)).flatmap(
    lambda method: messages(CALLS[method]).map(lambda message: (method, message.SerializeToString()))
)
MUTATED = st.tuples(CALL, st.integers(0, 10_000), st.binary(max_size=4)).map(
    lambda made: (made[0][0], _spoilt(made[0][1], made[1], made[2]))
)


def _spoilt(request: bytes, at: int, put: bytes) -> bytes:
    place = at % (len(request) + 1)
    return request[:place] + put + request[place + len(put) :]


_GOING_ON = 0.1
"""Seconds after which a call that would follow events for ever is cancelled."""


def _goes_on(method: str, request: bytes) -> bool:
    """Whether the call follows events, and would for ever."""
    try:
        return method.endswith("/FollowEvents") and FollowEventsRequest.FromString(request).follow
    except DecodeError:
        return False


class Loop:
    """A server in a loop that outlives single examples."""

    def __init__(self, path: Path) -> None:
        self._ends = ExitStack()
        self._runner = self._ends.enter_context(asyncio.Runner())
        self._serving = a_rig(path)
        self.rig: Rig = self._runner.run(self._serving.__aenter__())

    def call(self, method: str, request: bytes) -> tuple[grpc.StatusCode, str, str | None]:
        """Return the status of a call, its sentence and the name of its error."""

        async def called() -> tuple[grpc.StatusCode, str, str | None]:
            try:
                async with asyncio.timeout(_GOING_ON if _goes_on(method, request) else None):
                    await self.rig.codex.raw(method, request, streams=method.rpartition("/")[2] in STREAMING)
            except TimeoutError:
                pass
            except grpc.aio.AioRpcError as exc:
                return exc.code(), exc.details() or "", told(exc)
            return grpc.StatusCode.OK, "", None

        return self._runner.run(called())

    def close(self) -> None:
        self._runner.run(self._serving.__aexit__(None, None, None))
        self._ends.close()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    made = Loop(tmp_path / "threads.db")
    yield made
    made.close()


def test_any_message_and_any_bytes_end_with_a_documented_status(loop: Loop) -> None:
    seen = set()

    @settings(max_examples=400)
    @given(CALL | MUTATED)
    def any_call(call: tuple[str, bytes]) -> None:
        status, sentence, name = loop.call(*call)
        seen.add(status)
        assert status is grpc.StatusCode.OK or status in DOCUMENTED, (status, sentence)
        assert status is grpc.StatusCode.OK or (sentence and name), (status, sentence)
        assert "Traceback" not in sentence
        assert 'File "' not in sentence

    any_call()

    # The search came past the first check.
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} <= seen


def test_bytes_that_are_no_message_are_refused(loop: Loop) -> None:
    assert (grpc.StatusCode.INVALID_ARGUMENT, "the request is no ThreadIdRequest", "InvalidRequest") == loop.call(
        f"{CODEX}/FlushThread", b"\xff\xff"
    )


def test_a_method_that_is_not_there_is_unimplemented(loop: Loop) -> None:
    assert grpc.StatusCode.UNIMPLEMENTED is loop.call(f"{CODEX}/DeleteEverything", b"")[0]


def test_a_failure_that_nobody_foresaw_shows_nothing_of_the_inside(loop: Loop) -> None:
    request = pb.ReadThreadRequest(thread_id=KNOWN[0]).SerializeToString()
    with patch.object(loop.rig.store.views, "get", side_effect=RuntimeError("secret")) as fault:
        status = loop.call(f"{CODEX}/ReadThread", request)

    assert fault.called
    assert (grpc.StatusCode.UNKNOWN, UNEXPECTED, "RuntimeError") == status
    assert grpc.StatusCode.NOT_FOUND is loop.call(f"{CODEX}/ReadThread", request)[0]
