"""Reading items: whole, page by page in both directions, and as a stream (contract §2.8, design §6)."""

from __future__ import annotations

from dataclasses import replace

import pytest

import eventstore.history
from eventstore import ListThreadsParams, LoadThreadHistoryParams, ReadItemsParams, StoredItem, ThreadStore
from eventstore.codec import codec
from eventstore.errors import InvalidRequest
from eventstore.ids import ThreadId
from tests.support.engines import Engine
from tests.support.faults import OvertakenViews, WatchedFeed
from tests.support.tellings import ONE, appended
from tests.support.tellings import created as creation
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    archive,
    created,
    delete,
    history,
    page,
    read,
    said,
    say,
    say_and_flush,
    streamed,
    texts,
)


async def a_thread_of_ten(store: ThreadStore) -> ThreadId:
    """A session_meta and nine texts, in records of different sizes."""
    thread_id = await created(store)
    for group in (["1"], ["2", "3", "4"], ["5"], ["6", "7", "8", "9"]):
        await say(store, thread_id, *group)
    await store.flush_thread(thread_id)
    return thread_id


async def all_pages(store: ThreadStore, thread_id: ThreadId, size: int, direction: str) -> list[list[StoredItem]]:
    cursor, pages = None, []
    while True:
        part = await page(store, thread_id, page_size=size, cursor=cursor, sort_direction=direction)
        pages.append(list(part.items))
        cursor = part.next_cursor
        if cursor is None:
            return pages


@pytest.mark.parametrize("size", range(1, 13))
async def test_pages_of_every_size_hold_every_item_once_in_both_directions(store: ThreadStore, size: int) -> None:
    thread_id = await a_thread_of_ten(store)
    whole = list((await history(store, thread_id)).items)
    assert [None, *"123456789"] == [item.payload.get("message") for item in whole]

    forwards = await all_pages(store, thread_id, size, "Asc")
    backwards = await all_pages(store, thread_id, size, "Desc")

    assert whole == [item for items in forwards for item in items]
    assert whole[::-1] == [item for items in backwards for item in items]
    assert [min(size, 10 - start) for start in range(0, 10, size)] == [len(items) for items in forwards]


async def test_the_stream_and_the_whole_are_the_same(store: ThreadStore) -> None:
    thread_id = await a_thread_of_ten(store)
    whole = await history(store, thread_id)

    assert list(whole.items) == await streamed(store.iter_history(LoadThreadHistoryParams(thread_id=thread_id)))
    assert list(range(10)) == [item.ordinal for item in whole.items]


async def test_a_stream_ends_where_the_thread_ended_when_it_began(
    store: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.history._ITEMS_AT_A_TIME", 4)
    thread_id = await a_thread_of_ten(store)
    whole = list((await history(store, thread_id)).items)

    found = []
    async for item in store.iter_history(LoadThreadHistoryParams(thread_id=thread_id)):
        if not found:
            await say_and_flush(store, thread_id, *"later")
        found.append(item)

    assert (10, whole) == (len(found), found)


async def test_a_page_of_nothing_is_empty_and_a_huge_one_is_everything(store: ThreadStore) -> None:
    thread_id = await a_thread_of_ten(store)

    nothing = await page(store, thread_id, page_size=0)
    assert ((), None) == (nothing.items, nothing.next_cursor)
    for direction in ("Asc", "Desc"):
        everything = await page(store, thread_id, page_size=10**30, sort_direction=direction)
        assert (10, None) == (len(everything.items), everything.next_cursor)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "2025-01-03T13:00:00Z", "9" * 40, "1 "])
async def test_what_is_no_cursor_is_refused(store: ThreadStore, cursor: str) -> None:
    thread_id = await a_thread_of_ten(store)

    with pytest.raises(InvalidRequest) as refused:
        await store.read_items(ReadItemsParams(thread_id=thread_id, cursor=cursor))

    assert f"invalid cursor: {cursor}" == str(refused.value)


async def test_a_cursor_beyond_the_end_finds_nothing_yet(store: ThreadStore) -> None:
    thread_id = await a_thread_of_ten(store)

    end = await page(store, thread_id, cursor="10")
    assert ((), None) == (end.items, end.next_cursor)

    await say(store, thread_id, "10")
    await store.flush_thread(thread_id)
    assert ["10"] == texts(await page(store, thread_id, cursor="10"))


async def test_pages_stay_put_while_the_thread_grows(store: ThreadStore) -> None:
    thread_id = await a_thread_of_ten(store)
    forwards = await page(store, thread_id, page_size=6)
    backwards = await page(store, thread_id, page_size=6, sort_direction="Desc")
    await say(store, thread_id, "10", "11")
    await store.flush_thread(thread_id)

    rest = await page(store, thread_id, page_size=99, cursor=forwards.next_cursor)
    older = await page(store, thread_id, page_size=99, cursor=backwards.next_cursor, sort_direction="Desc")

    assert [*"6789", "10", "11"] == texts(rest)
    assert [*"321"] == texts(older)


async def test_items_of_an_archived_thread_can_be_read(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store, "one", "two")
    await archive(store, thread_id)

    assert ["one", "two"] == texts(await page(store, thread_id))
    assert ["one", "two"] == await said(store, thread_id)


