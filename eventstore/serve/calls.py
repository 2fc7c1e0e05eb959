"""What every call has: its request read, its answer written, its end told to the client, the metrics and the log.

A client is told a status and a sentence, whatever goes wrong here; a traceback goes to the log.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from eventstore.actor import act_as, acting
from eventstore.errors import EventStoreError, InvalidRequest
from eventstore.serve.deadline import ended_within
from eventstore.serve.metrics import ServerMetrics
from eventstore.serve.statuses import ERROR_NAME, naming, status_of, text_of

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

UNEXPECTED: Final = "the server failed unexpectedly; its log says how"
_NAMES_IN_CERTIFICATE: Final = ("x509_subject", "x509_common_name", "x509_subject_alternative_name")
"""What a certificate calls its holder, best first, in gRPC's words."""

log = structlog.get_logger("eventstore.serve")


class Method(NamedTuple):
    """One method of a service, which answers with one message."""

    name: str
    request: type[Message]
    behaviour: Callable[[Any], Awaitable[Message]]
    changes: bool = True
    """Whether it may change something; others only read."""
    tells_arrival: bool = False
    """Whether its client hears that it has arrived, for its answer may be long in coming."""


class Streaming(NamedTuple):
    """One method of a service, which answers with as many messages as there are."""

    name: str
    request: type[Message]
    behaviour: Callable[[Any], AsyncGenerator[Message, None]]


class Failure(NamedTuple):
    """How a call failed."""

    status: grpc.StatusCode
    text: str
    naming: tuple[tuple[str, str], ...]


class Calls:
    """Runs the calls of a server's services."""

    def __init__(self, metrics: ServerMetrics, *, deadline: float) -> None:
        """Run calls that answer once for at most `deadline` seconds; a stream goes on while its client takes it."""
        self._metrics = metrics
        self._deadline = deadline

    def handler(self, service: str, methods: Iterable[Method | Streaming]) -> grpc.GenericRpcHandler:
        """Return what a server has to be given for it to offer the service."""
        return grpc.method_handlers_generic_handler(
            service,
            {
                method.name: grpc.unary_unary_rpc_method_handler(self._run(method))
                if isinstance(method, Method)
                else grpc.unary_stream_rpc_method_handler(self._stream(method))
                for method in methods
            },
        )

    def _run(self, method: Method) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def run(request: bytes, context: Context) -> bytes:
            with self._call(method.name, request, context) as call:
                try:
                    message = call.parsed(method.request)
                    if method.tells_arrival:
                        await context.send_initial_metadata(())
                    async with ended_within(self._deadline, changes=method.changes):
                        reply = await method.behaviour(message)
                    return call.replied(reply.SerializeToString())
                except Exception as exc:
                    call.failed(exc)
            return await call.aborted()

        return run

    def _stream(self, method: Streaming) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
        async def stream(request: bytes, context: Context) -> AsyncIterator[bytes]:
            with self._call(method.name, request, context) as call:
                try:
                    message = call.parsed(method.request)
                    async with aclosing(method.behaviour(message)) as replies:
                        async for reply in replies:
                            yield call.replied(reply.SerializeToString())
                    return
                except Exception as exc:
                    call.failed(exc)
            await call.aborted()

        return stream

    @contextmanager
    def _call(self, method: str, request: bytes, context: Context) -> Iterator[_Call]:
        """Run a call in the block, and tell how it ended, also if it is cancelled there."""
        # A token, which the guard has looked at, names the caller before its certificate does.
        if acting() is None and (name := _certified_name(context.auth_context())) is not None:
            act_as(name)
        call = _Call(method, request, context)
        # Of a stream that the server cut off the call is gone when it is closed: asking it then crashes the process.
        client = context.peer()
        begun = time.perf_counter()
        self._metrics.begun()
        try:
            yield call
        except BaseException:
            call.status = grpc.StatusCode.CANCELLED
            raise
        finally:
            seconds = time.perf_counter() - begun
            self._metrics.ended(method, call.status.name, seconds=seconds)
            log.debug(
                "call",
                method=method,
                thread=call.thread,
                status=call.status.name,
                milliseconds=round(seconds * 1_000, 3),
                request_bytes=len(request),
                reply_bytes=call.reply_bytes,
                client=client,
                actor=acting(),
            )


class _Call:
    """One call, as it goes."""

    def __init__(self, method: str, request: bytes, context: Context) -> None:
        self.status = grpc.StatusCode.OK
        self.thread: str | None = None
        self.reply_bytes = 0
        self._method = method
        self._request = request
        self._context = context
        self._failure = Failure(self.status, "", ())

    def parsed(self, kind: type[Message]) -> Message:
        """Return the request.

        Raises:
            InvalidRequest: It is none.
        """
        try:
            message = kind.FromString(self._request)
        except DecodeError as exc:
            raise InvalidRequest(f"the request is no {kind.DESCRIPTOR.name}") from exc
        self.thread = getattr(message, "thread_id", None)
        return message

    def replied(self, reply: bytes) -> bytes:
        self.reply_bytes += len(reply)
        return reply

    def failed(self, error: Exception) -> None:
        """Take in why the call ends; what is not an error of the store is a bug, and goes to the log."""
        if isinstance(error, EventStoreError):
            self._failure = Failure(status_of(error), text_of(error), naming(error))
        else:
            log.error("call failed unexpectedly", method=self._method, exc_info=error)
            self._failure = Failure(grpc.StatusCode.UNKNOWN, UNEXPECTED, ((ERROR_NAME, type(error).__name__),))
        self.status = self._failure.status

    async def aborted(self) -> NoReturn:
        """Tell the client how the call failed."""
        await self._context.abort(*self._failure)
        raise AssertionError("an aborted call does not go on")


def _certified_name(shown: Mapping[str, Iterable[bytes]]) -> str | None:
    """Return the name that a client's certificate shows; None without one."""
    for kind in _NAMES_IN_CERTIFICATE:
        for name in shown.get(kind, ()):
            if text := name.decode(errors="replace"):
                return text
    return None
