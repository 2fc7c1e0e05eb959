"""Flush acknowledges: it counts, and every reader in every process sees it (contract §2.5, design §2)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import pytest

from eventstore import ListThreadsParams, Position, ThreadStore
from eventstore.errors import InvalidRequest, LogUnavailable, OutcomeUnknown
from eventstore.events import Event
from eventstore.ports import EventLog
from tests.support.engines import Engine, Ports
from tests.support.faults import FaultyLog, OvertakenViews
from tests.support.threads import a_live_thread, append, created, page, read, said, say, texts, user_message


async def test_after_flush_any_reader_in_any_process_sees_it(store: ThreadStore, elsewhere: ThreadStore) -> None:
    """Promise 4. Readable: "after `flush` returns, any reader in any process sees the items (`load_history`) and the
    metadata they imply (`read_thread`, `list_threads`)"."""
    thread_id = await created(store)

    async def what_it_is() -> object:
        seen = await read(elsewhere, thread_id)
        return seen.preview, seen.item_count

    async def all_of_it() -> object:
        return await said(elsewhere, thread_id)

    async def listed() -> object:
        return [(seen.preview, seen.item_count) for seen in (await elsewhere.list_threads(ListThreadsParams())).items]

    async def the_latest() -> object:
        return texts(await page(elsewhere, thread_id, page_size=1, sort_direction="Desc"))

    looks = deque([what_it_is, all_of_it, listed, the_latest])
    for turn in range(len(looks)):
        await append(store, thread_id, user_message(f"turn {turn}"))
        await store.flush_thread(thread_id)

        expected = {
            what_it_is: ("turn 0", turn + 2),
            all_of_it: [f"turn {number}" for number in range(turn + 1)],
            listed: [("turn 0", turn + 2)],
            the_latest: [f"turn {turn}"],
        }
        # Each of them is the first once: what one look has brought up to date, the next finds so.
        looks.rotate()
        assert expected == {look: await look() for look in looks}
        assert [await read(elsewhere, thread_id)] == list((await elsewhere.list_threads(ListThreadsParams())).items)


async def test_an_empty_deferred_thread_is_not_stored_by_flush(store: ThreadStore) -> None:
    thread_id = await created(store)
    await store.flush_thread(thread_id)
    with pytest.raises(InvalidRequest):
        await read(store, thread_id)

    await append(store, thread_id, user_message("now"))
    await store.flush_thread(thread_id)
    assert ["now"] == await said(store, thread_id)


async def test_a_flush_waits_for_what_is_on_its_way_and_sends_it_no_second_time(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_live_thread(store)
    log.held, sent_before = asyncio.Event(), log.appends

    saying = asyncio.create_task(say(store, thread_id, "once"))
    await asyncio.wait_for(log.holding.wait(), 5)
    flushing = asyncio.create_task(store.flush_thread(thread_id))
    await asyncio.sleep(0.01)
    assert not flushing.done()
    log.held.set()
    await asyncio.gather(saying, flushing)

    assert log.appends == sent_before + 1
    assert ["hello", "once"] == await said(store, thread_id)


async def test_a_flush_that_fails_loses_nothing_and_the_next_one_succeeds(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await created(store)
    await append(store, thread_id, user_message("one"))
    log.lose_requests(1)
    log.lose_answers(1)
    for _ in range(2):
        with pytest.raises(Exception, match="ordered by the test"):
            await store.flush_thread(thread_id)
    await store.flush_thread(thread_id)

    assert log.fired == 2
    assert ["one"] == await said(store, thread_id)


async def test_flushes_at_a_time_all_acknowledge_everything_before_them(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)

    async def turn(number: int) -> None:
        await say(store, thread_id, str(number))
        await store.flush_thread(thread_id)
        assert str(number) in await said(store, thread_id)

    await asyncio.gather(*map(turn, range(30)))

    assert ["hello", *map(str, range(30))] == await said(store, thread_id)


async def test_a_flush_whose_words_another_flush_learned_of_first_returns(engine: Engine) -> None:
    """The log's answer can come after the views have folded what it logged."""
    log, views = FaultyLog(), OvertakenViews()
    store = await engine.open(through=lambda ports: views.through(log.through(ports)))
    thread_id = await a_live_thread(store)
    await say(store, thread_id, "one")
    log.lose_requests(1)
    late: list[asyncio.Task[None]] = []

    async def another_is_logged_and_not_answered() -> None:
        with pytest.raises(OutcomeUnknown):
            await say(store, thread_id, "two")
        log.held = asyncio.Event()
        late.append(asyncio.create_task(store.flush_thread(thread_id)))
        await log.holding.wait()

    views.before_reach = another_is_logged_and_not_answered
    await store.flush_thread(thread_id)
    assert log.held is not None
    log.held.set()
    await late[0]

    assert (views.fired, log.fired) == (1, 2)
    assert ["hello", "one", "two"] == await said(store, thread_id)


async def test_one_append_is_one_trip_to_the_log_and_a_flush_of_it_none(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_live_thread(store)
    before = log.appends

    await say(store, thread_id, "one", "two", "three")
    await store.flush_thread(thread_id)
    await store.flush_thread(thread_id)

    assert log.appends == before + 1


async def test_creation_and_first_append_are_one_trip_to_the_log(engine: Engine) -> None:
    trips = FaultyLog()

    def counted(ports: Ports) -> Ports:
        return trips.through(ports)

    store = await engine.open(through=counted)
    thread_id = await created(store)
    await append(store, thread_id, user_message("one"))
    await store.flush_thread(thread_id)

    assert trips.appends == 1


class SlowToRefuse:
    """A log whose first append fails, nothing written, after others had the time to begin theirs."""

    def __init__(self) -> None:
        self._log: EventLog
        self.begun = asyncio.Event()
        self.fired = 0

    def through(self, ports: Ports) -> Ports:
        self._log = ports.log
        return replace(ports, log=self)

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        if not self.fired:
            self.fired += 1
            await self.begun.wait()
            raise LogUnavailable("ordered by the test")
        positions = await self._log.append(events, within=within)
        self.begun.set()
        return positions


async def test_a_creation_that_is_logged_behind_a_later_append_counts_all_the_same(engine: Engine) -> None:
    """The creation fails, an overlapping append lands alone, and somebody folds up to there before all goes again."""
    log = SlowToRefuse()
    store = await engine.open(through=log.through)
    thread_id = await created(store)
    await say(store, thread_id, "one")
    refused, _ = await asyncio.gather(
        store.flush_thread(thread_id), say(store, thread_id, "two"), return_exceptions=True
    )
    assert isinstance(refused, LogUnavailable)
    await store.list_threads(ListThreadsParams())

    await store.flush_thread(thread_id)

    assert (1, ["one", "two"]) == (log.fired, await said(store, thread_id))
