"""Redis as the views need it: alone, with a replica to fail over to, or as a cluster of three masters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias

import redis.asyncio

from compose.services.health import READY_WITHIN, refused, undone_on_failure, until_healthy
from compose.services.node import Node
from compose.services.ports import HOST, Ports, must_be_free
from compose.services.programs import programs

SETTINGS = {
    # Views are lost whole or not at all; a Redis that is full must say so.
    "maxmemory-policy": "noeviction",
    # What a killed Redis loses is the last second. That is `behind`, which the views can be.
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    # A replica would otherwise be kept waiting for others to come and be served together.
    "repl-diskless-sync-delay": "0",
}
DATABASES = 64
"""One for every worker of a parallel test run, and then some."""
SLOTS = 16_384
FAILED_AFTER_MS = 2_000
ASK_WITHIN = 2.0


NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
Kind: TypeAlias = Literal["single", "replica", "cluster"]
SIZES: Mapping[Kind, int] = {"single": 1, "replica": 2, "cluster": 3}


@dataclass(frozen=True)
class Layout:
    """What stays the same for as long as the data does."""

    kind: Kind
    ports: Sequence[int]
    bus_ports: Sequence[int]
    """Where the masters of a cluster talk to each other."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What is to be otherwise than usual."""


class Redis:
    """One Redis in a folder of its own.

    `nodes[0]` is the master, whose port is `ports[0]`; the others are its replica, or the other masters of a cluster.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self.kind = layout.kind
        self.ports = tuple(layout.ports)
        self.nodes = tuple(self._node(number) for number in range(1, len(self.ports) + 1))
        self._layout = layout

    def __repr__(self) -> str:
        return f"<Redis {self.kind} {self.url()} {' '.join(node.standing.value for node in self.nodes)}>"

    def url(self, database: int = 0) -> str:
        """Return the address of the master; of any one, in a cluster."""
        return f"redis://{HOST}:{self.ports[0]}/{database}"

    @classmethod
    def found(cls, folder: Path) -> Redis | None:
        """Return the Redis whose data lies in the folder, if there is one, whether it runs or not."""
        recorded = folder / "layout.json"
        return cls(folder, Layout(**json.loads(recorded.read_text()))) if recorded.exists() else None

    @classmethod
    def made(
        cls,
        folder: Path,
        *,
        ports: Ports,
        kind: Kind = "single",
        first_port: int | None = None,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> Redis:
        """Lay out a Redis in an empty folder; it is not started.

        Its ports are chosen while `ports` is held, or are `first_port` and the next ones. `settings` are those that are
        to be otherwise than usual.

        Raises:
            ServiceError: Another run of ours chose one of these.
        """
        layout = Layout(
            kind=kind,
            ports=[
                ports.choose() if first_port is None else ports.take(first_port + more) for more in range(SIZES[kind])
            ],
            bus_ports=[ports.choose() for _ in range(SIZES[kind] if kind == "cluster" else 0)],
            settings=dict(settings),
        )
        return cls(folder, layout)

    async def start(self, *, within: float = READY_WITHIN) -> None:
        """Start the servers that do not run and wait until all are healthy; on failure none of these is left.

        Raises:
            ServiceError: A port is taken, a server ended, or it took too long.
        """
        for node in self.nodes:
            (node.folder / "data").mkdir(parents=True, exist_ok=True)
        async with undone_on_failure(self.nodes) as gone:
            must_be_free(self.ports[self.nodes.index(node)] for node in gone)
            for node in gone:
                await node.start()
            if self.kind == "cluster":
                await until_healthy(self.nodes, self._unanswered, within=within)
                await self._form_cluster()
            await self.wait_healthy(within=within)
        (self.folder / "layout.json").write_text(json.dumps(asdict(self._layout)))

    async def wait_healthy(self, *, within: float = READY_WITHIN) -> None:
        """Wait until every server answers; the replica follows its master, or the cluster serves every slot.

        Raises:
            ServiceError: A server ended, or it took too long.
        """
        await until_healthy(self.nodes, self._ailment, within=within)

    def client(self, number: int = 0) -> redis.asyncio.Redis:
        """Return a client of one server, `nodes[number]`; the caller closes it."""
        return redis.asyncio.Redis(
            host=HOST,
            port=self.ports[number],
            password=self._layout.settings.get("requirepass"),
            socket_timeout=ASK_WITHIN,
            decode_responses=True,
            protocol=2,
        )

    async def _unanswered(self) -> str | None:
        closed = await refused(self.ports)
        if closed is not None:
            return closed
        for number, node in enumerate(self.nodes):
            try:
                async with self.client(number) as client:
                    await client.ping()
            except (redis.RedisError, OSError) as error:
                return f"{node.name}: {error!r}"
        return None

    async def _ailment(self) -> str | None:
        ailment = await self._unanswered()
        if ailment is not None or self.kind == "single":
            return ailment
        if self.kind == "replica":
            async with self.client(1) as replica:
                link = (await replica.info("replication")).get("master_link_status")
            return None if link == "up" else f"the replica's link to its master is {link}"
        for number, node in enumerate(self.nodes):
            async with self.client(number) as client:
                state = await client.execute_command("CLUSTER INFO")
            known = {"cluster_state": "ok", "cluster_known_nodes": "3", "cluster_slots_ok": str(SLOTS)}
            if not known.items() <= state.items():
                return f"{node.name} sees {state}"
        return None

    async def _form_cluster(self) -> None:
        """Share the slots out and let the masters meet, unless they did already."""
        shares = [SLOTS * number // len(self.nodes) for number in range(len(self.nodes) + 1)]
        for number in range(len(self.nodes)):
            async with self.client(number) as client:
                state = await client.execute_command("CLUSTER INFO")
                if state["cluster_slots_assigned"] == "0":
                    await client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                    await client.execute_command("CLUSTER ADDSLOTSRANGE", shares[number], shares[number + 1] - 1)
                    await client.execute_command("CLUSTER MEET", HOST, self.ports[0], self._layout.bus_ports[0])

    def _node(self, number: int) -> Node:
        folder = self.folder / f"redis-{number}"

        async def command() -> Sequence[str]:
            server = (await programs("redis"))["redis-server"]
            settings = {"bind": HOST, "port": str(self.ports[number - 1]), "dir": str(folder / "data")}
            settings |= SETTINGS | self._part(number) | self._layout.settings
            return (server, *(word for name, value in settings.items() for word in (f"--{name}", value)))

        return Node(folder, command)

    def _part(self, number: int) -> dict[str, str]:
        """Return the settings of one server that make it a part of the whole."""
        match self.kind:
            case "cluster":
                return {
                    "cluster-enabled": "yes",
                    "cluster-port": str(self._layout.bus_ports[number - 1]),
                    "cluster-node-timeout": str(FAILED_AFTER_MS),
                }
            case "replica" if number > 1:
                return {"databases": str(DATABASES), "replicaof": f"{HOST} {self.ports[0]}"}
            case _:
                return {"databases": str(DATABASES)}
