"""An append has a name: repeating it under the same name adds nothing, whoever repeats it and whatever went wrong."""

from __future__ import annotations

import asyncio
import time
from uuid import uuid4

import pytest

from eventstore import Receipt, ThreadStore, repetition
from eventstore.errors import LogUnavailable, OutcomeUnknown, WriterFenced
from tests.support.engines import Engine
from tests.support.faults import FaultyLog, WatchedFeed
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    append,
    created,
    page,
    resume,
    resumed_elsewhere,
    said,
    say,
    user_message,
    warning,
)


def an_id() -> str:
    return str(uuid4())


async def test_the_receipt_bears_the_name_that_was_given(store: ThreadStore) -> None:
    thread_id, name = await a_live_thread(store), an_id()

    receipt = await append(store, thread_id, user_message("more"), warning("no"), append_id=name.upper())

    assert Receipt(append_id=name, appended=1, dropped=("event_msg/warning",)) == receipt._replace(token=None)


async def test_a_repetition_by_the_same_writer_adds_nothing(store: ThreadStore) -> None:
    thread_id, name = await a_live_thread(store), an_id()

    receipts = [await say(store, thread_id, "once", append_id=name) for _ in range(3)]
    await store.flush_thread(thread_id)

    assert [1, 0, 0] == [receipt.appended for receipt in receipts]
    assert ["hello", "once"] == await said(store, thread_id)


async def test_a_repetition_before_the_thread_is_stored_adds_nothing(store: ThreadStore) -> None:
    thread_id, name = await created(store), an_id()
    for _ in range(2):
        await say(store, thread_id, "once", append_id=name)
    await store.flush_thread(thread_id)
    await say(store, thread_id, "once", append_id=name)
    await store.flush_thread(thread_id)

    assert ["once"] == await said(store, thread_id)


