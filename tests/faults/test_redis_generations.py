"""Generations: which may serve, which comes back, what is left of one that was dropped, and whose log it was."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from eventstore.documents.params import ListThreadsParams
from eventstore.errors import InvalidRequest, Superseded, TopicMisconfigured, ViewsAheadOfLog
from projections.fold import FOLD, fold
from projections.projector import Projector
from projections.redis_edge import NotBuilt
from projections.redis_generations import Role
from projections.redis_views import RedisViews
from tests.support.partitions import PartitionedFeed, Teller
from tests.support.redis_rig import Rig, contents, rig
from tests.support.redis_server import RedisServer


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    with redis_server.client() as client:
        client.flushall()
    return redis_server


@pytest.fixture
def feed() -> PartitionedFeed:
    return PartitionedFeed(1)


@pytest.fixture
async def made(server: RedisServer, feed: PartitionedFeed) -> AsyncIterator[Rig]:
    async with rig(server.url, feed) as parts:
        yield parts


async def fold_one(made: Rig, generation: int, until: int) -> None:
    views = RedisViews(made.shards, partition_of=made.feed.partition_of, generation=generation)
    await Projector(made.feed, views, batch=1).catch_up(until)


async def roles(made: Rig) -> dict[int, Role]:
    return {generation.number: generation.role for generation in await made.generations.all(0)}


async def test_a_generation_serves_only_once_it_is_as_far_as_the_log_was_when_its_building_began(
    made: Rig, feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    for number in range(4):
        teller.say(f"{number}")
    begun = await made.generations.begin(0)
    teller.say("later")
    made.shared._patience = 0.1  # nobody here makes what it would wait for
    for folded in range(5):
        assert not await made.generations.switch(0, begun.generation)
        assert {begun.generation: Role.BUILDING} == await roles(made)
        with pytest.raises(NotBuilt):
            await made.shared.page(ListThreadsParams())
        await fold_one(made, begun.generation, folded + 1)
    assert await made.generations.switch(0, begun.generation)
    assert {begun.generation: Role.SERVING} == await roles(made)
    assert [5] == [row.state.head.items for row in (await made.shared.page(ListThreadsParams())).rows]


async def test_a_generation_serves_only_once_it_is_as_far_as_the_one_before(made: Rig, feed: PartitionedFeed) -> None:
    teller = Teller(feed)
    await made.serve()
    second = await made.generations.begin(0)
    teller.say("one")
    teller.say("two")
    await made.fold()
    await fold_one(made, second.generation, 1)

    assert not await made.generations.switch(0, second.generation)
    await fold_one(made, second.generation, 3)
    assert await made.generations.switch(0, second.generation)
    assert await made.generations.switch(0, second.generation)
    assert {1: Role.PREVIOUS, 2: Role.SERVING} == await roles(made)


async def test_the_generation_before_comes_back_once_it_is_folded_up(made: Rig, feed: PartitionedFeed) -> None:
    teller = Teller(feed)
    with pytest.raises(NotBuilt):
        await made.generations.roll_back(0)
    await made.serve()
    await made.serve()
    teller.say("one")
    await made.fold()

    assert not await made.generations.roll_back(0)
    await fold_one(made, 1, 2)
    assert await made.generations.roll_back(0)
    assert {1: Role.SERVING, 2: Role.PREVIOUS} == await roles(made)
    assert await made.generations.roll_back(0)
    assert {1: Role.PREVIOUS, 2: Role.SERVING} == await roles(made)


async def test_a_projector_whose_generation_was_replaced_changes_nothing(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    await made.serve()
    zombie = await made.stored.snapshot(0, [teller.thread_id])
    await made.serve()
    before = contents(server)
    teller.say("one")
    changes = fold(zombie.states, await feed.read(0, start=1, limit=9)).changes

    assert not await made.stored.commit(0, zombie.mark, 2, changes)
    assert before == contents(server)


async def test_a_building_that_was_cut_short_is_gone_on_with_and_one_of_another_fold_is_left_alone(
    made: Rig, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    teller = Teller(feed)
    teller.say("one")
    first = await made.generations.begin(0)
    await fold_one(made, first.generation, 1)
    again = await made.generations.begin(0)
    assert (first.generation, 1) == (again.generation, again.checkpoint)

    monkeypatch.setattr("projections.fold.FOLD", 99)
    other = await made.generations.begin(0)
    assert (other.generation, other.checkpoint) == (2, 0)
    assert {1: Role.BUILDING, 2: Role.BUILDING} == await roles(made)
    with pytest.raises(NotBuilt):
        await fold_one(made, first.generation, 2)


async def test_of_two_versions_the_later_ones_views_serve_whoever_comes_last(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made.serve()
    assert await made.generations.serves(0)

    monkeypatch.setattr("projections.fold.FOLD", FOLD + 1)
    assert not await made.generations.serves(0), "an earlier version's are to be built anew"
    await made.serve()
    assert await made.generations.serves(0)

    monkeypatch.setattr("projections.fold.FOLD", FOLD)
    for _ in range(2):
        with pytest.raises(Superseded, match=rf"\(fold {FOLD + 1}/.*, and this one's is {FOLD}/.*\): upgrade"):
            await made.generations.serves(0)
    refused = await made.generations.roll_back_all([0])
    assert (0,) == refused.switched, "who rolls back says so"


async def test_a_dropped_generation_leaves_nothing_behind(
    made: Rig, server: RedisServer, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.redis_generations._THREADS_AT_A_TIME", 2)
    tellers = [Teller(feed, provider=f"provider {number % 3}") for number in range(9)]
    for _ in range(150):
        tellers[0].say("a long one")
    for teller in tellers:
        teller.say("hello")
    tellers[3].delete()
    await made.serve()
    await made.serve()
    with pytest.raises(InvalidRequest, match="serves"):
        await made.generations.drop(0, 2)

    await made.generations.drop(0, 1)
    await made.generations.drop(0, 1)
    assert {2: Role.SERVING} == await roles(made)
    assert not [key for key in contents(server) if key.startswith(b"{threads/0}1")]
    with pytest.raises(NotBuilt):
        await made.generations.roll_back(0)
    with pytest.raises(NotBuilt):
        await fold_one(made, 1, 999)
    assert 8 == len((await made.shared.page(ListThreadsParams())).rows)
    await made.serve()
    assert {2: Role.PREVIOUS, 3: Role.SERVING} == await roles(made)


# Whose log it is.


async def test_views_of_their_own_log_are_taken(made: Rig, feed: PartitionedFeed) -> None:
    await made.generations.verify(0)
    assert not await made.generations.serves(0)
    await made.serve()
    await made.generations.verify(0)
    Teller(feed)
    await made.generations.verify(0)
    await made.fold()
    await made.generations.verify(0)
    assert await made.generations.serves(0)


async def test_views_of_a_log_on_another_cluster_are_refused(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    Teller(feed)
    await made.serve()
    async with rig(server.url, feed, cluster="another") as other:
        with pytest.raises(TopicMisconfigured, match="folded from a log on a test, not on another"):
            await other.generations.verify(0)


@pytest.mark.parametrize("records", [1, 2, 9])
async def test_views_of_a_topic_that_was_made_anew_are_refused(
    made: Rig, server: RedisServer, feed: PartitionedFeed, records: int
) -> None:
    Teller(feed).say("one")
    await made.serve()
    anew = PartitionedFeed(1)
    for _ in range(records):
        Teller(anew)
    async with rig(server.url, anew) as other:
        with pytest.raises(TopicMisconfigured if records >= 2 else ViewsAheadOfLog, match="drop these views") as caught:
            await other.generations.verify(0)
        key = other.shards.key(0)
        assert f"the keys of Redis that begin with {key}" in str(caught.value)
        with server.client() as client:
            client.delete(*client.scan_iter(match=f"{key}*"))
        await other.generations.verify(0)


async def test_views_of_a_log_that_lost_its_end_and_grew_again_are_refused(made: Rig, feed: PartitionedFeed) -> None:
    teller = Teller(feed)
    teller.say("kept")
    teller.say("lost")
    await made.serve()
    feed.partitions[0].pop()
    with pytest.raises(ViewsAheadOfLog, match="ends at 2, and 3 was folded"):
        await made.generations.verify(0)
    teller.say("another")
    teller.say("and another")
    with pytest.raises(TopicMisconfigured, match="another record at 2"):
        await made.generations.verify(0)
