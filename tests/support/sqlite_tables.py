"""Views in SQLite, as the tables they are."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from eventstore.ports import Entry
from eventstore.settings import Settings
from eventstore.sqlite.file import SqliteFile
from eventstore.wiring import open_embedded
from projections.projector import Projector
from projections.sqlite_views import SqliteViews
from tests.support.logs import ListFeed

Tables: TypeAlias = "list[tuple[Any, ...]]"


@asynccontextmanager
async def sqlite_file() -> AsyncIterator[SqliteFile]:
    async with open_embedded(Settings(log="sqlite::memory:")) as embedded:
        yield embedded.file


_COPIED = ("projection", "thread", "summary", "item_index")


async def tables(file: SqliteFile) -> Tables:
    """Return all that the views hold but the generation's number."""

    def select(connection: sqlite3.Connection) -> Tables:
        sql = (
            "SELECT checkpoint FROM projection",
            "SELECT t.*, s.* FROM thread t JOIN summary s ON s.no = t.no ORDER BY t.id",
            "SELECT * FROM item_index ORDER BY no, ordinal",
        )
        return [row for query in sql for row in connection.execute(query).fetchall()]

    return await file.read(select)


async def copy_aside(file: SqliteFile) -> None:
    def copy(connection: sqlite3.Connection) -> None:
        for table in _COPIED:
            connection.execute(f"DROP TABLE IF EXISTS old_{table}")
            connection.execute(f"CREATE TABLE old_{table} AS SELECT * FROM {table}")

    await file.write(copy)


async def put_back(file: SqliteFile) -> None:
    def put(connection: sqlite3.Connection) -> None:
        for table in _COPIED:
            connection.execute(f"DELETE FROM {table}")
            connection.execute(f"INSERT INTO {table} SELECT * FROM old_{table}")

    await file.write(put)


async def lose(file: SqliteFile) -> None:
    def delete(connection: sqlite3.Connection) -> None:
        for table in _COPIED[1:]:
            connection.execute(f"DELETE FROM {table}")
        connection.execute("UPDATE projection SET checkpoint = 1, generation = generation + 1")

    await file.write(delete)


async def projected(entries: Sequence[Entry], *, batch: int = 256) -> Tables:
    async with sqlite_file() as file:
        feed = ListFeed(entries)
        end = await feed.end(0)
        assert end == await Projector(feed, SqliteViews(file), batch=batch).catch_up(end)
        return await tables(file)
