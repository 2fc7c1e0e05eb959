"""Many random logs over several partitions at once, verified."""

from __future__ import annotations

from random import Random

import pytest

from eventstore.documents.params import ListThreadsParams
from eventstore.errors import EventStoreError, InvalidRequest
from projections.fold import fold
from projections.redis_coding import key_of
from projections.redis_edge import NotBuilt
from projections.verify import first_difference
from tests.support.logs import RandomLog
from tests.support.partitions import PartitionedFeed, Teller
from tests.support.redis_rig import PARTITIONS, Rig
from tests.support.redis_server import RedisServer


async def test_projectors_of_several_partitions_and_their_readers_get_on_with_each_other(made: Rig) -> None:
    feed = made.feed
    assert isinstance(feed, PartitionedFeed)
    for entry in RandomLog(Random(11), threads=12, bad_records=True).write(400):
        if entry.thread_id is not None:
            feed.put(entry)
    for partition in range(PARTITIONS):
        await made.generations.begin(partition)
    await made.serve()
    threads = {entry.thread_id for entries in feed.partitions for entry in entries if entry.thread_id is not None}

    for thread_id in threads:
        view = await made.shared.get(thread_id, span=slice(None))
        own = [entry for entry in feed.partitions[feed.partition_of(thread_id)] if entry.thread_id == thread_id]
        change = fold({}, own).changes.get(thread_id)
        assert (None if change is None else change.after) == (None if view is None else view.state)


async def test_verifying_finds_nothing_in_sound_views_and_what_was_tampered_with(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    tellers = [Teller(feed) for _ in range(9)]
    for teller in tellers:
        teller.say("one", "two")
    tellers[2].delete()
    await made.serve()
    for partition in range(PARTITIONS):
        assert (await first_difference(feed, made.stored, partition=partition)).difference is None

    thread_id = tellers[0].thread_id
    partition = feed.partition_of(thread_id)
    key = made.shards.key(partition).encode() + b"1t"
    with server.client() as client:
        stored = client.get(key + key_of(thread_id))
        client.set(key + key_of(thread_id), stored[:-1] + b"\1")  # its last record bears one item less
    found = (await first_difference(feed, made.stored, partition=partition)).difference
    assert found is not None
    assert found.thread_id == thread_id


async def test_a_cursor_that_is_none_is_refused_before_anything_is_asked(made: Rig) -> None:
    with pytest.raises(InvalidRequest, match="invalid cursor"):
        await made.shared.page(ListThreadsParams(cursor="nonsense"))


def test_every_error_here_is_one_of_the_families() -> None:
    assert issubclass(NotBuilt, EventStoreError)
