"""Brokers that are killed, hang, stay away for long or lose the topic, under a load that may lose nothing.

Every fault is a real one, and is seen to have happened: a node's `kill` and `hang` say so or raise.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from random import Random
from time import monotonic

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient

from compose.services.health import end_all
from compose.services.kafka import Kafka
from compose.services.node import Node, Standing
from eventstore.errors import LogUnavailable, OutcomeUnknown, TopicMisconfigured
from eventstore.ids import new_thread_id
from eventstore.kafka import topic
from eventstore.kafka.group import KafkaFollower
from eventstore.kafka.log import KafkaLog
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.records import LARGEST_RECORD
from eventstore.kafka.url import KafkaUrl
from tests.support.brokers import controller_of, killed
from tests.support.services import RUN, Topics
from tests.support.topics import Load, Opened, a_thread, an_append, events_of, made, opened, replayed

PARTITIONS = 3

MANY_TURNS = 10_000
"""Turns of the loop in which whatever is ready has long run."""


@pytest.fixture(scope="module")
def kept() -> Iterator[list[Kafka]]:
    """The one broker that all tests of this file break."""
    brokers: list[Kafka] = []
    yield brokers
    for kafka in brokers:
        asyncio.run(end_all(kafka.nodes))


@pytest.fixture
async def breakable(request: pytest.FixtureRequest, kept: list[Kafka]) -> AsyncIterator[Kafka]:
    """A broker that a test may kill or hang; the next test finds it whole again."""
    if not kept:
        run = request.config.stash[RUN]
        run.watch()
        kept.append(Kafka.made(run.own_folder(), ports=run.ports))
        await kept[0].start()
    (kafka,) = kept
    yield kafka
    for node in kafka.nodes:
        if node.standing is Standing.HUNG:
            await node.wake()
    await kafka.start()


@pytest.fixture
def broker(breakable: Kafka) -> Node:
    return breakable.nodes[0]


@pytest.fixture
async def engine(request: pytest.FixtureRequest, breakable: Kafka) -> AsyncIterator[Opened]:
    """The engine on a topic of the test's own, which leaves no task behind."""
    url = await made(f"kafka://{breakable.bootstrap}/{request.node.name[:100]}", partitions=PARTITIONS)
    async with nothing_left(), opened(url) as engine:
        yield engine


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """See that the block leaves no task behind, and nothing that Python has to clean up."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}
    gc.collect()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give brokers little time for a request, so that a restart is an outage of several times that."""
    monkeypatch.setattr("eventstore.kafka.url.REQUEST_WITHIN", 1.5)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no producer be given up only because it is long without an answer."""
    monkeypatch.setattr("eventstore.kafka.producer._WEDGED_AFTER", 600.0)


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds; a test whose fault never fires ends here."""
    async with asyncio.timeout(60):
        while True:
            if holds():
                return
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("impatient", "patient")
async def test_an_outage_longer_than_a_request_loses_nothing(engine: Opened, breakable: Kafka) -> None:
    """And reads that were under way go on after it."""
    engine.reader.within = 60
    thread_id = a_thread(1, PARTITIONS)
    events = [an_append(thread_id, seq) for seq in range(50)]
    positions = await engine.log.append(events, within=20)
    load = Load(engine)
    async with load.running():
        await load.progress()
        await killed(breakable, breakable.nodes[0])
        reading = asyncio.gather(
            engine.feed.end(1),
            engine.feed.fetch(thread_id, [positions[3].offset, positions[40].offset]),
            replayed(engine.feed, thread_id, stop=positions[-1].offset + 1),
        )
        began = monotonic()
        await breakable.start()
        assert monotonic() - began > 2
        await load.progress()
        end, fetched, entries = await reading
    await load.check()
    assert (engine.replaced, engine.waiting) == (0, 0)
    assert end > positions[-1].offset
    assert ([items[0].at for items in fetched], events_of(entries)) == ([3, 40], events)


