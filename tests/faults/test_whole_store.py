"""The whole store on Kafka and Redis under load and under faults: real writers, real workers, real servers.

Every fault is proved to have happened; every run is judged by what was acknowledged, and by a fold of the log from its
start, which the views have to equal.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from compose.services.kafka import Kafka
from compose.services.redis import Redis
from eventstore import new_thread_id
from eventstore.errors import Unavailable
from eventstore.events import ItemsAppended
from eventstore.ids import ThreadId
from eventstore.kafka import topic
from eventstore.settings import Settings
from eventstore.wiring import Clustered, open_clustered
from projections.redis_shards import open_shards
from projections.redis_views import RedisViews
from tests.support.brokers import controller_of, killed, leader_of
from tests.support.checker import whole_log
from tests.support.cluster import a_log, a_worker
from tests.support.load import (
    NAMED,
    PARTITIONS,
    Load,
    acknowledged,
    all_folded,
    all_listed,
    checkpoints,
    has_gone,
    stands_still,
    until,
)
from tests.support.processes import PATIENCE, Child, Nursery
from tests.support.relay import Relay, relay_to
from tests.support.services import StartKafka, StartRedis
from tests.support.threads import history, read

ALL = list(range(PARTITIONS))


def times(child: Child, what: str, **details: object) -> int:
    """Return how often the child has noted this."""
    return sum({"did": what, **details}.items() <= note.items() for note in child.journal.notes)


async def test_workers_are_killed_and_hung_in_mid_batch_while_writers_fight(nursery: Nursery) -> None:
    """A worker that hangs beyond its session wakes and is refused; one that dies in mid-batch is replaced.

    Promise 3: of two writers of one thread one counts, and the other is told.
    """
    async with a_log(partitions=PARTITIONS) as settings:
        load = Load(settings, nursery)
        zombie, dying, heir = (load.start_worker(f"worker-{number}") for number in range(3))
        fought_for = [new_thread_id(), new_thread_id()]
        fighters = [load.start_writer(name, threads=[], fought_for=fought_for) for name in ("one", "two")]
        load.start_writer("three")
        for worker in (zombie, dying, heir):
            await load.has(worker, "took")
        await load.progress()

        load.order(zombie, "stand", "before a commit")
        stood = await load.has(zombie, "stand")
        await until(lambda: stands_still(zombie), "the worker stands still")
        await dies_in_mid_batch(load, dying, "before a commit", heir=heir)
        taken = times(zombie, "took")
        zombie.wake()
        refused = await load.has(zombie, "committed", partition=stood["partition"], expected=stood["expected"])
        assert refused["taken"] is False, "what the zombie had folded was folded by another"
        await load.has(zombie, "took", taken + 1)
        await load.progress()

        await dies_in_mid_batch(load, heir, "after a commit", heir=zombie)

        await load.stop_writers()
        assert not await load.objections(fought_for=fought_for)
        for fighter in fighters:
            assert times(fighter, "outcome", outcome="WriterFenced") > 0, "it lost a thread, and was told"
            assert acknowledged(fighter) > 0, "and won one"


async def dies_in_mid_batch(load: Load, worker: Child, point: str, *, heir: Child) -> None:
    """Kill a worker with a batch in hand, and see that the only one left takes all partitions."""
    had_all = times(heir, "took", partitions=ALL)
    load.order(worker, "die", point)
    await has_gone(worker)
    assert times(worker, "die", where=point) == 1
    await load.has(heir, "took", had_all + 1, partitions=ALL)
    await load.progress()


@dataclass
class Watch:
    """A reader that looks on while faults happen: it may be told that there is no answer, never a wrong one."""

    load: Load
    parts: Clustered
    answers: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Read all the time while the block runs."""
        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(self._lists()), tasks.create_task(self._reads())]
            try:
                yield
            finally:
                for task in reading:
                    task.cancel()

    async def answered(self, *, more: int = 3) -> None:
        """Wait until so many more listings and looks at a thread have come."""
        goals = {what: self.answers[what] + more for what in ("listed", "read")}
        await until(lambda: all(self.answers[what] >= goal for what, goal in goals.items()), "answers")

    async def _lists(self) -> None:
        while True:
            expected = self.acknowledged()
            try:
                found = await all_listed(self.parts.store)
            except Unavailable as exc:
                self.answers[type(exc).__name__] += 1
            else:
                assert expected.keys() <= set(found)
                self.answers["listed"] += 1
            await asyncio.sleep(0.2)

    async def _reads(self) -> None:
        while True:
            for thread_id, items in self.acknowledged().items():
                try:
                    seen = await read(self.parts.store, thread_id)
                    whole = await history(self.parts.store, thread_id)
                except Unavailable as exc:
                    self.answers[type(exc).__name__] += 1
                else:
                    assert seen.item_count > items
                    assert len(whole.items) > items
                    self.answers["read"] += 1
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.05)

    def acknowledged(self) -> dict[ThreadId, int]:
        """Return how many items of each thread are acknowledged."""
        found: dict[ThreadId, int] = defaultdict(int)
        for child in self.load.writers.values():
            for attempt in child.journal.attempts:
                if attempt.acknowledged:
                    found[ThreadId(attempt.thread_id)] += len(attempt.texts)
        return found


