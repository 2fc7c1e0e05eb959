"""Histories of long threads against raw reads and fastavro decoding of the same records, and against JSONL."""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import fastavro

from eventstore.codec import MAGIC, codec
from eventstore.documents.params import LoadThreadHistoryParams, ReadItemsParams, SortDirection
from eventstore.ids import ThreadId
from eventstore.sqlite.log import key_of
from eventstore.wiring import Embedded
from tests.benchmarks.measure import Figure, fresh_store, items, median, payload, stored_thread, timed, timed_raw

LENGTH = 10_000


async def measure(folder: Path, *, rounds: int) -> list[Figure]:
    """Return ratios of times, ours to raw: below 1 is faster than raw."""
    figures = [await _against_raw(folder, rounds, each=1), await _against_raw(folder, rounds, each=10)]
    return [*figures, await _against_jsonl(folder, rounds), _memory(folder), *await _latest(folder, rounds)]


async def _against_raw(folder: Path, rounds: int, *, each: int) -> Figure:
    path = folder / f"history-{each}.db"
    ratios = []
    async with fresh_store(path) as embedded:
        thread = await stored_thread(embedded, *_batches(LENGTH, each))
        raw = sqlite3.connect(path)
        for _ in range(rounds):
            before = timed_raw(lambda: read_raw(raw, thread))
            ratios.append(await timed(lambda: _load(embedded, thread)) / before)
    name = f"history of {LENGTH:,} items, {each} an event"
    return Figure(name, median(ratios), "times raw read + fastavro decode", "<= 1.5")


async def _against_jsonl(folder: Path, rounds: int) -> Figure:
    file = folder / "history.jsonl"
    lines = (
        json.dumps({"timestamp": "2026-01-01T00:00:00.000Z", "type": "response_item", "payload": payload(n)})
        for n in range(LENGTH)
    )
    file.write_text("\n".join(lines))
    ratios = []
    async with fresh_store(folder / "history-10.db") as embedded:
        (thread,) = await embedded.views.thread_ids(after=None, limit=1)
        for _ in range(rounds):
            before = timed_raw(lambda: [json.loads(line) for line in file.open()])
            ratios.append(await timed(lambda: _load(embedded, thread)) / before)
    return Figure("the same, ten an event", median(ratios), "times reading and parsing JSONL", "<= 1")


async def _latest(folder: Path, rounds: int) -> list[Figure]:
    times = {}
    for length in (1_000, LENGTH):
        path = folder / f"latest-{length}.db"
        async with fresh_store(path) as embedded:
            thread = await stored_thread(embedded, *_batches(length, 1))
            query = ReadItemsParams(thread_id=thread, page_size=50, sort_direction=SortDirection.DESC)
            times[length] = median(
                [await timed(lambda e=embedded, q=query: e.store.read_items(q)) for _ in range(rounds * 20)]
            )
    return [
        Figure(f"latest 50 of {LENGTH:,}", times[LENGTH] * 1000, "ms", "< 1"),
        Figure("latest 50, long against short", times[LENGTH] / times[1_000], "times that of 1,000", "about 1"),
    ]


def _memory(folder: Path) -> Figure:
    """Measure, in a process of its own, how much resident memory a whole history adds."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.histories", str(folder / "history-10.db")],
        capture_output=True,
        text=True,
        check=True,
    )
    grown, texts = map(int, done.stdout.split())
    return Figure(f"memory for {LENGTH:,} items", grown / texts, "times the payload", "<= 3")


def read_raw(connection: sqlite3.Connection, thread: ThreadId) -> int:
    """Read and decode the thread's records with SQLite and fastavro alone; return how many items they bear."""
    rows = connection.execute("SELECT record FROM log WHERE thread = ? ORDER BY offset", (key_of(thread),))
    return sum(len(_decoded(record)["items"]) for (record,) in rows)


def _decoded(record: bytes) -> dict[str, list[object]]:
    body = BytesIO(record)
    body.seek(len(MAGIC) + 8)
    return fastavro.schemaless_reader(body, codec()._readers[codec().fingerprint], None)  # type: ignore[return-value]


async def _load(embedded: Embedded, thread: ThreadId) -> None:
    history = await embedded.store.load_history(LoadThreadHistoryParams(thread_id=thread))
    assert len(history.items) >= LENGTH


def _batches(length: int, each: int) -> list[tuple[object, ...]]:
    return [items(each, first=first) for first in range(0, length, each)]


def _resident() -> int:
    """Return this process's resident bytes (a peak would be the parent's, which a child begins with)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def _print_growth(path: str) -> None:
    async with fresh_store(Path(path)) as embedded:
        (thread,) = await embedded.views.thread_ids(after=None, limit=1)
        await embedded.store.read_items(ReadItemsParams(thread_id=thread, page_size=1))
        before = _resident()
        history = await embedded.store.load_history(LoadThreadHistoryParams(thread_id=thread))
        print(_resident() - before, sum(len(item.text) for item in history.items))


if __name__ == "__main__":
    import asyncio

    asyncio.run(_print_growth(sys.argv[1]))
