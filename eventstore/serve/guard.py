"""The guard before all services: it lets calls in that show who they are, and no more at once than there is place for.

A call is refused before its request is read. Health is open to everyone, with places of its own, so that whoever
watches a server needs no token and cannot keep others out; everything else is guarded, reflection too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from grpc_health.v1 import health

from eventstore.actor import act_as
from eventstore.errors import EventStoreError, TooMany
from eventstore.serve.bearers import Bearers
from eventstore.serve.metrics import ServerMetrics
from eventstore.serve.receiving import received_within
from eventstore.serve.statuses import naming, status_of, text_of

if TYPE_CHECKING:
    from eventstore.serve.calls import Context

_OPEN: Final = f"/{health.SERVICE_NAME}/"
_MOST_OPEN: Final = 256
"""Calls that anyone may make, at the same time."""

log = structlog.get_logger("eventstore.serve")


class Guard(grpc.aio.ServerInterceptor):
    """Stands before a server's services."""

    def __init__(self, metrics: ServerMetrics, *, most: int, within: float, bearers: Bearers | None) -> None:
        """Let at most `most` calls in at once, only those of `bearers` if these are given.

        A call's request has to arrive within `within` seconds.
        """
        self._metrics = metrics
        self._within = within
        self._bearers = bearers
        self._places = _Places(most, "see its --calls")
        self._open_places = _Places(_MOST_OPEN, "those for health")

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        try:
            if handler_call_details.method.startswith(_OPEN):
                self._open_places.take()
                return await continuation(handler_call_details)
            if self._bearers is not None:
                act_as(self._bearers.caller(handler_call_details.invocation_metadata))
            self._places.take()
        except EventStoreError as exc:
            return self._refusal(handler_call_details.method, exc)
        handler = await continuation(handler_call_details)
        return handler if handler is None or handler.request_streaming else received_within(handler, self._within)

    def _refusal(self, method: str, error: EventStoreError) -> grpc.RpcMethodHandler[Any, Any]:
        """Return what ends a call, of whatever kind, without reading its request."""
        status = status_of(error)

        async def refuse(_: object, context: Context) -> None:
            self._metrics.refused(status.name)
            log.debug("call refused", method=method, status=status.name, client=context.peer())
            await context.abort(status, text_of(error), naming(error))

        return grpc.stream_stream_rpc_method_handler(refuse)


class _Places:
    """So many calls at the same time."""

    def __init__(self, most: int, which: str) -> None:
        self._most = most
        self._which = which
        self._taken = 0

    def take(self) -> None:
        """Take a place for the current task, until it ends.

        Raises:
            TooMany: There is none.
        """
        if self._taken >= self._most:
            raise TooMany(
                f"{self._taken} calls are under way at this server, as many as may be ({self._which}); try again later"
            )
        task = asyncio.current_task()
        assert task is not None, "gRPC runs each call in a task"
        self._taken += 1
        task.add_done_callback(self._leave)

    def _leave(self, _: object) -> None:
        self._taken -= 1
