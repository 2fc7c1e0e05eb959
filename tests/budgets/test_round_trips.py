"""What each call costs on a cluster, counted in what is really sent: requests to Kafka, scripts to Redis.

No worker runs: the test folds by hand, over connections of its own which are not counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from aiokafka.conn import AIOKafkaConnection
from redis.asyncio.connection import AbstractConnection

from eventstore import ListThreadsParams
from eventstore.ids import ThreadId
from eventstore.wiring import Cluster, Clustered, open_cluster, open_clustered
from projections.projector import Projector
from projections.redis_shards import script
from tests.support.cluster import a_log
from tests.support.threads import append, created, history, read, say, user_message

PARTITIONS = 3
SCRIPTS = {
    script(name, writes=name == "commit").digest.encode(): name
    for name in ("thread", "snapshot", "commit", "page", "ids", "census", "describe")
}
"""By digest, as calls name them."""


@dataclass
class Sent:
    """What was sent since it was last taken."""

    requests: Counter[str] = field(default_factory=Counter)
    """To Kafka, by their names."""
    trips: list[Counter[str]] = field(default_factory=list)
    """To Redis: the scripts of each packet, by their names."""


class Tally:
    """Counts what some clients send."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clients: list[Any] = []
        """The Kafka clients that are counted."""
        self.pools: list[Any] = []
        """The Redis connection pools that are counted."""
        self.sent = Sent()
        self._count_requests(monkeypatch)
        self._count_trips(monkeypatch)

    async def of(self, call: Awaitable[object]) -> Sent:
        """Make the call, and return what it sent."""
        self.sent = Sent()
        await call
        sent, self.sent = self.sent, Sent()
        return sent

    def _count_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        send = AIOKafkaConnection.send

        def counted(connection: AIOKafkaConnection, request: object, expect_response: bool = True) -> Any:
            if any(connection in client._conns.values() for client in self.clients):
                self.sent.requests[type(request).__name__] += 1
            return send(connection, request, expect_response)

        monkeypatch.setattr(AIOKafkaConnection, "send", counted)

    def _count_trips(self, monkeypatch: pytest.MonkeyPatch) -> None:
        send = AbstractConnection.send_packed_command

        async def counted(connection: AbstractConnection, command: Any, check_health: bool = True) -> None:
            if any(connection in pool._in_use_connections for pool in self.pools):
                data = command if isinstance(command, bytes) else b"".join(command)
                called = Counter({name: data.count(digest) for digest, name in SCRIPTS.items() if digest in data})
                if called:
                    self.sent.trips.append(called)
            await send(connection, command, check_health)

        monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)


@dataclass
class Bench:
    """A store whose calls are counted, and what folds the log for it."""

    parts: Clustered
    folding: Cluster
    tally: Tally
    projectors: list[Projector]

    async def fold(self) -> None:
        """Fold everything that is logged."""
        for partition, projector in enumerate(self.projectors):
            await projector.catch_up(await self.folding.feed.end(partition))


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    tally = Tally(monkeypatch)
    async with (
        a_log(partitions=PARTITIONS) as settings,
        open_clustered(settings) as parts,
        open_cluster(settings) as folding,
    ):
        for partition in range(PARTITIONS):
            begun = await folding.generations.begin(partition)
            assert await folding.generations.switch(partition, begun.generation)
        views = folding.stored_views()
        made = Bench(
            parts, folding, tally, [Projector(folding.feed, views, partition=number) for number in range(PARTITIONS)]
        )
        # What is paid once is paid now: connections, scripts that Redis does not know yet, the subscription to hints.
        thread_id = await created(parts.store)
        await append(parts.store, thread_id, user_message("first"))
        await flushed(made, thread_id)
        await history(parts.store, thread_id)
        await parts.store.list_threads(ListThreadsParams())
        session = parts.log._producer._session  # type: ignore[attr-defined]
        tally.clients = [session._producer.client, parts.cluster.reader._client]
        tally.pools = [parts.cluster.shards._client.connection_pool]  # type: ignore[union-attr]
        yield made


async def a_folded_thread(bench: Bench, *texts: str) -> ThreadId:
    """Make a live thread that is flushed; each text is an append of its own."""
    thread_id = await created(bench.parts.store)
    await append(bench.parts.store, thread_id, user_message("hello"))
    await flushed(bench, thread_id)
    for text in texts:
        await say(bench.parts.store, thread_id, text)
    await bench.fold()
    await bench.parts.store.flush_thread(thread_id)
    return thread_id


async def flushed(bench: Bench, thread_id: ThreadId) -> None:
    """Flush a thread, and fold meanwhile."""
    flush = asyncio.ensure_future(bench.parts.store.flush_thread(thread_id))
    while not flush.done():
        await bench.fold()
        await asyncio.sleep(0)
    await flush


async def until_hints_are_heard(bench: Bench, thread_id: ThreadId) -> None:
    """Append and flush until a hint has come from the thread's partition: then it is subscribed to."""
    hints, partition = bench.parts.views._hints, bench.folding.feed.partition_of(thread_id)
    async with asyncio.timeout(20):
        while partition not in hints._heard:
            await say(bench.parts.store, thread_id, "again")
            await flushed(bench, thread_id)


async def test_an_append_is_one_request_to_the_log(bench: Bench) -> None:
    thread_id = await a_folded_thread(bench)
    for items in (1, 50):
        sent = await bench.tally.of(say(bench.parts.store, thread_id, *map(str, range(items))))

        assert sent.requests == {"ProduceRequest": 1}
        assert sent.trips == []


