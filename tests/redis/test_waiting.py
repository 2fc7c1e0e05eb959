"""Readers wait for what they are owed, by hints or without, and never go back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis

import projections.shared
from eventstore.documents.params import ListThreadsParams
from eventstore.errors import InvalidRequest, ViewsBehind, ViewsUnavailable
from projections.redis_edge import NotBuilt
from projections.redis_shards import Shards
from tests.support.partitions import PartitionedFeed, Teller
from tests.support.redis_rig import PARTITIONS, READS, Rig, copied, put_back, rig
from tests.support.redis_server import RedisServer


async def test_a_flush_is_woken_by_the_hint_of_the_commit(
    made: Rig, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections.shared, "_POLL_AFTER", 1_000.0)
    monkeypatch.setattr(projections.shared, "_POLL_EVERY", 1_000.0)
    teller = Teller(feed)
    await made.serve()
    for number in range(5):
        position = teller.say(f"{number}")
        waiting = [asyncio.ensure_future(made.shared.reach(position, teller.thread_id, within=30.0)) for _ in range(10)]
        for _ in range(100 if number == 0 else 3):
            await asyncio.sleep(0)
        await made.fold()
        for view in await asyncio.gather(*waiting):
            assert view is not None
            assert view.state.head.items == number + 2


async def test_a_flush_polls_where_nothing_can_be_subscribed_to(
    made: Rig, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = asyncio.Event()

    def refuse(shards: Shards) -> None:
        refused.set()
        raise redis.ConnectionError("ordered by the test")

    monkeypatch.setattr(Shards, "subscription", refuse)
    teller = Teller(feed)
    await made.serve()
    position = teller.say("hello")
    waiting = asyncio.ensure_future(made.shared.reach(position, teller.thread_id, within=20.0))
    await refused.wait()
    await made.fold()
    view = await waiting
    assert view is not None
    assert view.state.head.items == 2


async def test_a_flush_that_nobody_folds_is_behind_at_its_deadline(made: Rig, feed: PartitionedFeed) -> None:
    teller = Teller(feed)
    await made.serve()
    position = teller.say("hello")

    with pytest.raises(ViewsBehind, match=rf"are at 1, and did not reach {position} within 0\.2 s"):
        await made.shared.reach(position, teller.thread_id, within=0.2)


async def test_a_flush_waits_a_moment_for_views_that_cannot_be_read_and_then_says_so(
    made: Rig, feed: PartitionedFeed, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections.shared, "_PATIENCE", 0.2)
    teller = Teller(feed)
    await made.serve()
    copies = copied(server)
    with server.client() as client:
        client.flushall()
    waiting = asyncio.ensure_future(made.shared.reach(teller.position, teller.thread_id, within=20.0))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not waiting.done()
    put_back(server, copies)
    assert await waiting is not None

    with server.client() as client:
        client.flushall()
    with pytest.raises(NotBuilt):
        await made.shared.reach(teller.position, teller.thread_id, within=20.0)


@pytest.mark.parametrize("read", ["page", "matching", "thread_ids"])
async def test_a_reader_waits_for_views_that_were_set_back(
    made: Rig, server: RedisServer, feed: PartitionedFeed, read: str
) -> None:
    teller = Teller(feed)
    await made.serve()
    teller.say("before")
    await made.fold()
    copies = copied(server)
    teller.say("after")
    await made.fold()
    await READS[read](made, teller.thread_id)
    put_back(server, copies)

    waiting = asyncio.ensure_future(READS[read](made, teller.thread_id))
    for _ in range(200):
        await asyncio.sleep(0)
    assert not waiting.done()
    await made.fold()
    assert await waiting
    page = await made.shared.page(ListThreadsParams())
    assert [3] == [row.state.head.items for row in page.rows]


async def test_a_reader_reads_from_the_log_what_views_that_were_set_back_do_not_know(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    await made.serve()
    copies = copied(server)
    teller.say("after")
    await made.fold()
    seen = await made.shared.get(teller.thread_id, span=slice(None))
    put_back(server, copies)

    assert feed.replayed == 0
    assert seen == await made.shared.get(teller.thread_id, span=slice(None))
    assert feed.replayed == 1


async def test_views_that_stay_set_back_are_unavailable_in_time(server: RedisServer, feed: PartitionedFeed) -> None:
    async with rig(server.url, feed, partitions=PARTITIONS, within=2.0) as made:
        teller = Teller(feed)
        await made.serve()
        copies = copied(server)
        teller.say("after")
        await made.fold()
        await made.shared.page(ListThreadsParams())
        put_back(server, copies)

        with pytest.raises(ViewsUnavailable, match=r"within 2 s"):
            await made.shared.page(ListThreadsParams())


async def test_an_exact_page_waits_for_what_is_logged(made: Rig, feed: PartitionedFeed) -> None:
    await made.serve()
    teller = Teller(feed)
    teller.say("hello")
    assert [] == list((await made.shared.page(ListThreadsParams())).rows)

    waiting = asyncio.ensure_future(made.shared.page(ListThreadsParams(), exact=True))
    for _ in range(200):
        await asyncio.sleep(0)
    assert not waiting.done()
    await made.fold()
    assert [teller.thread_id] == [row.thread_id for row in (await waiting).rows]


@pytest.mark.parametrize("asked", ["exact", "at_least"])
async def test_a_page_that_the_views_do_not_come_to_in_time_is_behind(
    server: RedisServer, feed: PartitionedFeed, asked: str
) -> None:
    async with rig(server.url, feed, partitions=PARTITIONS, within=2.0) as made:
        await made.serve()
        teller = Teller(feed)
        partition, offset = teller.say("hello")
        more: dict[str, Any] = {"exact": True} if asked == "exact" else {"at_least": {partition: offset + 1}}

        with pytest.raises(ViewsBehind, match=rf"partition {partition} are at 0, and did not come to 2 within 2 s"):
            await made.shared.page(ListThreadsParams(), **more)
        view = await made.shared.get(teller.thread_id, at_least=offset + 1)
        assert view is not None
        assert (view.state.head.items, view.checkpoint) == (2, 2), "of one thread the log has the answer"

        waiting = asyncio.ensure_future(made.shared.page(ListThreadsParams(), **more))
        await made.fold()
        assert [teller.thread_id] == [row.thread_id for row in (await waiting).rows]
        with pytest.raises(InvalidRequest, match="names offset 7 of partition 0, and the log ends at"):
            await made.shared.page(ListThreadsParams(), at_least={0: 8})


async def test_a_look_that_is_given_a_checkpoint_reads_the_tail_and_one_that_is_not_does_not(
    made: Rig, feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    await made.serve()
    _, offset = teller.say("hello")

    for at_least, items in ((0, 1), (offset, 1), (offset + 1, 2)):
        view = await made.shared.get(teller.thread_id, at_least=at_least)
        assert view is not None
        assert items == view.state.head.items
    assert feed.replayed == 1
    with pytest.raises(InvalidRequest, match="and the log ends at 2"):
        await made.shared.get(teller.thread_id, at_least=9)
