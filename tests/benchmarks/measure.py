"""What all benchmarks share: items like real ones, a raw SQLite twin, medians of interleaved rounds."""

from __future__ import annotations

import sqlite3
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from eventstore.documents.items import RolloutItem
from eventstore.documents.params import AppendThreadItemsParams, CreateThreadParams
from eventstore.ids import ThreadId, new_thread_id
from eventstore.settings import load_settings
from eventstore.wiring import Embedded, Parts, open_embedded

ITEM_BYTES = 700
_TEXT = "The test failed because the fixture is torn down before the worker drains its queue. "


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure, and what it is held against."""

    name: str
    reached: float
    unit: str
    wanted: str
    detail: str = ""


def payload(number: int) -> dict[str, object]:
    """Return the payload of one assistant message, about 700 bytes as JSON."""
    text = f"{number}: {_TEXT}" * 7
    content = [{"type": "output_text", "text": text[: ITEM_BYTES - 82]}]
    return {"type": "message", "role": "assistant", "content": content}


def items(count: int, *, first: int = 0) -> tuple[RolloutItem, ...]:
    return tuple(RolloutItem("response_item", payload(first + n)) for n in range(count))


def user_message(text: str) -> RolloutItem:
    return RolloutItem("event_msg", {"type": "user_message", "message": text})


class RawTable:
    """What a careful hand would write on sqlite3: one table, WAL, one durable commit an append."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute(
            "CREATE TABLE item (thread TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB NOT NULL,"
            " PRIMARY KEY (thread, seq))"
        )
        self.seq = 0

    def append_all(self, thread: str, batches: list[list[bytes]]) -> None:
        for bodies in batches:
            self.append(thread, bodies)

    def append(self, thread: str, bodies: list[bytes]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        for body in bodies:
            self.seq += 1
            self.connection.execute("INSERT INTO item VALUES (?, ?, ?)", (thread, self.seq, body))
        self.connection.execute("COMMIT")


@asynccontextmanager
async def fresh_store(path: Path) -> AsyncIterator[Embedded]:
    async with open_embedded(load_settings(log=f"sqlite:{path}", actor="bench")) as embedded:
        yield embedded


async def stored_thread(parts: Parts, *batches: tuple[RolloutItem, ...]) -> ThreadId:
    """Create a live thread with a user message and the batches, flushed."""
    store, thread_id = parts.store, new_thread_id()
    await store.create_thread(CreateThreadParams(thread_id=thread_id))
    await store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=(user_message("measure me"),)))
    for batch in batches:
        await store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=batch))
    await store.flush_thread(thread_id)
    return thread_id


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """Return the seconds that the work takes."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


def timed_raw(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


async def traced(work: Callable[[], Awaitable[object]]) -> float:
    """Return the MiB that the work takes at most, at several times its cost."""
    tracemalloc.start()
    try:
        await work()
        return tracemalloc.get_traced_memory()[1] / 1024**2
    finally:
        tracemalloc.stop()


def most_resident(pid: int) -> float:
    """Return the MiB that the process has had resident at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def median(values: list[float]) -> float:
    return statistics.median(values)
