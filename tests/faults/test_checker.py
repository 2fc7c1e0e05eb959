"""The judge of all fault tests, judged: it must object to every history that breaks a promise, and to no other."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from redis.asyncio import Redis as RedisClient

from eventstore import CreateThreadParams, ThreadStore, new_thread_id
from eventstore.ids import ThreadId
from eventstore.settings import Settings
from eventstore.wiring import open_clustered, open_embedded
from tests.support.checker import Attempt, Journal, Label, Pen, Said, judge, labels, objections, read_journal, spoken
from tests.support.cluster import a_log, a_worker
from tests.support.load import objections_on
from tests.support.threads import append

THREAD = "a thread"


def attempt(writer: str, number: int, *, items: int = 2, acknowledged: bool = True) -> Attempt:
    texts = tuple(str(label) for label in labels(writer, number, items=items))
    return Attempt(THREAD, None, texts, received=acknowledged, acknowledged=acknowledged)


def a_run() -> list[Journal]:
    """Two writers, one after the other: four acknowledged appends and one of which nothing is known."""
    first = Journal("first", [attempt("first", 0), attempt("first", 1), attempt("first", 2, acknowledged=False)])
    second = Journal("second", [attempt("second", 0), attempt("second", 1, items=3)])
    return [first, second]


def history_of(*attempts: Attempt) -> list[Said]:
    texts = ["", *(text for attempt in attempts for text in attempt.texts)]
    return [Said(ordinal, text) for ordinal, text in enumerate(texts)]


def whole() -> list[Said]:
    first, second = a_run()
    return history_of(*first.attempts, *second.attempts)


def renumbered(history: list[Said]) -> list[Said]:
    return [Said(ordinal, item.text) for ordinal, item in enumerate(history)]


@pytest.mark.parametrize("landed", [True, False], ids=["landed", "did not land"])
def test_it_accepts_a_history_with_or_without_an_unacknowledged_append(landed: bool) -> None:
    first, second = a_run()
    kept = first.attempts if landed else first.attempts[:2]

    assert not judge(a_run(), {THREAD: history_of(*kept, *second.attempts)})


def test_it_accepts_a_retry_by_another_writer_that_landed_once() -> None:
    first, second = a_run()
    second.attempts.insert(0, replace(first.attempts[2], acknowledged=True))
    history = history_of(*first.attempts, *second.attempts[1:])

    assert not judge([first, second], {THREAD: history})


Damage = Callable[[list[Said]], list[Said]]

DAMAGES: dict[str, tuple[Damage, str]] = {
    "the last item lost": (lambda history: history[:-1], "acknowledged and is lost"),
    "an append lost": (lambda history: renumbered(history[:1] + history[3:]), "acknowledged and is lost"),
    "everything lost": (lambda history: [], "acknowledged and is lost"),
    "an item of an unacknowledged append lost": (lambda history: renumbered(history[:5] + history[6:]), "is torn"),
    "an item doubled": (lambda history: renumbered([*history, history[3]]), "is there 2 times"),
    "an append doubled": (lambda history: renumbered([*history, *history[1:3]]), "is there 2 times"),
    "two appends of a writer swapped": (
        lambda history: renumbered([history[0], *history[3:5], *history[1:3], *history[5:]]),
        "stands before",
    ),
    "two items of an append swapped": (
        lambda history: renumbered([history[0], history[2], history[1], *history[3:]]),
        "stands before",
    ),
    "an append with another's item inside": (
        lambda history: renumbered([*history[:2], history[7], history[2], *history[3:7], *history[8:]]),
        "is torn",
    ),
    "an item that nobody attempted": (
        lambda history: [*history, Said(len(history), str(labels("nobody", 0, items=1)[0]))],
        "nobody attempted it",
    ),
    "a mangled item": (lambda history: [*history, Said(len(history), "?first/0/0.2/0 with more")], "nobody attempted"),
    "a hole in the ordinals": (lambda history: [*history[:-1], Said(99, history[-1].text)], "has ordinal 99"),
    "ordinals from one": (lambda history: [Said(o + 1, text) for o, text in history], "has ordinal 1"),
    "two session_metas": (lambda history: [*history, Said(len(history), "")], "session_meta stands elsewhere"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_it_objects_to_every_damage(damage: str) -> None:
    inflict, objection = DAMAGES[damage]
    assert not judge(a_run(), {THREAD: whole()})

    assert objection in "\n".join(judge(a_run(), {THREAD: inflict(whole())}))


def test_it_objects_to_a_retry_that_landed_twice_under_one_append_id() -> None:
    first, second = a_run()
    second.attempts.insert(0, first.attempts[2])
    history = renumbered(history_of(*first.attempts, *second.attempts))

    assert "is there 2 times" in "\n".join(judge([first, second], {THREAD: history}))


def test_it_objects_to_an_item_in_another_thread_than_it_was_said_in() -> None:
    objection = "\n".join(judge(a_run(), {"another": whole()}))

    assert "nobody attempted it" in objection


def test_it_objects_to_a_received_append_that_is_lost_only_where_nobody_was_fenced() -> None:
    first, second = a_run()
    first.attempts[2].received = True
    without = {THREAD: history_of(*first.attempts[:2], *second.attempts)}

    assert not judge([first, second], without)
    assert "was received and is lost" in "\n".join(judge([first, second], without, unrivalled=True))


def test_a_label_comes_back_from_its_text_however_long_that_is() -> None:
    for label in labels("w", 7, items=3, size=100):
        assert Label.parse(str(label)) == label
        assert len(label.text) == 100


def test_a_torn_last_line_of_a_journal_was_never_written(tmp_path: Path) -> None:
    pen = Pen(tmp_path / "w.journal", "w")
    number = pen.attempt(THREAD, labels("w", 0, items=2))
    pen.acknowledged(number)
    pen.close()
    whole_text = (tmp_path / "w.journal").read_bytes()
    (tmp_path / "torn.journal").write_bytes(whole_text[:-3])

    assert read_journal(tmp_path / "w.journal").attempts[0].acknowledged
    assert not read_journal(tmp_path / "torn.journal").attempts[0].acknowledged


async def a_judged_file(folder: Path) -> tuple[Path, list[Journal]]:
    """Write two threads as journaled writers do; the file is sound."""
    path = folder / "threads.db"
    pen = Pen(folder / "w.journal", "w")
    async with open_embedded(Settings(log=f"sqlite:{path}")) as parts:
        for thread_id in (new_thread_id(), new_thread_id()):
            await parts.store.create_thread(CreateThreadParams(thread_id=thread_id))
            for number in range(3):
                texts = labels("w", number, items=2, size=300_000 if number == 1 else 0)
                attempted = pen.attempt(thread_id, texts)
                await append(parts.store, thread_id, *map(spoken, texts))
                await parts.store.flush_thread(thread_id)
                pen.acknowledged(attempted)
    pen.close()
    journals = [read_journal(folder / "w.journal")]
    assert not await objections(path, journals)
    return path, journals


STORED_DAMAGES = {
    "a thread's view changed": (
        "UPDATE thread SET start = start + 1 WHERE no = 1",
        "its view is not what the fold gives",
    ),
    "a thread's view gone": ("DELETE FROM thread WHERE no = 2", "its view is not what the fold gives"),
    "an index entry gone": (
        "DELETE FROM item_index WHERE no = 2 AND ordinal = 1",
        "its index is not what the fold gives",
    ),
    "an index entry that counts wrong": (
        "UPDATE item_index SET items = 3 WHERE no = 1 AND ordinal = 1",
        "its index is not what",
    ),
    "the last record lost": (
        "DELETE FROM log WHERE offset = (SELECT max(offset) FROM log);"
        "UPDATE projection SET checkpoint = checkpoint - 1",
        "was acknowledged and is lost",
    ),
}


@pytest.mark.parametrize("damage", STORED_DAMAGES)
async def test_it_objects_to_every_damage_of_a_file(tmp_path: Path, damage: str) -> None:
    statement, objection = STORED_DAMAGES[damage]
    path, journals = await a_judged_file(tmp_path)
    with sqlite3.connect(path) as connection:
        for one in statement.split(";"):
            assert connection.execute(one).rowcount == 1
    connection.close()

    assert objection in "\n".join(await objections(path, journals))


Lie = Callable[[Pen, ThreadStore, ThreadId], Awaitable[None]]
"""Writes otherwise than it journals."""


async def loses_an_append(pen: Pen, store: ThreadStore, thread_id: ThreadId) -> None:
    pen.acknowledged(pen.attempt(thread_id, labels(pen.writer, 1, items=2)))


async def doubles_an_append(pen: Pen, store: ThreadStore, thread_id: ThreadId) -> None:
    said = labels(pen.writer, 1, items=2)
    attempted = pen.attempt(thread_id, said)
    for _ in range(2):
        await append(store, thread_id, *map(spoken, said))
    pen.acknowledged(attempted)


async def swaps_two_appends(pen: Pen, store: ThreadStore, thread_id: ThreadId) -> None:
    first, second = labels(pen.writer, 1, items=2), labels(pen.writer, 2, items=2)
    attempted = [pen.attempt(thread_id, first), pen.attempt(thread_id, second)]
    for said in (second, first):
        await append(store, thread_id, *map(spoken, said))
    pen.acknowledged(*attempted)


async def writes_half_an_append(pen: Pen, store: ThreadStore, thread_id: ThreadId) -> None:
    said = labels(pen.writer, 1, items=2)
    pen.attempt(thread_id, said)
    await append(store, thread_id, spoken(said[1]))


LIES: dict[str, tuple[Lie, str]] = {
    "loses": (loses_an_append, "acknowledged and is lost"),
    "doubles": (doubles_an_append, "is there 2 times"),
    "swaps": (swaps_two_appends, "stands before"),
    "halves": (writes_half_an_append, "is torn"),
}


async def test_it_objects_to_every_lie_and_every_damage_on_a_cluster(tmp_path: Path) -> None:
    async with a_log(partitions=2) as settings, a_worker(settings), open_clustered(settings) as parts:
        pens = {name: Pen(tmp_path / f"{name}.journal", name) for name in LIES}
        threads = {name: await an_honest_thread(parts.store, pen) for name, pen in pens.items()}

        async def objections() -> list[str]:
            return await objections_on(settings, [read_journal(tmp_path / f"{name}.journal") for name in LIES])

        assert not await objections(), "the control"
        for name, (lie, _) in LIES.items():
            await lie(pens[name], parts.store, threads[name])
            await parts.store.flush_thread(threads[name])
            pens[name].close()
        found = await objections()
        for name, (_, objection) in LIES.items():
            mine = [said for said in found if said.startswith(threads[name])]
            assert objection in "\n".join(mine)
            assert "is not what" not in "\n".join(mine), "log and views agree"

        forgotten, confused = threads["loses"], threads["doubles"]
        async with RedisClient.from_url(settings.views) as redis:
            await redis.delete(await view_of(redis, forgotten))
            anothers = await redis.get(await view_of(redis, threads["swaps"]))
            assert anothers is not None
            await redis.set(await view_of(redis, confused), anothers)
        damaged = "\n".join(await objections())
        assert f"{forgotten}: its view is not what the fold gives" in damaged
        assert f"{confused}: its view is not what the fold gives" in damaged


async def an_honest_thread(store: ThreadStore, pen: Pen) -> ThreadId:
    """Make a thread with one acknowledged append of several records; it stays live."""
    thread_id = new_thread_id()
    await store.create_thread(CreateThreadParams(thread_id=thread_id))
    said = labels(pen.writer, 0, items=3, size=200_000)
    attempted = pen.attempt(thread_id, said)
    await append(store, thread_id, *map(spoken, said))
    await store.flush_thread(thread_id)
    pen.acknowledged(attempted)
    return thread_id


async def view_of(redis: RedisClient, thread_id: ThreadId) -> bytes:
    """Return the key which the thread's view is kept under."""
    keys: list[bytes] = [key async for key in redis.scan_iter() if key.endswith(b"t" + UUID(thread_id).bytes)]
    (key,) = keys
    return key