async def test_a_history_that_is_overtaken_by_an_append_has_it_once_or_not_at_all(
    engine: Engine, elsewhere: ThreadStore
) -> None:
    feed = WatchedFeed()
    reader = await engine.open(through=feed.through)
    thread_id = await a_live_thread(elsewhere, "one")

    async def more() -> None:
        await say(elsewhere, thread_id, "two")
        await elsewhere.flush_thread(thread_id)

    feed.before_end = more
    assert await said(reader, thread_id) in (["one"], ["one", "two"])
    assert ["one", "two"] == await said(reader, thread_id)
    assert feed.before_end is None


async def test_a_history_whose_view_is_older_than_the_views_are_now_has_everything_once(
    engine: Engine, elsewhere: ThreadStore
) -> None:
    """Another process appends, and folds a part of it, between the reader's look at the views and at the log's end."""
    feed = WatchedFeed()
    reader = await engine.open(through=feed.through)
    thread_id = await a_live_thread(elsewhere, "one")

    async def more() -> None:
        await say(elsewhere, thread_id, "two")
        await elsewhere.flush_thread(thread_id)
        await say(elsewhere, thread_id, "three")

    feed.before_end = more
    items = (await history(reader, thread_id)).items

    assert (["one", "two", "three"], [0, 1, 2, 3]) == (texts(items), [item.ordinal for item in items])
    assert feed.before_end is None


async def test_a_history_that_is_overtaken_by_a_delete_is_whole_or_refused_never_short(
    engine: Engine, elsewhere: ThreadStore
) -> None:
    feed = WatchedFeed()
    reader = await engine.open(through=feed.through)
    thread_id = await a_cold_thread(elsewhere, "one", "two")
    feed.before_end = lambda: read_after_delete(elsewhere, thread_id)

    with pytest.raises(InvalidRequest, match="no rollout found"):
        await history(reader, thread_id)
    assert feed.before_end is None


async def test_a_stream_that_has_begun_goes_on_to_its_end_though_the_thread_is_archived(
    store: ThreadStore, elsewhere: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventstore.history, "_ITEMS_AT_A_TIME", 4)
    thread_id = await a_thread_of_ten(store)
    await store.shutdown_thread(thread_id)
    stream = store.iter_history(LoadThreadHistoryParams(thread_id=thread_id))
    begun = [await anext(stream)]
    await archive(elsewhere, thread_id)

    assert [*"123456789"] == texts(begun + await streamed(stream))
    with pytest.raises(InvalidRequest, match="no rollout found"):
        await streamed(store.iter_history(LoadThreadHistoryParams(thread_id=thread_id)))


async def read_after_delete(store: ThreadStore, thread_id: ThreadId) -> None:
    await delete(store, thread_id)
    with pytest.raises(InvalidRequest):
        await read(store, thread_id)


async def test_a_history_whose_places_the_views_have_lost_is_replayed(engine: Engine) -> None:
    views = OvertakenViews()
    store = await engine.open(through=views.through)
    thread_id = await a_thread_of_ten(store)
    views.forgetful = True

    found = await history(store, thread_id)
    latest = await page(store, thread_id, page_size=2, sort_direction="Desc")

    assert [*"123456789"] == texts(found)
    assert ["9", "8"] == texts(latest)
    assert 2 == views.fired


async def test_a_history_whose_views_are_lost_on_the_way_is_whole(engine: Engine) -> None:
    feed = WatchedFeed()
    store = await engine.open(through=feed.through)
    thread_id = await a_thread_of_ten(store)
    feed.before_end = lambda: engine.lose_views(store)

    assert [*"123456789"] == await said(store, thread_id)
    assert feed.before_end is None
    assert [*"123456789"] == await said(store, thread_id)


async def test_a_history_costs_what_the_thread_costs(engine: Engine) -> None:
    """Promise 9. "Loads cost what the thread costs, not what the partition costs"."""
    feed = WatchedFeed()
    store = await engine.open(through=feed.through)
    thread_id = await created(store)
    other = await a_live_thread(store)
    for number in range(20):
        await say(store, thread_id, str(number))
        for _ in range(10):
            await say(store, other, "noise")
    await store.flush_thread(thread_id)
    await store.flush_thread(other)
    feed.entries = 0

    assert [str(number) for number in range(20)] == await said(store, thread_id)
    assert feed.entries == 1 + 20
    feed.entries = 0
    assert ["19", "18"] == texts(await page(store, thread_id, page_size=2, sort_direction="Desc"))
    assert feed.entries == 2


async def test_records_without_items_take_no_place_and_harm_nobody(store: ThreadStore, engine: Engine) -> None:
    """None of ours is without, and whoever can write the log may write one."""
    part = replace(appended(3, items=0), more=True)
    for event in (creation(), appended(1, items=0), appended(2, items=2), part, appended(4)):
        await engine.write_record(store, ONE, codec().encode(event))

    other = await a_live_thread(store)

    assert list(range(4)) == [item.ordinal for item in (await history(store, ONE)).items]
    assert [other] == [thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items]
