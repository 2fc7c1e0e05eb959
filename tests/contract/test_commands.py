"""What a command says of itself when the log or the views go away: never that nothing was written of what may count."""

from __future__ import annotations

import asyncio

import pytest

from eventstore import ThreadStore
from eventstore.documents.params import ListThreadsParams
from eventstore.errors import LogUnavailable, OutcomeUnknown, ViewsBehind
from eventstore.ids import ThreadId
from tests.support.engines import Engine
from tests.support.faults import FaultyLog, OvertakenViews, WatchedFeed
from tests.support.threads import a_cold_thread, a_live_thread, archive, patch, say


async def is_archived(store: ThreadStore, thread_id: ThreadId) -> bool:
    """Say what a later command finds: it waits until everything before it is seen."""
    return (await patch(store, thread_id, name="named later")).archived_at is not None


async def test_a_patch_of_a_live_thread_is_logged_though_the_views_are_behind(engine: Engine) -> None:
    views = OvertakenViews()
    store = await engine.open(through=views.through)
    thread_id = await a_live_thread(store)
    await say(store, thread_id, "more")

    views.behind = True
    with pytest.raises(ViewsBehind, match=r"the command for thread .* counts: do not repeat it"):
        await patch(store, thread_id, name="a name")
    views.behind = False

    # A look at one thread may come before the workers have folded what nobody waited for.
    listed = (await store.list_threads(ListThreadsParams(exact=True))).items
    assert ["a name"] == [thread.name for thread in listed if thread.thread_id == thread_id]


async def test_a_command_that_was_not_taken_says_so(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_cold_thread(store)
    log.lose_requests(1)

    with pytest.raises(LogUnavailable):
        await archive(store, thread_id)

    assert (log.fired, False) == (1, await is_archived(store, thread_id))


async def test_a_command_whose_verdict_cannot_be_read_is_of_unknown_outcome(engine: Engine) -> None:
    views, feed = OvertakenViews(), WatchedFeed()
    store = await engine.open(through=lambda ports: views.through(feed.through(ports)))
    thread_id = await a_cold_thread(store)
    gone: list[str] = []

    async def goes_away() -> None:
        gone.append("away")
        raise LogUnavailable("ordered by the test")

    views.behind, feed.before_replay = True, goes_away
    with pytest.raises(OutcomeUnknown, match=r"which may count \(ordered by the test\); read the thread before"):
        await archive(store, thread_id)
    views.behind = False

    assert (["away"], True) == (gone, await is_archived(store, thread_id))


async def test_a_command_that_may_have_landed_stays_of_unknown_outcome_when_the_log_goes_away(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_cold_thread(store)
    log.lose_answers(1)
    log.lose_requests(1)

    with pytest.raises(OutcomeUnknown, match="read the thread before you repeat it"):
        await archive(store, thread_id)

    assert (2, True) == (log.fired, await is_archived(store, thread_id))


async def test_a_command_ends_within_its_deadline_however_slowly_the_log_is_read(engine: Engine) -> None:
    views, feed, within = OvertakenViews(), WatchedFeed(), 2.0
    store = await engine.open(through=lambda ports: views.through(feed.through(ports)), within=within)
    thread_id = await a_cold_thread(store)
    views.behind, feed.before_replay = True, asyncio.Event().wait

    async with asyncio.timeout(20):
        with pytest.raises(OutcomeUnknown):
            await archive(store, thread_id)
    views.behind = False

    assert feed.before_replay is None
    assert 0 < views.within <= 0.8 * within, "the rest is for the log"
    assert await is_archived(store, thread_id)


async def test_a_patch_has_the_time_that_the_flush_before_it_left(engine: Engine) -> None:
    views, within, used = OvertakenViews(), 10.0, 0.5
    store = await engine.open(through=views.through, within=within)
    thread_id = await a_live_thread(store)
    await say(store, thread_id, "not flushed")
    views.before_reach = lambda: asyncio.sleep(used)

    await patch(store, thread_id, name="named")

    assert views.fired == 1
    assert 0 < views.within <= 0.8 * (within - used)


async def test_the_log_is_asked_only_for_what_came_since_the_thread_was_looked_at(engine: Engine) -> None:
    views, feed = OvertakenViews(), WatchedFeed()
    store = await engine.open(through=lambda ports: views.through(feed.through(ports)))
    thread_id = await a_live_thread(store)
    for number in range(20):
        await say(store, thread_id, str(number))
    await store.shutdown_thread(thread_id)
    views.behind, before = True, feed.entries

    with pytest.raises(ViewsBehind, match="counts: do not repeat it"):
        await archive(store, thread_id)
    views.behind = False

    assert (1, True) == (feed.entries - before, await is_archived(store, thread_id))
