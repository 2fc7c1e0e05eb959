"""The views in Redis under trouble: emptied, set back, cut off, raced for; and what readers are told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from random import Random
from typing import Any

import pytest
import redis
from redis.asyncio.connection import AbstractConnection

import projections.shared
from eventstore.admission import Lifecycle
from eventstore.documents.items import Position
from eventstore.documents.params import ListThreadsParams, SortDirection
from eventstore.errors import EventStoreError, InvalidRequest, UnreadableEvent, ViewsBehind, ViewsUnavailable
from eventstore.ids import ThreadId, new_thread_id
from eventstore.state import UNKNOWN_THREAD
from projections.fold import fold
from projections.ports import DamagedView, ThreadChange
from projections.projector import Projector
from projections.redis_coding import LONGEST_ENTRY, key_of
from projections.redis_edge import NotBuilt
from projections.redis_shards import Shards, script
from projections.verify import first_difference
from tests.support.faults import cancelled_at
from tests.support.logs import RandomLog
from tests.support.partitions import PartitionedFeed, Teller, states_to_list
from tests.support.redis_rig import NAME, Rig, contents, copied, put_back, rig
from tests.support.redis_server import RedisServer

PARTITIONS = 3


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    with redis_server.client() as client:
        client.flushall()
    return redis_server


@pytest.fixture
def feed() -> PartitionedFeed:
    return PartitionedFeed(PARTITIONS)


@pytest.fixture
async def made(server: RedisServer, feed: PartitionedFeed) -> AsyncIterator[Rig]:
    async with rig(server.url, feed, partitions=PARTITIONS) as parts:
        yield parts


READS: dict[str, Callable[[Rig, ThreadId], Awaitable[object]]] = {
    "get": lambda parts, thread_id: parts.shared.get(thread_id),
    "page": lambda parts, thread_id: parts.shared.page(ListThreadsParams()),
    "matching": lambda parts, thread_id: parts.shared.matching(thread_id, limit=2),
    "thread_ids": lambda parts, thread_id: parts.shared.thread_ids(after=None, limit=9),
    "snapshot": lambda parts, thread_id: parts.stored.snapshot(0, [thread_id]),
    "index": lambda parts, thread_id: parts.stored.index(thread_id, start=0, stop=9),
    "census": lambda parts, thread_id: parts.stored.census(0),
}

OF_ALL = [name for name in READS if name != "get"]
"""Reads that only the views can answer; of one thread the log can, too."""


# What is not there is not nothing.


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


# Scripts, answers, cancelled calls.


async def test_scripts_that_redis_forgot_are_sent_again(made: Rig, server: RedisServer, feed: PartitionedFeed) -> None:
    teller = Teller(feed)
    await made.serve()
    for read in READS.values():
        teller.say("more")
        with server.client() as client:
            client.script_flush()
        await made.fold()
        with server.client() as client:
            client.script_flush()
        await read(made, teller.thread_id)
        view = await made.shared.get(teller.thread_id)
        assert view is not None
        assert view.checkpoint == teller.position.offset + 1


async def test_a_commit_whose_answer_was_lost_is_recognised(
    made: Rig, server: RedisServer, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent again, finds another mark, and the projector goes on from there: nothing is there twice."""
    tellers = [Teller(feed) for _ in range(20)]
    await made.serve()
    for teller in tellers:
        teller.say("one", "two")
    lost = LostAnswers(monkeypatch, script("commit", writes=True).digest)
    await made.fold(batch=3)
    assert lost.fired == PARTITIONS

    folded = contents(server)
    monkeypatch.undo()
    with server.client() as client:
        client.flushall()
    await made.serve()
    assert folded == contents(server)


