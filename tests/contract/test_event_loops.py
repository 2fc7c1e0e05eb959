"""A store belongs to the event loop it was opened in: called from another one it refuses, and has done nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventstore import ListThreadsParams
from eventstore.errors import InvalidRequest
from eventstore.store import ThreadStore
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    archive,
    created,
    delete,
    history,
    page,
    patch,
    read,
    resume,
    said,
    say,
    unarchive,
)

IN_ANOTHER_LOOP = "this store was opened in another event loop; call it there"


async def elsewhere(call: Callable[[], Awaitable[Any]]) -> None:
    """Make the call in the event loop of another thread, as `asyncio.run` does there."""

    async def called() -> None:
        await call()

    await asyncio.to_thread(asyncio.run, called())


async def test_an_append_from_another_loop_is_refused_and_its_retry_counts_once(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store, "before")

    with pytest.raises(InvalidRequest, match=IN_ANOTHER_LOOP):
        await elsewhere(lambda: say(store, thread_id, "once"))
    await say(store, thread_id, "once")
    await store.flush_thread(thread_id)

    assert ["before", "once"] == await said(store, thread_id)


async def test_every_verb_is_refused_in_another_loop_and_goes_on_in_its_own(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store, "before")
    cold = await a_cold_thread(store)
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: created(store),
        lambda: resume(store, cold),
        lambda: say(store, thread_id, "no"),
        lambda: store.flush_thread(thread_id),
        lambda: store.persist_thread(thread_id),
        lambda: store.shutdown_thread(thread_id),
        lambda: store.discard_thread(thread_id),
        lambda: store.retry_thread(thread_id),
        lambda: history(store, thread_id),
        lambda: read(store, thread_id),
        lambda: page(store, thread_id),
        lambda: patch(store, cold, name="no"),
        lambda: archive(store, cold),
        lambda: unarchive(store, cold),
        lambda: delete(store, cold),
        lambda: store.list_threads(ListThreadsParams()),
        lambda: anext(store.events()),
    ]

    for call in calls:
        with pytest.raises(InvalidRequest, match=IN_ANOTHER_LOOP):
            await elsewhere(call)
    await say(store, thread_id, "after")
    await store.shutdown_thread(thread_id)

    assert ["before", "after"] == await said(store, thread_id)
