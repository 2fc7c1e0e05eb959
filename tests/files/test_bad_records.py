"""Records that nobody here can understand, that are nobody's, or that are gone."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventstore import ListThreadsParams, ThreadStore, new_thread_id
from eventstore.codec import MAGIC, codec
from eventstore.errors import (
    LogTruncated,
    UnreadableEvent,
    ViewsAheadOfLog,
)
from eventstore.events import ItemsAppended
from eventstore.history import AsOf
from eventstore.ids import ThreadId
from eventstore.sqlite.log import key_of
from eventstore.wiring import Embedded, open_store
from tests.support.files import a_file_with_a_thread, by_hand, opened, unfold, value
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    archive,
    history,
    page,
    patch,
    read,
    resume,
    said,
    say,
)


def garbled(record: bytes) -> bytes:
    """Ours by its framing, with a body that is cut short."""
    return record[:-7]


def of_a_later_schema(record: bytes) -> bytes:
    return MAGIC + b"unknown!" + record[10:]


def of_a_later_kind(record: bytes) -> bytes:
    return record.replace(b"ItemsAppended", b"ItemsRewarded")


def of_a_later_rule(record: bytes) -> bytes:
    # Zigzag: rule 1 is written 0x02, rule 2 would be 0x04.
    return record.replace(b"ItemsAppended\x02", b"ItemsAppended\x04")


UNREADABLE = [garbled, of_a_later_schema, of_a_later_kind, of_a_later_rule]


@asynccontextmanager
async def a_store_with_a_bad_record(
    path: Path, bad: Callable[[bytes], bytes]
) -> AsyncIterator[tuple[ThreadStore, ThreadId, ThreadId]]:
    """Open a store on a file of two threads, one of which has a record, not folded yet, that was changed by hand."""
    async with open_store(f"sqlite:{path}") as store:
        sound, harmed = await a_cold_thread(store, "sound"), await a_cold_thread(store, "harmed")
        await resume(store, harmed)
        await say(store, harmed, "the record that goes bad")
        await store.flush_thread(harmed)
    with by_hand(path) as connection:
        offset, record = connection.execute("SELECT max(offset), record FROM log").fetchone()
        assert bad(record) != record
        connection.execute("UPDATE log SET record = ? WHERE offset = ?", (bad(record), offset))
        unfold(connection)
    async with open_store(f"sqlite:{path}") as store:
        yield store, sound, harmed


@pytest.mark.parametrize("bad", UNREADABLE)
async def test_a_record_that_cannot_be_understood_freezes_its_thread_and_no_other(
    path: Path, bad: Callable[[bytes], bytes]
) -> None:
    async with a_store_with_a_bad_record(path, bad) as (store, sound, harmed):
        refusals = 0
        for refused in (
            lambda: history(store, harmed),
            lambda: read(store, harmed),
            lambda: page(store, harmed),
            lambda: resume(store, harmed),
            lambda: archive(store, harmed),
            lambda: patch(store, harmed, name="a name"),
        ):
            with pytest.raises(UnreadableEvent, match=harmed):
                await refused()
            refusals += 1
        assert refusals == 6

        await resume(store, sound)
        await say(store, sound, "goes on")
        await store.flush_thread(sound)
        assert ["sound", "goes on"] == await said(store, sound)
        assert sound in [thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items]
    assert value(path, "SELECT count(*) FROM thread WHERE frozen IS NOT NULL") == 1
    assert "cannot be understood" in str(value(path, "SELECT frozen FROM thread WHERE frozen IS NOT NULL"))


async def test_a_live_thread_that_freezes_says_so_at_its_flush(parts: Embedded) -> None:
    """A newer version writes to a thread which this one has live."""
    store = parts.store
    thread_id, other = await a_live_thread(store), await a_live_thread(store)
    row = key_of(thread_id), MAGIC + b"unknown!" + b"body"
    await parts.file.write(lambda connection: connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row))

    await say(store, thread_id, "after")
    with pytest.raises(UnreadableEvent, match=f"{thread_id}.*unknown to|{thread_id}.*not known to"):
        await store.flush_thread(thread_id)

    await say(store, other, "goes on")
    await store.flush_thread(other)
    assert ["hello", "goes on"] == await said(store, other)


async def test_a_folded_record_that_goes_bad_is_never_a_short_history(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path, "hello")
    with by_hand(path) as connection:
        assert connection.execute("UPDATE log SET record = x'00' WHERE offset = 2").rowcount == 1

    async with open_store(f"sqlite:{path}") as store:
        with pytest.raises(UnreadableEvent, match="restore a backup"):
            await history(store, thread_id)


async def test_a_folded_record_that_is_gone_is_never_a_short_history(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path, "hello")
    with by_hand(path) as connection:
        assert connection.execute("DELETE FROM log WHERE offset = 2").rowcount == 1

    async with open_store(f"sqlite:{path}") as store:
        with pytest.raises(LogTruncated, match="restore a backup"):
            await history(store, thread_id)


FOREIGN: dict[str, Callable[[bytes, bytes], tuple[object, object]]] = {
    "not our framing": lambda key, record: (key, b"not our framing"),
    "an empty record": lambda key, record: (key, b""),
    "a text": lambda key, record: (key, "a text"),
    "a number": lambda key, record: (key, 7),
    "another thread's record": lambda key, record: (bytes(16), record),
    "a key of five bytes": lambda key, record: (b"five.", record),
    "a key that is text": lambda key, record: ("sixteen letters.", record),
    "a key that is a number": lambda key, record: (5, record),
    "no key": lambda key, record: (b"", b""),
}


async def test_a_log_that_was_cut_short_under_its_views_is_refused(path: Path) -> None:
    async with opened(path) as parts:
        await a_live_thread(parts.store, "one", "two")
    with by_hand(path) as connection:
        cut = connection.execute("DELETE FROM log WHERE offset = (SELECT max(offset) FROM log)").rowcount

    assert cut == 1
    with pytest.raises(ViewsAheadOfLog, match=r"records were taken out of it; restore a backup$"):
        async with opened(path):
            pass


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_record_that_is_not_ours_harms_nobody(parts: Embedded, foreign: str) -> None:
    store = parts.store
    thread_id = await a_live_thread(store, "before")

    def insert(connection: sqlite3.Connection) -> None:
        (record,) = connection.execute("SELECT record FROM log WHERE offset = 1").fetchone()
        row = FOREIGN[foreign](key_of(thread_id), record)
        connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row)

    await parts.file.write(insert)
    end = await parts.feed.end(0)
    await say(store, thread_id, "after")
    await store.flush_thread(thread_id)

    assert await parts.feed.end(0) == end + 1
    assert ["before", "after"] == await said(store, thread_id)
    assert [thread_id] == [thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items]
    _, as_of = await store.history.as_of(thread_id, AsOf())
    assert len(as_of) == 3
    await say(store, thread_id, "named", append_id=new_thread_id())
    await store.flush_thread(thread_id)
    assert ["before", "after", "named"] == await said(store, thread_id)


async def test_an_event_under_anothers_key_is_nobodys(parts: Embedded) -> None:
    """Its body names one thread and its key another: neither takes it, in whatever way its history is read."""
    store = parts.store
    one, two = await a_live_thread(store, "one"), await a_live_thread(store, "two")
    entries = await parts.feed.read(0, start=1, limit=10)
    (event,) = [e.event for e in entries if e.thread_id == one and isinstance(e.event, ItemsAppended)]
    row = key_of(two), codec().encode(event)
    await parts.file.write(lambda connection: connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row))

    for thread_id, text in ((one, "one"), (two, "two")):
        assert [text] == await said(store, thread_id)
        _, as_of = await store.history.as_of(thread_id, AsOf())
        assert len(as_of) == 2