class LostAnswers:
    """Lets a connection break after every third commit was carried out, before its answer is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
        self.fired = 0
        self._digest = digest.encode()
        sent: set[int] = set()
        calls = count()
        send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

        async def watched_send(connection: AbstractConnection, command: Any, check_health: bool = True) -> None:
            data = command if isinstance(command, bytes) else b"".join(command)
            if self._digest in data and next(calls) % 3 == 0 and self.fired < PARTITIONS:
                sent.add(id(connection))
            await send(connection, command, check_health)

        async def broken_read(connection: AbstractConnection, *given: Any, **named: Any) -> Any:
            answer = await read(connection, *given, **named)
            if id(connection) in sent:
                sent.discard(id(connection))
                self.fired += 1
                await connection.disconnect(nowait=True)
                raise redis.ConnectionError("ordered by the test")
            return answer

        monkeypatch.setattr(AbstractConnection, "send_packed_command", watched_send)
        monkeypatch.setattr(AbstractConnection, "read_response", broken_read)


async def test_a_step_cancelled_anywhere_leaves_nothing_half_done(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    tellers = [Teller(feed) for _ in range(6)]
    await made.serve()
    for number in range(12):
        for teller in tellers:
            teller.say(f"{number}")
    projectors = [Projector(feed, made.stored, partition=partition, batch=2) for partition in range(PARTITIONS)]
    cut = 0
    for projector in projectors:
        for place in count(1):
            if not await cancelled_at(place, projector.catch_up(10_000)):
                break
            cut += 1
    assert cut > 3 * PARTITIONS
    for partition, projector in enumerate(projectors):
        assert await projector.catch_up(10_000) == await feed.end(partition)

    folded = contents(server)
    with server.client() as client:
        client.flushall()
    await made.serve()
    assert folded == contents(server)


async def test_reads_cancelled_anywhere_give_nobody_anothers_answer(made: Rig, feed: PartitionedFeed) -> None:
    tellers = [Teller(feed) for _ in range(6)]
    for number, teller in enumerate(tellers):
        teller.say(*(f"{n}" for n in range(number)))
    await made.serve()
    for teller in tellers:
        for place in count(1):
            if not await cancelled_at(place, made.shared.get(teller.thread_id)):
                break
            views = await asyncio.gather(*(made.shared.get(teller.thread_id) for teller in tellers))
            assert list(range(1, 7)) == [view.state.head.items for view in views if view is not None]
        assert place > 1


async def test_a_thread_taken_out_of_redis_is_noticed_before_anything_is_written(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    partition = feed.partition_of(teller.thread_id)
    await made.serve()
    snapshot = await made.stored.snapshot(partition, [teller.thread_id])
    with server.client() as client:
        (key,) = client.scan_iter(match=made.shards.key(partition) + "*t*")
        client.delete(key)
    before = contents(server)
    teller.say("hello")
    entries = await feed.read(partition, start=1, limit=9)

    with pytest.raises(DamagedView):
        await made.stored.commit(partition, snapshot.mark, 2, fold(snapshot.states, entries).changes)
    assert before == contents(server)


@pytest.mark.parametrize("stored", [b"", b"short", b"\0" * 17 + b"\5[1,2]"])
async def test_a_thread_that_cannot_be_decoded_is_said_to_be_damaged(
    made: Rig, server: RedisServer, feed: PartitionedFeed, stored: bytes
) -> None:
    teller = Teller(feed)
    await made.serve()
    with server.client() as client:
        (key,) = client.scan_iter(match=made.shards.key(feed.partition_of(teller.thread_id)) + "*t*")
        client.set(key, stored)

    with pytest.raises(DamagedView, match=f"{teller.thread_id} is damaged"):
        await made.stored.snapshot(feed.partition_of(teller.thread_id), [teller.thread_id])
    view = await made.shared.get(teller.thread_id)
    assert view is not None, "the log answers"
    assert view.state.head.items == 1
    assert [teller.thread_id] == list(await made.shared.thread_ids(after=None, limit=9))


# The index.


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


# Waiting.


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


# Readers never go back.


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


# Listings.


async def listed(made: Rig, states: dict[ThreadId, Any]) -> None:
    for partition in range(PARTITIONS):
        changes = {
            thread: ThreadChange(UNKNOWN_THREAD, state, ())
            for thread, state in states.items()
            if made.feed.partition_of(thread) == partition
        }
        assert await made.stored.commit(partition, (await made.stored.snapshot(partition, ())).mark, 1, changes)


async def all_rows(made: Rig, **asked: Any) -> list[list[ThreadId]]:
    pages, cursor = [], None
    while True:
        page = await made.shared.page(ListThreadsParams.model_validate({**asked, "cursor": cursor}))
        pages.append([row.thread_id for row in page.rows])
        cursor = page.next_cursor
        if cursor is None:
            return pages


@pytest.mark.parametrize("direction", SortDirection)
async def test_times_that_a_double_does_not_tell_apart_lose_no_thread(made: Rig, direction: SortDirection) -> None:
    from dataclasses import replace

    random = Random(3)
    await made.serve()
    states = {
        thread: replace(state, summary=replace(state.summary, preview="seen", created_at=2**57 + random.randrange(99)))
        for thread, state in states_to_list(random, 80).items()
        if state.head.lifecycle is Lifecycle.ACTIVE
    }
    await listed(made, states)

    for size in (1, 3, 10):
        pages = await all_rows(made, page_size=size, sort_direction=direction)
        found = [thread for page in pages for thread in page]
        assert sorted(states) == sorted(found)
        assert {size} >= {len(page) for page in pages[:-1]}


async def test_a_page_looks_at_so_many_threads_and_goes_on_from_there(
    made: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projections.shared, "CANDIDATES", 10)
    monkeypatch.setattr(projections.shared, "_CANDIDATES_AT_A_TIME", 4)
    await made.serve()
    states = states_to_list(Random(5), 300)
    await listed(made, states)
    whole = [thread for page in await all_rows(made) for thread in page]

    pages = await all_rows(made, page_size=3, search_term="three", cwd_filters=["/a"])
    assert [] in pages
    found = [thread for page in pages for thread in page]
    assert found == [t for t in whole if "three" in states[t].summary.preview and states[t].summary.cwd == "/a"]
    assert len(found) > 3
    pages = await all_rows(made, page_size=50)
    assert [10] * (len(whole) // 10) == [len(page) for page in pages[: len(whole) // 10]]
    assert whole == [thread for page in pages for thread in page]


async def test_more_providers_than_have_lists_of_their_own_lose_no_thread(server: RedisServer) -> None:
    feed = PartitionedFeed(1)
    tellers = {f"provider {number}": Teller(feed, provider=f"provider {number}") for number in range(80)}
    for teller in tellers.values():
        teller.say("hello")
    async with rig(server.url, feed) as made:
        await made.serve()

        assert 80 == len({thread for page in await all_rows(made, page_size=30) for thread in page})
        for name, teller in list(tellers.items())[50:]:
            assert [[teller.thread_id]] == await all_rows(made, model_providers=[name])


async def test_threads_that_go_while_a_page_is_read_are_not_in_it_and_make_room_for_others(
    made: Rig, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tellers = [Teller(feed) for _ in range(9)]
    for teller in tellers:
        teller.say("hello")
    await made.serve()
    whole = (await all_rows(made))[0]
    going = {teller.thread_id: teller for teller in tellers}[whole[1]]
    states, fired = made.shared._listing.states, count()

    async def states_later(candidates: Any) -> Any:
        if next(fired) == 0:
            going.delete()
            await made.fold()
        return await states(candidates)

    monkeypatch.setattr(made.shared._listing, "states", states_later)
    page = await made.shared.page(ListThreadsParams(page_size=4))
    assert [whole[0], *whole[2:5]] == [row.thread_id for row in page.rows]
    assert next(fired) == 2


async def test_ids_come_in_their_order_and_by_their_beginning(made: Rig, feed: PartitionedFeed) -> None:
    tellers = [Teller(feed) for _ in range(20)]
    await made.serve()
    ids = sorted(teller.thread_id for teller in tellers)

    found: list[ThreadId] = []
    while some := await made.shared.thread_ids(after=found[-1] if found else None, limit=3):
        found += some
    assert ids == found
    assert [ids[4]] == list(await made.shared.matching(ids[4], limit=2))
    assert ids[:2] == list(await made.shared.matching(ids[0][:4], limit=2))


# Round trips.


class RoundTrips:
    """Counts what is sent to Redis, and the scripts that it runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[int] = []
        send = AbstractConnection.send_packed_command

        async def counted(connection: AbstractConnection, command: Any, check_health: bool = True) -> None:
            data = command if isinstance(command, bytes) else b"".join(command)
            self.sent.append(data.count(b"EVALSHA"))
            await send(connection, command, check_health)

        monkeypatch.setattr(AbstractConnection, "send_packed_command", counted)

    async def of(self, call: Awaitable[object]) -> list[int]:
        """Return how many scripts each round trip of the call ran."""
        self.sent.clear()
        await call
        return list(self.sent)


async def test_every_call_takes_the_round_trips_it_has_to(
    made: Rig, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    tellers = [Teller(feed) for _ in range(30)]
    for teller in tellers:
        teller.say("hello")
    await made.serve()
    thread_id = tellers[0].thread_id
    for read in READS.values():
        await read(made, thread_id)
    trips = RoundTrips(monkeypatch)
    mark = (await made.stored.snapshot(0, [])).mark

    assert [1] == await trips.of(made.stored.snapshot(0, [thread_id]))
    assert [1] == await trips.of(made.stored.commit(0, mark, mark.checkpoint + 1, {}))
    assert [1] == await trips.of(made.shared.get(thread_id))
    assert [1] == await trips.of(made.shared.get(thread_id, span=slice(-50, None)))
    assert [PARTITIONS] == await trips.of(made.shared.matching(thread_id, limit=2))
    for asked in ({}, {"model_providers": ("openai",)}, {"page_size": 5}):
        query = ListThreadsParams.model_validate(asked)
        candidates, states = await trips.of(made.shared.page(query))
        assert candidates == PARTITIONS
        assert 1 <= states <= PARTITIONS


# Memory.


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


# Many random logs over several partitions at once.


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
