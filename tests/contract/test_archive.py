"""Archive, unarchive, delete (contract §2.12-2.13, §8 H)."""

from __future__ import annotations

import asyncio
import time

import pytest

from eventstore import ArchiveThreadParams, DeleteThreadParams, ListThreadsParams, ThreadStore
from eventstore.errors import EventStoreError, InvalidRequest, ThreadNotFound, WrongExpectedVersion
from eventstore.events import ThreadArchived, ThreadDeleted, ThreadUnarchived
from eventstore.ids import ThreadId
from tests.support.engines import Engine
from tests.support.faults import FaultyLog, OvertakenViews, WatchedFeed
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    an_archived_thread,
    append,
    archive,
    created,
    delete,
    history,
    not_live,
    patch,
    read,
    resume,
    said,
    say,
    unarchive,
    user_message,
)


async def listed(store: ThreadStore, *, archived: bool) -> list[ThreadId]:
    page = await store.list_threads(ListThreadsParams(archived=archived))
    return [thread.thread_id for thread in page.items]


async def test_the_log_says_why_and_when(engine: Engine) -> None:
    feed = WatchedFeed()
    store = await engine.open(through=feed.through)
    thread_id = await a_cold_thread(store)
    began = time.time_ns() // 1_000
    await store.archive_thread(ArchiveThreadParams(thread_id=thread_id, reason="done"))
    await store.unarchive_thread(ArchiveThreadParams(thread_id=thread_id, reason="not yet"))
    await store.delete_thread(DeleteThreadParams(thread_id=thread_id, reason="at last"))
    ended = time.time_ns() // 1_000

    end = await feed.end(feed.partition_of(thread_id))
    said = [entry.event async for some in feed.replay(thread_id, start=0, stop=end) for entry in some]
    commands = [event for event in said if isinstance(event, (ThreadArchived, ThreadUnarchived, ThreadDeleted))]
    assert ["done", "not yet", "at last"] == [command.reason for command in commands]
    assert all(began <= command.occurred_at <= ended for command in commands)


async def test_archiving_moves_a_thread_from_one_listing_to_the_other_and_back(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)

    await archive(store, thread_id)
    assert ([], [thread_id]) == (await listed(store, archived=False), await listed(store, archived=True))
    assert (await read(store, thread_id)).archived_at is not None

    answered = await unarchive(store, thread_id)
    assert ([thread_id], []) == (await listed(store, archived=False), await listed(store, archived=True))
    assert (None, "hello") == (answered.archived_at, answered.preview)
    assert answered.model_copy(update={"token": None}) == await read(store, thread_id)


async def test_an_open_writer_does_not_stand_in_the_way(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await archive(store, thread_id)
    await append(store, thread_id, user_message("goes on"))
    await unarchive(store, thread_id)
    await store.shutdown_thread(thread_id)

    assert ["hello", "goes on"] == await said(store, thread_id)


async def test_of_two_archives_at_a_time_one_is_refused(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)

    outcomes = await asyncio.gather(archive(store, thread_id), archive(elsewhere, thread_id), return_exceptions=True)

    (refused,) = [outcome for outcome in outcomes if outcome is not None]
    assert f"no rollout found for thread id {thread_id}" == str(refused)
    assert 3 == (await read(store, thread_id)).version


async def test_archiving_heeds_the_expected_version(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)
    with pytest.raises(WrongExpectedVersion):
        await archive(store, thread_id, expected_version=1)
    with pytest.raises(WrongExpectedVersion):
        await delete(store, thread_id, expected_version=3)

    await archive(store, thread_id, expected_version=2)
    with pytest.raises(WrongExpectedVersion):
        await store.unarchive_thread(ArchiveThreadParams(thread_id=thread_id, expected_version=2))
    assert 3 == (await read(store, thread_id)).version


async def test_a_dead_thread_stays_dead(store: ThreadStore, elsewhere: ThreadStore) -> None:
    """Promise 6. A dead thread stays dead: "nothing appended after a delete counts, ever"."""
    thread_id = await a_live_thread(elsewhere)
    await delete(store, thread_id)
    await say(elsewhere, thread_id, "from the grave")
    with pytest.raises(ThreadNotFound):
        await elsewhere.flush_thread(thread_id)
    await elsewhere.discard_thread(thread_id)

    for verb in (history, read, resume, archive, unarchive, patch):
        with pytest.raises(InvalidRequest):
            await verb(elsewhere, thread_id)
    await created(elsewhere, thread_id)
    with pytest.raises(ThreadNotFound):
        await elsewhere.persist_thread(thread_id)
    assert ([], []) == (await listed(elsewhere, archived=False), await listed(elsewhere, archived=True))


async def test_a_deleted_thread_is_found_by_nobody(store: ThreadStore) -> None:
    kept, active, archived = await a_cold_thread(store), await a_cold_thread(store), await an_archived_thread(store)
    await delete(store, active)
    await delete(store, archived)

    with pytest.raises(ThreadNotFound, match=f"^thread {active} not found$"):
        await delete(store, active)
    assert ([kept], []) == (await listed(store, archived=False), await listed(store, archived=True))


async def test_deleting_a_live_thread_ends_it(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await say(store, thread_id, "not flushed")
    await delete(store, thread_id)

    for call in (store.flush_thread, store.shutdown_thread, store.discard_thread):
        with pytest.raises(ThreadNotFound):
            await call(thread_id)
    with pytest.raises(ThreadNotFound):
        await say(store, thread_id, "too late")


async def test_a_resume_that_a_delete_overtook_finds_no_thread(engine: Engine, elsewhere: ThreadStore) -> None:
    """In the words of any resume of what is not there (contract §2.2)."""
    views = OvertakenViews()
    slow = await engine.open(through=views.through)
    thread_id = await a_cold_thread(elsewhere)
    views.after_get = lambda: delete(elsewhere, thread_id)

    with pytest.raises(InvalidRequest, match=f"^no rollout found for thread id {thread_id}$"):
        await resume(slow, thread_id)

    assert views.fired == 1
    await not_live(slow, thread_id)


async def test_a_takeover_that_a_delete_overtook_finds_no_thread(engine: Engine, elsewhere: ThreadStore) -> None:
    views = OvertakenViews()
    slow = await engine.open(through=views.through)
    thread_id = await a_cold_thread(elsewhere)
    views.before_reach = lambda: delete(elsewhere, thread_id)

    with pytest.raises(EventStoreError):
        await resume_and_speak(slow, thread_id)

    assert views.fired == 1
    with pytest.raises(InvalidRequest):
        await history(elsewhere, thread_id)


async def resume_and_speak(store: ThreadStore, thread_id: ThreadId) -> None:
    await resume(store, thread_id)
    await say(store, thread_id, "from the grave")
    await store.flush_thread(thread_id)


async def test_a_delete_lost_on_its_way_may_be_repeated(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_cold_thread(store)
    log.lose_requests(1)
    with pytest.raises(EventStoreError, match="ordered by the test"):
        await delete(store, thread_id)
    assert ["hello"] == await said(store, thread_id)

    await delete(store, thread_id)
    assert ([], 1) == (await listed(store, archived=False), log.fired)
