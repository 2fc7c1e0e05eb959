"""The promises of design §2 that no single verb makes. The others: test_receipts (2), test_fencing (3), test_flush (4),
test_archive (6), test_cancellation (8), test_history (9)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from eventstore import ListThreadsParams, StoredThread, StoredThreadHistory, ThreadStore, new_thread_id
from eventstore.codec import codec
from eventstore.errors import (
    EventStoreError,
    OutcomeUnknown,
    UnreadableEvent,
    ViewsBehind,
    WriterFenced,
    WrongExpectedVersion,
)
from eventstore.events import ThreadArchived
from eventstore.ids import ThreadId, new_event_id
from tests.support.engines import Engine
from tests.support.faults import OvertakenViews
from tests.support.freezing import of_an_unknown_schema
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
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
)


def damaged(thread_id: ThreadId) -> bytes:
    return b"\xc3\x01" + codec().fingerprint + b"\xff" * 40


def of_an_unknown_kind(thread_id: ThreadId) -> bytes:
    return a_record(thread_id).replace(b"ThreadArchived", b"ThreadExploded")


def of_an_unknown_rule(thread_id: ThreadId) -> bytes:
    return a_record(thread_id, rule=2)


def a_record(thread_id: ThreadId, *, rule: int = 1) -> bytes:
    event = ThreadArchived(event_id=new_event_id(), thread_id=thread_id, occurred_at=1, commands_seen=0, rule=rule)
    return codec().encode(event)


async def test_what_was_acknowledged_survives_the_process(engine: Engine, elsewhere: ThreadStore) -> None:
    """Promise 1. Durable: "what was acknowledged survives the loss of every process"."""
    first = await engine.open()
    flushed = await a_live_thread(first, "flushed")
    shut_down = await a_cold_thread(first, "shut down")
    await archive(first, shut_down)
    named = await a_cold_thread(first, "named")
    await patch(first, named, name="a name")
    persisted = await created(first)
    await first.persist_thread(persisted)
    await engine.crash(first)
    await engine.crash(elsewhere)

    second = await engine.open()
    assert ["flushed"] == await said(second, flushed)
    assert (await read(second, shut_down)).archived_at is not None
    assert "a name" == (await read(second, named)).name
    assert 1 == (await read(second, persisted)).item_count


Verb: TypeAlias = Callable[[ThreadStore, ThreadId], Awaitable[object]]


async def say_two(store: ThreadStore, thread_id: ThreadId) -> None:
    await say(store, thread_id, "two")


async def flush(store: ThreadStore, thread_id: ThreadId) -> None:
    await store.flush_thread(thread_id)


async def shut_down(store: ThreadStore, thread_id: ThreadId) -> None:
    await store.shutdown_thread(thread_id)


async def rename(store: ThreadStore, thread_id: ThreadId) -> None:
    await patch(store, thread_id, name="renamed")


async def everything(store: ThreadStore) -> list[StoredThread | StoredThreadHistory]:
    threads = [
        thread
        for archived in (False, True)
        for thread in (await store.list_threads(ListThreadsParams(archived=archived))).items
    ]
    return [*threads, *[await history(store, thread.thread_id) for thread in threads]]


async def test_views_that_are_lost_are_the_very_same_when_they_are_back(store: ThreadStore, engine: Engine) -> None:
    """Promise 5. "Views are disposable: […] Rebuilding from the start gives the very same views"."""
    live = await a_live_thread(store, "one", "two")
    archived = await a_cold_thread(store)
    await archive(store, archived)
    await patch(store, live, name="a name")
    before = await everything(store)

    await engine.lose_views(store)

    assert 4 == len(before)
    assert before == await everything(store)


async def test_views_lost_under_a_live_writer_change_nothing_for_it(store: ThreadStore, engine: Engine) -> None:
    thread_id = await a_live_thread(store, "one")
    for text in ("two", "three"):
        await engine.lose_views(store)
        await say(store, thread_id, text)
        await store.flush_thread(thread_id)
    await engine.lose_views(store)
    await store.shutdown_thread(thread_id)

    assert ["one", "two", "three"] == await said(store, thread_id)


@pytest.mark.parametrize("record", [of_an_unknown_schema, of_an_unknown_kind, of_an_unknown_rule, damaged])
async def test_one_bad_record_harms_one_thread(
    store: ThreadStore, engine: Engine, record: Callable[[ThreadId], bytes]
) -> None:
    """Promise 7. "One bad record harms one thread: that thread freezes and is shown as damaged; the partition goes
    on"."""
    bad, good = await a_live_thread(store, "bad"), await a_live_thread(store, "good")
    await engine.write_record(store, bad, record(bad))
    for thread_id in (bad, good):
        await say(store, thread_id, "more")

    await store.flush_thread(good)
    assert ["good", "more"] == await said(store, good)
    for verb in (flush, history, read, archive, delete, rename):
        with pytest.raises(UnreadableEvent, match=f"{bad} is frozen: the record at offset .* cannot be understood"):
            await verb(store, bad)
    damages = {thread.thread_id: thread.damaged for thread in (await store.list_threads(ListThreadsParams())).items}
    assert damages.pop(good) is None
    assert "cannot be understood" in (damages.pop(bad) or "")
    await store.discard_thread(bad)
    with pytest.raises(UnreadableEvent):
        await resume(store, bad)


