"""Which broker is what, and one that is surely gone."""

from __future__ import annotations

import asyncio
import json

from compose.services.kafka import Kafka
from compose.services.node import Node
from compose.services.ports import is_free
from eventstore.kafka import topic
from eventstore.kafka.url import KafkaUrl


async def killed(kafka: Kafka, node: Node) -> None:
    """Kill a broker, and wait until the system has taken its port back: threads of it may die a little later."""
    await node.kill()
    async with asyncio.timeout(60):
        while True:
            if is_free(kafka.ports[kafka.nodes.index(node)]):
                return
            await asyncio.sleep(0.01)


def controller_of(kafka: Kafka) -> Node:
    """Return the node that leads the metadata, as the nodes themselves wrote down."""
    states = [
        json.loads((node.folder / "data" / "__cluster_metadata-0" / "quorum-state").read_text()) for node in kafka.nodes
    ]
    newest = max(states, key=lambda state: int(state["leaderEpoch"]))
    return kafka.nodes[int(newest["leaderId"]) - 1]


async def leader_of(kafka: Kafka, url: KafkaUrl, partition: int) -> Node:
    """Return the node that leads the partition."""
    facts = await topic.describe(url, within=30)
    return kafka.nodes[facts.partitions[partition].leader - 1]