async def test_appends_made_together_are_few_requests(bench: Bench) -> None:
    thread_id = await a_folded_thread(bench)

    sent = await bench.tally.of(asyncio.gather(*(say(bench.parts.store, thread_id, f"{n}") for n in range(100))))

    assert sent.requests.keys() == {"ProduceRequest"}
    assert sent.requests.total() <= 3


async def test_a_flush_is_one_wait_for_the_views_and_no_request_to_the_log(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.parts.store
    thread_id = await a_folded_thread(bench)
    await until_hints_are_heard(bench, thread_id)
    await say(store, thread_id, "folded")
    await bench.fold()
    folded = await bench.tally.of(store.flush_thread(thread_id))
    await say(store, thread_id, "to be folded")
    # So that no poll comes in between on a busy machine.
    monkeypatch.setattr("projections.shared._POLL_AFTER", 20.0)

    async def folded_while_it_waits() -> None:
        flush = asyncio.ensure_future(store.flush_thread(thread_id))
        for _ in range(20):
            await asyncio.sleep(0)
        await bench.fold()
        await flush

    waiting = await bench.tally.of(folded_while_it_waits())
    again = await bench.tally.of(store.flush_thread(thread_id))

    assert (folded.trips, folded.requests) == ([{"thread": 1}], {})
    # Not one look before the commit: the last hint said that it would be in vain.
    assert (waiting.trips, waiting.requests) == ([{"thread": 1}], {})
    assert (again.trips, again.requests) == ([], {})


async def test_a_look_at_a_thread_is_one_call_to_the_views(bench: Bench) -> None:
    thread_id = await a_folded_thread(bench)

    sent = await bench.tally.of(read(bench.parts.store, thread_id))

    assert (sent.trips, sent.requests) == ([{"thread": 1}], {})


@pytest.mark.parametrize("asked", [{}, {"page_size": 5}, {"model_providers": ("openai",)}, {"search_term": "hello"}])
async def test_a_page_of_a_list_is_two_calls_to_each_shard_at_most(bench: Bench, asked: dict[str, Any]) -> None:
    """All partitions of a shard go together: of one Redis, that is two calls."""
    for _ in range(10):
        await a_folded_thread(bench)

    sent = await bench.tally.of(bench.parts.store.list_threads(ListThreadsParams(**asked)))

    assert sent.requests == {}
    assert sent.trips[0] == {"page": PARTITIONS}
    assert len(sent.trips) <= 2
    assert sum(trip["snapshot"] for trip in sent.trips) <= PARTITIONS


async def test_a_history_is_one_call_to_the_views_one_look_at_the_end_and_the_planned_reads(bench: Bench) -> None:
    store = bench.parts.store
    together = await a_folded_thread(bench, *map(str, range(30)))
    contiguous = await bench.tally.of(history(store, together))
    await say(store, together, "not folded yet")
    behind = await bench.tally.of(history(store, together))
    scattered = await a_scattered_thread(bench, places=3)
    await history(store, scattered)  # how large records are here is learnt by reading
    planned = await bench.tally.of(history(store, scattered))

    assert (contiguous.trips, contiguous.requests) == ([{"thread": 1}], {"OffsetRequest": 1, "FetchRequest": 1})
    assert behind.trips == [{"thread": 1}]
    assert behind.requests == {"OffsetRequest": 1, "FetchRequest": 2}, "the tail is read too"
    assert (planned.trips, planned.requests) == ([{"thread": 1}], {"OffsetRequest": 1, "FetchRequest": 3})


async def a_scattered_thread(bench: Bench, *, places: int) -> ThreadId:
    """Make a thread whose records lie at so many places, far from each other."""
    partition_of, store = bench.parts.feed.partition_of, bench.parts.store
    thread_id = await a_folded_thread(bench)
    dice = Random(7)
    for number in range(1, places):
        other = await created(store)
        while partition_of(other) != partition_of(thread_id):
            await store.discard_thread(other)
            other = await created(store)
        for _ in range(2):
            await append(store, other, user_message(dice.randbytes(300_000).hex()))
        await flushed(bench, other)
        await say(store, thread_id, f"{number}")
        await flushed(bench, thread_id)
    return thread_id


@pytest.mark.parametrize("events", [1, 200])
async def test_a_step_of_any_size_is_one_fetch_one_read_and_one_commit(bench: Bench, events: int) -> None:
    """Of threads that the projector does not know; of those that it folded last, it needs no read."""
    tally, folding = bench.tally, bench.folding
    threads = [await a_folded_thread(bench) for _ in range(PARTITIONS * 4)]
    partition = folding.feed.partition_of(threads[0])
    views = folding.stored_views()
    projector = Projector(folding.feed, views, partition=partition, batch=500)
    await projector.catch_up(1)  # it looks up where it has to go on
    mine = [thread_id for thread_id in threads if folding.feed.partition_of(thread_id) == partition]
    for number in range(events):
        await say(bench.parts.store, mine[number % len(mine)], f"{number}")
    tally.clients = [folding.reader._client]
    tally.pools = [folding.shards._client.connection_pool]  # type: ignore[union-attr]

    unknown = await tally.of(projector.step())
    await say(bench.parts.store, mine[0], "again")
    known = await tally.of(projector.step())

    assert (unknown.requests, unknown.trips) == ({"FetchRequest": 1}, [{"snapshot": 1}, {"commit": 1}])
    assert (known.requests, known.trips) == ({"FetchRequest": 1}, [{"commit": 1}])
