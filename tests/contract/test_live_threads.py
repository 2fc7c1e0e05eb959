"""The life of a live thread: what is stored when, and what is left of it afterwards (contract §2.1-2.7, §8 A)."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from eventstore import CreateThreadParams, ListThreadsParams, ThreadStore, new_thread_id
from eventstore.errors import InvalidRequest, ThreadExists, ThreadNotFound, ViewsBehind
from eventstore.ids import ThreadId
from tests.support.engines import Engine
from tests.support.faults import FaultyLog, OvertakenViews
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    an_archived_thread,
    append,
    created,
    history,
    page,
    read,
    resume,
    resumed_elsewhere,
    said,
    say,
    user_message,
    warning,
)


async def test_a_created_thread_is_stored_by_persist_with_its_session_meta_first(store: ThreadStore) -> None:
    thread_id = await created(store)

    with pytest.raises(InvalidRequest, match="no rollout found"):
        await history(store, thread_id)
    await store.persist_thread(thread_id)

    (meta,) = (await history(store, thread_id)).items
    assert ("session_meta", thread_id, 0) == (meta.type, meta.payload["id"], meta.ordinal)


async def test_an_id_names_its_thread_in_any_form(store: ThreadStore) -> None:
    thread_id = new_thread_id()
    forms = [ThreadId(thread_id.upper()), ThreadId(thread_id.replace("-", "")), ThreadId(f"urn:uuid:{thread_id}")]
    await created(store, forms[0])
    await say(store, forms[1], "one")
    await store.persist_thread(forms[2])
    await say(store, forms[0], "two")
    await store.flush_thread(UUID(thread_id))
    await store.shutdown_thread(forms[2])

    assert ["one", "two"] == await said(store, forms[0])
    assert thread_id == (await read(store, forms[1])).thread_id
    await resume(store, forms[1])
    await store.discard_thread(forms[2])
    for verb in (store.persist_thread, store.flush_thread, store.shutdown_thread, store.discard_thread):
        with pytest.raises(ThreadNotFound):
            await verb(forms[0])
        with pytest.raises(InvalidRequest, match="give a UUID"):
            await verb("no id")


async def test_persisting_again_adds_nothing(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store, "hello")
    before = await read(store, thread_id)

    await store.persist_thread(thread_id)
    await store.flush_thread(thread_id)

    assert before == await read(store, thread_id)
    assert before.item_count == 2


async def test_items_wait_in_memory_until_the_thread_is_stored(store: ThreadStore) -> None:
    thread_id = await created(store)
    await say(store, thread_id, "one", "two")
    await say(store, thread_id, "three")

    with pytest.raises(InvalidRequest):
        await read(store, thread_id)
    await store.flush_thread(thread_id)

    assert ["one", "two", "three"] == await said(store, thread_id)


async def test_what_the_policy_drops_does_not_store_a_thread(store: ThreadStore) -> None:
    thread_id = await created(store)
    await append(store, thread_id, warning("no"))
    await store.flush_thread(thread_id)
    with pytest.raises(InvalidRequest):
        await read(store, thread_id)

    await append(store, thread_id, warning("no"), user_message("yes"))
    await store.flush_thread(thread_id)
    assert ["yes"] == await said(store, thread_id)


async def test_an_empty_thread_that_is_shut_down_leaves_nothing_and_its_id_is_free(store: ThreadStore) -> None:
    thread_id = await created(store)
    await store.shutdown_thread(thread_id)

    await a_live_thread(store, "second life", thread_id=thread_id)

    assert ["second life"] == await said(store, thread_id)


async def test_shutdown_stores_what_is_queued(store: ThreadStore) -> None:
    thread_id = await created(store)
    await say(store, thread_id, "last words")
    await store.shutdown_thread(thread_id)

    assert ["last words"] == await said(store, thread_id)


async def test_discard_drops_what_is_queued_and_keeps_what_is_stored(store: ThreadStore) -> None:
    stored = await a_live_thread(store, "kept")
    dropped = await created(store)
    await say(store, dropped, "lost")

    await store.discard_thread(stored)
    await store.discard_thread(dropped)

    assert ["kept"] == await said(store, stored)
    with pytest.raises(InvalidRequest):
        await history(store, dropped)


async def test_a_resumed_thread_goes_on_where_it_ended_without_a_second_session_meta(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store, "before")
    await resume(store, thread_id)
    await say(store, thread_id, "after")
    await store.shutdown_thread(thread_id)

    items = (await history(store, thread_id)).items
    assert ["session_meta", "event_msg", "event_msg"] == [item.type for item in items]
    assert [0, 1, 2] == [item.ordinal for item in items]
    assert ["before", "after"] == await said(store, thread_id)


async def test_resuming_and_leaving_changes_nothing_that_a_reader_sees(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)
    before = await read(store, thread_id)

    await resume(store, thread_id)
    await store.shutdown_thread(thread_id)

    assert before == await read(store, thread_id)
    assert before.version == 2


async def test_a_thread_resumed_from_the_archive_stays_there(store: ThreadStore) -> None:
    thread_id = await an_archived_thread(store, "before")
    await resume(store, thread_id, include_archived=True)
    await say(store, thread_id, "after")
    await store.shutdown_thread(thread_id)

    assert (await read(store, thread_id)).archived_at is not None
    assert ["before", "after"] == await said(store, thread_id)


async def test_of_two_creations_of_one_id_at_a_time_exactly_one_wins(store: ThreadStore) -> None:
    params = CreateThreadParams(thread_id=new_thread_id())

    outcomes = await asyncio.gather(*(store.create_thread(params) for _ in range(2)), return_exceptions=True)

    assert [None] == [outcome for outcome in outcomes if outcome is None]
    (loser,) = [outcome for outcome in outcomes if outcome is not None]
    assert f"thread {params.thread_id} already has a live local writer" == str(loser)


async def test_of_two_resumes_of_one_id_at_a_time_exactly_one_wins(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)

    outcomes = await asyncio.gather(*(resume(store, thread_id) for _ in range(2)), return_exceptions=True)

    (loser,) = [outcome for outcome in outcomes if outcome is not None]
    assert f"thread {thread_id} already has a live local writer" == str(loser)
    await say(store, thread_id, "mine")
    await store.flush_thread(thread_id)
    assert ["hello", "mine"] == await said(store, thread_id)


async def test_a_created_thread_whose_id_is_taken_is_told_and_harms_nothing(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store, "the first")
    await created(store, thread_id)
    await say(store, thread_id, "the second")

    with pytest.raises(ThreadExists):
        await store.flush_thread(thread_id)
    await store.discard_thread(thread_id)

    assert ["the first"] == await said(store, thread_id)


async def test_a_shutdown_that_failed_leaves_the_thread_live_and_may_be_repeated(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_live_thread(store, "one")
    log.lose_requests(2)
    with pytest.raises(Exception, match="ordered by the test"):
        await say(store, thread_id, "two")
    with pytest.raises(Exception, match="ordered by the test"):
        await store.shutdown_thread(thread_id)

    await say(store, thread_id, "three")
    await store.shutdown_thread(thread_id)

    assert log.fired == 2
    assert ["one", "two", "three"] == await said(store, thread_id)


async def test_a_shutdown_whose_last_word_failed_may_be_repeated(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_live_thread(store, "one")
    log.lose_answers(1)
    with pytest.raises(Exception, match="ordered by the test"):
        await store.shutdown_thread(thread_id)

    await store.shutdown_thread(thread_id)

    assert log.fired == 1
    await resume(store, thread_id)
    await say(store, thread_id, "two")
    await store.flush_thread(thread_id)
    assert ["one", "two"] == await said(store, thread_id)


async def test_two_shutdowns_at_a_time_end_the_thread_once(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store, "one")
    await say(store, thread_id, "two")

    outcomes = await asyncio.gather(*(store.shutdown_thread(thread_id) for _ in range(2)), return_exceptions=True)

    assert str in map(type, outcomes)
    assert {type(outcome) for outcome in outcomes} <= {str, ThreadNotFound}
    assert ["one", "two"] == await said(store, thread_id)


async def test_of_two_shutdowns_at_a_time_the_second_ends_what_the_first_could_not(engine: Engine) -> None:
    log, views = FaultyLog(), OvertakenViews()
    store = await engine.open(through=lambda ports: views.through(log.through(ports)))
    thread_id = await created(store)
    await say(store, thread_id, "one")
    second: list[asyncio.Task[str | None]] = []

    async def it_begins_and_the_views_fall_behind() -> None:
        second.append(asyncio.create_task(store.shutdown_thread(thread_id)))
        await asyncio.sleep(0)
        raise ViewsBehind("ordered by the test")

    views.before_reach = it_begins_and_the_views_fall_behind
    with pytest.raises(ViewsBehind):
        await store.shutdown_thread(thread_id)
    await second[0]

    assert (1, 2) == (views.fired, log.appends), "the last word too was said"
    assert ["one"] == await said(store, thread_id)
    with pytest.raises(ThreadNotFound):
        await store.flush_thread(thread_id)


@pytest.mark.parametrize("lost", ["request", "answer"])
async def test_a_shutdown_whose_last_word_failed_ends_a_thread_that_is_anothers_now(
    engine: Engine, elsewhere: ThreadStore, lost: str
) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_live_thread(store, "one")
    (log.lose_requests if lost == "request" else log.lose_answers)(1)
    with pytest.raises(Exception, match="ordered by the test"):
        await store.shutdown_thread(thread_id)
    await resumed_elsewhere(elsewhere, thread_id)

    await store.shutdown_thread(thread_id)

    assert log.fired == 1
    with pytest.raises(ThreadNotFound):
        await store.flush_thread(thread_id)
    await say(elsewhere, thread_id, "two")
    await elsewhere.flush_thread(thread_id)
    assert ["one", "two"] == await said(elsewhere, thread_id)


async def test_many_live_threads_do_not_disturb_each_other(store: ThreadStore) -> None:
    threads = [await created(store) for _ in range(20)]

    async def live(number: int) -> None:
        for turn in range(5):
            await append(store, threads[number], user_message(f"{number}/{turn}"))
            await store.flush_thread(threads[number])

    await asyncio.gather(*map(live, range(20)))

    for number, thread_id in enumerate(threads):
        assert [f"{number}/{turn}" for turn in range(5)] == await said(store, thread_id)
    assert len((await store.list_threads(ListThreadsParams())).items) == 20
    assert (await page(store, threads[0], page_size=1)).items[0].ordinal == 0
