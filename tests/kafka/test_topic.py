"""Topics made, described and checked on a real broker, and addresses where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from time import monotonic

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from eventstore.errors import EventStoreError, InvalidRequest, LogUnavailable, TopicMisconfigured
from eventstore.ids import new_thread_id
from eventstore.kafka import topic
from eventstore.kafka.group import KafkaGroup
from eventstore.kafka.log import KafkaLog
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.topic import SETTINGS, PartitionFacts
from eventstore.kafka.url import KafkaUrl
from tests.support.services import StartKafka, Topics
from tests.support.topics import Opened, a_thread, an_append, made, opened, stranger


@asynccontextmanager
async def an_admin(url: KafkaUrl) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=list(url.servers))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def test_a_topic_is_described_as_it_was_made(kafka: Topics) -> None:
    url = await made(kafka.url(), partitions=4)
    facts = await topic.describe(url, within=20)
    assert facts.topic == url.topic
    assert len(facts.cluster_id) == 22
    assert facts.partitions == tuple(PartitionFacts(number, 0, 0, 1, (1,), (1,)) for number in range(4))
    assert {**facts.settings, **SETTINGS, "min.insync.replicas": "1"} == facts.settings


async def test_a_topic_is_made_once(kafka: Topics) -> None:
    url = await made(kafka.url())
    with pytest.raises(InvalidRequest, match=f"{url.topic} is at {url.where} already"):
        await made(kafka.url())


async def test_numbers_that_brokers_do_not_take_are_refused_with_what_they_say(kafka: Topics) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot be made: .*; with fewer brokers give --replicas"):
        await made(kafka.url(), replicas=3)
    with pytest.raises(InvalidRequest, match="cannot be made"):
        await made(kafka.url(), partitions=0)


async def test_a_topic_on_one_broker_is_found_less_safe_and_nothing_else(engine: Opened) -> None:
    await engine.log.append([an_append(new_thread_id(), 0) for _ in range(20)], within=20)
    (finding,) = await topic.verify(engine.url, within=20)
    assert finding.what.startswith("replicas: 1; with 3 a broker may be lost")
    assert not finding.loses


async def test_wrong_settings_are_found(kafka: Topics) -> None:
    url = await made(kafka.url())
    wrong = {"retention.ms": "604800000", "cleanup.policy": "compact", "max.message.bytes": "1048588"}
    async with an_admin(url) as admin:
        given = {**SETTINGS, **wrong}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, url.topic, configs=given)])
    *losing, safe = await topic.verify(url, within=20)
    assert {finding.what.split()[0] for finding in losing} == wrong.keys()
    assert all(finding.loses for finding in losing)
    assert not safe.loses


async def grown(url: KafkaUrl, partitions: int) -> None:
    async with an_admin(url) as admin:
        await admin.create_partitions({url.topic: NewPartitions(partitions)})


async def test_a_changed_number_of_partitions_is_found_by_its_keys(engine: Opened) -> None:
    await engine.log.append([an_append(new_thread_id(), 0) for _ in range(60)], within=20)
    await grown(engine.url, 7)
    async with opened(engine.url) as other:
        assert other.reader.partitions == 7
        assert "the number of partitions was changed" in str(await topic.misplaced_key(other.reader))
    worst, *_ = await topic.verify(engine.url, within=20)
    assert worst.loses
    assert "the number of partitions was changed" in worst.what


async def test_it_is_found_where_the_first_and_the_last_record_stay_in_their_places(kafka: Topics) -> None:
    stays, moves = a_thread(0, 2), a_thread(1, 2)
    async with opened(await made(kafka.url(), partitions=1)) as engine:
        for thread_id in (stays, moves, stays):
            await engine.log.append([an_append(thread_id, seq) for seq in range(60)], within=20)
        await grown(engine.url, 2)
    async with opened(engine.url) as other:
        assert "belongs into partition 1 of 2" in str(await topic.misplaced_key(other.reader))


async def test_who_had_it_open_goes_on_as_before_until_a_producer_has_to_be_replaced(engine: Opened) -> None:
    """Then it is refused: who opened the topic later looks for the thread elsewhere."""
    event = an_append(a_thread(2, 3), 0)
    await engine.log.append([event], within=20)
    await grown(engine.url, 7)
    await engine.log.append([an_append(event.thread_id, 1)], within=20)
    session = engine.log._producer._session
    assert session is not None
    engine.log._producer._replace(session, OSError("ordered by the test"))
    with pytest.raises(TopicMisconfigured, match="has 7 partitions and had 3"):
        await engine.log.append([an_append(event.thread_id, 2)], within=20)


async def test_foreign_keys_say_nothing_about_partitions(engine: Opened) -> None:
    async with stranger(engine.url) as producer:
        for partition in range(3):
            await producer.send_and_wait(engine.url.topic, b"value", b"not ours", partition=partition)
    assert await topic.misplaced_key(engine.reader) is None


async def test_a_missing_topic_is_told_by_everything(kafka: Topics) -> None:
    url = KafkaUrl.parse(kafka.url("missing"))
    for call in (KafkaReader(url, within=20).open(), topic.describe(url, within=20), topic.verify(url, within=20)):
        began = monotonic()
        with pytest.raises(TopicMisconfigured, match=f"there is no topic {url.topic} at {url.where}"):
            await call
        assert monotonic() - began < 10


class Idle:
    """A member that works on nothing."""

    async def take(self, partitions: Collection[int]) -> None:
        return

    async def let_go(self) -> None:
        return


async def test_no_topic_is_made_by_asking_about_it(own_kafka: StartKafka) -> None:
    """Though brokers make one by default: of one partition, and what is in it is deleted after a week."""
    kafka = await own_kafka(settings={"auto.create.topics.enable": "true"})
    mistyped = KafkaUrl.parse(f"kafka://{kafka.bootstrap}/mistyped")
    with pytest.raises(TopicMisconfigured, match="there is no topic mistyped"):
        await KafkaReader(mistyped, within=20).open()
    url = await made(f"kafka://{kafka.bootstrap}/deleted")
    async with opened(url) as engine, an_admin(url) as admin:
        await engine.log.append([an_append(new_thread_id(), 0)], within=20)
        group = KafkaGroup(url, engine.feed)
        await group.join(Idle(), group="a-group", within=20)
        session = engine.log._producer._session
        assert session is not None
        clients = engine.reader._client, session._producer.client, group._consumer._client
        for client in clients:
            # A producer's may ask about all topics there are instead.
            await client.add_topic(url.topic)
        await admin.delete_topics([url.topic])
        for client in clients:
            async with asyncio.timeout(20):
                while url.topic in client.cluster.topics():
                    await client.force_metadata_update()
                # Asked about a topic that it has heard is gone, a broker makes it anew.
                await client.force_metadata_update()
        with pytest.raises(TopicMisconfigured):
            await engine.log.append([an_append(new_thread_id(), 0)], within=20)
        assert {mistyped.topic, url.topic}.isdisjoint(await admin.list_topics())
        await group.close(within=5)


async def opening_a_reader(url: KafkaUrl, within: float) -> None:
    await KafkaReader(url, within=within).open()


async def opening_a_log(url: KafkaUrl, within: float) -> None:
    """With a reader that is open elsewhere, or it would not get so far."""
    reader = KafkaReader(url, within=within)
    reader.partitions = 3
    reader.topic_is_there = answering_true  # type: ignore[method-assign]
    await KafkaLog(url, reader).open(within=within)


async def answering_true() -> bool:
    return True


async def making(url: KafkaUrl, within: float) -> None:
    await topic.create(url, partitions=1, replicas=1, min_insync=1, within=within)


async def describing(url: KafkaUrl, within: float) -> None:
    await topic.describe(url, within=within)


CALLS = [opening_a_reader, opening_a_log, making, describing]


async def refused(call: Callable[[KafkaUrl, float], Awaitable[None]], url: KafkaUrl) -> EventStoreError:
    """Make the call where it cannot succeed; return its error, which came in time and names the address."""
    began = monotonic()
    with pytest.raises(EventStoreError) as caught:
        await call(url, 1.0)
    assert monotonic() - began < 3
    assert url.where in str(caught.value)
    return caught.value


@pytest.mark.parametrize("call", CALLS)
async def test_an_address_where_nobody_listens(call: Callable[[KafkaUrl, float], Awaitable[None]]) -> None:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    url = KafkaUrl.parse(f"kafka://127.0.0.1:{port}/threads")
    assert isinstance(await refused(call, url), LogUnavailable)


@pytest.mark.parametrize("call", CALLS)
async def test_a_name_that_nobody_has(call: Callable[[KafkaUrl, float], Awaitable[None]]) -> None:
    url = KafkaUrl.parse("kafka://no-such-broker.invalid:9092/threads")
    assert isinstance(await refused(call, url), LogUnavailable)


@pytest.mark.parametrize("call", CALLS)
async def test_the_port_of_a_redis(call: Callable[[KafkaUrl, float], Awaitable[None]], redis_url: str) -> None:
    url = KafkaUrl.parse(redis_url.replace("redis://", "kafka://").rpartition("/")[0] + "/threads")
    assert isinstance(await refused(call, url), LogUnavailable)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("query", ["tls=true", "sasl=PLAIN", "sasl=SCRAM-SHA-256", "sasl=SCRAM-SHA-512&tls=true"])
async def test_a_broker_that_speaks_neither_tls_nor_sasl(
    call: Callable[[KafkaUrl, float], Awaitable[None]], query: str, kafka: Topics
) -> None:
    url = KafkaUrl.parse(f"{kafka.url()}?{query}", username="ann", password="s3cr3t")
    error = await refused(call, url)
    assert isinstance(error, LogUnavailable)
    assert "s3cr3t" not in str(error)


async def test_why_a_broker_refuses_is_said(kafka: Topics) -> None:
    """aiokafka says it in its log alone."""
    url = KafkaUrl.parse(f"{kafka.url()}?sasl=SCRAM-SHA-256", username="ann", password="s3cr3t")
    for call in (opening_a_reader, making):
        assert "check user, password and sasl=" in str(await refused(call, url))
