"""Frozen threads (promise 7) come back: folded anew by code that understands, in one step, on every engine."""

from __future__ import annotations

import asyncio

import pytest

from eventstore import ListThreadsParams, StoredThread, ThreadStore, new_thread_id
from eventstore.errors import InvalidRequest, UnreadableEvent, WriterFenced
from eventstore.events import ThreadDeleted
from eventstore.ids import ThreadId, new_event_id
from tests.support.engines import Engine
from tests.support.freezing import BEYOND, an_earlier_version, of_an_unknown_schema
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    archive,
    delete,
    history,
    page,
    patch,
    read,
    resume,
    said,
    say,
    say_and_flush,
    texts,
)


async def freeze(store: ThreadStore, thread_id: ThreadId) -> None:
    """Let the earlier version meet a record of the later one."""
    with pytest.raises(UnreadableEvent, match=BEYOND):
        await patch(store, thread_id, name=BEYOND)


async def row_of(store: ThreadStore, thread_id: ThreadId, *, archived: bool = False) -> StoredThread:
    (row,) = [
        thread
        for thread in (await store.list_threads(ListThreadsParams(archived=archived))).items
        if thread.thread_id == thread_id
    ]
    return row


async def test_a_thread_that_froze_is_whole_again_with_all_that_came_behind(store: ThreadStore) -> None:
    thread_id, other = await a_live_thread(store, "one"), await a_live_thread(store, "other")
    await say_and_flush(store, thread_id, *[f"before {number}" for number in range(40)])
    with an_earlier_version():
        await freeze(store, thread_id)
        await say(store, thread_id, "behind")
        with pytest.raises(UnreadableEvent, match=f"then eventstore retry {thread_id}"):
            await store.flush_thread(thread_id)
        with pytest.raises(UnreadableEvent, match=f"retry {thread_id}"):
            await read(store, thread_id)
        assert BEYOND in ((await row_of(store, thread_id)).damaged or "")

    whole = await store.retry_thread(thread_id)

    everything = ["one", *[f"before {number}" for number in range(40)], "behind"]
    assert whole is not None
    assert (whole.name, whole.item_count, whole.damaged) == (BEYOND, 43, None)
    assert everything == await said(store, thread_id)
    assert everything[-3:] == list(reversed(texts(await page(store, thread_id, page_size=3, sort_direction="Desc"))))
    assert 43 == len((await history(store, thread_id)).items)
    assert (None, BEYOND) == ((await row_of(store, thread_id)).damaged, (await row_of(store, thread_id)).name)
    await store.flush_thread(thread_id)
    await say_and_flush(store, thread_id, "and on")
    assert [*everything, "and on"] == await said(store, thread_id)
    assert ["other"] == await said(store, other)


async def test_what_came_behind_the_record_is_judged_when_it_is_folded(
    store: ThreadStore, elsewhere: ThreadStore, engine: Engine
) -> None:
    """A takeover and an archive that nobody could judge count from where they lie."""
    thread_id = await a_live_thread(store, "one")
    with an_earlier_version():
        await freeze(store, thread_id)
        await say(store, thread_id, "two")
    await store.retry_thread(thread_id)
    await resume(elsewhere, thread_id)
    await say_and_flush(elsewhere, thread_id, "three")
    await archive(elsewhere, thread_id)
    await say(store, thread_id, "too late")
    with pytest.raises(WriterFenced):
        await store.flush_thread(thread_id)

    assert ["one", "two", "three"] == await said(elsewhere, thread_id)
    assert (await row_of(elsewhere, thread_id, archived=True)).item_count == 4
    before = await history(elsewhere, thread_id)
    await engine.lose_views(store)
    assert before.items == (await history(elsewhere, thread_id)).items


async def test_a_record_that_is_not_understood_still_is_told_and_nothing_changes(
    store: ThreadStore, engine: Engine
) -> None:
    thread_id = await a_live_thread(store, "one")
    await engine.write_record(store, thread_id, of_an_unknown_schema(thread_id))
    await say(store, thread_id, "behind")
    with pytest.raises(UnreadableEvent):
        await store.flush_thread(thread_id)
    before = await row_of(store, thread_id)

    for _ in range(2):
        with pytest.raises(UnreadableEvent, match=rf"{thread_id} stays frozen at \d+:\d+: .* schema .* nothing was"):
            await store.retry_thread(thread_id)

    assert before == await row_of(store, thread_id)
    assert before.damaged
    with pytest.raises(UnreadableEvent):
        await said(store, thread_id)