@pytest.mark.usefixtures("impatient")
async def test_a_producer_that_was_given_up_is_replaced_and_all_is_written_again_in_order(
    engine: Opened, breakable: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.producer._WEDGED_AFTER", 1.0)
    load = Load(engine)
    async with load.running():
        await load.progress()
        await killed(breakable, breakable.nodes[0])
        await until(lambda: engine.replaced > 0)
        await breakable.start()
        await load.progress()
    await load.check()
    assert engine.waiting == 0


async def test_a_hung_broker_leaves_an_append_unknown_in_time_and_takes_it_once_more_at_most(
    engine: Opened, broker: Node
) -> None:
    thread_id = a_thread(1, PARTITIONS)
    before, lost, patient, after = (an_append(thread_id, seq) for seq in range(4))
    await engine.log.append([before], within=20)
    await broker.hang()
    waits = asyncio.ensure_future(engine.log.append([patient], within=60))
    began = monotonic()
    with pytest.raises(OutcomeUnknown, match="may still land"):
        await asyncio.gather(engine.log.append([lost], within=1.5), asyncio.sleep(0))
    assert monotonic() - began < 2.5
    await broker.wake()

    (at_last,) = await waits
    (position,) = await engine.log.append([lost], within=20)
    await engine.log.append([after], within=20)
    entries = await replayed(engine.feed, thread_id)
    logged = [entry.event for entry in entries]
    assert [logged.count(event) for event in (before, patient, after)] == [1, 1, 1]
    assert 1 <= logged.count(lost) <= 2
    assert {entry.position: entry.event for entry in entries}[at_last] == patient
    assert {entry.position: entry.event for entry in entries}[position] == lost
    assert (engine.waiting, engine.replaced) == (0, 0)


async def test_a_hung_broker_leaves_what_waits_behind_another_unwritten(engine: Opened, broker: Node) -> None:
    """What was never handed over is known not to be in the log."""
    thread_id = a_thread(1, PARTITIONS)
    await broker.hang()
    first = asyncio.ensure_future(engine.log.append([an_append(thread_id, 0)], within=1))
    for _ in range(MANY_TURNS):
        if engine.under_way:
            break
        await asyncio.sleep(0)
    assert engine.under_way, "the first is on its way, and what comes waits behind it"
    with pytest.raises(LogUnavailable, match="took nothing"):
        await engine.log.append([an_append(thread_id, 1)], within=0.5)
    with pytest.raises(OutcomeUnknown):
        await first
    await broker.wake()
    await engine.log.append([an_append(thread_id, 2)], within=20)
    assert {1} & {event.writer_seq for event in events_of(await replayed(engine.feed, thread_id))} == set()


async def test_a_hung_broker_is_read_in_time_or_not_at_all(engine: Opened, broker: Node) -> None:
    thread_id = a_thread(1, PARTITIONS)
    await engine.log.append([an_append(thread_id, 0)], within=20)
    await broker.hang()
    engine.reader.within = 1.0
    began = monotonic()
    ended = await asyncio.gather(
        engine.feed.end(1),
        engine.feed.fetch(thread_id, [0]),
        engine.feed.read(1, start=0, limit=9),
        replayed(engine.feed, thread_id, stop=1),
        return_exceptions=True,
    )
    assert [LogUnavailable] * 4 == [type(end) for end in ended]
    assert monotonic() - began < 2
    await broker.wake()
    engine.reader.within = 20
    assert len(await engine.feed.fetch(thread_id, [0])) == 1


async def test_closing_while_the_broker_hangs_ends_in_time_and_leaves_nothing(breakable: Kafka, broker: Node) -> None:
    """With more under way than the sockets between them hold, so that the connections cannot be closed either."""
    url = await made(f"kafka://{breakable.bootstrap}/closing", partitions=PARTITIONS)
    text = Random(7).randbytes(LARGEST_RECORD // 2 - 2_000).hex()
    async with nothing_left():
        reader = KafkaReader(url, within=20)
        await reader.open()
        log = KafkaLog(url, reader)
        await log.open(within=20)
        await log.append([an_append(a_thread(0, PARTITIONS), 0)], within=20)
        await broker.hang()
        calls = [
            asyncio.ensure_future(log.append([an_append(a_thread(partition, PARTITIONS), 0, text)], within=60))
            for partition in (0, 1, 2)
        ]
        session = log._producer._session
        assert session is not None
        await until(lambda: session.quiet_for > 0)
        began = monotonic()
        await log.close(within=1)
        await reader.close()
        assert monotonic() - began < 15, "it is bounded by what it was given, not by the calls that wait"
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, OutcomeUnknown | LogUnavailable) for end in ended)
        assert any(isinstance(end, OutcomeUnknown) for end in ended)