async def test_a_name_the_store_gave_may_be_repeated_too(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    receipt = await say(store, thread_id, "once")

    again = await say(store, thread_id, "once", append_id=receipt.append_id)
    await store.flush_thread(thread_id)

    assert (receipt.append_id, 0) == (again.append_id, again.appended)
    assert ["hello", "once"] == await said(store, thread_id)


async def test_a_repetition_after_a_resume_adds_nothing(store: ThreadStore) -> None:
    thread_id, name = await a_live_thread(store), an_id()
    await say(store, thread_id, "once", append_id=name)
    unnamed = await say(store, thread_id, "unnamed")
    await store.shutdown_thread(thread_id)
    await resume(store, thread_id)

    assert (await say(store, thread_id, "once", append_id=name)).appended == 0
    assert (await say(store, thread_id, "unnamed", append_id=unnamed.append_id)).appended == 0
    assert (await say(store, thread_id, "other", append_id=an_id())).appended == 1
    await store.flush_thread(thread_id)
    assert ["hello", "once", "unnamed", "other"] == await said(store, thread_id)


async def test_a_repetition_in_another_process_adds_nothing(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id, name = await a_live_thread(store), an_id()
    await say(store, thread_id, "once", append_id=name)
    await store.flush_thread(thread_id)
    await resumed_elsewhere(elsewhere, thread_id)

    assert (await say(elsewhere, thread_id, "once", append_id=name)).appended == 0
    await elsewhere.flush_thread(thread_id)

    assert ["hello", "once"] == await said(store, thread_id)


async def test_named_appends_are_known_however_many_there_were(
    store: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repetition, "EXACTLY", 3)
    thread_id, names = await created(store), [an_id() for _ in range(15)]

    async def repeated_and_said(some: list[str]) -> None:
        for name in some:
            assert 1 == (await say(store, thread_id, name, append_id=name)).appended
        for name in names[: names.index(some[-1]) + 1]:
            assert 0 == (await say(store, thread_id, name, append_id=name)).appended

    await repeated_and_said(names[:5])
    await store.flush_thread(thread_id)
    await repeated_and_said(names[5:10])
    await store.shutdown_thread(thread_id)
    await resume(store, thread_id)
    await repeated_and_said(names[10:])
    await store.flush_thread(thread_id)

    assert names == await said(store, thread_id)


async def test_names_the_store_gave_are_known_however_many_there_were(
    store: ThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repetition, "EXACTLY", 3)
    thread_id = await created(store)
    receipts = [await say(store, thread_id, f"{number}") for number in range(5)]
    await store.flush_thread(thread_id)
    receipts += [await say(store, thread_id, f"{number}") for number in range(5, 10)]

    again = [await say(store, thread_id, "again", append_id=receipt.append_id) for receipt in receipts]
    await store.flush_thread(thread_id)

    assert {0} == {receipt.appended for receipt in again}
    assert [f"{number}" for number in range(10)] == await said(store, thread_id)


async def test_a_large_append_repeated_adds_nothing(store: ThreadStore) -> None:
    thread_id, name = await a_live_thread(store), an_id()
    items = [user_message(f"{number}" + " " * 300_000) for number in range(4)]
    await append(store, thread_id, *items, append_id=name)
    await store.shutdown_thread(thread_id)
    await resume(store, thread_id)

    assert (await append(store, thread_id, *items, append_id=name)).appended == 0
    await store.flush_thread(thread_id)
    assert len(await said(store, thread_id)) == 5


async def test_the_past_of_a_resumed_thread_is_read_once_and_from_its_start(engine: Engine) -> None:
    feed = WatchedFeed()
    store = await engine.open(through=feed.through)
    await a_cold_thread(store, "another thread lies before it")
    thread_id = await a_cold_thread(store)
    await resume(store, thread_id)
    feed.replays.clear()

    for number in range(3):
        assert (await say(store, thread_id, f"{number}", append_id=an_id())).appended == 1

    (start,) = feed.replays
    assert start == (await page(store, thread_id, page_size=1)).items[0].position.offset


async def test_appends_that_wait_for_the_past_of_a_thread_all_end_by_their_deadline(engine: Engine) -> None:
    """Promise 8. Nothing hangs: "every call ends within its deadline"."""
    feed, within = WatchedFeed(), 1.0
    store = await engine.open(through=feed.through, within=within)
    thread_id = await a_cold_thread(store)
    await resume(store, thread_id)
    names = [an_id() for _ in range(4)]
    fired = 0

    async def never() -> None:
        nonlocal fired
        fired += 1
        feed.before_end = never
        await asyncio.Event().wait()

    feed.before_end = never
    begun = time.monotonic()
    async with asyncio.timeout(20):
        outcomes = await asyncio.gather(
            *(say(store, thread_id, "once", append_id=name) for name in names), return_exceptions=True
        )
    took = time.monotonic() - begun
    feed.before_end = None

    assert fired >= 1
    assert {LogUnavailable, OutcomeUnknown} >= {type(outcome) for outcome in outcomes}
    assert took < 2 * within
    for name in names:
        await say(store, thread_id, "once", append_id=name)
    await store.flush_thread(thread_id)
    assert ["hello", *["once"] * 4] == await said(store, thread_id)


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("next_call", ["repeat", "flush", "say more", "shutdown", "resume"])
async def test_an_append_of_unknown_outcome_counts_once_whatever_is_called_next(
    engine: Engine, lost: str, next_call: str
) -> None:
    """Promise 2. Exactly once, in order: "a retry by the same writer, or with the same append id, adds nothing"."""
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id, name = await a_live_thread(store), an_id()
    (log.lose_requests if lost == "request" else log.lose_answers)(1)
    with pytest.raises(OutcomeUnknown):
        await say(store, thread_id, "once", append_id=name)
    assert log.fired == 1

    expected = ["hello", "once"]
    match next_call:
        case "repeat":
            assert (await say(store, thread_id, "once", append_id=name)).append_id == name
            await store.flush_thread(thread_id)
        case "flush":
            await store.flush_thread(thread_id)
        case "say more":
            await say(store, thread_id, "more")
            await store.flush_thread(thread_id)
            expected.append("more")
        case "shutdown":
            await store.shutdown_thread(thread_id)
        case "resume":
            await store.discard_thread(thread_id)
            await resume(store, thread_id)
            await say(store, thread_id, "once", append_id=name)
            await store.flush_thread(thread_id)

    assert expected == await said(store, thread_id)


async def test_answers_lost_many_times_over_double_nothing(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_live_thread(store)
    for number in range(4):
        log.lose_answers(1)
        with pytest.raises(OutcomeUnknown):
            await say(store, thread_id, str(number))
    log.lose_answers(2)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await store.flush_thread(thread_id)
    await store.flush_thread(thread_id)

    assert log.fired == 6
    assert ["hello", "0", "1", "2", "3"] == await said(store, thread_id)


async def test_an_append_lost_on_its_way_is_sent_again_before_what_was_said_later(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_live_thread(store)
    log.lose_requests(1)

    outcomes = await asyncio.gather(
        *(say(store, thread_id, text) for text in ("one", "two", "three")), return_exceptions=True
    )
    await store.flush_thread(thread_id)

    assert [OutcomeUnknown] == [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)]
    assert log.fired == 1
    assert ["hello", "one", "two", "three"] == await said(store, thread_id)


async def test_a_fenced_writer_is_told_also_when_it_repeats(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id, name = await a_live_thread(store), an_id()
    await resumed_elsewhere(elsewhere, thread_id)
    await say(store, thread_id, "void", append_id=name)
    with pytest.raises(WriterFenced):
        await store.flush_thread(thread_id)

    with pytest.raises(WriterFenced):
        await say(store, thread_id, "void", append_id=name)

    assert (await say(elsewhere, thread_id, "counts", append_id=name)).appended == 1
    await elsewhere.flush_thread(thread_id)
    assert ["hello", "counts"] == await said(elsewhere, thread_id)
