"""The views on a Redis Cluster of three masters: partitions on different nodes, read as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from random import Random

import pytest

import projections.shared
from eventstore.documents.params import ListThreadsParams
from eventstore.errors import ViewsUnavailable
from eventstore.settings import Settings
from eventstore.state import UNKNOWN_THREAD
from eventstore.wiring import open_embedded
from projections.listing import page_in
from projections.ports import ThreadChange
from projections.projector import Projector
from projections.redis_views import RedisViews
from projections.sqlite_views import SqliteViews
from tests.support.partitions import PartitionedFeed, Teller, states_to_list
from tests.support.redis_rig import Rig, rig
from tests.support.redis_server import RedisServer, running_cluster

PARTITIONS = 8


@pytest.fixture(scope="module")
def nodes() -> Iterator[Sequence[RedisServer]]:
    with running_cluster() as servers:
        yield servers


@pytest.fixture
def feed() -> PartitionedFeed:
    return PartitionedFeed(PARTITIONS)


@pytest.fixture
async def made(nodes: Sequence[RedisServer], feed: PartitionedFeed) -> AsyncIterator[Rig]:
    for node in nodes:
        with node.client() as client:
            client.flushall()
    async with rig(nodes[0].url, feed, partitions=PARTITIONS, within=10.0) as parts:
        yield parts


async def test_partitions_lie_on_every_node_each_with_all_its_keys_on_one(
    made: Rig, nodes: Sequence[RedisServer], feed: PartitionedFeed
) -> None:
    tellers = [Teller(feed) for _ in range(40)]
    for teller in tellers:
        teller.say("hello")
    await made.serve()

    assert made.shards.is_cluster
    homes: dict[bytes, set[int]] = {}
    for node in nodes:
        with node.client() as client:
            keys = list(client.scan_iter())
        assert keys
        for key in keys:
            homes.setdefault(key.partition(b"}")[0], set()).add(node.port)
    assert len(homes) == PARTITIONS
    assert {1} == {len(ports) for ports in homes.values()}


async def test_pages_over_all_partitions_are_those_of_sqlite(made: Rig) -> None:
    await made.serve()
    states = states_to_list(Random(23), 150)
    changes = {thread: ThreadChange(UNKNOWN_THREAD, state, ()) for thread, state in states.items()}
    for partition in range(PARTITIONS):
        own = {thread: c for thread, c in changes.items() if made.feed.partition_of(thread) == partition}
        assert await made.stored.commit(partition, (await made.stored.snapshot(partition, ())).mark, 1, own)
    async with open_embedded(Settings(log="sqlite::memory:")) as embedded:
        sqlite = SqliteViews(embedded.file)
        assert await sqlite.commit(0, (await sqlite.snapshot(0, ())).mark, 1, changes)
        for asked in ({}, {"model_providers": ["openai", "azure"]}, {"search_term": "needle"}, {"archived": True}):
            for key in ("CreatedAt", "UpdatedAt"):
                cursor, seen = None, 0
                while True:
                    query = ListThreadsParams.model_validate(
                        {**asked, "sort_key": key, "page_size": 9, "cursor": cursor}
                    )
                    page = await made.shared.page(query)
                    assert page == await embedded.file.read(lambda connection, query=query: page_in(connection, query))  # type: ignore[misc]
                    seen += len(page.rows)
                    cursor = page.next_cursor
                    if cursor is None:
                        break
                assert seen > 10


async def test_threads_ids_and_hints_come_from_every_node(
    made: Rig, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections.shared, "_POLL_AFTER", 1_000.0)
    monkeypatch.setattr(projections.shared, "_POLL_EVERY", 1_000.0)
    tellers = [Teller(feed) for _ in range(40)]
    await made.serve()
    for partition in range(PARTITIONS):
        await asyncio.wait_for(made.shared._hints.next(partition), 20)  # subscribed
    waiting = [
        asyncio.ensure_future(made.shared.reach(teller.say("hello"), teller.thread_id, within=30.0))
        for teller in tellers
    ]
    for _ in range(5):
        await asyncio.sleep(0)
    await made.fold()
    for view in await asyncio.gather(*waiting):
        assert view is not None
        assert view.state.head.items == 2
    ids = sorted(teller.thread_id for teller in tellers)
    assert ids == list(await made.shared.thread_ids(after=None, limit=100))
    assert ids[7:9] == list(await made.shared.thread_ids(after=ids[6], limit=2))
    assert [ids[3]] == list(await made.shared.matching(ids[3], limit=2))
    for thread_id in ids:
        assert await made.shared.get(thread_id) is not None


async def test_scripts_that_every_node_forgot_are_sent_again(
    made: Rig, nodes: Sequence[RedisServer], feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    teller.say("hello")
    await made.serve()
    for node in nodes:
        with node.client() as client:
            client.script_flush()
    assert 1 == len((await made.shared.page(ListThreadsParams())).rows)


async def test_projectors_of_all_partitions_may_race(made: Rig, feed: PartitionedFeed) -> None:
    tellers = [Teller(feed) for _ in range(20)]
    await made.serve()
    for number in range(10):
        for teller in tellers:
            teller.say(f"{number}")
    await asyncio.gather(
        *(
            Projector(feed, made.stored, partition=partition, batch=batch).catch_up(10_000)
            for partition in range(PARTITIONS)
            for batch in (3, 7)
        )
    )
    for teller in tellers:
        stored = RedisViews(made.shards, partition_of=feed.partition_of)
        entries = await stored.index(teller.thread_id, start=0, stop=99)
        assert [1] * 11 == [entry.items for entry in entries]


async def test_a_page_is_unavailable_while_one_node_stands_still(
    made: Rig, nodes: Sequence[RedisServer], feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    teller.say("hello")
    await made.serve()
    async with rig(nodes[0].url, feed, partitions=PARTITIONS, within=3.0) as hasty:
        await hasty.shared.page(ListThreadsParams())
        nodes[2].hold()
        try:
            with pytest.raises(ViewsUnavailable):
                await hasty.shared.page(ListThreadsParams())
        finally:
            nodes[2].release()
    assert 1 == len((await made.shared.page(ListThreadsParams())).rows)
