"""The engines under the contract suite: each opens stores on data of its own.

A suite asks for the fixture `store` (one store, every engine) or for `elsewhere` as well (a second store on the same
data, standing for another process: engines that several processes share). Which engine can do what is thus decided by
what a test asks for; nothing is ever skipped.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

from eventstore.ids import ThreadId
from eventstore.ports import EventFeed, EventLog, ThreadViews
from eventstore.settings import Settings
from eventstore.sqlite.file import Synchronous
from eventstore.store import ThreadStore
from eventstore.threads import EventSourcedThreadStore
from eventstore.wiring import Embedded, Parts, open_embedded

CHOSEN = "CONTRACT_ENGINE"
"""The environment variable that names the one engine to run the suite on: how the suite itself is tested."""


@dataclass(frozen=True)
class Ports:
    """What a store stands on."""

    log: EventLog
    feed: EventFeed
    views: ThreadViews


Through: TypeAlias = Callable[[Ports], Ports]
"""Puts something between a store and its ports."""


def untouched(ports: Ports) -> Ports:
    return ports


class Engine(Protocol):
    """Opens stores on one set of data."""

    soon: float
    """Seconds in which any single call ends here, if nothing keeps it; no more than a few times as long as it takes."""

    async def open(self, *, through: Through = untouched, within: float = 30.0) -> ThreadStore:
        """Open a store; `within` is the deadline of its calls in seconds."""
        ...

    async def close(self, store: ThreadStore) -> None:
        """Close the store as leaving `open_store` does."""
        ...

    async def crash(self, store: ThreadStore) -> None:
        """Let the store's process die: its live threads learn nothing of it."""
        ...

    async def lose_views(self, store: ThreadStore) -> None:
        """Take away all that the projections know."""
        ...

    async def write_record(self, store: ThreadStore, thread_id: ThreadId, record: bytes) -> None:
        """Put a record into the log under the thread's key, whatever it says."""
        ...

    def hold_the_log(self) -> AbstractAsyncContextManager[None]:
        """Let nobody write the log for the block (engines that processes share)."""
        ...

    async def end(self) -> None:
        """Close what is open still."""
        ...


def store_on(parts: Parts, through: Through, stack: AsyncExitStack, *, within: float) -> EventSourcedThreadStore:
    """Return the store, or another one with something between it and the same ports, which the stack closes."""
    if through is untouched:
        return parts.store
    ports = through(Ports(parts.log, parts.feed, parts.views))
    store = EventSourcedThreadStore(ports.log, ports.feed, ports.views, name="wrapped", within=within)
    stack.push_async_callback(store.close)
    return store


P = TypeVar("P", bound=Parts)


class OpenStores(Generic[P]):
    """The stores that an engine has open in this process, and what each stands on."""

    def __init__(self) -> None:
        self._opened: dict[int, tuple[P, AsyncExitStack]] = {}

    async def close(self, store: ThreadStore) -> None:
        _, stack = self._opened.pop(id(store))
        await stack.aclose()

    async def end(self) -> None:
        while self._opened:
            _, (_, stack) = self._opened.popitem()
            await stack.aclose()
        await asyncio.sleep(0)

    async def _open(self, opening: AbstractAsyncContextManager[P], through: Through, *, within: float) -> ThreadStore:
        stack = AsyncExitStack()
        parts = await stack.enter_async_context(opening)
        store = store_on(parts, through, stack, within=within)
        self._opened[id(store)] = parts, stack
        return store

    def _parts(self, store: ThreadStore) -> P:
        return self._opened[id(store)][0]


class SqliteEngine(OpenStores[Embedded]):
    """Stores on SQLite: on one file, or each on its own in memory (protocol `Engine`)."""

    soon = 0.3

    def __init__(self, path: str, *, synchronous: Synchronous = "FULL") -> None:
        super().__init__()
        self.path = path
        self._synchronous = synchronous

    async def open(self, *, through: Through = untouched, within: float = 30.0) -> ThreadStore:
        settings = Settings(log=f"sqlite:{self.path}", actor="a test", within=within, synchronous=self._synchronous)
        return await self._open(open_embedded(settings), through, within=within)

    async def crash(self, store: ThreadStore) -> None:
        # Neither the store nor its views are told. What the file was handed already lands, as packets on their way do.
        await self._parts(store).file.close()

    async def lose_views(self, store: ThreadStore) -> None:
        def lose(connection: sqlite3.Connection) -> None:
            for table in ("thread", "summary", "item_index"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE projection SET generation = generation + 1, checkpoint = 1")

        await self._parts(store).file.write(lose)

    async def write_record(self, store: ThreadStore, thread_id: ThreadId, record: bytes) -> None:
        row = UUID(thread_id).bytes, record
        await self._parts(store).file.write(
            lambda connection: connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row)
        )

    @asynccontextmanager
    async def hold_the_log(self) -> AsyncIterator[None]:
        other = sqlite3.connect(self.path, isolation_level=None)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield
        finally:
            other.close()


def sqlite_file(folder: Path) -> Engine:
    return SqliteEngine(str(folder / "threads.db"))


def sqlite_in_memory(folder: Path) -> Engine:
    return SqliteEngine(":memory:")


MakeEngine: TypeAlias = Callable[[Path], Engine]


def on_a_cluster(folder: Path) -> Engine:
    # Imported where it is used: the clients of Kafka and Redis take long to load.
    from tests.support.cluster import ClusterEngine

    return ClusterEngine()


def at_a_server(behind: MakeEngine) -> MakeEngine:
    def made(folder: Path) -> Engine:
        # Imported where it is used: gRPC takes long to load.
        from tests.support.remote import RemoteEngine

        return RemoteEngine(behind(folder))

    return made


SHARED: dict[str, MakeEngine] = {
    "sqlite-file": sqlite_file,
    "cluster": on_a_cluster,
    "remote": at_a_server(sqlite_file),
    "remote-cluster": at_a_server(on_a_cluster),
}
"""Engines on whose data several processes may work."""
ALONE: dict[str, MakeEngine] = {"sqlite-memory": sqlite_in_memory}
"""Engines with one process of their own."""


def engines(*, shared: bool) -> dict[str, MakeEngine]:
    """Return the engines to run on: the sound ones that can do it, or the one which the environment chose."""
    chosen = os.environ.get(CHOSEN)
    if chosen is None:
        return SHARED if shared else SHARED | ALONE
    from tests.support.saboteurs import SABOTEURS

    return {chosen: (SHARED | ALONE | SABOTEURS)[chosen]}
