"""Brokers of one Kafka, each of them a controller too, with the settings that the cluster engine is meant for."""

from __future__ import annotations

import json
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.coordination import FindCoordinatorRequest
from aiokafka.protocol.metadata import MetadataRequest

from compose.services.health import READY_WITHIN, refused, undone_on_failure, until_healthy
from compose.services.node import Node
from compose.services.ports import HOST, Ports, must_be_free
from compose.services.programs import programs

MIB = 1024 * 1024
LARGEST_MESSAGE = 16 * MIB
SETTINGS = {
    "auto.create.topics.enable": "false",
    "delete.topic.enable": "true",
    "unclean.leader.election.enable": "false",
    # A single item may be as large as a record may be; who copies records must be able to fetch one.
    "message.max.bytes": str(LARGEST_MESSAGE),
    "replica.fetch.max.bytes": str(LARGEST_MESSAGE),
    # A broker that is dead or hung is replaced in three seconds, so that tests of it need not wait for nine.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "4",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "group.coordinator.threads": "1",
    "share.coordinator.threads": "1",
    # Its default would be half of the heap.
    "log.cleaner.dedupe.buffer.size": str(4 * MIB),
}
JVM = ("-Xmx256m", "-Xms128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
"""A small heap, and a start that takes half as long as with the flags that a broker has in production."""
ASK_WITHIN_MS = 2_000

Properties: TypeAlias = dict[str, str]


def replication(brokers: int) -> Properties:
    """Return the settings that depend on how many brokers there are: of three replicas two have to be in sync."""
    replicas, in_sync = (3, 2) if brokers >= 3 else (1, 1)
    return {
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(in_sync),
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(in_sync),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(in_sync),
    }


@dataclass(frozen=True)
class Layout:
    """What stays the same for as long as the data does."""

    cluster_id: str
    ports: Sequence[int]
    controller_ports: Sequence[int]
    listeners: Mapping[str, int] = field(default_factory=dict)
    """Names and ports of what the first broker listens on beside."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of brokers, beside those that all have."""


class Kafka:
    """One Kafka of one broker or three, in a folder of its own.

    `nodes[i]` is the broker with the id i + 1, whose port is `ports[i]`.
    """

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.folder = folder
        self.ports = tuple(layout.ports)
        self.nodes = tuple(self._node(number) for number in range(1, len(self.ports) + 1))
        self._layout = layout

    def __repr__(self) -> str:
        return f"<Kafka {self.bootstrap} {' '.join(node.standing.value for node in self.nodes)}>"

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers, as clients take them."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    def address(self, listener: str) -> str:
        """Return where the first broker listens under that name."""
        return f"{HOST}:{self._layout.listeners[listener]}"

    @classmethod
    def found(cls, folder: Path) -> Kafka | None:
        """Return the Kafka whose data lies in the folder, if there is one, whether it runs or not."""
        recorded = folder / "layout.json"
        return cls(folder, Layout(**json.loads(recorded.read_text()))) if recorded.exists() else None

    @classmethod
    def made(
        cls,
        folder: Path,
        *,
        ports: Ports,
        brokers: int = 1,
        first_port: int | None = None,
        listeners: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> Kafka:
        """Lay out a Kafka in an empty folder; it is not started.

        Its ports are chosen while `ports` is held, or are `first_port` and the next ones. The first broker listens
        under the names of `listeners` too, for which `settings` say how.

        Raises:
            ServiceError: Another run of ours chose one of these.
        """
        layout = Layout(
            cluster_id=random_id(),
            ports=[ports.choose() if first_port is None else ports.take(first_port + more) for more in range(brokers)],
            controller_ports=[ports.choose() for _ in range(brokers)],
            listeners={name: ports.choose() for name in listeners},
            settings=dict(settings or {}),
        )
        return cls(folder, layout)

    async def start(self, *, within: float = READY_WITHIN) -> None:
        """Start the brokers that do not run and wait until all are healthy; on failure none of these is left.

        Raises:
            ServiceError: A port is taken, a broker ended, or it took too long.
        """
        jars = Path((await programs("kafka"))["jars"])
        for node in self.nodes:
            self._format(node, jars)
        async with undone_on_failure(self.nodes) as gone:
            must_be_free(self.ports[self.nodes.index(node)] for node in gone)
            for node in gone:
                await node.start()
            await self.wait_healthy(within=within)
        (self.folder / "layout.json").write_text(json.dumps(asdict(self._layout)))

    async def wait_healthy(self, *, within: float = READY_WITHIN) -> None:
        """Wait until every broker answers and names all the others, and every replica of every topic is in sync.

        Raises:
            ServiceError: A broker ended, or it took too long.
        """
        await until_healthy(self.nodes, self._ailment, within=within)

    async def _ailment(self) -> str | None:
        closed = await refused(self.ports)
        if closed is not None:
            return closed
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap, request_timeout_ms=ASK_WITHIN_MS)
        try:
            await client.bootstrap()
            return await self._asked(client)
        except (KafkaError, OSError, TimeoutError) as error:
            return repr(error)
        finally:
            await client.close()

    async def _asked(self, client: AIOKafkaClient) -> str | None:
        everyone = set(range(1, len(self.nodes) + 1))
        # Groups are part of what has to work, and their topic, the first there is, shows that replicas get in sync.
        coordinator = await client.send(1, FindCoordinatorRequest("", 0))
        if coordinator.error_code:
            return f"no coordinator for groups: {for_code(coordinator.error_code).__name__}"
        for number in sorted(everyone):
            said = await client.send(number, MetadataRequest())
            known = {broker[0] for broker in said.brokers}
            if said.cluster_id != self._layout.cluster_id:
                return f"broker {number} is one of another Kafka, {said.cluster_id}"
            if known != everyone:
                return f"broker {number} knows only of {sorted(known)}"
            for error, topic, _, partitions in said.topics:
                for refusal, partition, leader, replicas, in_sync, *_ in partitions:
                    if error or refusal or leader < 0 or set(in_sync) != set(replicas):
                        return f"broker {number} has {in_sync} of {replicas} in sync for {topic}-{partition}"
        return None

    def _node(self, number: int) -> Node:
        folder = self.folder / f"kafka-{number}"

        async def command() -> Sequence[str]:
            paths = await programs("kafka")
            crash = f"-XX:ErrorFile={folder / 'crash.log'}"
            words = (paths["java"], *JVM, crash, "-Dlog4j2.level=WARN", "-cp", f"{paths['jars']}/*")
            return (*words, "kafka.Kafka", str(folder / "server.properties"))

        return Node(folder, command)

    def _format(self, node: Node, jars: Path) -> None:
        """Write a broker's settings, and the folder that it starts from unless it has started already."""
        number = self.nodes.index(node) + 1
        data = node.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        write_properties(node.folder / "server.properties", self._settings(number, data))
        named = data / "meta.properties"
        if not named.exists():
            # What `kafka.tools.StorageTool format` writes: the same features for all nodes, and a name for each.
            shutil.copy(jars / "bootstrap.checkpoint", data)
            names = {"cluster.id": self._layout.cluster_id, "node.id": str(number), "directory.id": random_id()}
            write_properties(named, {"version": "1"} | names)

    def _settings(self, number: int, data: Path) -> Properties:
        controllers = self._layout.controller_ports
        voters = ",".join(f"{voter}@{HOST}:{port}" for voter, port in enumerate(controllers, 1))
        listening = {"PLAINTEXT": self.ports[number - 1], "CONTROLLER": controllers[number - 1]}
        if number == 1:
            listening |= self._layout.listeners
        own = {
            "process.roles": "broker,controller",
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in listening.items()),
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(data),
        }
        return own | SETTINGS | replication(len(self.nodes)) | dict(self._layout.settings)


def random_id() -> str:
    """Return a UUID as Kafka writes it. One that begins with a dash is taken for an option by its tools."""
    while (name := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return name


def write_properties(path: Path, properties: Properties) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
