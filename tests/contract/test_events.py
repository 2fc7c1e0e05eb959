"""Whoever follows the events of a store hears of all that came, once, and goes on where it left off (design §1)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from eventstore import EventRecord, InvalidRequest, LogUnavailable, Position, ThreadStore, parse_position
from eventstore.ids import ThreadId
from tests.support.engines import Engine
from tests.support.threads import a_cold_thread, a_live_thread, archive, page, said, say_and_flush, texts


async def heard(store: ThreadStore, thread_id: ThreadId | None = None, since: Position | None = None) -> list[str]:
    """Return what the events are and whether they count."""
    return [f"{record.kind} {record.verdict}" async for record in store.events(thread_id, since=since)]


async def the_rest(events: AsyncIterator[EventRecord]) -> None:
    async for _ in events:
        pass


async def positions(store: ThreadStore, thread_id: ThreadId) -> list[Position]:
    return [parse_position(record.position) async for record in store.events(thread_id)]


async def test_a_threads_events_are_told_with_their_verdicts(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store, "a", "b")
    await archive(store, thread_id)

    assert [
        "ThreadCreated admitted",
        "ItemsAppended admitted",
        "WriterClosed admitted",
        "ThreadArchived admitted",
    ] == await heard(store, thread_id)


async def test_from_a_position_on_the_events_behind_it_are_told_and_no_others(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store, "a")
    partition, offset = (await positions(store, thread_id))[-1]
    await say_and_flush(store, thread_id, "b")

    assert ["ItemsAppended admitted"] == await heard(store, thread_id, Position(partition, offset + 1))


async def test_who_follows_hears_of_all_threads_as_events_come(store: ThreadStore) -> None:
    before = await a_cold_thread(store)
    followed: list[EventRecord] = []

    async def follow() -> None:
        async with aclosing(store.events(follow=True)) as events:
            async for record in events:
                followed.append(record)
                if len(followed) == 7:
                    return

    following = asyncio.create_task(follow())
    later = await a_cold_thread(store)
    await archive(store, later)
    await asyncio.wait_for(following, 20)

    assert {before: 3, later: 4} == Counter(record.thread_id for record in followed)
    assert 7 == len({record.position for record in followed})


async def test_following_ends_with_the_store(engine: Engine, store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    async with aclosing(store.events(thread_id, follow=True)) as events:
        assert "ThreadCreated" == (await anext(events)).kind
        await engine.close(store)

        with pytest.raises(LogUnavailable):
            await asyncio.wait_for(the_rest(events), 20)


async def test_a_consumer_reads_each_item_once_by_its_ordinal(store: ThreadStore) -> None:
    """A page begins at the ordinal that is given as its cursor: so whoever counts items goes on behind the last one."""
    thread_id = await a_live_thread(store, "a", "b")
    first = await page(store, thread_id)
    behind = str(len(first.items))
    nothing = await page(store, thread_id, cursor=behind)
    await say_and_flush(store, thread_id, "c")
    rest = await page(store, thread_id, cursor=behind)

    assert ["a", "b"] == texts(first)
    assert () == nothing.items
    assert ["c"] == texts(rest)
    assert len(first.items) == rest.items[0].ordinal


async def test_a_position_where_the_log_has_no_partition_is_refused(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)

    with pytest.raises(InvalidRequest, match="partition"):
        await heard(store, since=Position(10_000, 0))
    assert ["hello"] == await said(store, thread_id)
