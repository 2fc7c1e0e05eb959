"""Pages of 50 threads: at 100,000 threads against 1,000, for each sort key and filter."""

from __future__ import annotations

import random
from pathlib import Path

from eventstore.documents.params import ListThreadsParams, SortDirection, ThreadSortKey
from eventstore.events import Item, ItemsAppended, ThreadCreated
from eventstore.ids import new_event_id, new_thread_id, new_writer_id
from eventstore.jsontext import dumps
from eventstore.wiring import Embedded
from tests.benchmarks.measure import Figure, fresh_store, median, timed

_PROVIDERS = ("openai", "azure", "local")
_SOURCES = ("cli", "vscode", "exec")
_CWDS = tuple(f"/home/dev/project-{n}" for n in range(20))
_THREADS_AT_A_TIME = 500

QUERIES: dict[str, dict[str, object]] = {
    "no filter": {},
    "provider": {"model_providers": ("openai",)},
    "source": {"allowed_sources": ("cli",)},
    "cwd": {"cwd_filters": (_CWDS[3],)},
    "two sources": {"allowed_sources": ("cli", "exec")},
}


async def measure(folder: Path, *, rounds: int, threads: int) -> list[Figure]:
    """Return the slowest page of all sort keys and filters, and the worst ratio to the small store."""
    times: dict[int, dict[str, float]] = {}
    for count in (1_000, threads):
        async with fresh_store(folder / f"list-{count}.db") as embedded:
            await fill(embedded, count)
            times[count] = {name: await _page(embedded, query, rounds) for name, query in _all_queries().items()}
    slowest = max(times[threads], key=lambda name: times[threads][name])
    ratios = {name: times[threads][name] / times[1_000][name] for name in times[threads]}
    worst = max(ratios, key=lambda name: ratios[name])
    return [
        Figure(f"list page of 50 from {threads:,}, slowest", times[threads][slowest] * 1000, "ms", "< 2", slowest),
        Figure("list page, large against small, worst", ratios[worst], "times that of 1,000", "<= 1.5", worst),
    ]


def _all_queries() -> dict[str, ListThreadsParams]:
    return {
        f"{name} by {key.value} {direction.value}": ListThreadsParams.model_validate(
            {"page_size": 50, "sort_key": key, "sort_direction": direction, **filters}
        )
        for name, filters in QUERIES.items()
        for key in ThreadSortKey
        for direction in SortDirection
    }


async def _page(embedded: Embedded, query: ListThreadsParams, rounds: int) -> float:
    page = await embedded.store.list_threads(query)
    assert len(page.items) == 50
    return median([await timed(lambda: embedded.store.list_threads(query)) for _ in range(rounds * 10)])


async def fill(embedded: Embedded, count: int) -> None:
    """Log the threads straight away, many to a commit, and fold them."""
    chance = random.Random(7)
    for first in range(0, count, _THREADS_AT_A_TIME):
        events: list[ThreadCreated | ItemsAppended] = []
        for number in range(first, min(count, first + _THREADS_AT_A_TIME)):
            events.extend(a_thread(number, chance))
        positions = await embedded.log.append(events, within=60)
        await embedded.views.reach(positions[-1], events[-1].thread_id, within=600)


def a_thread(number: int, chance: random.Random) -> list[ThreadCreated | ItemsAppended]:
    """Return a thread's creation and its first question."""
    thread = new_thread_id()
    millis = 1_760_000_000_000 + chance.randrange(10_000_000_000)
    meta = {
        "id": thread,
        "timestamp": "2026-05-01T00:00:00.000Z",
        "cwd": chance.choice(_CWDS),
        "originator": "bench",
        "cli_version": "0.129.0",
        "source": chance.choice(_SOURCES),
        "model_provider": chance.choice(_PROVIDERS),
    }
    said = {"type": "user_message", "message": f"question {number}: why does the build fail on the second run?"}
    writer = new_writer_id()
    return [
        ThreadCreated(
            event_id=new_event_id(), thread_id=thread, occurred_at=millis * 1000, writer_id=writer, writer_seq=0,
            session_meta=Item(millis, "session_meta", dumps(meta)),
        ),
        ItemsAppended(
            event_id=new_event_id(), thread_id=thread, occurred_at=millis * 1000, writer_id=writer, writer_seq=1,
            items=(Item(millis, "event_msg", dumps(said)),),
        ),
    ]  # fmt: skip
