"""The views in the file: lost, put back to an older copy, or of another fold."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import projections.fold
import projections.sqlite_views
from eventstore import ListThreadsParams, ThreadStore
from eventstore.errors import (
    ViewsUnavailable,
)
from eventstore.ids import ThreadId
from eventstore.wiring import Embedded, open_store
from tests.support.files import a_file_with_a_thread, by_hand, opened, unfold, unjournaled_objections, value
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    archive,
    read,
    resume,
    said,
    say,
)


def dropped(connection: sqlite3.Connection) -> None:
    for table in ("projection", "thread", "summary", "item_index"):
        connection.execute(f"DROP TABLE {table}")


def one_dropped(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE item_index")


def emptied(connection: sqlite3.Connection) -> None:
    for table in ("projection", "thread", "summary", "item_index"):
        connection.execute(f"DELETE FROM {table}")


Use = Callable[[ThreadStore, ThreadId, ThreadId], Awaitable[None]]

LOSSES = [dropped, one_dropped, emptied, unfold]


async def used(store: ThreadStore, live: ThreadId, cold: ThreadId) -> None:
    """Use a store whose views were lost in all the ways that read them."""
    assert ["cold"] == await said(store, cold)
    assert {live, cold} == {thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items}
    assert (await read(store, cold)).thread_id == cold
    await say(store, live, "after the loss")
    await store.flush_thread(live)
    assert ["live", "after the loss"] == await said(store, live)
    await archive(store, cold)
    assert (await read(store, cold)).archived_at is not None


async def listed(store: ThreadStore, live: ThreadId, cold: ThreadId) -> None:
    """List first of all, for which no log can answer."""
    assert {live, cold} == {thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items}


async def flushed(store: ThreadStore, live: ThreadId, cold: ThreadId) -> None:
    """Flush first of all."""
    await say(store, live, "after the loss")
    await store.flush_thread(live)
    assert ["live", "after the loss"] == await said(store, live)
    assert ["cold"] == await said(store, cold)


@pytest.mark.parametrize("loss", LOSSES)
async def test_views_that_were_lost_are_made_again_when_the_file_is_opened(
    path: Path, loss: Callable[[sqlite3.Connection], None]
) -> None:
    async with open_store(f"sqlite:{path}") as store:
        live, cold = await a_cold_thread(store, "live"), await a_cold_thread(store, "cold")
    with by_hand(path) as connection:
        loss(connection)

    async with open_store(f"sqlite:{path}") as store:
        await resume(store, live)
        await used(store, live, cold)
    async with opened(path) as parts:
        assert not await unjournaled_objections(parts)


@pytest.mark.parametrize("use", [used, listed, flushed])
@pytest.mark.parametrize("loss", LOSSES)
async def test_views_that_are_lost_under_an_open_store_are_made_again_at_the_next_read(
    parts: Embedded, loss: Callable[[sqlite3.Connection], None], use: Use
) -> None:
    store = parts.store
    live, cold = await a_live_thread(store, "live"), await a_cold_thread(store, "cold")
    with by_hand(Path(parts.file.path)) as connection:
        loss(connection)

    await use(store, live, cold)
    assert not await unjournaled_objections(parts)


@pytest.mark.parametrize("written", [False, True], ids=["in-memory", "written"])
@pytest.mark.parametrize("use", [used, listed, flushed])
async def test_views_that_are_put_back_to_an_older_copy_are_brought_up_again(
    parts: Embedded, use: Use, written: bool
) -> None:
    store = parts.store
    tables = ("projection", "thread", "summary", "item_index")
    with by_hand(Path(parts.file.path)) as connection:
        before = await a_cold_thread(store, "before the copy")
        await store.list_threads(ListThreadsParams())
        for table in tables:
            connection.execute(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM {table}")
        await archive(store, before)
        live, cold = await a_live_thread(store, "live"), await a_cold_thread(store, "cold")
        if written:
            await store.list_threads(ListThreadsParams())
        connection.execute("BEGIN IMMEDIATE")
        for table in tables:
            connection.execute(f"DELETE FROM {table}")
            assert connection.execute(f"INSERT INTO {table} SELECT * FROM old_{table}").rowcount >= 1
        connection.execute("COMMIT")

    await use(store, live, cold)
    assert (await read(store, before)).archived_at is not None
    assert not await unjournaled_objections(parts)


async def test_views_of_another_fold_are_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id = await a_file_with_a_thread(path, "hello")
    with by_hand(path) as connection:
        connection.execute("UPDATE summary SET summary = json_set(summary, '$.preview', 'as an older fold had it')")
    async with open_store(f"sqlite:{path}") as store:
        assert (await read(store, thread_id)).preview == "as an older fold had it"

    for fold, generation in ((2, 2), (1, 3)):
        monkeypatch.setattr(projections.fold, "FOLD", fold)
        monkeypatch.setattr(projections.fold, "FOLD", fold)
        async with open_store(f"sqlite:{path}") as store:
            assert (await read(store, thread_id)).preview == "hello"
        assert str(value(path, "SELECT fold FROM projection")).startswith(f"{fold}/")
        assert value(path, "SELECT generation FROM projection") == generation


async def test_a_store_whose_views_another_fold_took_over_says_so_and_spoils_nothing(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two versions at work on one file, one would otherwise write its views into the other's."""
    store, path = parts.store, Path(parts.file.path)
    thread_id = await a_live_thread(store, "before")
    with monkeypatch.context() as patched:
        patched.setattr(projections.fold, "FOLD", 2)
        async with open_store(f"sqlite:{path}") as newer:
            assert ["before"] == await said(newer, thread_id)

    await say(store, thread_id, "it is logged")
    await store.flush_thread(thread_id)
    with pytest.raises(ViewsUnavailable, match="another version"):
        await store.list_threads(ListThreadsParams())
    assert ["before", "it is logged"] == await said(store, thread_id)
    assert str(value(path, "SELECT fold FROM projection")).startswith("2/")
    with monkeypatch.context() as patched:
        patched.setattr(projections.fold, "FOLD", 2)
        assert not await unjournaled_objections(parts)
        async with open_store(f"sqlite:{path}") as newer:
            assert ["before", "it is logged"] == await said(newer, thread_id)
