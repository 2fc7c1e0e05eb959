"""Very many threads on Kafka and Redis: pages of them, and what the worker that folds them takes."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from functools import partial

from eventstore.documents.params import ListThreadsParams
from eventstore.errors import ViewsBehind, ViewsUnavailable
from eventstore.settings import Settings
from eventstore.wiring import Clustered, open_clustered
from tests.benchmarks.clusters import MakeLog, bare_producer, record_of, worker_process
from tests.benchmarks.listings import a_thread
from tests.benchmarks.measure import Figure, median, most_resident, timed

_PARTITIONS = 24
_PAGES = 100
_WAITING = 20_000
"""Records handed to the producer before their acknowledgements are waited for."""


async def measure(made: MakeLog, *, small: int, large: int) -> list[Figure]:
    """Return how a page of 50 from the large crowd compares with one from the small, and the worker's memory."""
    few, _, _ = await _a_crowd(made, small)
    many, resident, rate = await _a_crowd(made, large)
    return [
        Figure(
            f"list page of 50 from {large:,} threads",
            many / few,
            f"times that of {small:,}",
            "<= 2",
            f"{many * 1000:.1f} ms",
        ),
        Figure(f"worker at {large:,} threads", resident, "MiB", "< 400", f"{rate:,.0f} events/s"),
    ]


async def _a_crowd(made: MakeLog, threads: int) -> tuple[float, float, float]:
    """Return the seconds of a page, the worker's peak of resident MiB, and the events it folded a second."""
    async with made(partitions=_PARTITIONS) as settings:
        await _fill(settings, threads)
        async with open_clustered(settings) as parts:
            began = time.perf_counter()
            async with worker_process(settings) as worker:
                await _folded(parts)
                took = time.perf_counter() - began
                query = ListThreadsParams(page_size=50)
                load = partial(parts.store.list_threads, query)
                assert 50 == len((await load()).items)
                page = median([await timed(load) for _ in range(_PAGES)])
                return page, most_resident(worker), 2 * threads / took


async def _fill(settings: Settings, threads: int) -> None:
    """Write two events a thread, as fast as may be."""
    chance = random.Random(7)
    async with bare_producer(settings) as producer:
        waiting: list[asyncio.Future[object]] = []
        for number in range(threads):
            for event in a_thread(number, chance):
                record = record_of(event, _PARTITIONS)
                waiting.append(
                    await producer.send(
                        settings.kafka.topic,
                        record.value,
                        record.key,
                        partition=record.partition,
                        headers=list(record.headers),
                    )
                )
            if len(waiting) >= _WAITING:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)


async def _folded(parts: Clustered) -> None:
    """Wait until the views hold all of the log."""
    while True:
        with suppress(ViewsBehind, ViewsUnavailable):
            await parts.views.thread_ids(after=None, limit=1)
            return
