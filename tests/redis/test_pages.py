"""Pages of threads and ids, and the round trips that calls take."""

from __future__ import annotations

from collections.abc import Awaitable
from itertools import count
from random import Random
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection

import projections.shared
from eventstore.admission import Lifecycle
from eventstore.documents.params import ListThreadsParams, SortDirection
from eventstore.ids import ThreadId
from eventstore.state import UNKNOWN_THREAD
from projections.ports import ThreadChange
from tests.support.partitions import PartitionedFeed, Teller, states_to_list
from tests.support.redis_rig import PARTITIONS, READS, Rig, rig
from tests.support.redis_server import RedisServer


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
