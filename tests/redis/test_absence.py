"""Views that are not there, or not yet: what readers are told is never that there is nothing."""

from __future__ import annotations

import pytest

from eventstore.admission import Lifecycle
from eventstore.documents.items import Position
from eventstore.documents.params import ListThreadsParams
from eventstore.errors import UnreadableEvent
from eventstore.ids import new_thread_id
from projections.redis_edge import NotBuilt
from tests.support.partitions import PartitionedFeed, Teller
from tests.support.redis_rig import NAME, OF_ALL, PARTITIONS, READS, Rig
from tests.support.redis_server import RedisServer


@pytest.mark.parametrize("read", OF_ALL)
async def test_views_that_were_never_built_are_unavailable(made: Rig, feed: PartitionedFeed, read: str) -> None:
    with pytest.raises(NotBuilt, match="a worker has to build them"):
        await READS[read](made, Teller(feed).thread_id)


@pytest.mark.parametrize("read", OF_ALL)
async def test_views_that_were_emptied_are_unavailable_and_no_thread_is_said_to_be_missing(
    made: Rig, server: RedisServer, feed: PartitionedFeed, read: str
) -> None:
    """Promise 5: "Redis may be flushed"."""
    thread_id = Teller(feed).thread_id
    await made.serve()
    await READS[read](made, thread_id)
    with server.client() as client:
        client.flushall()

    with pytest.raises(NotBuilt):
        await READS[read](made, thread_id)
    await made.serve()
    await READS[read](made, thread_id)


@pytest.mark.parametrize("read", OF_ALL)
async def test_views_that_are_being_built_serve_nobody(made: Rig, feed: PartitionedFeed, read: str) -> None:
    thread_id = Teller(feed).thread_id
    for partition in range(PARTITIONS):
        await made.generations.begin(partition)

    with pytest.raises(NotBuilt):
        await READS[read](made, thread_id)


@pytest.mark.parametrize("trouble", ["never built", "emptied", "being built"])
async def test_one_thread_is_read_from_the_log_while_there_are_no_views(
    made: Rig, server: RedisServer, feed: PartitionedFeed, trouble: str
) -> None:
    """Promise 5: "readers then wait, read the log, or get a typed error"."""
    teller = Teller(feed)
    teller.say("hello", "again")
    if trouble == "emptied":
        await made.serve()
        with server.client() as client:
            client.flushall()
    if trouble == "being built":
        await made.generations.begin(feed.partition_of(teller.thread_id))

    view = await made.shared.get(teller.thread_id, span=slice(1, None))

    assert view is not None
    assert (view.state.head.items, view.checkpoint) == (3, 2)
    assert [(entry.ordinal, entry.items) for entry in view.indexed][-1] == (1, 2)
    assert await made.shared.get(new_thread_id()) is None


async def test_a_page_is_not_short_of_a_partition_that_is_not_ready(made: Rig, server: RedisServer) -> None:
    await made.serve()
    with server.client() as client:
        client.delete(made.shards.key(1))

    with pytest.raises(NotBuilt, match=f"{NAME}/1"):
        await made.shared.page(ListThreadsParams())


@pytest.mark.parametrize("read", OF_ALL)
async def test_views_of_another_fold_are_unavailable(
    made: Rig, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    thread_id = Teller(feed).thread_id
    await made.serve()
    monkeypatch.setattr("projections.fold.FOLD", 99)

    with pytest.raises(NotBuilt, match="another version's"):
        await READS[read](made, thread_id)


async def test_a_thread_that_only_the_tail_knows_is_found_and_one_that_is_nowhere_is_not(
    made: Rig, feed: PartitionedFeed
) -> None:
    """Promise 5: "'No such thread' is said only when it is true"."""
    await made.serve()
    teller = Teller(feed)
    teller.say("hello", "again")

    view = await made.shared.get(teller.thread_id, span=slice(1, None))
    assert view is not None
    assert (view.state.head.items, view.checkpoint) == (3, 2)
    assert [(entry.ordinal, entry.items) for entry in view.indexed] == [(0, 1), (1, 2)]
    assert feed.replayed == 2

    assert await made.shared.get(new_thread_id()) is None
    teller.delete()
    view = await made.shared.get(teller.thread_id, span=slice(None))
    assert view is not None
    assert view.state.head.lifecycle is Lifecycle.DELETED


async def test_what_is_folded_is_not_read_from_the_log(made: Rig, feed: PartitionedFeed) -> None:
    teller = Teller(feed)
    teller.say("hello")
    await made.serve()

    assert await made.shared.get(teller.thread_id) is not None
    assert await made.shared.get(new_thread_id()) is None
    assert feed.replayed == 0


async def test_a_record_that_cannot_be_understood_stops_readers_of_its_thread_before_it_is_folded_and_after(
    made: Rig, feed: PartitionedFeed
) -> None:
    from eventstore.codec import UnreadableRecord
    from eventstore.ports import Entry

    await made.serve()
    teller = Teller(feed)
    feed.put(Entry(Position(0, 0), teller.thread_id, UnreadableRecord("of the future")))

    with pytest.raises(UnreadableEvent, match="of the future"):
        await made.shared.get(teller.thread_id)
    await made.fold()
    view = await made.shared.get(teller.thread_id)
    assert view is not None
    assert view.state.frozen is not None
    census = await made.stored.census(feed.partition_of(teller.thread_id))
    assert census.frozen == ((teller.thread_id, view.state.frozen),)