def another_programs(thread_id: ThreadId) -> bytes:
    return b'{"hello": "from another program"}'


def empty(thread_id: ThreadId) -> bytes:
    return b""


def another_threads(thread_id: ThreadId) -> bytes:
    return a_record(new_thread_id())


@pytest.mark.parametrize("foreign", [another_programs, empty, another_threads])
async def test_a_record_that_is_not_ours_harms_nobody(
    store: ThreadStore, engine: Engine, foreign: Callable[[ThreadId], bytes]
) -> None:
    thread_id = await a_live_thread(store, "one")
    record = foreign(thread_id)
    await engine.write_record(store, thread_id, record)
    await say(store, thread_id, "two")
    await store.shutdown_thread(thread_id)
    await engine.write_record(store, thread_id, record)
    await resume(store, thread_id)
    await say(store, thread_id, "three", append_id="0197c1d0-0000-7000-8000-000000000001")
    await store.flush_thread(thread_id)

    assert ["one", "two", "three"] == await said(store, thread_id)
    await engine.lose_views(store)
    assert ["one", "two", "three"] == await said(store, thread_id)
    assert (await read(store, thread_id)).archived_at is None, (
        "another thread's record, which archives that, is void here"
    )


async def test_a_log_that_takes_nothing_delays_nobody_beyond_the_deadline(
    engine: Engine, elsewhere: ThreadStore
) -> None:
    """Promise 8. "Nothing hangs: every call ends within its deadline as done, refused, or outcome unknown"."""
    store = await engine.open(within=engine.soon)
    thread_id = await a_live_thread(store, "one")
    cold = await a_cold_thread(elsewhere)
    began = time.monotonic()
    async with engine.hold_the_log():
        verbs: list[tuple[Verb, ThreadId]] = [
            (say_two, thread_id),
            (flush, thread_id),
            (shut_down, thread_id),
            (rename, cold),
            (delete, cold),
            (resume, cold),
        ]
        for verb, id_ in verbs:
            with pytest.raises(EventStoreError) as told:
                await verb(store, id_)
            assert told.value.exit_code in (4, 5, 6), repr(told.value)
    assert time.monotonic() - began < len(verbs) * 10 * engine.soon

    await store.shutdown_thread(thread_id)
    assert ["one", "two"] == await said(store, thread_id)
    for thread in (thread_id, cold):
        await not_live(store, thread)


async def test_a_store_that_is_closed_says_so_at_once(store: ThreadStore, engine: Engine) -> None:
    thread_id = await a_live_thread(store)
    await say(store, thread_id, "not flushed")
    await engine.close(store)

    for verb in (history, read, rename, archive, delete):
        with pytest.raises(EventStoreError, match="closed"):
            await verb(store, thread_id)
    with pytest.raises(EventStoreError, match="closed"):
        await created(store)


