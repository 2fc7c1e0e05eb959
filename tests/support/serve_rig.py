"""A server in the test's own process, on a store that the test can reach as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from eventstore.audit import audit
from eventstore.documents.records import EventRecord
from eventstore.ids import ThreadId
from eventstore.serve.address import Address
from eventstore.serve.server import Limits, Serving, serving
from eventstore.serve.tls import TlsFiles
from eventstore.settings import Settings
from eventstore.threads import EventSourcedThreadStore
from eventstore.wiring import Parts, open_parts
from tests.support.engines import Through, store_on, untouched
from tests.support.wire import CodexWire

ANY_PORT = Address("127.0.0.1", 0)


@dataclass(frozen=True)
class Rig:
    """A server, its store, and a client of it."""

    parts: Parts
    store: EventSourcedThreadStore
    server: Serving
    codex: CodexWire
    registry: CollectorRegistry

    async def records(self, thread_id: str) -> list[EventRecord]:
        """Return the thread's records, in order."""
        return [record async for record in audit(self.parts.feed, ThreadId(thread_id))]

    async def kinds(self, thread_id: str) -> list[str]:
        """Return the kinds of the thread's records, in order."""
        return [record.kind for record in await self.records(thread_id)]


@asynccontextmanager
async def a_rig(
    where: Path | Settings,
    *,
    limits: Limits | None = None,
    within: float = 30.0,
    through: Through = untouched,
    tls: TlsFiles | None = None,
    tokens: Path | None = None,
) -> AsyncIterator[Rig]:
    """Serve the store in this file, or the one named, for the block; its calls take `within` seconds at most."""
    settings = where if isinstance(where, Settings) else Settings(log=f"sqlite:{where}", actor="a test")
    async with AsyncExitStack() as ends:
        parts = await ends.enter_async_context(open_parts(settings.model_copy(update={"within": within})))
        store = store_on(parts, through, ends, within=within)
        registry = CollectorRegistry()
        limits = limits or Limits(within=within, deadline=2 * within)
        server = await ends.enter_async_context(
            serving(store, ANY_PORT, registry=registry, limits=limits, tls=tls, tokens=tokens)
        )
        yield Rig(parts, store, server, CodexWire(str(server.address)), registry)
