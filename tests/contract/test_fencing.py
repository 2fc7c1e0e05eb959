"""One writer: whoever resumed last, in whatever process; the one before is told and adds nothing (design §4)."""

from __future__ import annotations

import asyncio
import gc
from weakref import ReferenceType, ref

import pytest

from eventstore import AppendThreadItemsParams, ThreadStore, new_thread_id
from eventstore.errors import EventStoreError, ViewsUnavailable, WriterFenced
from eventstore.events import ThreadCreated, WriterOpened
from tests.support.engines import Engine
from tests.support.faults import FaultyLog, OvertakenViews, WatchedFeed
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    append,
    archive,
    patch,
    read,
    resume,
    resumed_elsewhere,
    said,
    say,
    say_and_flush,
    user_message,
)


async def test_a_fenced_writer_is_told_and_adds_nothing(store: ThreadStore, elsewhere: ThreadStore) -> None:
    """Promise 3. One writer: "of two writers of one thread exactly one counts at any point of the log; the other is
    told (`WriterFenced`), whatever pauses, clocks and delayed packets do"."""
    thread_id = await a_live_thread(store)
    await resumed_elsewhere(elsewhere, thread_id)

    with pytest.raises(WriterFenced):
        await say_and_flush(store, thread_id, "too late")

    await say(elsewhere, thread_id, "in time")
    await elsewhere.flush_thread(thread_id)
    assert ["hello", "in time"] == await said(store, thread_id)


