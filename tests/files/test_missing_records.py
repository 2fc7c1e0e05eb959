"""Records taken out of the middle of the log: whatever replays one thread says so, and gives no shortened thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from eventstore.codex.exporting import export_home, export_lines, export_thread
from eventstore.errors import LogTruncated
from eventstore.history import AsOf
from eventstore.ids import ThreadId
from eventstore.wiring import Embedded
from tests.support.files import opened
from tests.support.threads import a_cold_thread, archive, history, patch, resume, say_and_flush, unarchive

RECORDS = 13
"""Records of the thread that is made here. Each of them counts."""
ITEMS, LINES = 4, 5
"""What the thread has, and what it is exported as: the name is a line more."""


async def a_thread_of_many_kinds(path: Path) -> ThreadId:
    """Make a thread of every kind of event that lets it live on, and another one's records behind it."""
    async with opened(path) as parts:
        store = parts.store
        thread_id = await a_cold_thread(store, "hello")
        await resume(store, thread_id)
        await say_and_flush(store, thread_id, "one")
        await say_and_flush(store, thread_id, "two")
        await store.shutdown_thread(thread_id)
        await patch(store, thread_id, name="a name")
        await archive(store, thread_id)
        await unarchive(store, thread_id)
        await resume(store, thread_id)
        await store.shutdown_thread(thread_id)
        await patch(store, thread_id, model="the last word")
        await a_cold_thread(store, "somebody else")
    return thread_id


def change(path: Path, sql: str, *values: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(sql, values).rowcount == 1


async def exported(parts: Embedded, thread_id: ThreadId) -> int:
    return len([line async for line in await export_lines(parts.feed, parts.views, thread_id)])


async def exported_to_a_file(parts: Embedded, thread_id: ThreadId) -> int:
    file = Path(parts.file.path).with_name("rollout.jsonl")
    try:
        return (await export_thread(parts.feed, parts.views, thread_id, file)).lines
    except LogTruncated:
        assert not file.exists()
        raise


async def exported_with_all_others(parts: Embedded, thread_id: ThreadId) -> int:
    home = Path(parts.file.path).with_name("home")
    both = {one.thread_id: one async for one in export_home(parts.feed, parts.views, home)}
    assert len(both) == 2
    ours = both.pop(thread_id)
    (other,) = both.values()
    assert (other.error, other.lines) == (None, 2)
    if ours.error is not None:
        assert ours.path is None
        raise ours.error
    return ours.lines


async def as_it_is_now(parts: Embedded, thread_id: ThreadId) -> int:
    _, items = await parts.store.history.as_of(thread_id, AsOf())
    return len(items) + 1


async def as_it_began(parts: Embedded, thread_id: ThreadId) -> int:
    state, items = await parts.store.history.as_of(thread_id, AsOf(version=1))
    assert (state.head.version, len(items)) == (1, 1)
    return LINES


READINGS: list[Callable[[Embedded, ThreadId], Awaitable[int]]] = [
    exported,
    exported_to_a_file,
    exported_with_all_others,
    as_it_is_now,
    as_it_began,
]


@pytest.mark.parametrize("read", READINGS)
async def test_a_log_with_all_its_records_is_replayed_whole(
    tmp_path: Path, read: Callable[[Embedded, ThreadId], Awaitable[int]]
) -> None:
    path = tmp_path / "threads.db"
    thread_id = await a_thread_of_many_kinds(path)

    async with opened(path) as parts:
        assert (await parts.views.get(thread_id)) is not None
        assert LINES == await read(parts, thread_id)


@pytest.mark.parametrize("offset", range(1, RECORDS + 1))
@pytest.mark.parametrize("read", READINGS)
async def test_a_record_taken_out_of_the_middle_is_never_a_shortened_thread(
    tmp_path: Path, read: Callable[[Embedded, ThreadId], Awaitable[int]], offset: int
) -> None:
    path = tmp_path / "threads.db"
    thread_id = await a_thread_of_many_kinds(path)
    change(path, "DELETE FROM log WHERE offset = ? AND thread = (SELECT thread FROM log ORDER BY offset)", offset)

    async with opened(path) as parts:
        with pytest.raises(LogTruncated, match=f"the records of thread {thread_id} in the log give .* backup"):
            await read(parts, thread_id)


async def test_a_record_that_turned_into_no_record_of_ours_is_missed_too(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    thread_id = await a_thread_of_many_kinds(path)
    change(path, "UPDATE log SET record = 'not ours' WHERE offset = 5")

    async with opened(path) as parts:
        with pytest.raises(LogTruncated):
            await exported(parts, thread_id)


async def test_where_the_views_lost_a_part_a_hole_is_found_as_well(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    thread_id = await a_thread_of_many_kinds(path)
    change(path, "DELETE FROM item_index WHERE no = 1 AND ordinal = 2")

    async with opened(path) as parts:
        view = await parts.views.get(thread_id, span=slice(None))
        assert view is not None
        assert sum(place.items for place in view.indexed) < ITEMS
        assert len((await history(parts.store, thread_id)).items) == ITEMS
    change(path, "DELETE FROM log WHERE offset = 5")
    async with opened(path) as parts:
        with pytest.raises(LogTruncated):
            await history(parts.store, thread_id)


async def test_a_record_that_never_counted_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    thread_id = await a_thread_of_many_kinds(path)
    change(path, "INSERT INTO log (thread, record) SELECT thread, record FROM log WHERE offset = 2")
    async with opened(path) as parts:
        repeated = await parts.feed.end(0) - 1
        assert await exported(parts, thread_id) == LINES
        await a_cold_thread(parts.store, "goes on")
    change(path, "DELETE FROM log WHERE offset = ?", repeated)

    async with opened(path) as parts:
        for read in READINGS[:2]:
            assert LINES == await read(parts, thread_id)
