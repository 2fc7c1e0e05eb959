"""One thread in Redis: the index of its records, and the memory that it takes."""

from __future__ import annotations

from random import Random

import pytest

from projections.redis_coding import LONGEST_ENTRY, key_of
from projections.redis_shards import script
from tests.support.partitions import PartitionedFeed, Teller
from tests.support.redis_rig import Rig, contents, rig
from tests.support.redis_server import RedisServer


@pytest.mark.parametrize("batch", [7, 256])
async def test_the_latest_items_of_a_long_thread_are_read_from_the_indexs_end(
    made: Rig, feed: PartitionedFeed, batch: int
) -> None:
    random = Random(7)
    teller, other = Teller(feed), Teller(feed)
    await made.serve()
    for _ in range(400):
        teller.say(*("word" for _ in range(random.randint(1, 5))))
        for _ in range(random.choice((0, 0, 3, 20))):
            other.say("between")
    await made.fold(batch=batch)

    view = await made.shared.get(teller.thread_id, span=slice(None))
    assert view is not None
    total = view.state.head.items
    assert (0, total) == (view.indexed[0].ordinal, view.indexed[-1].ordinal + view.indexed[-1].items)
    for span in (slice(-1, None), slice(-50, None), slice(-3, -1), slice(10, 20), slice(total - 9, None), slice(0, 0)):
        part = await made.shared.get(teller.thread_id, span=span)
        assert part is not None
        start, stop, _ = span.indices(total)
        assert list(part.indexed) == [e for e in view.indexed if e.ordinal < stop and e.ordinal + e.items > start]

    partition = feed.partition_of(teller.thread_id)
    asked = (key_of(teller.thread_id), -50, LONGEST_ENTRY)
    _, _, _, earlier, _ = await made.shards.run(script("thread"), partition, "", fold_name(), *asked)
    assert len(earlier) <= 50 * LONGEST_ENTRY


def fold_name() -> str:
    from projections.fold import fold_in_force

    return fold_in_force()


async def test_a_deleted_thread_has_no_index_and_is_known_still(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    await made.serve()
    for _ in range(300):
        teller.say("word")
    await made.fold(batch=10)
    partition = feed.partition_of(teller.thread_id)
    teller.delete()
    await made.fold()

    assert [] == list(await made.stored.index(teller.thread_id, start=0, stop=1_000))
    assert [teller.thread_id] == list(await made.stored.known_threads(partition))
    assert [] == list(await made.shared.thread_ids(after=None, limit=9))
    assert [] == list(await made.shared.matching(teller.thread_id[:8], limit=2))
    assert [teller.thread_id] == list(await made.shared.matching(teller.thread_id[:8], limit=2, deleted=True))
    assert not [key for key in contents(server) if b"x" + key_of(teller.thread_id) in key]


async def test_a_thread_of_twenty_appends_takes_at_most_1200_bytes(server: RedisServer) -> None:
    feed = PartitionedFeed(1)
    tellers = [Teller(feed, provider=("openai", "azure", "local")[number % 3]) for number in range(1_000)]
    for number in range(20):
        for teller in tellers:
            teller.say(f"{number}: please refactor the projector so that it commits in batches, then run the tests")
    with server.client() as client:
        client.flushall()
        before = client.info("memory")["used_memory"]
    async with rig(server.url, feed) as made:
        await made.serve()
    with server.client() as client:
        taken = client.info("memory")["used_memory"] - before

    assert taken / len(tellers) < 1_200
