"""Appends: what is kept, what the receipt says, and in which order things come to stand (contract §2.3, §3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import RolloutItem, ThreadStore
from eventstore.documents.params import ThreadEventPersistenceMode
from eventstore.documents.threads import ThreadHistoryMode
from eventstore.errors import InvalidRequest, OutcomeUnknown
from tests.support.engines import Engine
from tests.support.faults import FaultyLog
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    agent_message,
    append,
    created,
    history,
    read,
    resume,
    said,
    say,
    warning,
)

MIXED = [
    RolloutItem("response_item", {"type": "message", "role": "user", "content": []}),
    RolloutItem("event_msg", {"type": "agent_message_delta", "delta": "…"}),
    RolloutItem("event_msg", {"type": "error", "message": "only in Extended"}),
    RolloutItem("response_item", {"type": "nobody_knows_this"}),
    RolloutItem("event_msg", {"type": "item_completed", "item": {"type": "CommandExecution"}}),
    RolloutItem("nobody_knows_this_either", {"x": 1}),
    RolloutItem("event_msg", {"type": "user_message", "message": "hello"}),
]


async def test_the_receipt_says_what_was_taken_and_what_the_policy_dropped(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)

    receipt = await append(store, thread_id, agent_message("one"), warning("no"), agent_message("two"))

    assert (2, ("event_msg/warning",)) == (receipt.appended, receipt.dropped)
    assert receipt.append_id is not None


async def test_an_append_of_nothing_or_of_what_is_dropped_changes_nothing(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    before = await read(store, thread_id)

    nothing = await append(store, thread_id)
    dropped = await append(store, thread_id, warning("no"))
    await store.flush_thread(thread_id)

    assert [(None, 0), (None, 0)] == [(receipt.append_id, receipt.appended) for receipt in (nothing, dropped)]
    assert before == await read(store, thread_id)
    assert before.item_count == 2


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, [0, 5, 6]),
        ({"event_persistence_mode": ThreadEventPersistenceMode.EXTENDED}, [0, 2, 5, 6]),
        ({"history_mode": ThreadHistoryMode.PAGINATED}, [0, 4, 5]),
    ],
    ids=["limited", "extended", "paginated"],
)
async def test_the_policy_of_the_threads_mode_decides_and_order_stays(
    store: ThreadStore, given: dict[str, Any], kept: list[int]
) -> None:
    thread_id = await created(store, **given)
    await append(store, thread_id, *MIXED)
    await store.flush_thread(thread_id)

    _, *items = (await history(store, thread_id)).items
    assert [(MIXED[i].type, MIXED[i].text) for i in kept] == [(item.type, item.text) for item in items]


async def test_a_resumed_thread_keeps_its_history_mode(store: ThreadStore) -> None:
    thread_id = await created(store, history_mode=ThreadHistoryMode.PAGINATED)
    await store.persist_thread(thread_id)
    await store.shutdown_thread(thread_id)
    await resume(store, thread_id)

    assert (await append(store, thread_id, *MIXED)).appended == 3


async def test_payloads_are_kept_to_the_letter(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    text = '{"b": 12345678901234567890123, "a": 1e400, "half": "\\ud83d", "b": 2,\t"é": "\\u00e9"}'
    await append(store, thread_id, RolloutItem.from_text("strange", text))
    await store.flush_thread(thread_id)

    assert text == (await history(store, thread_id)).items[-1].text


async def test_what_is_no_item_is_refused_and_blocks_nothing(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    for wrong in (b'{"a":1}', "not json", None):
        with pytest.raises(InvalidRequest, match="item"):
            await append(store, thread_id, RolloutItem.from_text("strange", wrong))  # type: ignore[arg-type]

    await say(store, thread_id, "fine")
    await store.shutdown_thread(thread_id)
    assert ["hello", "fine"] == await said(store, thread_id)


async def test_half_a_character_is_refused_and_blocks_nothing(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    with pytest.raises(InvalidRequest, match="surrogate"):
        await append(store, thread_id, RolloutItem.from_text("strange", '"\ud83d"'))

    await say(store, thread_id, "fine")
    await store.flush_thread(thread_id)
    assert ["hello", "fine"] == await said(store, thread_id)


async def test_sequential_appends_stand_in_call_order(store: ThreadStore) -> None:
    thread_id = await created(store)
    for number in range(30):
        await say(store, thread_id, *(f"{number}.{item}" for item in range(3)))
    await store.flush_thread(thread_id)

    assert [f"{number}.{item}" for number in range(30) for item in range(3)] == await said(store, thread_id)


async def test_overlapping_appends_of_one_task_stand_in_call_order(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)

    await asyncio.gather(*(say(store, thread_id, str(number)) for number in range(100)))
    await store.flush_thread(thread_id)

    assert ["hello", *map(str, range(100))] == await said(store, thread_id)


async def test_overlapping_calls_of_many_tasks_keep_each_tasks_order(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store, "begin")

    async def speak(name: str) -> None:
        for number in range(15):
            await say(store, thread_id, f"{name}{number}")
            if number % 4 == 0:
                await store.flush_thread(thread_id)

    await asyncio.gather(*map(speak, "abcdef"))
    await store.flush_thread(thread_id)

    found = await said(store, thread_id)
    assert len(found) == 1 + 6 * 15
    for name in "abcdef":
        assert [f"{name}{number}" for number in range(15)] == [text for text in found[1:] if text[0] == name]


async def test_effects_come_in_the_order_of_the_calls_even_if_nothing_was_awaited_between(store: ThreadStore) -> None:
    thread_id = await created(store)

    await asyncio.gather(
        say(store, thread_id, "one"),
        store.flush_thread(thread_id),
        say(store, thread_id, "two"),
        store.persist_thread(thread_id),
        say(store, thread_id, "three"),
        store.shutdown_thread(thread_id),
    )

    assert ["one", "two", "three"] == await said(store, thread_id)


async def test_a_shutdown_takes_along_an_append_called_before_that_has_to_look_its_id_up(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store, "one")
    await resume(store, thread_id)

    await asyncio.gather(
        say(store, thread_id, "two", append_id="0197c1d0-0000-7000-8000-000000000001"),
        store.shutdown_thread(thread_id),
    )

    assert ["one", "two"] == await said(store, thread_id)


async def test_a_flush_covers_an_append_called_before_that_has_to_look_its_id_up(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_cold_thread(store, "one")
    await resume(store, thread_id)
    log.lose_requests(1)

    append_id = "0197c1d0-0000-7000-8000-000000000001"
    outcomes = await asyncio.gather(
        say(store, thread_id, "two", append_id=append_id), store.flush_thread(thread_id), return_exceptions=True
    )

    assert log.fired == 1
    assert [OutcomeUnknown, str] == [*map(type, outcomes)]
    assert ["one", "two"] == await said(store, thread_id)


async def test_more_appends_than_the_outbox_holds_need_no_flush_and_keep_their_order(store: ThreadStore) -> None:
    thread_id = await created(store)
    await store.persist_thread(thread_id)
    for number in range(1_200):
        await say(store, thread_id, str(number))
    await store.flush_thread(thread_id)

    assert [str(number) for number in range(1_200)] == await said(store, thread_id)
