"""A whole store on Kafka and Redis under load: writers and workers as processes of their own, judged in the end."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from eventstore import ListThreadsParams, ThreadStore
from eventstore.documents.params import ThreadSortKey
from eventstore.errors import ViewsUnavailable
from eventstore.ids import ThreadId
from eventstore.settings import Settings
from eventstore.state import IndexEntry, ThreadState
from eventstore.wiring import Clustered, open_clustered
from projections.fold import fold
from projections.redis_views import RedisViews
from projections.selection import ACTIVE_SHELF, ARCHIVED_SHELF, shelf_of
from tests.support.checker import Journal, objections_to, whole_log
from tests.support.processes import PATIENCE, Child, Nursery
from tests.support.topics import a_thread

PARTITIONS: Final = 4
SESSION: Final = 6.0
"""Seconds of a worker's session here: the least that brokers allow."""
SMALL, TEN, LARGE, NAMED = (1, 200, False), (10, 200, False), (6, 200_000, False), (2, 200, True)
"""Shapes of appends: items, bytes of each, named or not. A large one takes three records."""
MIX: Final = (*(SMALL,) * 12, *(TEN,) * 4, *(NAMED,) * 4, LARGE)


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds.

    Raises:
        AssertionError: It did not in time.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                if holds():
                    return
                await asyncio.sleep(0.05)
    except TimeoutError as exc:
        raise AssertionError(f"not in {PATIENCE:g} s: {what}") from exc


@dataclass
class Load:
    """Processes that work on one log, of `PARTITIONS`, and its views."""

    settings: Settings
    nursery: Nursery
    patched: Mapping[str, object] = field(default_factory=dict)
    """What is set otherwise in the processes, by dotted name."""
    writers: dict[str, Child] = field(default_factory=dict)
    """Those that have not been told to end."""
    past: list[Child] = field(default_factory=list)
    seed: int = field(default_factory=lambda: random.SystemRandom().randrange(1_000_000))

    def start_worker(self, name: str) -> Child:
        patched = {"eventstore.kafka.group.SESSION": SESSION, **self.patched}
        return self._start("work", name, settings=patched)

    def start_writer(
        self,
        name: str,
        *,
        threads: Sequence[ThreadId] | None = None,
        fought_for: Sequence[ThreadId] = (),
        flush: float = 0.5,
        pause: float = 0.005,
        patched: Mapping[str, object] | None = None,
        **more: Any,
    ) -> Child:
        # One in each partition, so that there is something to fold everywhere.
        own = [a_thread(partition, PARTITIONS) for partition in range(PARTITIONS)] if threads is None else threads
        given = {"threads": own, "fought_for": fought_for, "shapes": MIX, "flush": flush, "pause": pause} | more
        seed = self.seed + len(self.writers) + len(self.past)
        child = self._start("write", name, settings={**self.patched, **(patched or {})}, seed=seed, **given)
        self.writers[name] = child
        return child

    async def has(self, child: Child, what: str, times: int = 1, **details: object) -> dict[str, Any]:
        """Wait until the child has noted this so many times; return the last such note."""

        def found() -> list[dict[str, Any]]:
            wanted = {"did": what, **details}
            return [note for note in child.journal.notes if wanted.items() <= note.items()]

        def there() -> bool:
            enough = len(found()) >= times
            assert enough or child.process.poll() is None or len(found()) >= times, (what, child.errors())
            return enough

        await until(there, f"{what} {details} by {child.journal.writer}, in all {child.journal.notes[-3:]}")
        return found()[-1]

    async def progress(self, number: int = 20) -> None:
        """Wait until every writer has been acknowledged so many times more."""
        goals = {name: acknowledged(child) + number for name, child in self.writers.items()}

        def reached() -> bool:
            for name, goal in goals.items():
                child = self.writers[name]
                if acknowledged(child) < goal:
                    assert child.process.poll() is None, (name, child.errors())
                    return False
            return True

        await until(reached, f"{number} more acknowledgements of each of {sorted(goals)}")

    def order(self, child: Child, fault: str, point: str) -> None:
        """Have the child commit the fault against itself when it gets to that point."""
        path = child.journal_path.with_suffix(".order")
        path.with_suffix(".ordering").write_text(f"{fault} {point}")
        path.with_suffix(".ordering").rename(path)

    async def stop_writers(self) -> None:
        """Let all writers end in good order, and see that they do."""
        told = list(self.writers.values())
        for child in told:
            child.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*map(ended, told))
        for child in told:
            child.join()
        self.past += told
        self.writers.clear()

    async def lost(self, name: str) -> Child:
        """Wait until the writer is gone that a fault was ordered for; see that it was killed in the midst of work."""
        child = self.writers.pop(name)
        await has_gone(child)
        assert not child.journal.count("over")
        self.past.append(child)
        return child

    async def objections(self, *, fought_for: Collection[ThreadId] = ()) -> list[str]:
        """Say everything that is wrong, now that nobody writes any more; workers have to be there."""
        assert not self.writers
        journals = [child.journal for child in self.past]
        assert any(attempt.acknowledged for journal in journals for attempt in journal.attempts)
        found = await objections_on(self.settings, journals, fought_for=fought_for)
        return found and [f"seed {self.seed}", *found]

    def _start(self, job: str, name: str, **spec: object) -> Child:
        return self.nursery.start(
            job,
            name,
            module="tests.support.cluster_processes",
            log=self.settings.log,
            views=self.settings.views,
            **spec,
        )


