"""SQLite files of threads, opened as stores and reached behind the store's back."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from eventstore.ids import ThreadId
from eventstore.settings import Settings
from eventstore.wiring import Embedded, open_embedded, open_store
from tests.support.checker import objections
from tests.support.threads import a_cold_thread


@asynccontextmanager
async def opened(path: Path, *, within: float = 30.0) -> AsyncIterator[Embedded]:
    async with open_embedded(Settings(log=f"sqlite:{path}", actor="a test", within=within)) as parts:
        yield parts


async def a_file_with_a_thread(path: Path, *texts: str) -> ThreadId:
    async with open_store(f"sqlite:{path}") as store:
        return await a_cold_thread(store, *texts)


@contextmanager
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    """What somebody does to the file with the sqlite3 shell."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def read_for_long(path: Path) -> Iterator[None]:
    """Hold a snapshot of the file for the block, which keeps its write-ahead log from beginning anew."""
    with by_hand(path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM log").fetchone()
        yield


def value(path: Path, sql: str, *values: object) -> object:
    with by_hand(path) as connection:
        return connection.execute(sql, values).fetchone()[0]


def unfold(connection: sqlite3.Connection) -> None:
    """Let the views begin anew."""
    for table in ("thread", "summary", "item_index"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("UPDATE projection SET generation = generation + 1, checkpoint = 1")


async def unjournaled_objections(parts: Embedded) -> list[str]:
    """Judge the file by all that needs no journal: replay, fold, index and ordinals."""
    found = await objections(Path(parts.file.path), [])
    return [objection for objection in found if "nobody attempted it" not in objection]
