"""Waiting until servers serve, and ending them, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

from compose.services.node import Node, ServiceError, Standing
from compose.services.ports import HOST

READY_WITHIN = 120.0
"""Seconds a start may take. It takes three to eight on two idle cores; a loaded machine is not a failure."""
STOP_WITHIN = 15.0
"""Seconds a server may take to put its things in order."""
ASK_EVERY = 0.05


@asynccontextmanager
async def undone_on_failure(nodes: Iterable[Node]) -> AsyncIterator[Sequence[Node]]:
    """Give those that do not run yet; if the block fails, or is cancelled, none of these is left running."""
    gone = [node for node in nodes if node.standing is Standing.GONE]
    try:
        yield gone
    except BaseException:
        await end_all(gone)
        raise


async def until_healthy(
    nodes: Sequence[Node], ailment: Callable[[], Awaitable[str | None]], *, within: float = READY_WITHIN
) -> None:
    """Wait until nothing ails the servers.

    Raises:
        ServiceError: One of the processes is gone, or it took too long; with the last lines of what they logged.
    """
    deadline = monotonic() + within
    while True:
        for node in nodes:
            node.check()
        found = await ailment()
        if found is None:
            return
        if monotonic() > deadline:
            logs = "\n".join(f"{node.name} said last:\n{node.last_lines()}" for node in nodes)
            raise ServiceError(f"not healthy after {within:g} s: {found}\n{logs}")
        await asyncio.sleep(ASK_EVERY)


async def refused(ports: Iterable[int]) -> str | None:
    """Return which port takes no connections, if one does not."""
    for port in ports:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
            writer.close()
            await writer.wait_closed()
        except OSError:
            return f"port {port} takes no connections"
    return None


def nodes_under(folder: Path) -> list[Node]:
    """Return the nodes that were ever started under a folder, whoever did it; they can be ended, not started."""
    return [Node(recorded.parent, _nothing) for recorded in sorted(folder.glob("**/pid"))]


async def end_all(nodes: Iterable[Node]) -> None:
    """Kill what runs; their data is not needed any longer."""
    for node in nodes:
        await node.end()


async def stop_all(nodes: Sequence[Node]) -> None:
    """Stop what runs, all at once, by force what does not in time."""

    async def stop(node: Node) -> None:
        if node.standing is Standing.HUNG:
            await node.wake()
        try:
            await node.stop(within=STOP_WITHIN)
        except ServiceError:
            await node.end()

    await asyncio.gather(*(stop(node) for node in nodes))


async def _nothing() -> Sequence[str]:
    raise ServiceError("only who made a node can start it")
