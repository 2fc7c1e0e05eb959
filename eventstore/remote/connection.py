"""The connection to a server: one channel, calls with a deadline, and their ends told apart.

The invariant: `LogUnavailable` is said only of what changes nothing or was never sent; what was sent and cut off is
`CutOff`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message

from eventstore.errors import InvalidRequest
from eventstore.ids import new_event_id
from eventstore.life import closed
from eventstore.remote.failures import CutOff, away, error_of, refusal_of
from eventstore.remote.url import RemoteUrl
from eventstore.serve import heartbeat
from eventstore.serve.asked import SERVICE
from eventstore.serve.protos import eventstore_threads_pb2 as pb

M = TypeVar("M", bound=Message)

_SERVERS_SHARE: Final = 0.9
"""Of a call's time, what the server may take, so that its word on a call that took too long still arrives."""
_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    # In spite of its name, how long an attempt to connect may take: far away, TLS and greetings need a second or two.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Stores are callers of their own and share no connection.
    ("grpc.use_local_subchannel_pool", 1),
)


class Connection:
    """Calls a server as one caller."""

    def __init__(self, url: RemoteUrl, *, actor: str, within: float, durable: bool, token: str = "") -> None:
        """Connect to nothing yet; the bearer `token`, if any, is shown with every call.

        Raises:
            InvalidRequest: A file of certificates cannot be used.
        """
        self.url = url
        self.within = within
        self._caller = pb.Caller(id=new_event_id(), within=within * _SERVERS_SHARE, actor=actor, durable=durable)
        self._shown = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel = _channel(url)
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        await self._channel.close()

    async def ask(self, method: str, request: Message, reply: type[M], *, deadline: float | None = None) -> M:
        """Make a call that changes nothing.

        Raises:
            LogUnavailable: The server does not answer.
            EventStoreError: What the server said.
        """
        try:
            return await self._call(method, request, reply, deadline or time.monotonic() + self.within)
        except CutOff as exc:
            raise away(self.url.address, str(exc)) from exc

    async def tell(
        self,
        method: str,
        request: Message,
        reply: type[M],
        *,
        deadline: float,
        arrived: Callable[[], None] | None = None,
    ) -> M:
        """Make a call that changes something; `arrived` is called when the server says that it has it.

        Of calls that are under way together, any may be the first to arrive.

        Raises:
            CutOff: It was sent, and may have had its effect.
            LogUnavailable: The server cannot be reached; nothing was sent.
            EventStoreError: What the server said.
        """
        if self._channel.get_state() is not grpc.ChannelConnectivity.READY:
            await self.describe(deadline=deadline)
        return await self._call(method, request, reply, deadline, arrived)

    async def describe(self, *, deadline: float | None = None) -> pb.Description:
        """Return what the store is; raises as `ask` does."""
        return await self.ask("Describe", pb.DescribeRequest(), pb.Description, deadline=deadline)

    async def stream(
        self, method: str, request: Any, reply: type[M], *, endless: bool = False
    ) -> AsyncGenerator[M, None]:
        """Yield the replies of a call that changes nothing, each of which may take as long as a call, or for ever.

        Raises:
            LogUnavailable: The server does not answer, or the call was cut off.
            EventStoreError: What the server said.
        """
        request.caller.CopyFrom(self._caller)
        method_called = self._channel.unary_stream(
            f"/{SERVICE}/{method}", request_serializer=_bytes_of, response_deserializer=reply.FromString
        )
        called = method_called(request, metadata=self._shown)
        replies = aiter(called)
        try:
            while True:
                async with asyncio.timeout(None if endless else self.within):
                    following = await anext(replies, None)
                if following is None:
                    return
                yield following
        except TimeoutError as exc:
            raise away(self.url.address, f"nothing came within {self.within:g} s") from exc
        except grpc.aio.AioRpcError as exc:
            raise self._ended(exc) or away(self.url.address, _why(exc)) from exc
        except grpc.aio.UsageError as exc:
            raise closed() from exc
        except asyncio.CancelledError as exc:
            if self._closed and not _is_cancelled():
                raise closed() from exc
            raise
        finally:
            called.cancel()

    async def _call(
        self, method: str, request: Any, reply: type[M], deadline: float, arrived: Callable[[], None] | None = None
    ) -> M:
        request.caller.CopyFrom(self._caller)
        within = max(0.001, deadline - time.monotonic())
        try:
            if arrived is None:
                answer = await self._answer(method, request, reply, within)
            else:
                answer = await self._answer_behind(arrived, method, request, reply, within)
        except grpc.aio.AioRpcError as exc:
            error = self._ended(exc)
            if error is None:
                raise CutOff(_why(exc)) from exc
            raise error from exc
        except grpc.aio.UsageError as exc:
            raise closed() from exc
        except asyncio.CancelledError as exc:
            # A channel that is closed cancels its calls; their callers were not cancelled.
            if self._closed and not _is_cancelled():
                raise CutOff("the store was closed") from exc
            raise
        return answer

    async def _answer(self, method: str, request: Message, reply: type[M], within: float) -> M:
        called = self._channel.unary_unary(
            f"/{SERVICE}/{method}", request_serializer=_bytes_of, response_deserializer=reply.FromString
        )
        answer: M = await called(request, timeout=within, metadata=self._shown)
        return answer

    async def _answer_behind(
        self, arrived: Callable[[], None], method: str, request: Message, reply: type[M], within: float
    ) -> M:
        """Do the same, and call `arrived` as soon as the server says so.

        For gRPC the answer is a stream of one: of any other it tells nothing before the answer is there.
        """
        called = self._channel.unary_stream(
            f"/{SERVICE}/{method}", request_serializer=_bytes_of, response_deserializer=reply.FromString
        )
        under_way = called(request, timeout=within, metadata=self._shown)
        try:
            await under_way.initial_metadata()
            arrived()
            answer = await under_way.read()
            await under_way.code()
        finally:
            under_way.cancel()
        assert isinstance(answer, reply), "a call that went well has an answer"
        return answer

    def _ended(self, failed: grpc.aio.AioRpcError) -> Exception | None:
        return error_of(failed) or refusal_of(failed, self.url.address)


def _channel(url: RemoteUrl) -> grpc.aio.Channel:
    options = (*_OPTIONS, *heartbeat.options())
    if not url.tls:
        return grpc.aio.insecure_channel(url.address, options=options)
    try:
        trusted = grpc.ssl_channel_credentials(**url.trust())
        return grpc.aio.secure_channel(url.address, trusted, options=options)
    except (ValueError, RuntimeError) as exc:
        raise InvalidRequest(f"the certificates for {url} cannot be used: {exc}") from exc


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _bytes_of(request: Message) -> bytes:
    return request.SerializeToString()


def _why(failed: grpc.aio.AioRpcError) -> str:
    """Return gRPC's own words, in one line."""
    return " ".join((failed.details() or failed.code().name).split())