async def replicated_over(redis: Redis, link: Relay) -> None:
    """Let the replica follow its master through the link."""
    async with redis.client(1) as replica:
        await replica.replicaof("127.0.0.1", link.address)
    await redis.wait_healthy()
    assert link.passed > 0


async def replicated(redis: Redis) -> None:
    """Wait until the replica has all that its master has now."""
    async with redis.client(0) as master, redis.client(1) as replica, asyncio.timeout(PATIENCE):
        goal = (await master.info("replication"))["master_repl_offset"]
        while True:
            if (await replica.info("replication"))["slave_repl_offset"] >= goal:
                return
            await asyncio.sleep(0.05)


async def checkpoints_at(port: int, parts: Clustered) -> list[int]:
    """Return the checkpoints of the same views as another server has them."""
    async with open_shards(f"redis://127.0.0.1:{port}/0", parts.cluster.topic.topic) as shards:
        views = RedisViews(shards, partition_of=parts.feed.partition_of)
        return [(await views.snapshot(partition, ())).mark.checkpoint for partition in range(PARTITIONS)]


async def fail_over(redis: Redis, address: Relay, parts: Clustered) -> None:
    """Kill the master and let the replica take its place, with what it has; see that this is less."""
    lost = await checkpoints(parts)
    await redis.nodes[0].kill()
    async with redis.client(1) as replica:
        await replica.replicaof("NO", "ONE")
    promoted = await checkpoints_at(redis.ports[1], parts)
    assert sum(promoted) < sum(lost), "the last writes were lost"
    await address.lead_to(redis.ports[1])


async def test_redis_is_emptied_and_then_replaced_by_a_replica_that_lost_the_last_writes(
    nursery: Nursery, own_redis: StartRedis
) -> None:
    """Promise 5: views are disposable. Readers wait, read the log, or are told that there are none at the moment."""
    redis = await own_redis("replica")
    async with AsyncExitStack() as ends:
        address = await ends.enter_async_context(relay_to(redis.ports[0]))
        link = await ends.enter_async_context(relay_to(redis.ports[0]))
        settings = await ends.enter_async_context(a_log(partitions=PARTITIONS))
        settings = settings.model_copy(update={"views": f"redis://127.0.0.1:{address.address}/0"})
        await replicated_over(redis, link)
        load = Load(settings, nursery)
        worker = load.start_worker("worker")
        await load.has(worker, "took", partitions=ALL)
        fought_for = [new_thread_id()]
        load.start_writer("one", fought_for=fought_for)
        load.start_writer("two", fought_for=fought_for, flush=0.2)
        parts = await ends.enter_async_context(open_clustered(settings))
        watch = Watch(load, parts)
        async with watch.kept():
            await load.progress()
            await watch.answered()

            async with redis.client() as client:
                await client.flushall()
            await all_folded(parts)
            await load.has(worker, "built", 2 * PARTITIONS)
            await load.progress()
            await watch.answered()

            await replicated(redis)
            link.block()
            await load.progress(50)
            worker.stop()
            await fail_over(redis, address, parts)
            async with open_clustered(settings) as fresh:
                for thread_id, items in watch.acknowledged().items():
                    seen = await read(fresh.store, thread_id)
                    assert seen.item_count > items, "nor does it see less that has seen nothing yet"
            worker.wake()
            await load.progress()
            await watch.answered()

        await load.stop_writers()
        assert not await load.objections(fought_for=fought_for)
        assert times(worker, "built") == 2 * PARTITIONS, "what the replica had was folded on"


