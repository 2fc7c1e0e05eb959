"""How long a request may take to arrive: a client that opens a call and sends nothing would hold its place for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import grpc

from eventstore.serve.statuses import NotInTime, naming, status_of, text_of

if TYPE_CHECKING:
    from eventstore.serve.calls import Context

_NONE: Final = "the call ended without a request"


def received_within(handler: grpc.RpcMethodHandler[Any, Any], within: float) -> grpc.RpcMethodHandler[Any, Any]:
    """Return what handles a method that takes one request as before, once that has arrived in time.

    Later than `within` seconds after the call was opened it ends with DEADLINE_EXCEEDED; nothing was done then.
    """

    behaviour: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary

    async def read(context: Context) -> object:
        try:
            async with asyncio.timeout(within):
                request: object = await context.read()
        except TimeoutError:
            late = NotInTime(f"the request did not arrive within {within:g} s; nothing was done")
            await context.abort(status_of(late), text_of(late), naming(late))
        if request is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _NONE)
        return request

    async def once(_: object, context: Context) -> Any:
        return await behaviour(await read(context), context)

    async def stream(_: object, context: Context) -> AsyncIterator[Any]:
        async for reply in behaviour(await read(context), context):
            yield reply

    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(stream, handler.request_deserializer, handler.response_serializer)
    return grpc.stream_unary_rpc_method_handler(once, handler.request_deserializer, handler.response_serializer)
