"""The embedded views under trouble: folding that takes too long, a close in its midst, a file that fails, damaged rows,
clocks beyond the calendar."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import projections.sqlite_views
from eventstore import ListThreadsParams
from eventstore.audit import audit
from eventstore.codec import codec
from eventstore.documents.params import SortDirection
from eventstore.errors import (
    InvalidRequest,
    LogTruncated,
    LogUnavailable,
    OutcomeUnknown,
    UnreadableEvent,
    ViewsBehind,
    ViewsUnavailable,
)
from eventstore.events import Event, Field, MetadataPatched, ThreadArchived, ThreadUnarchived
from eventstore.ids import ThreadId, new_event_id, new_thread_id
from eventstore.moments import moment
from eventstore.ports import Entry, ThreadView
from eventstore.settings import Settings
from eventstore.sqlite.file import SqliteFile
from eventstore.sqlite.log import SqliteFeed, key_of
from eventstore.wiring import Embedded, open_embedded
from projections.embedded import FOLD_WHEN_WAITING, EmbeddedViews
from projections.ports import DamagedView
from projections.sqlite_views import SqliteViews
from projections.verify import first_difference
from tests.support.files import opened
from tests.support.freezing import BEYOND, an_earlier_version
from tests.support.threads import a_cold_thread, a_live_thread, page, patch, read, resume, said, say, texts

FAR = 2**62
"""Microseconds since the epoch, some 146,000 years of them."""


async def done(parts: Embedded, sql: str, *values: object) -> Any:
    """Do something to the file behind the store's back; return what it answers."""
    return await parts.file.write(lambda connection: connection.execute(sql, values).fetchone())


async def logged(parts: Embedded, event: Event) -> None:
    row = key_of(event.thread_id), codec().encode(event)
    await done(parts, "INSERT INTO log (thread, record) VALUES (?, ?)", *row)


async def checkpoint(parts: Embedded) -> int:
    return int((await done(parts, "SELECT checkpoint FROM projection"))[0])


