"""What every call has: its request read, its answer written, its end told to the client, the metrics and the log.

A client is told a status and a sentence, whatever goes wrong here; a traceback goes to the log.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, NamedTuple, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from eventstore.errors import EventStoreError, InvalidRequest
from eventstore.serve.metrics import ServerMetrics
from eventstore.serve.statuses import ERROR_NAME, status_of, text_of

Behaviour: TypeAlias = Callable[[Any], Awaitable[Message]]
Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

UNEXPECTED: Final = "the server failed unexpectedly; its log says how"

log = structlog.get_logger("eventstore.serve")


class Method(NamedTuple):
    """One method of a service."""

    name: str
    request: type[Message]
    behaviour: Behaviour


class Failure(NamedTuple):
    """How a call failed."""

    status: grpc.StatusCode
    text: str
    name: str


class Calls:
    """Runs the calls of a server's services."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def handler(self, service: str, methods: Iterable[Method]) -> grpc.GenericRpcHandler:
        """Return what a server has to be given for it to offer the service."""
        return grpc.method_handlers_generic_handler(
            service, {method.name: grpc.unary_unary_rpc_method_handler(self._run(method)) for method in methods}
        )

    def _run(self, method: Method) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def run(request: bytes, context: Context) -> bytes:
            begun = time.perf_counter()
            self._metrics.begun()
            status, reply = "CANCELLED", b""
            message = _parsed(method, request)
            try:
                answer = message if isinstance(message, Failure) else await _answer(method, message)
                status, reply = (answer.status.name, b"") if isinstance(answer, Failure) else ("OK", answer)
            finally:
                seconds = time.perf_counter() - begun
                self._metrics.ended(method.name, status, seconds=seconds)
                log.debug(
                    "call",
                    method=method.name,
                    thread=getattr(message, "thread_id", None),
                    status=status,
                    milliseconds=round(seconds * 1_000, 3),
                    request_bytes=len(request),
                    reply_bytes=len(reply),
                    client=context.peer(),
                )
            if isinstance(answer, Failure):
                await context.abort(answer.status, answer.text, ((ERROR_NAME, answer.name),))
            return reply

        return run


def _parsed(method: Method, request: bytes) -> Message | Failure:
    try:
        return method.request.FromString(request)
    except DecodeError:
        return _failure(InvalidRequest(f"the request is no {method.request.DESCRIPTOR.name}"))


async def _answer(method: Method, message: Message) -> bytes | Failure:
    try:
        return (await method.behaviour(message)).SerializeToString()
    except EventStoreError as exc:
        return _failure(exc)
    except Exception as exc:
        log.exception("call failed unexpectedly", method=method.name)
        return Failure(grpc.StatusCode.UNKNOWN, UNEXPECTED, type(exc).__name__)


def _failure(error: EventStoreError) -> Failure:
    return Failure(status_of(error), text_of(error), type(error).__name__)
