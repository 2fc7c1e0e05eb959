"""Appends of any size are there whole or not at all (design §3)."""

from __future__ import annotations

import pytest

from eventstore import RolloutItem, ThreadStore
from eventstore import splitting as writing
from eventstore.errors import AppendTooLarge, OutcomeUnknown, WriterFenced
from tests.support.engines import Engine
from tests.support.faults import FaultyLog
from tests.support.threads import (
    a_live_thread,
    append,
    created,
    history,
    page,
    read,
    resumed_elsewhere,
    said,
    say,
    texts,
    user_message,
)

LARGE = 300_000
"""Two of these do not fit into one record."""


def large(name: str) -> RolloutItem:
    return user_message(name + " " * LARGE)


def names(found: list[str]) -> list[str]:
    return [text.rstrip() for text in found]


async def test_a_large_append_takes_several_records_and_keeps_its_order(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await append(store, thread_id, *map(large, "abcdef"))
    await store.flush_thread(thread_id)

    items = (await history(store, thread_id)).items
    assert ["hello", *"abcdef"] == names(texts(items))
    assert list(range(8)) == [item.ordinal for item in items]
    assert len({item.position for item in items[2:]}) == 6


@pytest.mark.parametrize("parts", [1, 2])
async def test_a_large_append_becomes_visible_at_once(engine: Engine, parts: int) -> None:
    """Promise 2. Exactly once, in order: "an append is there whole or not at all, however large"."""
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_live_thread(store)

    async def seen() -> tuple[list[str], int, int]:
        thread = await read(store, thread_id)
        return names(await said(store, thread_id)), thread.item_count, thread.version

    log.lose_all_but(parts)
    with pytest.raises(OutcomeUnknown):
        await append(store, thread_id, *map(large, "abc"))

    assert (["hello"], 2, 2) == await seen()
    await store.flush_thread(thread_id)
    assert (["hello", *"abc"], 5, 3) == await seen()
    assert log.fired == 1


async def test_a_large_first_append_comes_with_the_creation(store: ThreadStore) -> None:
    thread_id = await created(store)
    await append(store, thread_id, *map(large, "abc"))
    await store.flush_thread(thread_id)

    thread = await read(store, thread_id)
    assert ("a", 4, 2) == (thread.preview, thread.item_count, thread.version)


async def test_pages_do_not_see_the_seams_of_a_large_append(store: ThreadStore) -> None:
    thread_id = await created(store)
    await append(store, thread_id, *map(large, "abcd"))
    await store.flush_thread(thread_id)

    cursor, found = None, []
    while True:
        part = await page(store, thread_id, page_size=1, cursor=cursor, sort_direction="Desc")
        found += texts(part)
        cursor = part.next_cursor
        if cursor is None:
            break
    assert ["d", "c", "b", "a"] == names(found)


async def test_a_large_append_after_a_takeover_is_not_there_at_all(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    await resumed_elsewhere(elsewhere, thread_id)
    await append(store, thread_id, *map(large, "abc"))
    with pytest.raises(WriterFenced):
        await store.flush_thread(thread_id)

    assert ["hello"] == await said(elsewhere, thread_id)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "deferred"])
async def test_an_item_that_no_record_can_hold_is_refused_and_nothing_is_queued(
    store: ThreadStore, stored: bool
) -> None:
    thread_id = await (a_live_thread if stored else created)(store)
    huge = RolloutItem.from_text("event_msg", '{"type":"user_message","message":"' + "x" * writing.LARGEST_ITEM + '"}')
    with pytest.raises(AppendTooLarge, match="the most is 16,711,680; shorten it"):
        await append(
            store, thread_id, user_message("beside it"), huge, append_id="0197c1d0-0000-7000-8000-000000000001"
        )

    await say(store, thread_id, "fits", append_id="0197c1d0-0000-7000-8000-000000000001")
    await store.flush_thread(thread_id)
    assert (["hello"] if stored else []) + ["fits"] == await said(store, thread_id)


async def test_the_largest_item_is_kept(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    around = len('{"type":"user_message","message":""}') + len("event_msg") + 32
    text = "x" * (writing.LARGEST_ITEM - around)
    await append(store, thread_id, user_message(text))
    await store.flush_thread(thread_id)

    assert ["hello", text] == await said(store, thread_id)


async def test_an_append_takes_at_most_256_records(store: ThreadStore, monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id = await a_live_thread(store)
    monkeypatch.setattr(writing, "RECORD_PAYLOAD", 1)
    with pytest.raises(AppendTooLarge, match="257 records is more than 256; append it in several calls"):
        await say(store, thread_id, *map(str, range(257)))

    await say(store, thread_id, *map(str, range(256)))
    await store.flush_thread(thread_id)
    assert ["hello", *map(str, range(256))] == await said(store, thread_id)
    assert (await read(store, thread_id)).version == 3