REQUEST_WITHIN = 1.5
IMPATIENT = {"eventstore.kafka.url.REQUEST_WITHIN": REQUEST_WITHIN}
"""Brokers have little time for a request, so that a restart is an outage of several times that."""


@asynccontextmanager
async def a_load_on(kafka: Kafka, views: str, nursery: Nursery, *, replicas: int = 1) -> AsyncIterator[Load]:
    """Let a worker and two writers work on these brokers, in the block and on after it; judge what came of it."""
    settings = Settings(log=f"kafka://{kafka.bootstrap}/whole", views=views, actor="a test")
    await topic.create(settings.kafka, partitions=PARTITIONS, replicas=replicas, min_insync=min(2, replicas), within=30)
    load = Load(settings, nursery, patched=IMPATIENT)
    worker = load.start_worker("worker")
    writers = [load.start_writer("one"), load.start_writer("two", flush=0.2)]
    await load.has(worker, "took", partitions=ALL)
    await load.progress()
    yield load
    await load.progress()
    await load.stop_writers()
    assert not await load.objections()
    assert all(attempt.acknowledged for writer in writers for attempt in writer.journal.attempts)


async def test_a_broker_stays_away_for_longer_than_a_request_may_take_and_hangs_for_as_long(
    nursery: Nursery, own_kafka: StartKafka, redis_url: str
) -> None:
    kafka = await own_kafka()
    (broker,) = kafka.nodes
    async with a_load_on(kafka, redis_url, nursery) as load:
        # This one gives its producer up while the broker is away, and writes all again that is not acknowledged.
        hasty = load.start_writer("hasty", patched={"eventstore.kafka.producer._WEDGED_AFTER": 1.0})
        await load.progress()
        began = monotonic()
        await killed(kafka, broker)
        await kafka.start()
        assert monotonic() - began > REQUEST_WITHIN
        await load.progress()

        await broker.hang()
        await asyncio.sleep(2 * REQUEST_WITHIN)
        await broker.wake()
    replaced = [note["producers"] for note in hasty.journal.notes if note["did"] == "replaced"]
    assert replaced[0] > 0, "its producer was given up, and another wrote again what was not acknowledged"


async def test_a_leader_and_then_the_controller_are_killed(
    nursery: Nursery, three_brokers: Kafka, redis_url: str
) -> None:
    """Promise 1: what was acknowledged survives the loss of any one broker."""
    async with a_load_on(three_brokers, redis_url, nursery, replicas=3) as load:
        await killed(three_brokers, await leader_of(three_brokers, load.settings.kafka, 0))
        await load.progress()
        await three_brokers.start()
        await killed(three_brokers, controller_of(three_brokers))


async def test_a_writer_is_killed_between_the_brokers_having_it_and_the_answer(nursery: Nursery) -> None:
    """Promise 2: a retry under the same append id adds nothing. Whoever retries cannot know that it was written."""
    async with a_log(partitions=PARTITIONS) as settings, a_worker(settings), open_clustered(settings) as parts:
        load = Load(settings, nursery)
        threads = [new_thread_id(), new_thread_id()]
        writer = load.start_writer("killed", threads=threads, shapes=[NAMED], flush=0.1)
        await load.progress(10)
        load.order(writer, "die", "before an ack")
        killed = (await load.lost("killed")).journal
        unanswered = [attempt for attempt in killed.attempts if not attempt.received]
        logged = {text for thread_id in threads for text in await logged_texts(parts, thread_id)}
        assert any(set(attempt.texts) <= logged for attempt in unanswered), "it was written, and nobody was told"

        retry = {
            thread_id: [
                (attempt.append_id, attempt.texts)
                for attempt in killed.attempts
                if attempt.thread_id == thread_id and not attempt.acknowledged
            ]
            for thread_id in threads
        }
        load.start_writer("heir", threads=threads, shapes=[NAMED], retry=retry)
        await load.progress()
        await load.stop_writers()
        assert not await load.objections()
        assert all(attempt.texts in {other.texts for other in load.past[1].journal.attempts} for attempt in unanswered)


async def logged_texts(parts: Clustered, thread_id: ThreadId) -> set[str]:
    """Return the labels of all items that the log has of the thread, whether they count or not."""
    entries = await whole_log(parts.feed, parts.feed.partition_of(thread_id))
    return {
        json.loads(item.payload)["message"].split(" ")[0]
        for entry in entries
        if entry.thread_id == thread_id and isinstance(entry.event, ItemsAppended)
        for item in entry.event.items
    }