async def test_a_follower_goes_on_after_an_outage_and_closes_while_the_broker_hangs(
    engine: Opened, breakable: Kafka, broker: Node
) -> None:
    follower = KafkaFollower(engine.url, engine.feed)
    await follower.follow(range(PARTITIONS), within=20)
    followed = Followed(follower, engine)
    async with followed.running():
        await engine.log.append([an_append(a_thread(1, PARTITIONS), 0)], within=20)
        await until(lambda: followed.offsets[1] == [0])
        await killed(breakable, broker)
        await breakable.start()
        await engine.log.append([an_append(a_thread(1, PARTITIONS), 0)], within=20)
        await until(lambda: followed.offsets[1] == [0, 1])
    await broker.hang()
    began = monotonic()
    await follower.close(within=2)
    assert monotonic() - began < 4


class Followed:
    """Follows all partitions, from their beginnings on."""

    def __init__(self, follower: KafkaFollower, engine: Opened) -> None:
        self._follower = follower
        self.offsets: dict[int, list[int]] = {partition: [] for partition in range(engine.feed.partitions)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        reading = [asyncio.create_task(self._follow(partition)) for partition in self.offsets]
        try:
            yield
        finally:
            for one in reading:
                one.cancel()
            ended = await asyncio.gather(*reading, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    async def _follow(self, partition: int) -> None:
        found = self.offsets[partition]
        while True:
            start = found[-1] + 1 if found else 0
            entries = await self._follower.read(partition, start=start, limit=100)
            found += [entry.position.offset for entry in entries]


async def test_opening_on_a_hung_broker_ends_in_time(breakable: Kafka, broker: Node) -> None:
    url = await made(f"kafka://{breakable.bootstrap}/opening", partitions=PARTITIONS)
    async with nothing_left():
        reader = KafkaReader(url, within=2)
        await reader.open()
        await broker.hang()
        log = KafkaLog(url, reader)
        began = monotonic()
        with pytest.raises(LogUnavailable, match=url.where):
            await log.open(within=1)
        with pytest.raises(LogUnavailable, match=url.where):
            await KafkaReader(url, within=1).open()
        assert monotonic() - began < 15, "it is bounded by what it was given, not by the calls that wait"
        await reader.close()


@asynccontextmanager
async def an_admin(url: KafkaUrl) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=list(url.servers))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def test_a_topic_deleted_while_it_is_written_is_told_in_seconds_and_without_a_flood(
    kafka: Topics, caplog: pytest.LogCaptureFixture
) -> None:
    url = await made(kafka.url())
    async with nothing_left(), opened(url) as engine:
        threads = [new_thread_id() for _ in range(12)]
        await engine.log.append([an_append(each, 0) for each in threads], within=20)
        async with an_admin(url) as admin:
            await admin.delete_topics([url.topic])
        caplog.set_level(logging.INFO)
        began = monotonic()
        for seq in (1, 2):
            ended = await asyncio.gather(
                *(engine.log.append([an_append(each, seq)], within=60) for each in threads), return_exceptions=True
            )
            assert [TopicMisconfigured] * 12 == [type(end) for end in ended]
            assert url.topic in str(ended[0])
        with pytest.raises(TopicMisconfigured):
            await engine.feed.end(1)
        assert monotonic() - began < 12
        assert len(caplog.records) < 100
        began = monotonic()
        await engine.log.close(within=20)
        assert monotonic() - began < 3


async def test_a_topic_that_takes_smaller_records_only_is_told_and_harms_no_other_append(kafka: Topics) -> None:
    url = KafkaUrl.parse(kafka.url())
    async with an_admin(url) as admin:
        await admin.create_topics([NewTopic(url.topic, PARTITIONS, 1, topic_configs={"max.message.bytes": "100000"})])
    async with nothing_left(), opened(url) as engine:
        thread_id = a_thread(1, PARTITIONS)
        small = [an_append(a_thread(number % PARTITIONS, PARTITIONS), 0) for number in range(60)]
        large = an_append(thread_id, 1, Random(7).randbytes(200_000).hex())
        *written, refused, later = await asyncio.gather(
            *(engine.log.append([event], within=20) for event in small),
            engine.log.append([large], within=20),
            engine.log.append([an_append(thread_id, 2)], within=20),
            return_exceptions=True,
        )
        assert isinstance(refused, TopicMisconfigured)
        assert "max.message.bytes" in str(refused)
        assert all(isinstance(end, list) for end in (*written, later))
        assert [2] == [event.writer_seq for event in events_of(await replayed(engine.feed, thread_id))]
        assert engine.replaced == 1


@pytest.mark.usefixtures("impatient", "patient")
async def test_a_leader_and_then_the_controller_are_killed_under_load(three_brokers: Kafka) -> None:
    """Nothing is lost, doubled or out of order. With three replicas all goes on in a few seconds; with one, a partition
    is without a leader for longer than a request may take, after which aiokafka's own deadline for batches would have
    failed what waited, and with it whatever the producer sends from then on."""
    at = f"kafka://{three_brokers.bootstrap}"
    url = await made(f"{at}/replicated", partitions=PARTITIONS, replicas=3, min_insync=2)
    alone_url = await made(f"{at}/alone", partitions=PARTITIONS)
    async with nothing_left(), opened(url, within=30) as engine, opened(alone_url, within=30) as alone:
        load, load_alone = Load(engine), Load(alone, within=120)
        follower = KafkaFollower(url, engine.feed)
        await follower.follow(range(PARTITIONS), within=20)
        followed = Followed(follower, engine)
        async with followed.running():
            async with load.running():
                async with load_alone.running():
                    await load.progress()
                    await load_alone.progress()
                    leader = leader_of(alone, 0)
                    await killed(three_brokers, three_brokers.nodes[leader - 1])
                    await load.progress()
                    await until(lambda: leader_of(alone, 0) == -1)
                    await three_brokers.start()
                    await load_alone.progress()
                await killed(three_brokers, controller_of(three_brokers))
                await load.progress()
                await three_brokers.start()
            ends = [await engine.feed.end(partition) for partition in range(PARTITIONS)]
            expected = {partition: list(range(end)) for partition, end in enumerate(ends)}
            await until(lambda: followed.offsets == expected)
        await follower.close(within=5)
        await load.check()
        await load_alone.check()
        assert (alone.replaced, engine.waiting, alone.waiting) == (0, 0, 0)


async def test_a_store_is_opened_while_a_broker_that_was_lost_is_still_named(three_brokers: Kafka) -> None:
    url = await made(f"kafka://{three_brokers.bootstrap}/opened", partitions=PARTITIONS, replicas=3, min_insync=2)
    async with nothing_left():
        await killed(three_brokers, three_brokers.nodes[0])
        named = []
        for _ in range(20):
            reader = KafkaReader(url, within=20)
            await reader.open()
            named.append(len(reader._client.cluster.brokers()))
            await reader.close()
    assert 3 in named
    await three_brokers.start()


async def test_brokers_that_are_elsewhere_than_they_say_are_told_of(
    kafka: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await made(kafka.url(), partitions=1)

    async def nowhere(*_: object, **__: object) -> None:
        return

    monkeypatch.setattr(AIOKafkaClient, "_get_conn", nowhere)
    monkeypatch.setattr("eventstore.kafka.url.REQUEST_WITHIN", 0.5)
    told = rf"the brokers are at {url.where}, where none can be reached; see their advertised\.listeners"
    with pytest.raises(LogUnavailable, match=told):
        await KafkaReader(url, within=20).open()
    with pytest.raises(LogUnavailable, match=told):
        await topic.create(url, partitions=1, replicas=1, min_insync=1, within=20)


def leader_of(engine: Opened, partition: int) -> int:
    """Return which broker leads the partition, as the engine's producer knows it; -1 if none does."""
    session = engine.log._producer._session
    assert session is not None
    leader: int = session._producer.client.cluster.leader_for_partition(TopicPartition(engine.url.topic, partition))
    return leader
