"""The topic itself: made as a log needs it, looked at, and checked against what would lose or mix up threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from eventstore.errors import InvalidRequest, LogUnavailable, TopicMisconfigured
from eventstore.kafka.edge import elsewhere, quieten, refusal, translated
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.records import LARGEST_BATCH, LoggedRecord, partition_of, thread_of
from eventstore.kafka.url import KafkaUrl

PARTITIONS: Final = 24
"""How many a topic is made with: the most workers that can share it. Fixed for ever, for it is part of the data."""
REPLICAS: Final = 3
MIN_INSYNC: Final = 2
"""With three replicas the loss of any one broker loses nothing and stops nothing."""

_UNHEARD_OF_FOR: Final = 1.0
"""Seconds in which a broker may not have heard of a new topic yet."""
_AGAIN_AFTER: Final = 0.05
_LOOKED_AT: Final = 48
"""Records, of all partitions together, whose keys tell whether the number of partitions was changed: of those of one
thread each, half stay where they are when it is doubled."""
_FOR_EVER: Final = "-1"
_ANY_TIME: Final = str(2**63 - 1)
SETTINGS: Final[Mapping[str, str]] = {
    "retention.ms": _FOR_EVER,
    "retention.bytes": _FOR_EVER,
    "cleanup.policy": "delete",
    "max.message.bytes": str(LARGEST_BATCH),
    "message.timestamp.type": "CreateTime",
    # Times are the senders': an imported thread's are old, and a wrong clock's may be far ahead.
    "message.timestamp.before.max.ms": _ANY_TIME,
    "message.timestamp.after.max.ms": _ANY_TIME,
    "unclean.leader.election.enable": "false",
}
"""What a topic is made with. With cleanup.policy=delete and no retention nothing is ever deleted."""


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    partition: int
    beginning: int
    end: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What brokers say of a topic."""

    topic: str
    cluster_id: str
    settings: Mapping[str, str]
    partitions: tuple[PartitionFacts, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    what: str
    """What it is, and what to do about it."""
    loses: bool
    """Whether threads are lost or mixed up by it; otherwise they are only less safe than they could be."""

    def __str__(self) -> str:
        return self.what


async def create(url: KafkaUrl, *, partitions: int, replicas: int, min_insync: int, within: float) -> None:
    """Make the topic, and wait until brokers know it.

    Raises:
        InvalidRequest: It is there already, or the brokers do not take these numbers.
        LogUnavailable: No broker answered in time.
    """
    settings = {**SETTINGS, "min.insync.replicas": str(min_insync)}
    async with _admin(url, within) as admin:
        made = await admin.create_topics([NewTopic(url.topic, partitions, replicas, topic_configs=settings)])
        (_, code, message), *_ = made.topic_errors
        error = kafka.for_code(code)
        if error is kafka.TopicAlreadyExistsError:
            raise InvalidRequest(f"topic {url.topic} is at {url.where} already; see it with eventstore topic describe")
        if error is not kafka.NoError:
            fewer = "; with fewer brokers give --replicas" if error is kafka.InvalidReplicationFactorError else ""
            raise InvalidRequest(f"topic {url.topic} cannot be made: {message or error.__name__}{fewer}")
    async with _reading(url, within) as reader:
        await _ends(reader)


async def describe(url: KafkaUrl, *, within: float) -> TopicFacts:
    """Return what brokers say of the topic.

    Raises:
        TopicMisconfigured: There is no such topic.
        LogUnavailable: No broker answered in time.
    """
    async with _reading(url, within) as reader, _admin(url, within) as admin:
        settings = await _settings(admin, url.topic)
        (described,) = await admin.describe_topics([url.topic])
        ends = await _ends(reader)
        facts = [
            PartitionFacts(
                partition["partition"],
                beginning=ends[partition["partition"]][0],
                end=ends[partition["partition"]][1],
                leader=partition["leader"],
                replicas=tuple(partition["replicas"]),
                in_sync=tuple(partition["isr"]),
            )
            for partition in sorted(described["partitions"], key=lambda partition: int(partition["partition"]))
        ]
        return TopicFacts(url.topic, reader.cluster_id, settings, tuple(facts))


async def verify(url: KafkaUrl, *, within: float) -> list[Finding]:
    """Check settings, replicas, and whether every partition holds its own keys; return what is wrong, worst first.

    Raises:
        TopicMisconfigured: There is no such topic.
        LogUnavailable: No broker answered in time.
    """
    facts = await describe(url, within=within)
    async with _reading(url, within) as reader:
        misplaced = await misplaced_key(reader)
    findings = [] if misplaced is None else [Finding(misplaced, loses=True)]
    return sorted([*findings, *judged(facts)], key=lambda finding: not finding.loses)


def judged(facts: TopicFacts) -> list[Finding]:
    """Return what is wrong with a topic's settings and replicas."""
    findings = [*_wrong_settings(facts.settings)]
    replicas = min(len(partition.replicas) for partition in facts.partitions)
    min_insync = int(facts.settings.get("min.insync.replicas", "1"))
    if replicas < REPLICAS:
        findings.append(
            Finding(
                f"replicas: {replicas}; with {REPLICAS} a broker may be lost: give the partitions more with "
                "kafka-reassign-partitions.sh",
                loses=False,
            )
        )
    elif min_insync < MIN_INSYNC:
        findings.append(
            Finding(
                f"min.insync.replicas is {min_insync}; set it to {MIN_INSYNC}, or a lost broker may lose what was "
                "acknowledged",
                loses=False,
            )
        )
    elif min_insync >= replicas:
        findings.append(
            Finding(
                f"min.insync.replicas is {min_insync} of {replicas}; set it to {replicas - 1}, or a lost broker stops "
                "all appends",
                loses=False,
            )
        )
    cut = [partition for partition in facts.partitions if partition.beginning > 0]
    if cut:
        findings.append(
            Finding(
                f"partition {cut[0].partition} begins at offset {cut[0].beginning}: records were deleted, and the "
                "threads that began before cannot be read; copy a log that has them into another topic "
                "(eventstore copy)",
                loses=True,
            )
        )
    behind = [partition for partition in facts.partitions if len(partition.in_sync) < len(partition.replicas)]
    if behind:
        findings.append(
            Finding(
                f"{len(behind)} partitions have replicas that are not in sync; see that all brokers run and have room, "
                "the replicas catch up by themselves",
                loses=False,
            )
        )
    return findings


def _wrong_settings(settings: Mapping[str, str]) -> list[Finding]:
    findings = []
    for name, wanted in SETTINGS.items():
        found = settings.get(name)
        enough = found is not None and name == "max.message.bytes" and int(found) >= int(wanted)
        if found is not None and found != wanted and not enough:
            findings.append(Finding(f"{name} is {found}; set it to {wanted}", loses=True))
    return findings


async def misplaced_key(reader: KafkaReader) -> str | None:
    """Say what is wrong if one of the records that are looked at is not where its key belongs.

    That is so after the number of partitions was changed: a thread's events would go on in another partition.

    Raises:
        LogUnavailable: A partition cannot be read.
    """
    found = await asyncio.gather(*(_some_of(reader, partition) for partition in range(reader.partitions)))
    for partition, records in enumerate(found):
        for record in records:
            if thread_of(record.key) is None:
                continue
            assert record.key is not None
            belongs = partition_of(record.key, reader.partitions)
            if belongs != partition:
                return (
                    f"the record at {partition}:{record.offset} belongs into partition {belongs} of "
                    f"{reader.partitions}: the number of partitions was changed; copy the log into a topic of that "
                    "number (eventstore copy)"
                )
    return None


async def _some_of(reader: KafkaReader, partition: int) -> list[LoggedRecord]:
    """Return the partition's first and last record, and some in between where there are few partitions."""
    beginning, end = await asyncio.gather(reader.beginning(partition), reader.end(partition))
    looks = max(2, _LOOKED_AT // reader.partitions)
    places = (
        {beginning + (end - 1 - beginning) * look // (looks - 1) for look in range(looks)} if beginning < end else ()
    )
    chunks = await asyncio.gather(*(reader.chunk(partition, place, size=1, stop=place + 1) for place in places))
    return [record for chunk in chunks for record in chunk.records]


async def _ends(reader: KafkaReader) -> list[tuple[int, int]]:
    """Return the beginning and the end of every partition."""
    partitions = range(reader.partitions)
    beginnings, ends = await asyncio.gather(
        asyncio.gather(*(reader.beginning(partition) for partition in partitions)),
        reader.ends(partitions),
    )
    return list(zip(beginnings, ends, strict=True))


async def _settings(admin: Any, topic: str) -> dict[str, str]:
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        ((code, message, _, _, entries),) = response.resources
        unheard_of = kafka.for_code(code) is kafka.UnknownTopicOrPartitionError
        if not unheard_of or clock() - began > _UNHEARD_OF_FOR:
            break
        await asyncio.sleep(_AGAIN_AFTER)
    if kafka.for_code(code) is not kafka.NoError:
        raise TopicMisconfigured(
            f"the settings of topic {topic} cannot be read: {message or kafka.for_code(code).__name__}; check its "
            "name, and whether the user may describe it"
        )
    return {name: value for name, value, *_ in entries if value is not None}


@asynccontextmanager
async def _reading(url: KafkaUrl, within: float) -> AsyncIterator[KafkaReader]:
    reader = KafkaReader(url, within=within)
    await reader.open()
    try:
        yield reader
    finally:
        await reader.close()


@asynccontextmanager
async def _admin(url: KafkaUrl, within: float) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**url.client_settings())
    quieten()
    try:
        async with asyncio.timeout(within):
            try:
                await admin.start()
            except kafka.KafkaConnectionError as exc:
                raise (await refusal(url)) or exc from exc
            yield admin
    except TimeoutError as exc:
        if admin._client.cluster.brokers() and not admin._client._conns:
            raise elsewhere(admin._client, where=url.where) from exc
        raise LogUnavailable(f"the brokers at {url.where} did not answer within {within:g} s; try again") from exc
    except (kafka.KafkaError, OSError) as exc:
        raise translated(exc, topic=url.topic, where=url.where) from exc
    finally:
        await admin.close()