async def test_closing_ends_live_threads_as_discard_does(engine: Engine, elsewhere: ThreadStore) -> None:
    store = await engine.open()
    thread_id, deferred = await a_live_thread(store, "kept"), await created(store)
    await say(store, deferred, "never stored")
    await engine.close(store)

    await resume(elsewhere, thread_id)
    await say(elsewhere, thread_id, "on")
    await elsewhere.flush_thread(thread_id)
    assert ["kept", "on"] == await said(elsewhere, thread_id)
    assert [thread_id] == [thread.thread_id for thread in (await elsewhere.list_threads(ListThreadsParams())).items]


async def test_closing_while_calls_are_on_their_way_ends_them_all(engine: Engine, elsewhere: ThreadStore) -> None:
    store = await engine.open()
    thread_id, cold = await a_live_thread(store, "one"), await a_cold_thread(elsewhere)
    calls = [
        asyncio.ensure_future(call)
        for call in (
            say(store, thread_id, "two"),
            store.flush_thread(thread_id),
            resume(store, cold),
            history(store, cold),
            patch(store, cold, name="a name"),
        )
    ]
    await asyncio.sleep(0)
    await engine.close(store)

    done, pending = await asyncio.wait(calls, timeout=10)
    assert (5, set()) == (len(done), pending)
    assert {call.exception() for call in done if not isinstance(call.exception(), EventStoreError)} <= {None}
    assert await said(elsewhere, thread_id) in (["one"], ["one", "two"])


async def test_a_store_that_never_answers_in_time_says_that_the_outcome_is_unknown(
    engine: Engine, elsewhere: ThreadStore
) -> None:
    store = await engine.open(within=engine.soon)
    thread_id = await a_live_thread(store, "one")
    async with engine.hold_the_log():
        with pytest.raises(OutcomeUnknown, match="flush"):
            await say(store, thread_id, "two")

    await store.flush_thread(thread_id)
    assert ["one", "two"] == await said(elsewhere, thread_id)


async def test_a_thread_is_taken_over_while_the_views_are_behind(engine: Engine, elsewhere: ThreadStore) -> None:
    """Who its writer is, is nothing that a reader of the views sees; what is flushed then is behind until it is not."""
    views = OvertakenViews()
    store = await engine.open(through=views.through)
    thread_id = await a_cold_thread(elsewhere, "one")
    views.behind = True

    await resume(store, thread_id)
    await say(store, thread_id, "two")
    for _ in range(2):
        with pytest.raises(ViewsBehind, match=r"is written up to .* and counts"):
            await store.flush_thread(thread_id)
    assert views.fired == 3

    views.behind = False
    await store.flush_thread(thread_id)
    assert ["one", "two"] == await said(elsewhere, thread_id)


async def test_while_the_views_are_behind_verdicts_come_from_the_log(engine: Engine, elsewhere: ThreadStore) -> None:
    views = OvertakenViews()
    store = await engine.open(through=views.through)
    thread_id, lost = await a_live_thread(store, "one"), await a_live_thread(store, "one")
    await resume(elsewhere, lost)
    views.behind = True
    for id_ in (thread_id, lost):
        await say(store, id_, "two")

    with pytest.raises(ViewsBehind, match=r"is written up to .* and counts"):
        await store.flush_thread(thread_id)
    with pytest.raises(WriterFenced):
        await store.flush_thread(lost)
    await store.discard_thread(lost)
    with pytest.raises(ViewsBehind, match=r"is written at .* and counts"):
        await archive(store, thread_id)
    with pytest.raises(WrongExpectedVersion):
        await patch(store, lost, name="no", expected_version=1)

    assert views.fired == 4
    assert (["one", "two"], ["one"]) == (await said(elsewhere, thread_id), await said(elsewhere, lost))
    assert (await read(elsewhere, thread_id)).archived_at is not None