async def unfolded(parts: Embedded) -> None:
    def forget(connection: sqlite3.Connection) -> None:
        for table in ("thread", "summary", "item_index"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("UPDATE projection SET generation = generation + 1, checkpoint = 1")

    await parts.file.write(forget)


class SlowFeed:
    """Makes the feed give one entry at a time, and wait before it gives it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, wait: Callable[[], Awaitable[object]]) -> None:
        self.fired = 0
        self.met = asyncio.Event()
        plain = SqliteFeed.read

        async def slow(feed: SqliteFeed, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
            entries = await plain(feed, partition, start=start, limit=1)
            self.fired += 1
            self.met.set()
            await wait()
            return entries

        monkeypatch.setattr(SqliteFeed, "read", slow)


# Time.


READS: dict[str, Callable[[Embedded, ThreadId], Awaitable[object]]] = {
    "page": lambda parts, thread_id: parts.views.page(ListThreadsParams()),
    "matching": lambda parts, thread_id: parts.views.matching(thread_id, limit=2),
    "thread_ids": lambda parts, thread_id: parts.views.thread_ids(after=None, limit=9),
}


@pytest.mark.parametrize("call", READS)
async def test_a_read_that_has_to_fold_too_much_says_so_and_the_next_goes_on_from_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    async with opened(path) as parts:
        thread_id = await a_live_thread(parts.store, "hello")
        for number in range(20):
            await say(parts.store, thread_id, f"{number}")
        await parts.store.flush_thread(thread_id)
        await unfolded(parts)
    async with opened(path, within=0.2) as parts:
        slow = SlowFeed(monkeypatch, lambda: asyncio.sleep(0.06))
        checkpoints = [1]
        for _ in range(2):
            with pytest.raises(ViewsUnavailable, match=r"are being folded.*call again"):
                await READS[call](parts, thread_id)
            checkpoints.append(await checkpoint(parts))
            assert checkpoints[-1] > checkpoints[-2]
        found = None
        while found is None:
            with suppress(ViewsUnavailable):
                found = await READS[call](parts, thread_id)

        assert slow.fired >= 20
        assert await checkpoint(parts) == await parts.feed.end(0)


@pytest.mark.parametrize("what", ["nothing is folded", "all is folded but the last"])
async def test_one_thread_is_read_while_the_views_cannot_be_brought_up_to_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A full disk, a held lock, a long backlog: the log and what is stored answer for one thread, exactly."""
    async with opened(path) as parts:
        thread_id = await a_live_thread(parts.store, "one", "two")
        if what == "nothing is folded":
            await unfolded(parts)
        fired = Counter[str]()

        async def refuse(*given: object) -> object:
            fired["writes"] += 1
            raise LogUnavailable("ordered by the test")

        with monkeypatch.context() as patched:
            patched.setattr(SqliteFile, "write", refuse)
            await say(parts.store, thread_id, "three")
            await parts.store.flush_thread(thread_id)

            assert ["one", "two", "three"] == await said(parts.store, thread_id)
            latest = await page(parts.store, thread_id, page_size=2, sort_direction="Desc")
            assert ["three", "two"] == texts(latest)
            assert (await read(parts.store, thread_id)).item_count == 4
            with pytest.raises(InvalidRequest, match="no rollout found"):
                await read(parts.store, new_thread_id())
            with pytest.raises(ViewsUnavailable, match="ordered by the test"):
                await parts.store.list_threads(ListThreadsParams())
        assert fired["writes"] >= 3


async def test_one_thread_is_read_soon_while_another_process_holds_the_lock(path: Path) -> None:
    async with opened(path) as parts:
        thread_id = await a_live_thread(parts.store, "one")
        await say(parts.store, thread_id, "logged and not folded")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            began = time.monotonic()
            assert ["one", "logged and not folded"] == await said(parts.store, thread_id)
            assert time.monotonic() - began < 10, "the lock is waited for until the deadline, thirty seconds"
        finally:
            other.close()
        await parts.store.flush_thread(thread_id)


async def test_closing_does_not_wait_for_the_log_to_be_folded_and_nothing_folds_afterwards(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = parts.views
    assert isinstance(views, EmbeddedViews)
    thread_id = await a_live_thread(parts.store, "hello")
    await unfolded(parts)
    before = asyncio.all_tasks()
    slow = SlowFeed(monkeypatch, asyncio.Event().wait)
    views.note_append(FOLD_WHEN_WAITING)
    await slow.met.wait()

    await asyncio.wait_for(views.close(), 5)
    monkeypatch.setattr("projections.embedded.FOLD_WHEN_IDLE", 0.0)
    views.note_append(FOLD_WHEN_WAITING)
    views.note_append(1)
    for _ in range(50):
        await asyncio.sleep(0)

    assert asyncio.all_tasks() == before
    assert slow.fired == 1
    monkeypatch.undo()
    assert ["hello"] == await said(parts.store, thread_id)


async def test_what_is_appended_while_others_are_folded_is_folded_unasked_too(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = parts.views
    assert isinstance(views, EmbeddedViews)
    thread_id = await a_cold_thread(parts.store, "hello")
    await views.get(thread_id)
    go_on = asyncio.Event()
    slow = SlowFeed(monkeypatch, go_on.wait)
    await logged(parts, a_patch(thread_id, occurred_at=1))
    views.note_append(FOLD_WHEN_WAITING)
    await slow.met.wait()
    await logged(parts, a_patch(thread_id, occurred_at=2))
    views.note_append(FOLD_WHEN_WAITING)
    go_on.set()

    end = await parts.feed.end(0)
    for _ in range(100):
        if await checkpoint(parts) == end:
            break
        await asyncio.sleep(0.05)
    assert await checkpoint(parts) == end


# The file.


@pytest.mark.parametrize("fault", [LogUnavailable, OutcomeUnknown])
async def test_a_batch_that_cannot_be_written_makes_a_flush_say_that_it_counts(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch, fault: type[LogUnavailable | OutcomeUnknown]
) -> None:
    monkeypatch.setattr("projections.embedded.FOLD_WHEN_IDLE", 3600.0)
    thread_id, fired = await a_live_thread(parts.store, "before"), Counter[str]()
    stored = SqliteViews(parts.file)
    for _ in range(FOLD_WHEN_WAITING):
        await logged(parts, a_patch(thread_id, occurred_at=1))
    await say(parts.store, thread_id, "behind a batch")

    async def refuse(*given: object) -> object:
        fired["writes"] += 1
        raise fault("ordered by the test")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteFile, "write", refuse)
        mark = (await stored.snapshot(0, ())).mark
        with pytest.raises(ViewsUnavailable, match="ordered") as caught:
            await stored.commit(0, mark, mark.checkpoint, {})
        assert isinstance(caught.value.__cause__, fault)
        for _ in range(2):
            with pytest.raises(ViewsBehind, match=r"in the log.*ordered by the test"):
                await parts.store.flush_thread(thread_id)
    assert fired["writes"] >= 3
    await parts.store.flush_thread(thread_id)
    assert ["before", "behind a batch"] == await said(parts.store, thread_id)


async def test_views_that_cannot_be_read_are_unavailable(parts: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id, fired = await a_live_thread(parts.store, "before"), Counter[str]()
    stored = SqliteViews(parts.file)

    async def refuse(*given: object) -> object:
        fired["reads"] += 1
        raise LogUnavailable("ordered by the test")

    monkeypatch.setattr(SqliteFile, "read", refuse)
    for call in (
        stored.snapshot(0, ()),
        stored.index(thread_id, start=0, stop=1),
        parts.views.get(thread_id),
    ):
        with pytest.raises(ViewsUnavailable, match="ordered"):
            await call
    assert fired["reads"] >= 3


# Rows.


DAMAGE = {
    "a head cut short": "UPDATE thread SET head = substr(head, 1, 9)",
    "a head of something else": "UPDATE thread SET head = '[1, 2]'",
    "a head that is a number": "UPDATE thread SET head = 7",
    "a summary cut short": "UPDATE summary SET summary = substr(summary, 1, 9)",
    "a summary that is a list": "UPDATE summary SET summary = '[]'",
    "a summary of other fields": "UPDATE summary SET summary = '{\"colour\": 1}'",
    "facts cut short": "UPDATE thread SET run_facts = '{'",
}


async def generation(parts: Embedded) -> int:
    return int((await done(parts, "SELECT generation FROM projection"))[0])


MEETINGS: dict[str, Callable[[Embedded, ThreadId], Awaitable[object]]] = {
    "a list": lambda parts, thread_id: parts.store.list_threads(ListThreadsParams()),
    "a read": lambda parts, thread_id: read(parts.store, thread_id),
    "a history": lambda parts, thread_id: said(parts.store, thread_id),
    "a fold of what came": lambda parts, thread_id: patch(parts.store, thread_id, name="folded upon it"),
    "a writer": lambda parts, thread_id: resume(parts.store, thread_id),
}


@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.parametrize("damage", DAMAGE)
async def test_whatever_meets_a_damaged_row_has_it_folded_anew_and_goes_on(
    path: Path, damage: str, meeting: str
) -> None:
    async with opened(path) as parts:
        thread_id = await a_cold_thread(parts.store, "hello")
        other = await a_cold_thread(parts.store, "sound")
        before = (await parts.store.list_threads(ListThreadsParams())).items
        began = await generation(parts)
        await done(parts, DAMAGE[damage])
    async with opened(path) as parts:
        with pytest.raises(DamagedView, match=f"{thread_id} is damaged .*eventstore verify --repair folds it anew"):
            await SqliteViews(parts.file).snapshot(0, [thread_id])
        assert [thread_id] == list(await parts.views.matching(thread_id[:18], limit=2))
        assert await generation(parts) == began

        await MEETINGS[meeting](parts, thread_id)

        assert await generation(parts) == began + 1
        after = (await parts.store.list_threads(ListThreadsParams())).items
        assert {thread_id, other} == {thread.thread_id for thread in after}
        assert meeting in ("a fold of what came", "a writer") or after == before
        assert ["hello"] == await said(parts.store, thread_id)
        assert (await first_difference(parts.feed, SqliteViews(parts.file))).difference is None


async def test_rivals_that_meet_a_damaged_row_have_it_folded_anew_once(path: Path) -> None:
    async with opened(path) as parts:
        thread_id = await a_cold_thread(parts.store, "hello")
        await parts.store.list_threads(ListThreadsParams())
        began = await generation(parts)
        await done(parts, DAMAGE["a head cut short"])
        async with opened(path) as second, opened(path) as third:
            pages = await asyncio.gather(
                *(rival.store.list_threads(ListThreadsParams()) for rival in (parts, second, third) for _ in range(3))
            )

            assert [[thread_id]] * 9 == [[thread.thread_id for thread in page.items] for page in pages]
            assert await generation(parts) == began + 1


async def test_a_row_that_is_damaged_whenever_it_is_written_is_folded_anew_once_and_told(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id = await a_cold_thread(parts.store, "hello")
    began = await generation(parts)
    monkeypatch.setattr(projections.sqlite_views, "head_to_json", lambda head: ["of another fold"])
    await done(parts, DAMAGE["a head of something else"])

    for _ in range(3):
        with pytest.raises(ViewsUnavailable, match=f"{thread_id} is damaged .*verify --repair"):
            await parts.store.list_threads(ListThreadsParams())
        assert await generation(parts) == began + 1
        assert ["hello"] == await said(parts.store, thread_id)


async def test_a_damaged_row_that_cannot_be_folded_anew_is_told_and_the_log_answers_for_its_thread(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread_id, fired = await a_cold_thread(parts.store, "hello"), Counter[str]()
    await parts.store.list_threads(ListThreadsParams())
    await done(parts, DAMAGE["a head cut short"])

    async def refuse(*given: object) -> object:
        fired["writes"] += 1
        raise LogUnavailable("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteFile, "write", refuse)
        with pytest.raises(ViewsUnavailable, match=f"{thread_id} is damaged"):
            await parts.store.list_threads(ListThreadsParams())
        assert ["hello"] == await said(parts.store, thread_id)
    assert fired["writes"] >= 2
    assert [thread_id] == [one.thread_id for one in (await parts.store.list_threads(ListThreadsParams())).items]


# Clocks.


def a_patch(thread_id: ThreadId, *, occurred_at: int) -> MetadataPatched:
    return MetadataPatched(
        event_id=new_event_id(),
        thread_id=thread_id,
        occurred_at=occurred_at,
        commands_seen=0,
        fields=(Field("name", f'"{occurred_at}"'),),
    )


def an_archive(thread_id: ThreadId, *, occurred_at: int) -> ThreadArchived:
    return ThreadArchived(event_id=new_event_id(), thread_id=thread_id, occurred_at=occurred_at, commands_seen=0)


def an_unarchive(thread_id: ThreadId, *, occurred_at: int) -> ThreadUnarchived:
    return ThreadUnarchived(event_id=new_event_id(), thread_id=thread_id, occurred_at=occurred_at, commands_seen=0)


async def test_a_durable_store_acknowledges_what_counts_without_the_views(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked_for(*_: object, **__: object) -> None:
        raise AssertionError("a durable store waits for no views")

    settings = Settings(log=f"sqlite:{path}", actor="a test", durable=True)
    async with open_embedded(settings) as parts, opened(path) as elsewhere:
        monkeypatch.setattr(EmbeddedViews, "reach", asked_for)
        thread_id = await a_live_thread(parts.store, "one")
        await say(parts.store, thread_id, "two")
        await parts.store.shutdown_thread(thread_id)
        assert "named" == (await patch(parts.store, thread_id, name="named")).name
        monkeypatch.undo()

        assert ["one", "two"] == await said(elsewhere.store, thread_id)
        assert "named" == (await read(elsewhere.store, thread_id)).name


async def test_a_durable_command_has_its_verdict_when_the_views_go_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, looks = EmbeddedViews.get, 0

    async def once(views: EmbeddedViews, thread_id: ThreadId, **asked: Any) -> ThreadView | None:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise ViewsUnavailable("ordered by the test")
        return await look(views, thread_id, **asked)

    settings = Settings(log=f"sqlite:{path}", actor="a test", durable=True)
    async with open_embedded(settings) as parts:
        thread_id = await a_cold_thread(parts.store)
        monkeypatch.setattr(EmbeddedViews, "get", once)

        assert ("named", 1) == ((await patch(parts.store, thread_id, name="named")).name, looks)


async def test_a_frozen_thread_whose_records_are_missing_is_not_folded_anew(parts: Embedded) -> None:
    """A record that is missing leaves no trace in the log; the head at which the thread froze tells."""
    thread_id = await a_live_thread(parts.store, "one")
    await say(parts.store, thread_id, "two")
    await parts.store.flush_thread(thread_id)
    with an_earlier_version(), pytest.raises(UnreadableEvent, match=BEYOND):
        await patch(parts.store, thread_id, name=BEYOND)
    await done(parts, "DELETE FROM log WHERE offset = 3")

    for _ in range(2):
        with pytest.raises(LogTruncated, match="never come to where it froze, 3 items"):
            await parts.store.retry_thread(thread_id)


@pytest.mark.parametrize("occurred_at", [FAR, 2**63 - 1, -FAR, -1])
@pytest.mark.parametrize("archived", [False, True])
async def test_a_clock_beyond_the_calendar_misplaces_its_own_threads_only(
    parts: Embedded, occurred_at: int, archived: bool
) -> None:
    store = parts.store
    ids = [await a_cold_thread(store, f"{number}") for number in range(4)]
    for thread_id in ids[:3]:
        await logged(parts, a_patch(thread_id, occurred_at=occurred_at))
        await logged(parts, an_archive(thread_id, occurred_at=occurred_at))
        if not archived:
            await logged(parts, an_unarchive(thread_id, occurred_at=occurred_at))
    if archived:
        await logged(parts, an_archive(ids[3], occurred_at=1))

    for direction in SortDirection:
        cursor, found = None, []
        for _ in ids:
            asked: dict[str, Any] = {"sort_key": "UpdatedAt", "page_size": 1, "cursor": cursor, "archived": archived}
            page = await store.list_threads(ListThreadsParams(sort_direction=direction, **asked))
            assert page.model_dump_json()
            found += [thread.thread_id for thread in page.items]
            cursor = page.next_cursor
        assert cursor is None
        assert sorted(found) == sorted(ids)
        if occurred_at > 0:
            assert found.index(ids[3]) == (0 if direction is SortDirection.ASC else 3)
    for thread_id in ids[:3]:
        shown = await read(store, thread_id)
        assert shown.name == f"{occurred_at}"
        assert shown.archived_at == (moment(occurred_at) if archived else None)
        assert shown.model_dump_json()
    records = [record async for record in audit(parts.feed)]
    assert {record.verdict for record in records} == {"admitted"}
    assert moment(occurred_at) in {record.occurred_at for record in records}
