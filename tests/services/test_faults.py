"""The services are what they are said to be, and whole again after each fault."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from redis.asyncio import Redis as RedisClient
from redis.asyncio import RedisCluster

from compose.services.kafka import LARGEST_MESSAGE, Kafka
from compose.services.node import ServiceError, Standing
from tests.support.services import StartRedis, Topics

TOPIC = "kept"


async def create(admin: AIOKafkaAdminClient, topic: str, *, replicas: int) -> None:
    answer = await admin.create_topics([NewTopic(topic, num_partitions=3, replication_factor=replicas)])
    assert [(topic, 0)] == [(name, code) for name, code, *_ in answer.topic_errors]


async def test_three_brokers_outlive_one_that_is_killed_and_one_that_hangs(three_brokers: Kafka) -> None:
    """Of three replicas two are enough; and what was acknowledged is there when all are whole again."""
    async with asyncio.timeout(120):
        admin = AIOKafkaAdminClient(bootstrap_servers=three_brokers.bootstrap)
        await admin.start()
        try:
            await create(admin, TOPIC, replicas=3)
            assert await topic_settings(admin, TOPIC, "min.insync.replicas", "unclean.leader.election.enable") == [
                "2",
                "false",
            ]
        finally:
            await admin.close()

        await three_brokers.nodes[0].kill()
        await say(three_brokers, "one is dead")
        with pytest.raises(ServiceError, match="kafka-1 ended"):
            await three_brokers.wait_healthy()
        await three_brokers.start()

        await three_brokers.nodes[1].hang()
        with pytest.raises(ServiceError, match="not healthy after 0"):
            await three_brokers.wait_healthy(within=0.1)
        await say(three_brokers, "one hangs")
        await three_brokers.nodes[1].wake()
        await three_brokers.wait_healthy()

        assert ["one hangs", "one is dead"] == sorted(await everything(three_brokers, count=2))


async def topic_settings(admin: AIOKafkaAdminClient, topic: str, *names: str) -> list[str]:
    found: dict[str, str] = {}
    while not found.keys() >= set(names):  # a broker may not have heard of a new topic yet
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        ((_, _, _, _, settings),) = answer.resources
        found = {name: value for name, value, *_ in settings}
    return [found[name] for name in names]


async def say(kafka: Kafka, text: str) -> None:
    """Write until it is acknowledged by two, by a producer that meets the brokers as they are."""
    while True:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all", request_timeout_ms=5_000)
        try:
            await producer.start()
            await producer.send_and_wait(TOPIC, text.encode())
        except KafkaError:
            continue
        else:
            return
        finally:
            await producer.stop()


async def everything(kafka: Kafka, *, count: int) -> set[str]:
    """Return the different texts in the topic, once there are as many as that."""
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        texts: set[str] = set()
        while len(texts) < count:
            texts.add((await consumer.getone()).value.decode())
        return texts
    finally:
        await consumer.stop()


async def test_the_shared_broker_takes_what_the_log_may_send(kafka: Topics) -> None:
    """A record of nearly 16 MiB goes in and comes out; topics come by being created only."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await create(admin, kafka.named(), replicas=1)
    await admin.close()
    largest = bytes(LARGEST_MESSAGE - 1_024)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, max_request_size=LARGEST_MESSAGE) as producer:
        sent = await producer.send_and_wait(kafka.named(), largest)
        assert sent.offset == 0
    async with AIOKafkaConsumer(
        kafka.named(), bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", group_id=kafka.named("readers")
    ) as consumer:
        assert (await consumer.getone()).value == largest
        assert kafka.named("never-created") not in await consumer.topics()


async def test_a_test_finds_its_database_empty_and_whole(redis_url: str) -> None:
    async with RedisClient.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        await client.set("left", "behind")


async def test_what_another_test_left_behind_is_gone(redis_url: str) -> None:
    async with RedisClient.from_url(redis_url) as client:
        assert await client.get("left") is None
        await client.set("left", "behind")


async def test_a_redis_that_was_stopped_comes_back_with_what_it_had(own_redis: StartRedis) -> None:
    redis = await own_redis()
    async with RedisClient.from_url(redis.url()) as client:
        await client.set("kept", "yes")
    await redis.nodes[0].stop()
    await redis.start()
    async with RedisClient.from_url(redis.url()) as client:
        assert await client.get("kept") == b"yes"


async def test_a_replica_can_take_its_masters_place(own_redis: StartRedis) -> None:
    redis = await own_redis("replica")
    async with redis.client(0) as master, redis.client(1) as replica:
        await master.set("kept", "yes")
        assert await master.wait(1, 5_000) == 1
        await redis.nodes[0].kill()
        await replica.replicaof("NO", "ONE")
        assert await replica.get("kept") == "yes"
        await replica.set("and", "writable")


async def test_a_cluster_of_three_masters_is_whole_again_after_a_kill(own_redis: StartRedis) -> None:
    redis = await own_redis("cluster")
    await redis.nodes[2].kill()
    with pytest.raises(ServiceError, match="redis-3 ended"):
        await redis.wait_healthy()
    await redis.start()
    async with RedisCluster.from_url(redis.url()) as client:
        for number in range(30):
            await client.set(f"key-{number}", number)
        assert 3 == len({client.keyslot(f"key-{number}") * 3 // 16_384 for number in range(30)})


async def test_a_redis_that_cannot_start_says_why(own_redis: StartRedis) -> None:
    redis = await own_redis()
    (node,) = redis.nodes
    await node.stop()
    (manifest,) = node.folder.glob("data/appendonlydir/*.manifest")
    manifest.write_text("not a manifest")
    with pytest.raises(ServiceError, match=r"(?s)redis-1 ended; the last lines of .*manifest"):
        await redis.start()
    assert node.standing is Standing.GONE
