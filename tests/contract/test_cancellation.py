"""A call may be cancelled at each of its awaits: no half state, no leaked writer, nothing doubled (design §2).

Each test cancels the same call at its first await, then at its second, and so on until it ran through.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from eventstore import ListThreadsParams, ReadThreadParams, ThreadStore
from eventstore.errors import InvalidRequest, ThreadNotFound
from eventstore.ids import ThreadId
from tests.support.engines import Engine
from tests.support.faults import cancelled_at
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    append,
    archive,
    created,
    delete,
    not_live,
    patch,
    read,
    resume,
    said,
    say,
    user_message,
)

AN_ID = "0197c1d0-0000-7000-8000-000000000001"
OWN = Path(__file__).parent.parent.parent / "eventstore"
MOST = 200
"""Awaits no call of one thread comes near to."""

Call = Callable[[], Coroutine[Any, Any, object]]
Try = Callable[[int], Coroutine[Any, Any, bool]]


async def at_every_await(attempt: Try) -> None:
    """Make the attempt with cancellation at await 1, 2, … until it is not reached; there must be some."""
    for number in count(1):
        assert number < MOST
        if not await attempt(number):
            assert number > 1
            return


async def flush_and_list(store: ThreadStore, thread_id: ThreadId) -> None:
    """Flush, and have the views written: a flush may know its verdict without a single await."""
    await store.flush_thread(thread_id)
    await store.list_threads(ListThreadsParams())


def own_tasks() -> set[asyncio.Task[Any]]:
    """Return the tasks of the store: an engine of servers has some for as long as it is open."""
    return {task for task in asyncio.all_tasks() if Path(task.get_coro().cr_code.co_filename).parent == OWN}


async def nothing_goes_on(store: ThreadStore, thread_id: ThreadId) -> None:
    """Check that no writer is left behind: the thread can be ended and taken up again."""
    with suppress(ThreadNotFound):
        await store.shutdown_thread(thread_id)
    await resume(store, thread_id)
    await say(store, thread_id, "afterwards")
    await store.shutdown_thread(thread_id)
    assert ["afterwards"] == (await said(store, thread_id))[-1:]


async def test_an_append_cut_short_counts_once_or_not_at_all_and_the_next_calls_work(store: ThreadStore) -> None:
    """Promise 8. Nothing hangs: "cancelling a call leaves no half state and no leaked writer"."""

    async def attempt(number: int) -> bool:
        thread_id = await a_live_thread(store, "before")
        cut = await cancelled_at(number, say(store, thread_id, "cut"))
        await say(store, thread_id, "next")
        await store.flush_thread(thread_id)

        found = await said(store, thread_id)
        assert found in (["before", "cut", "next"], ["before", "next"])
        assert cut or "cut" in found
        await nothing_goes_on(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_a_named_append_cut_short_and_repeated_counts_once(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await a_cold_thread(store, "before")
        await resume(store, thread_id)
        cut = await cancelled_at(number, say(store, thread_id, "once", append_id=AN_ID))
        await say(store, thread_id, "once", append_id=AN_ID)
        await store.flush_thread(thread_id)

        assert ["before", "once"] == await said(store, thread_id)
        await nothing_goes_on(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_a_large_append_cut_short_is_whole_or_not_there(store: ThreadStore) -> None:
    items = [user_message(f"{number}" + " " * 300_000) for number in range(3)]

    async def attempt(number: int) -> bool:
        thread_id = await a_live_thread(store, "before")
        cut = await cancelled_at(number, append(store, thread_id, *items))
        assert len(await said(store, thread_id)) in (1, 4)
        await store.flush_thread(thread_id)

        assert len(await said(store, thread_id)) in (1, 4)
        await nothing_goes_on(store, thread_id)
        return cut

    await at_every_await(attempt)


@pytest.mark.parametrize("again", ["flush", "shutdown", "discard"])
async def test_a_flush_cut_short_loses_and_doubles_nothing(store: ThreadStore, again: str) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await a_live_thread(store, "one")
        await say(store, thread_id, "two")
        await say(store, thread_id, "three")
        cut = await cancelled_at(number, flush_and_list(store, thread_id))
        match again:
            case "flush":
                await store.flush_thread(thread_id)
            case "shutdown":
                await store.shutdown_thread(thread_id)
            case _:
                await store.discard_thread(thread_id)

        assert ["one", "two", "three"] == await said(store, thread_id)
        await nothing_goes_on(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_a_first_flush_cut_short_stores_the_thread_once(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await created(store)
        await append(store, thread_id, user_message("one"), user_message("two"))
        cut = await cancelled_at(number, store.flush_thread(thread_id))
        await store.persist_thread(thread_id)

        assert ["one", "two"] == await said(store, thread_id)
        assert 3 == (await read(store, thread_id)).item_count
        await nothing_goes_on(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_a_persist_cut_short_and_discarded_leaves_the_thread_whole_or_absent(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await created(store)
        await append(store, thread_id, user_message("one"))
        cut = await cancelled_at(number, store.persist_thread(thread_id))
        await store.discard_thread(thread_id)

        await not_live(store, thread_id)
        try:
            found = await said(store, thread_id)
        except InvalidRequest:
            assert cut
        else:
            assert ["one"] == found
        return cut

    await at_every_await(attempt)


async def test_a_resume_cut_short_leaves_no_writer(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await a_cold_thread(store, "one")
        cut = await cancelled_at(number, resume(store, thread_id))
        if cut:
            await resume(store, thread_id)
        await say(store, thread_id, "two")
        await store.flush_thread(thread_id)

        assert ["one", "two"] == await said(store, thread_id)
        await nothing_goes_on(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_a_shutdown_cut_short_may_be_repeated(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await a_live_thread(store, "one")
        await say(store, thread_id, "two")
        cut = await cancelled_at(number, store.shutdown_thread(thread_id))

        await nothing_goes_on(store, thread_id)
        assert ["one", "two", "afterwards"] == await said(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_a_shutdown_cut_short_may_be_followed_by_a_discard(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await a_live_thread(store, "one")
        await say(store, thread_id, "two")
        cut = await cancelled_at(number, store.shutdown_thread(thread_id))
        with suppress(ThreadNotFound):
            await store.discard_thread(thread_id)

        assert ["one", "two"] == await said(store, thread_id)
        await nothing_goes_on(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_a_command_cut_short_counts_once_or_not_at_all(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await a_cold_thread(store)
        cut = await cancelled_at(number, patch(store, thread_id, name="cut"))
        await archive(store, thread_id)

        thread = await read(store, thread_id)
        assert (thread.name, thread.version) in ((None, 3), ("cut", 4))
        assert cut or thread.name == "cut"
        return cut

    await at_every_await(attempt)


async def test_a_delete_of_a_live_thread_cut_short_can_be_completed(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        thread_id = await a_live_thread(store)
        cut = await cancelled_at(number, delete(store, thread_id))
        if cut:
            try:
                await delete(store, thread_id)
            except ThreadNotFound:
                with pytest.raises(InvalidRequest):
                    await read(store, thread_id)
        with suppress(ThreadNotFound):
            await store.discard_thread(thread_id)
        with pytest.raises(InvalidRequest):
            await resume(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_reading_cut_short_harms_nobody(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)

    async def attempt(number: int) -> bool:
        await say(store, thread_id, str(number))
        whole = ReadThreadParams(thread_id=thread_id, include_history=True)
        cut = await cancelled_at(number, store.read_thread(whole))
        assert ["hello", *(str(i + 1) for i in range(number))] == await said(store, thread_id)
        return cut

    await at_every_await(attempt)


async def test_calls_cut_short_leave_no_task_running(store: ThreadStore) -> None:
    async def attempt(number: int) -> bool:
        before = own_tasks()
        thread_id = await created(store)
        await append(store, thread_id, user_message("one"))
        cut = await cancelled_at(number, store.shutdown_thread(thread_id))
        assert own_tasks() <= before
        with suppress(ThreadNotFound):
            await store.discard_thread(thread_id)
        return cut

    await at_every_await(attempt)


async def test_a_flush_cut_short_by_the_death_of_its_process_shows_what_the_log_says(
    engine: Engine, elsewhere: ThreadStore
) -> None:
    async def attempt(number: int) -> bool:
        dying = await engine.open()
        thread_id = await a_live_thread(dying, "one")
        await say(dying, thread_id, "two")
        cut = await cancelled_at(number, flush_and_list(dying, thread_id))
        await engine.crash(dying)

        assert ["one", "two"] == await said(elsewhere, thread_id)
        assert 3 == (await read(elsewhere, thread_id)).item_count
        return cut

    await at_every_await(attempt)