def acknowledged(child: Child) -> int:
    """Return how often the writer was acknowledged; each time it may be several appends."""
    return child.journal.count("acknowledged")


async def ended(child: Child) -> None:
    await until(lambda: child.process.poll() is not None, "the child ends")


async def has_gone(child: Child) -> None:
    """See that the child was killed, and by SIGKILL."""
    await ended(child)
    assert child.process.returncode == -signal.SIGKILL, child.errors()


def stands_still(child: Child) -> bool:
    state = Path(f"/proc/{child.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


class ViewsInRedis:
    """The views that serve, as they are stored (protocol `checker.StoredViews`)."""

    def __init__(self, views: RedisViews) -> None:
        self._views = views

    async def everything(self, partition: int, threads: Sequence[ThreadId]) -> tuple[int, dict[ThreadId, ThreadState]]:
        known = await self._views.known_threads(partition)
        snapshot = await self._views.snapshot(partition, sorted({*threads, *known}))
        return snapshot.mark.checkpoint, dict(snapshot.states)

    async def index(self, thread_id: ThreadId, *, start: int, stop: int) -> Sequence[IndexEntry]:
        return await self._views.index(thread_id, start=start, stop=stop)


async def objections_on(
    settings: Settings,
    journals: Sequence[Journal],
    *,
    fought_for: Collection[ThreadId] = (),
) -> list[str]:
    """Open a fresh store and say everything that is wrong with what log and views keep.

    Nobody may write any more, and a worker has to be there.
    """
    async with open_clustered(settings.model_copy(update={"actor": "the judge"})) as parts:
        await all_folded(parts)
        views = ViewsInRedis(parts.cluster.stored_views())
        found = await objections_to(journals, parts.store, parts.feed, views, unrivalled=True, fought_for=fought_for)
        return [*found, *await wrong_lists(parts)]


async def wrong_lists(parts: Clustered) -> list[str]:
    """Compare the lists, each by each key, with the fold of the log from its start."""
    logs = [await whole_log(parts.feed, partition) for partition in range(parts.feed.partitions)]
    states = {thread_id: change.after for log in logs for thread_id, change in fold({}, log).changes.items()}
    found = []
    for archived, shelf in ((False, ACTIVE_SHELF), (True, ARCHIVED_SHELF)):
        for key in ThreadSortKey:
            name = "created_at" if key is ThreadSortKey.CREATED_AT else "updated_at"
            shown = [thread_id for thread_id, state in states.items() if shelf_of(state) == shelf]
            by_key = sorted(((getattr(states[each].summary, name), each) for each in shown), reverse=True)
            expected = [thread_id for _, thread_id in by_key]
            listed = await all_listed(parts.store, archived=archived, sort_key=key)
            if listed != expected:
                found.append(f"the list by {name}, archived={archived}, is {listed} and the fold gives {expected}")
    return found


async def all_listed(store: ThreadStore, **asked: Any) -> list[ThreadId]:
    """Return all pages of a list."""
    found: list[ThreadId] = []
    cursor = None
    while True:
        page = await store.list_threads(ListThreadsParams(page_size=10, cursor=cursor, **asked))
        found += [thread.thread_id for thread in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return found


async def all_folded(parts: Clustered) -> None:
    """Wait until the views have all that is logged."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                # Whoever looks for threads by a part of their ids waits for the log's end.
                await parts.store.matching("0")
                return
            except ViewsUnavailable:
                continue  # they are being built


async def checkpoints(parts: Clustered) -> list[int]:
    views = parts.cluster.stored_views()
    return [(await views.snapshot(partition, ())).mark.checkpoint for partition in range(parts.feed.partitions)]