async def test_a_fenced_writer_stays_fenced_until_it_resumes(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await resumed_elsewhere(elsewhere, thread_id)
    await say(store, thread_id, "void")
    for call in (store.flush_thread, store.persist_thread, store.shutdown_thread):
        with pytest.raises(WriterFenced, match=f"another writer took thread {thread_id} over"):
            await call(thread_id)
    with pytest.raises(WriterFenced):
        await say(store, thread_id, "void too")

    await store.discard_thread(thread_id)
    await resume(store, thread_id)
    await say(store, thread_id, "back")
    await store.flush_thread(thread_id)

    assert ["hello", "back"] == await said(elsewhere, thread_id)


async def test_what_a_fenced_writer_refuses_is_not_kept(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await resumed_elsewhere(elsewhere, thread_id)
    with pytest.raises(WriterFenced):
        await say_and_flush(store, thread_id, "void")

    async def refused() -> ReferenceType[AppendThreadItemsParams]:
        params = AppendThreadItemsParams(thread_id=thread_id, items=(user_message("void too"),))
        with pytest.raises(WriterFenced):
            await store.append_items(params)
        return ref(params)

    given = [await refused() for _ in range(4)]
    gc.collect()

    # Of the last one, a task that is ending may know still.
    assert [None] * 3 == [params() for params in given[:-1]]


async def test_what_was_logged_before_the_takeover_counts(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await say(store, thread_id, "in the log, not flushed")
    await resumed_elsewhere(elsewhere, thread_id)

    await store.flush_thread(thread_id)
    await store.shutdown_thread(thread_id)

    assert ["hello", "in the log, not flushed"] == await said(elsewhere, thread_id)
    await say(elsewhere, thread_id, "still the writer")
    await elsewhere.flush_thread(thread_id)


async def test_a_crashed_writer_needs_no_patience(engine: Engine, store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await engine.crash(store)

    await resumed_elsewhere(elsewhere, thread_id)
    await say(elsewhere, thread_id, "at once")
    await elsewhere.flush_thread(thread_id)

    assert ["hello", "at once"] == await said(elsewhere, thread_id)


async def test_a_packet_that_lands_after_the_takeover_is_void(engine: Engine, elsewhere: ThreadStore) -> None:
    log = FaultyLog()
    delayed = await engine.open(through=log.through)
    thread_id = await a_live_thread(delayed)
    log.lose_requests(1)
    with pytest.raises(EventStoreError):
        await say(delayed, thread_id, "delayed")
    await resumed_elsewhere(elsewhere, thread_id)

    with pytest.raises(WriterFenced):
        await delayed.flush_thread(thread_id)

    assert log.fired == 1
    assert ["hello"] == await said(elsewhere, thread_id)


async def test_of_stores_that_resume_at_a_time_one_is_the_writer(engine: Engine, elsewhere: ThreadStore) -> None:
    contenders = [await engine.open() for _ in range(4)]
    thread_id = await a_cold_thread(elsewhere)

    async def contend(number: int) -> str:
        await resume(contenders[number], thread_id)
        await say(contenders[number], thread_id, f"mine {number}")
        await contenders[number].flush_thread(thread_id)
        return f"mine {number}"

    outcomes = await asyncio.gather(*map(contend, range(4)), return_exceptions=True)

    acknowledged = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert {WriterFenced} >= {type(outcome) for outcome in outcomes if isinstance(outcome, Exception)}
    assert {"hello", *acknowledged} == set(found := await said(elsewhere, thread_id))
    assert len(found) == len(acknowledged) + 1


async def test_a_resume_that_lost_a_race_looks_again_once(engine: Engine, elsewhere: ThreadStore) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_cold_thread(elsewhere)

    async def overtaken() -> None:
        await resume(elsewhere, thread_id)
        await elsewhere.discard_thread(thread_id)

    async def overtaken_twice() -> None:
        await overtaken()
        log.before_append = overtaken

    log.before_append = overtaken
    await resume(store, thread_id)
    await say_and_flush(store, thread_id, "mine")
    await store.discard_thread(thread_id)
    log.before_append = overtaken_twice
    with pytest.raises(WriterFenced, match=f"another writer took thread {thread_id} over at the same time"):
        await resume(store, thread_id)

    assert log.before_append is None
    assert ["hello", "mine"] == await said(elsewhere, thread_id)


async def test_a_resume_that_lost_a_race_has_the_time_that_is_left(engine: Engine, elsewhere: ThreadStore) -> None:
    log, views, within, used = FaultyLog(), OvertakenViews(), 10.0, 0.5
    store = await engine.open(through=lambda ports: views.through(log.through(ports)), within=within)
    thread_id = await a_cold_thread(elsewhere)
    log.before_append = lambda: resume(elsewhere, thread_id)
    views.before_reach = lambda: asyncio.sleep(used)

    await resume(store, thread_id)

    assert (None, 1) == (log.before_append, views.fired)
    assert 0 < views.within <= 0.8 * (within - used)


async def test_a_resume_ends_within_its_deadline_however_slowly_the_views_answer(engine: Engine) -> None:
    views = OvertakenViews()
    store = await engine.open(through=views.through, within=2.0)
    thread_id = await a_cold_thread(store)
    views.after_get = asyncio.Event().wait

    async with asyncio.timeout(20):
        with pytest.raises(ViewsUnavailable, match=f"did not show thread {thread_id} within"):
            await resume(store, thread_id)
    await resume(store, thread_id)

    assert views.fired == 1


async def test_stores_that_take_turns_lose_nothing(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_cold_thread(store, "0")
    for turn in range(1, 12):
        writer = (store, elsewhere)[turn % 2]
        await resume(writer, thread_id)
        await say(writer, thread_id, str(turn))
        await writer.flush_thread(thread_id)
        await writer.discard_thread(thread_id)

    assert list(map(str, range(12))) == await said(store, thread_id)


async def test_commands_from_elsewhere_do_not_disturb_the_writer(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await patch(elsewhere, thread_id, name="named elsewhere")
    await say(store, thread_id, "unimpressed")
    await archive(elsewhere, thread_id)
    await append(store, thread_id, user_message("still the writer"))
    await store.flush_thread(thread_id)

    thread = await read(store, thread_id)
    assert ("named elsewhere", True) == (thread.name, thread.archived_at is not None)
    assert ["hello", "unimpressed", "still the writer"] == await said(elsewhere, thread_id)


async def test_the_log_names_what_a_thread_was_forked_from_and_whom_a_takeover_replaces(engine: Engine) -> None:
    feed, parent = WatchedFeed(), new_thread_id()
    store = await engine.open(through=feed.through)
    thread_id = await a_live_thread(store, forked_from_id=parent)
    await store.discard_thread(thread_id)
    await resume(store, thread_id)
    await store.shutdown_thread(thread_id)
    await resume(store, thread_id)

    end = await feed.end(feed.partition_of(thread_id))
    events = [entry.event async for some in feed.replay(thread_id, start=0, stop=end) for entry in some]
    (creation,) = [event for event in events if isinstance(event, ThreadCreated)]
    openings = [event for event in events if isinstance(event, WriterOpened)]
    assert creation.forked_from_id == parent
    assert [creation.writer_id, None] == [opening.replaces for opening in openings], "who has closed is not replaced"
