"""The engine at the other end of a wire under the contract suite: a server in this process, on another engine."""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field

import structlog
from prometheus_client import CollectorRegistry

from eventstore.ids import ThreadId
from eventstore.remote.connection import Connection
from eventstore.remote.store import RemoteThreadStore
from eventstore.remote.url import RemoteUrl
from eventstore.serve.address import Address
from eventstore.serve.server import Limits, serving
from eventstore.store import ThreadStore
from eventstore.threads import EventSourcedThreadStore
from tests.support.engines import Engine, Through, untouched

_WITHIN = 30.0


@dataclass(eq=False)
class Server:
    """A server, what it serves, and the clients that it has."""

    store: EventSourcedThreadStore
    url: RemoteUrl
    ends: AsyncExitStack
    clients: list[RemoteThreadStore] = field(default_factory=list)


class RemoteEngine:
    """Stores at a server (protocol `Engine`). Those with nothing put between share one, as its callers.

    What is put between a store and its ports, or a deadline of its own, is the server's.
    """

    def __init__(self, behind: Engine) -> None:
        self.soon = max(1.0, behind.soon)
        self._behind = behind
        self._shared: Server | None = None
        self._running: list[Server] = []
        self._servers: dict[int, Server] = {}
        self._connections: dict[int, Connection] = {}

    async def open(self, *, through: Through = untouched, within: float = _WITHIN) -> ThreadStore:
        if through is not untouched or within != _WITHIN:
            server = await self._server(through, within)
        else:
            if self._shared is None:
                self._shared = await self._server(through, within)
            server = self._shared
        connection = Connection(server.url, actor="a test", within=within, durable=False)
        store = RemoteThreadStore(connection)
        await store.connect()
        server.clients.append(store)
        self._servers[id(store)], self._connections[id(store)] = server, connection
        return store

    async def close(self, store: ThreadStore) -> None:
        server = self._servers.pop(id(store))
        server.clients = [client for client in server.clients if client is not store]
        await store.close()  # type: ignore[attr-defined]

    async def crash(self, store: ThreadStore) -> None:
        # The server learns nothing of it; with the last of its clients it dies as well.
        server = self._servers[id(store)]
        await self._connections[id(store)].close()
        server.clients = [client for client in server.clients if client is not store]
        if not server.clients:
            await self._behind.crash(server.store)
            if self._shared is server:
                self._shared = None

    async def lose_views(self, store: ThreadStore) -> None:
        await self._behind.lose_views(self._servers[id(store)].store)

    async def write_record(self, store: ThreadStore, thread_id: ThreadId, record: bytes) -> None:
        await self._behind.write_record(self._servers[id(store)].store, thread_id, record)

    def hold_the_log(self) -> AbstractAsyncContextManager[None]:
        return self._behind.hold_the_log()

    async def end(self) -> None:
        for server in self._running:
            for client in server.clients:
                await client.close()
            await server.ends.aclose()
        self._running.clear()
        await self._behind.end()

    async def _server(self, through: Through, within: float) -> Server:
        # A server's log is for those who run one.
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        store = await self._behind.open(through=through, within=within)
        assert isinstance(store, EventSourcedThreadStore)
        ends = AsyncExitStack()
        limits = Limits(within=within, end_within=2.0)
        ready = await ends.enter_async_context(
            serving(store, Address("127.0.0.1", 0), registry=CollectorRegistry(), limits=limits)
        )
        server = Server(store, RemoteUrl(str(ready.address)), ends)
        self._running.append(server)
        return server