async def test_a_thread_that_froze_at_its_first_record_comes_back(store: ThreadStore, engine: Engine) -> None:
    thread_id = new_thread_id()
    await engine.write_record(store, thread_id, of_an_unknown_schema(thread_id))
    with pytest.raises(UnreadableEvent, match=f"retry {thread_id}"):
        await read(store, thread_id)
    with pytest.raises(UnreadableEvent, match=r"stays frozen|cannot be read past"):
        await store.retry_thread(thread_id)


async def test_retrying_a_healthy_thread_changes_nothing_and_an_unknown_one_is_refused(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store, "one")

    before = await read(store, thread_id)
    assert before == await store.retry_thread(thread_id)
    assert before == await read(store, thread_id)
    with pytest.raises(InvalidRequest, match="not found"):
        await store.retry_thread(new_thread_id())


async def test_a_frozen_thread_is_not_deleted_before_it_is_understood(store: ThreadStore, engine: Engine) -> None:
    """Whether a delete counts depends on what is not understood; one that lies behind it counts when that is known."""
    thread_id = await a_cold_thread(store, "one")
    with an_earlier_version():
        await freeze(store, thread_id)
        with pytest.raises(UnreadableEvent, match=f"retry {thread_id}"):
            await delete(store, thread_id)
        event = ThreadDeleted(event_id=new_event_id(), thread_id=thread_id, occurred_at=1, commands_seen=1)
        from eventstore.codec import codec

        await engine.write_record(store, thread_id, codec().encode(event))
        with pytest.raises(UnreadableEvent):
            await read(store, thread_id)

    assert await store.retry_thread(thread_id) is None
    with pytest.raises(InvalidRequest, match="no rollout found"):
        await read(store, thread_id)
    assert [] == list((await store.list_threads(ListThreadsParams())).items)


async def test_a_thread_is_folded_anew_while_others_go_on(store: ThreadStore, elsewhere: ThreadStore) -> None:
    """Whoever folds meanwhile and whoever retries get in each other's way, and nothing is lost or doubled."""
    frozen = await a_live_thread(store, "one")
    writer = await a_live_thread(elsewhere, "one")
    with an_earlier_version():
        await freeze(store, frozen)
    done = asyncio.Event()

    async def go_on() -> int:
        rounds = 0
        while not done.is_set():
            await say(store, frozen, f"{rounds}")
            await say_and_flush(elsewhere, writer, f"{rounds}")
            rounds += 1
        return rounds

    going_on = asyncio.ensure_future(go_on())
    try:
        found = await asyncio.gather(*(one.retry_thread(frozen) for one in (store, elsewhere, store)))
    finally:
        done.set()
    rounds = await going_on
    await store.flush_thread(frozen)

    assert [BEYOND] * 3 == [one.name for one in found if one is not None]
    assert ["one", *map(str, range(rounds))] == await said(store, frozen)
    assert ["one", *map(str, range(rounds))] == await said(elsewhere, writer)


async def test_a_writer_elsewhere_goes_on_as_soon_as_its_thread_was_folded_anew(
    store: ThreadStore, elsewhere: ThreadStore
) -> None:
    """It says nothing more that would have it fold on: what it remembers of the frozen thread is not believed."""
    thread_id = await a_live_thread(store, "one")
    with an_earlier_version():
        await freeze(store, thread_id)
        await say(store, thread_id, "two")
        with pytest.raises(UnreadableEvent):
            await store.flush_thread(thread_id)
        assert (await row_of(elsewhere, thread_id)).damaged
        assert (await row_of(store, thread_id)).damaged

    assert await elsewhere.retry_thread(thread_id) is not None
    await store.flush_thread(thread_id)
    assert ["one", "two"] == await said(store, thread_id)
