"""A server of one store: where it listens, what it offers, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from eventstore.errors import InvalidRequest
from eventstore.serve import heartbeat
from eventstore.serve.address import Address
from eventstore.serve.asked import SERVICE as THREADS_SERVICE
from eventstore.serve.bearers import Bearers
from eventstore.serve.callers import Callers
from eventstore.serve.calls import Calls
from eventstore.serve.codex_service import SERVICE as CODEX_SERVICE
from eventstore.serve.codex_service import CodexThreads
from eventstore.serve.guard import Guard
from eventstore.serve.metrics import ServerMetrics
from eventstore.serve.threads_service import Threads
from eventstore.serve.tls import TlsFiles, credentials
from eventstore.serve.turns import Turns
from eventstore.serve.writers import Writers

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client import CollectorRegistry

    from eventstore.threads import EventSourcedThreadStore

MIB: Final = 1024 * 1024
_SHARE_FOR_CALLS: Final = 0.5
"""Of the time that the server has to end, the share in which calls may finish; the rest is for closing threads."""

log = structlog.get_logger("eventstore.serve")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server allows itself, and whether it is alone."""

    within: float = 30.0
    """Seconds that a call waits for those before it."""
    writers: int = 10_000
    """Threads of Codex that are live at the same time, and as many of other clients."""
    idle_after: float = 900.0
    """Seconds after which a live thread that nobody uses is closed."""
    end_within: float = 20.0
    """Seconds to end in, all told."""
    shared: bool = False
    """Whether other servers are asked about the same threads."""
    deadline: float = 30.0
    """Seconds after which a call ends, whatever its client allows; streams go on."""
    calls: int = 4_096
    """Calls under way at the same time."""
    largest: int = 64 * MIB
    """Bytes of one request: a fork sends the whole history of its source."""
    unstored: int = 256 * MIB
    """Bytes kept for threads of which nothing is stored yet; the last request may go beyond them."""
    unverified: int = 256 * MIB
    """Bytes kept of what was appended to stored threads and is not known to count; the last request may go beyond."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that is ready."""

    address: Address
    scheme: str
    """http, or https with TLS."""
    codex: CodexThreads
    threads: Threads
    writers: Writers

    @property
    def codex_setting(self) -> str:
        """The line of Codex's config.toml that makes it keep its threads here."""
        return f'experimental_thread_store = {{ type = "remote", endpoint = "{self.scheme}://{self.address}" }}'


@asynccontextmanager
async def serving(
    store: EventSourcedThreadStore,
    address: Address,
    *,
    registry: CollectorRegistry,
    limits: Limits | None = None,
    tls: TlsFiles | None = None,
    tokens: Path | None = None,
) -> AsyncIterator[Serving]:
    """Serve the store for the block; at its end, finish the calls that are under way, and store and close all threads.

    Raises:
        InvalidRequest: The address cannot be listened at, or the certificate or the tokens cannot be used.
    """
    limits = limits or Limits()
    store.memory.bound(unstored=limits.unstored, unverified=limits.unverified)
    turns = Turns(within=limits.within)
    writers = Writers(
        store,
        turns,
        most=limits.writers,
        idle_after=limits.idle_after,
        shared=limits.shared,
    )
    codex = CodexThreads(store, turns, writers)
    callers = Callers(store, within=limits.within, writers=limits.writers, idle_after=limits.idle_after)
    threads = Threads(store, turns, callers)
    metrics = ServerMetrics(registry, live=lambda: len(writers) + callers.live, memory=store.memory)
    calls = Calls(metrics, deadline=limits.deadline)
    bearers = None if tokens is None else Bearers(tokens)
    guard = Guard(metrics, most=limits.calls, within=limits.deadline, bearers=bearers)
    server = grpc.aio.server(interceptors=(guard,), options=_options(limits))
    services = {CODEX_SERVICE: codex.methods, THREADS_SERVICE: threads.methods}
    server.add_generic_rpc_handlers([calls.handler(name, methods) for name, methods in services.items()])
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    reflection.enable_server_reflection((*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    port = _listening(server, address, tls)
    await server.start()
    for name in ("", *services):
        await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
    tidying = asyncio.ensure_future(_tidy(writers, callers, every=min(limits.idle_after, 60.0)))
    try:
        yield Serving(Address(address.host, port), "https" if tls else "http", codex, threads, writers)
    finally:
        tidying.cancel()
        await healthy.enter_graceful_shutdown()
        threads.end()
        for_calls = limits.end_within * _SHARE_FOR_CALLS
        until = time.monotonic() + for_calls
        await server.stop(grace=for_calls)
        await codex.settled(within=max(0.0, until - time.monotonic()))
        closing_within = limits.end_within - for_calls
        await asyncio.gather(writers.close_all(within=closing_within), callers.end_all(within=closing_within))


def _options(limits: Limits) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", limits.largest),
        ("grpc.max_send_message_length", -1),
        # Two servers at one port would each get half of the calls.
        ("grpc.so_reuseport", 0),
        *heartbeat.options(),
    )


def _listening(server: grpc.aio.Server, address: Address, tls: TlsFiles | None) -> int:
    try:
        if tls is not None:
            return server.add_secure_port(str(address), credentials(tls))
        return server.add_insecure_port(str(address))
    except RuntimeError as exc:
        raise InvalidRequest(f"{address} cannot be listened at; it may be taken: give another") from exc


async def _tidy(writers: Writers, callers: Callers, *, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        for tidy in (writers.close_idle, callers.end_idle):
            try:
                await tidy()
            except Exception as exc:
                # A bug, as it is where a call fails so: it goes to the log, and the server goes on.
                log.error("closing idle threads failed unexpectedly", exc_info=exc)
