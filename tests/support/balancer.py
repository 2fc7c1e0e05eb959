"""A plain TCP balancer: each connection goes to the next server that takes it, and nothing of it is understood."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count


@asynccontextmanager
async def balanced(addresses: Sequence[str]) -> AsyncIterator[str]:
    """Balance over these addresses for the block; give the address to call."""
    turns = count()
    pipes: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in addresses:
            host, _, port = addresses[next(turns) % len(addresses)].rpartition(":")
            try:
                there = await asyncio.open_connection(host, int(port))
            except OSError:
                continue
            both = [asyncio.ensure_future(_pipe(reader, there[1])), asyncio.ensure_future(_pipe(there[0], writer))]
            pipes.update(both)
            await asyncio.wait(both)
            pipes.difference_update(both)
            break
        await _close(writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        server.close()
        for pipe in list(pipes):
            pipe.cancel()
        await asyncio.gather(*pipes, return_exceptions=True)
        await server.wait_closed()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while some := await reader.read(65_536):
            writer.write(some)
            await writer.drain()
    except OSError:
        pass
    finally:
        await _close(writer)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
