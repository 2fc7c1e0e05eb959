"""The compose files describe what compose/services starts: same versions, same settings, the ports they are named by.

Nothing is run here; Docker's own rules of merging two files are followed for the keys that are used.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import pytest
import yaml

from compose.services import kafka, redis
from compose.services.ports import HOST

COMPOSE = Path(kafka.__file__).parent.parent
FILES = (COMPOSE / "compose.yaml", COMPOSE / "compose.cluster.yaml")
PLACED = {
    "node.id", "process.roles", "listeners", "advertised.listeners", "listener.security.protocol.map", "log.dirs",
    "inter.broker.listener.name", "controller.listener.names", "controller.quorum.voters", "heap.opts",
}  # fmt: skip
"""What depends on where a broker runs, checked one by one; every other setting is the same everywhere."""

Document: TypeAlias = dict[str, Any]


def load(*paths: Path) -> Document:
    """Return the files as one: maps are merged, of texts and commands the last one counts, ports and volumes add up."""
    merged: Document = {}
    for path in paths:
        merged = over(merged, yaml.safe_load(path.read_text()))
    return merged


def over(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: over(below.get(key), value) for key, value in above.items()}
    return above


CASES = {"one broker": load(FILES[0]), "three brokers": load(*FILES)}


@pytest.fixture(params=CASES)
def document(request: pytest.FixtureRequest) -> Document:
    return CASES[request.param]


def brokers(document: Document) -> dict[str, Document]:
    return {name: service for name, service in document["services"].items() if name.startswith("kafka-")}


def settings(broker: Document) -> kafka.Properties:
    """Return a broker's settings, as the image makes them of its environment."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in broker["environment"].items()
    }


def arguments(service: Document) -> dict[str, str]:
    """Return the settings on a Redis's command line."""
    _, *words = service["command"]
    return {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}


def test_the_images_are_of_the_versions_that_run_here(document: Document) -> None:
    pom = ElementTree.parse(COMPOSE / "pom.xml").getroot()
    (version,) = (
        dependency.findtext("version")
        for dependency in pom.iter("dependency")
        if dependency.findtext("groupId") == "org.apache.kafka"
    )
    assert {f"apache/kafka:{version}"} == {broker["image"] for broker in brokers(document).values()}
    (least,) = re.findall(r"needs? Redis (\d+) or later", (COMPOSE / "programs").read_text())
    for name, service in document["services"].items():
        if name.startswith("redis-"):
            assert re.fullmatch(rf"redis:{least}\.\d+\.\d+", service["image"])


def test_every_broker_has_the_settings_of_the_native_ones(document: Document) -> None:
    found = brokers(document)
    expected = kafka.SETTINGS | kafka.replication(len(found))
    for name, broker in found.items():
        given = settings(broker)
        assert expected == {setting: value for setting, value in given.items() if setting not in PLACED}, name
        assert given["process.roles"] == "broker,controller"
        assert given["heap.opts"].split() == [flag for flag in kafka.JVM if flag.startswith("-Xm")]


def test_brokers_reach_each_other_and_are_reached_by_what_the_file_says(document: Document) -> None:
    found = brokers(document)
    voters = ",".join(f"{number}@kafka-{number}:9093" for number in range(1, len(found) + 1))
    for number, (name, broker) in enumerate(sorted(found.items()), 1):
        given = settings(broker)
        (published,) = broker["ports"]
        host, outside, inside = published.split(":")
        assert (str(number), voters) == (given["node.id"], given["controller.quorum.voters"])
        assert (HOST, outside) == (host, inside)
        assert given["listeners"] == f"PLAINTEXT://:19092,CONTROLLER://:9093,HOST://:{inside}"
        assert given["advertised.listeners"] == f"PLAINTEXT://{name}:19092,HOST://{HOST}:{outside}"
        assert broker["volumes"] == [f"{name}:{given['log.dirs']}"]


def test_every_redis_has_the_settings_of_the_native_ones(document: Document) -> None:
    replicas = []
    for name, service in document["services"].items():
        if name.startswith("redis-"):
            given = arguments(service)
            if given.pop("replicaof", None) == "redis-1 6379":
                replicas.append(name)
            assert redis.SETTINGS | {"databases": str(redis.DATABASES)} == given
    assert (["redis-2"] if len(brokers(document)) == 3 else []) == replicas


def test_nothing_is_published_twice_or_beyond_this_machine_and_every_volume_is_declared(document: Document) -> None:
    services = document["services"].values()
    published = [port.rsplit(":", 1)[0] for service in services for port in service["ports"]]
    assert len(published) == len(set(published))
    assert {HOST} == {address.partition(":")[0] for address in published}
    assert {volume.partition(":")[0] for service in services for volume in service["volumes"]} == set(
        document["volumes"]
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_urls_at_the_head_of_a_file_are_those_it_publishes(path: Path) -> None:
    document = load(FILES[0], path)
    head = path.read_text().partition("name:")[0]
    (addresses,) = re.findall(r"kafka://(\S+)/threads", head)
    assert addresses.split(",") == [
        port.rpartition(":")[0] for _, broker in sorted(brokers(document).items()) for port in broker["ports"]
    ]
    (address,) = re.findall(r"redis://(\S+)/0", head)
    assert [f"{address}:6379"] == document["services"]["redis-1"]["ports"]
