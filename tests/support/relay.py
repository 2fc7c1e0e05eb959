"""A port that leads to another one, which may change or fall silent: how networks fail, and masters are replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_BYTES = 256 * 1024


class Relay:
    """Passes on what comes, both ways, to `port` of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        """Where connections lead that are made from now on."""
        self.address = 0
        """The port that this listens at."""
        self.passed = 0
        """Connections passed on."""
        self._open: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def block(self) -> None:
        """Let no byte through any more; connections stay open."""
        self._flowing.clear()

    def unblock(self) -> None:
        """Let what was held through, and all that comes."""
        self._flowing.set()

    async def lead_to(self, port: int) -> None:
        """Break all connections, and lead fresh ones elsewhere."""
        self.port = port
        self._flowing.set()
        await self.cut()

    async def cut(self) -> None:
        """Break all connections."""
        for connection in self._open:
            connection.cancel()
        if self._open:
            await asyncio.wait(self._open)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        connection = asyncio.ensure_future(self._relay(reader, writer))
        self._open.add(connection)

        def ended(_: object) -> None:
            # Also if it was cut before it had begun.
            self._open.discard(connection)
            writer.transport.abort()

        connection.add_done_callback(ended)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass_on(reader, there_writer))
                ways.create_task(self._pass_on(there_reader, writer))
        except* OSError:
            pass  # one of the ends is gone, and so is the other one then
        finally:
            there_writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while some := await reader.read(_BYTES):
            await self._flowing.wait()
            writer.write(some)
            await writer.drain()
        raise ConnectionAbortedError


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    """Listen at a port of its own for the block, and pass on to this one."""
    relay = Relay(port)
    server = await asyncio.start_server(relay._connected, "127.0.0.1", 0)
    relay.address = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        # What was accepted by now is a connection two turns of the loop later; if the server is closed before that,
        # asyncio leaves its socket open.
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(2):
            await asyncio.sleep(0)
        server.close()
        await relay.cut()
