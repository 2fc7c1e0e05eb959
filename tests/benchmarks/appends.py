"""Durable appends against raw sqlite3 inserting and committing the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from eventstore.documents.items import RolloutItem
from eventstore.documents.params import AppendThreadItemsParams
from eventstore.ids import ThreadId
from eventstore.wiring import Embedded
from tests.benchmarks.measure import Figure, RawTable, fresh_store, items, median, stored_thread, timed, timed_raw

_WRITERS = 8

Items: TypeAlias = tuple[RolloutItem, ...]


async def measure(folder: Path, *, rounds: int, appends: int) -> list[Figure]:
    """Return the ratios of rates: ours to raw serial, medians over interleaved rounds."""
    ratios: dict[str, list[float]] = {"serial": [], "flush": [], "eight": [], "ten": []}
    rates = []
    for number in range(rounds):
        raw = RawTable(folder / f"raw-{number}.db")
        bodies = [item.text.encode() for item in items(10 * appends)]
        raw_one = timed_raw(partial(raw.append_all, "t", [[body] for body in bodies[:appends]]))
        tens = [bodies[i : i + 10] for i in range(0, len(bodies), 10)]
        raw_ten = timed_raw(partial(raw.append_all, "u", tens))
        async with fresh_store(folder / f"ours-{number}.db") as embedded:
            ones = [items(1, first=number) for number in range(appends)]
            by_ten = [items(10, first=number) for number in range(0, 10 * appends, 10)]
            threads = [await stored_thread(embedded) for _ in range(_WRITERS)]
            serial = await timed(partial(_append, embedded, threads[0], ones))
            flushed = await timed(partial(_append, embedded, threads[0], ones, flush=True))
            eight = await timed(partial(_append_all, embedded, threads, ones[: appends // _WRITERS]))
            ten = await timed(partial(_append, embedded, threads[0], by_ten))
        ratios["serial"].append(raw_one / serial)
        ratios["flush"].append(raw_one / flushed)
        ratios["eight"].append(raw_one / eight)
        ratios["ten"].append(raw_ten / ten)
        rates.append(appends / raw_one)
    raw_rate = f"raw {median(rates):,.0f} appends/s"
    return [
        Figure("append of one item, serial", median(ratios["serial"]), "of raw", ">= 0.5, aim 0.75", raw_rate),
        Figure("append + flush, serial", median(ratios["flush"]), "of raw", ">= 0.4", raw_rate),
        Figure("eight concurrent writers", median(ratios["eight"]), "of raw serial", ">= 2, aim 3", raw_rate),
        Figure(
            "appends of ten items",
            median(ratios["ten"]),
            "of raw items/s",
            ">= 0.8, aim 1",
            "one event against ten rows",
        ),
    ]


async def _append_all(embedded: Embedded, threads: Sequence[ThreadId], batches: Sequence[Items]) -> None:
    await asyncio.gather(*(_append(embedded, thread, batches) for thread in threads))


async def _append(embedded: Embedded, thread_id: ThreadId, batches: Sequence[Items], *, flush: bool = False) -> None:
    store = embedded.store
    for batch in batches:
        await store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=batch))
        if flush:
            await store.flush_thread(thread_id)
