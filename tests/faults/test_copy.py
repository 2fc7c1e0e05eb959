"""Logs copied from engine to engine: whole, again, and cut short after any batch."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import eventstore.reading
from eventstore.codec import MAGIC
from eventstore.copying import Compared, Copied, compared, copy
from eventstore.documents.items import Position
from eventstore.errors import LogUnavailable, UnreadableEvent, WriterFenced
from eventstore.events import Event
from eventstore.ids import ThreadId
from eventstore.ports import EventLog
from eventstore.settings import Settings
from eventstore.sqlite.log import key_of
from eventstore.store import ThreadStore
from eventstore.wiring import OpenLog, open_embedded, open_log
from tests.support.cluster import a_log
from tests.support.files import by_hand
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    append,
    archive,
    delete,
    patch,
    resume,
    say,
    say_and_flush,
    user_message,
)

ROOT = Path(__file__).parent.parent.parent
AN_ID = "0197c1d0-0000-7000-8000-000000000001"
WITHIN = 20.0
SAME = Compared(None, more=0)


@asynccontextmanager
async def on_sqlite(path: Path) -> AsyncIterator[OpenLog]:
    async with open_log(Settings(log=f"sqlite:{path}", actor="a test")) as opened:
        yield opened


@asynccontextmanager
async def on_kafka(partitions: int) -> AsyncIterator[OpenLog]:
    async with a_log(partitions=partitions) as settings, open_log(settings) as opened:
        yield opened


async def a_rich_log(path: Path) -> None:
    """Threads of every sort: taken over, archived, renamed, deleted, with a large append, with void events."""
    settings = Settings(log=f"sqlite:{path}", actor="a test")
    async with open_embedded(settings) as first, open_embedded(settings) as second:
        for number in range(6):
            await a_cold_thread(first.store, f"{number}", "and more")
        fought = await a_live_thread(first.store, "mine")
        await resume(second.store, fought)
        await say(second.store, fought, "yours")
        await second.store.flush_thread(fought)
        await too_late(first.store, fought)
        await append(second.store, fought, *(user_message(letter * 300_000) for letter in "abc"))
        await second.store.flush_thread(fought)
        kept, gone = await a_cold_thread(first.store, "kept"), await a_cold_thread(first.store, "gone")
        await patch(first.store, kept, name="a name")
        await archive(first.store, kept)
        await delete(first.store, gone)


async def too_late(store: ThreadStore, thread_id: ThreadId) -> None:
    await say(store, thread_id, "too late")
    with pytest.raises(WriterFenced):
        await store.flush_thread(thread_id)
    await store.discard_thread(thread_id)


async def copied(source: OpenLog, target: OpenLog, log: EventLog | None = None) -> Copied:
    return await copy(source.feed, target.feed, log or target.log, within=WITHIN, tell=lambda done: None)


async def test_a_log_means_the_same_on_every_engine_and_with_any_number_of_partitions(tmp_path: Path) -> None:
    await a_rich_log(tmp_path / "source.db")
    async with (
        on_sqlite(tmp_path / "source.db") as source,
        on_kafka(3) as three,
        on_kafka(5) as five,
        on_sqlite(tmp_path / "back.db") as back,
    ):
        first = await copied(source, three)
        await copied(three, five)
        last = await copied(five, back)

        assert first.void == 1, "the event that came too late stays behind"
        assert (first.copied, 0) == (last.copied, last.void)
        for other in (three, five, back):
            assert await compared(source.feed, other.feed) == SAME


async def test_copying_again_adds_what_is_new_and_nothing_else(tmp_path: Path) -> None:
    await a_rich_log(tmp_path / "source.db")
    async with (
        open_embedded(Settings(log=f"sqlite:{tmp_path / 'source.db'}")) as parts,
        on_sqlite(tmp_path / "source.db") as source,
        on_kafka(2) as target,
    ):
        first = await copied(source, target)
        again = await copied(source, target)
        assert (0, first.copied) == (again.copied, again.there)

        await a_cold_thread(parts.store, "new")
        grown = await copied(source, target)

        assert (3, first.copied) == (grown.copied, grown.there)
        assert await compared(source.feed, target.feed) == SAME


@pytest.mark.parametrize("dead", [True, False])
async def test_a_record_that_cannot_be_understood_stops_a_copy_where_its_thread_lives(
    tmp_path: Path, dead: bool
) -> None:
    path = tmp_path / "source.db"
    async with open_embedded(Settings(log=f"sqlite:{path}", actor="a test")) as parts:
        thread_id, other = await a_cold_thread(parts.store, "one"), await a_cold_thread(parts.store, "other")
        if dead:
            await delete(parts.store, thread_id)
    with by_hand(path) as connection:
        row = key_of(thread_id), MAGIC + b"unknown!" + b"body"
        connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row)
    async with open_embedded(Settings(log=f"sqlite:{path}", actor="a test")) as parts:
        await resume(parts.store, other)
        await say(parts.store, other, "behind it")

    async with on_sqlite(path) as source, on_sqlite(tmp_path / "target.db") as target:
        if dead:
            await copied(source, target)
            assert await compared(source.feed, target.feed) == SAME
            return
        with pytest.raises(UnreadableEvent, match=r"cannot be copied.*upgrade eventstore"):
            await copied(source, target)
        assert 6 == await target.feed.end(0) - 1, "what lies before it is copied"


async def went_on(path: Path, thread_id: ThreadId, text: str) -> None:
    async with open_embedded(Settings(log=f"sqlite:{path}", actor="a test")) as parts:
        await resume(parts.store, thread_id)
        await say_and_flush(parts.store, thread_id, text)


async def was_deleted(path: Path, thread_id: ThreadId, text: str) -> None:
    async with open_embedded(Settings(log=f"sqlite:{path}", actor="a test")) as parts:
        await delete(parts.store, thread_id)


@pytest.mark.parametrize("changed", [went_on, was_deleted])
async def test_what_would_not_count_in_the_target_is_told_and_never_written(
    tmp_path: Path, changed: Callable[[Path, ThreadId, str], Awaitable[None]]
) -> None:
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    async with open_embedded(Settings(log=f"sqlite:{source}", actor="a test")) as parts:
        thread_id, other = await a_cold_thread(parts.store, "one"), await a_cold_thread(parts.store, "other")
    async with on_sqlite(source) as one, on_sqlite(target) as two:
        await copied(one, two)
    await changed(target, thread_id, "there")
    await went_on(source, thread_id, "here")
    await went_on(source, other, "here alone")

    async with on_sqlite(source) as one, on_sqlite(target) as two:
        first = await copied(one, two)
        end = await two.feed.end(0)
        again = await copied(one, two)

        assert (2, {thread_id: 2}) == (first.copied, first.refused)
        assert (0, {thread_id: 2}) == (again.copied, again.refused)
        assert end == await two.feed.end(0)
        assert thread_id in ((await compared(one.feed, two.feed)).difference or "")


class DyingLog:
    """Takes so many batches, and of the next one it writes a part before it fails."""

    def __init__(self, log: EventLog, batches: int) -> None:
        self._log = log
        self._left = batches
        self.fired = 0

    async def append(self, events: Sequence[Event], *, within: float) -> Sequence[Position]:
        if self._left:
            self._left -= 1
            return await self._log.append(events, within=within)
        self.fired += 1
        await self._log.append(events[: len(events) // 2], within=within)
        raise LogUnavailable("ordered by the test")


async def test_a_copy_cut_short_after_any_batch_is_completed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventstore.reading, "BATCH", 5)
    await a_rich_log(tmp_path / "source.db")
    async with on_sqlite(tmp_path / "source.db") as source:
        for batches in range(4):
            async with on_sqlite(tmp_path / f"target-{batches}.db") as target:
                dying = DyingLog(target.log, batches)
                with pytest.raises(LogUnavailable):
                    await copied(source, target, dying)
                assert dying.fired == 1
                assert (await compared(source.feed, target.feed)).difference, "the control: it is not whole yet"

                rest = await copied(source, target)

                assert rest.there > 0 or batches == 0
                assert await compared(source.feed, target.feed) == SAME


async def test_appends_of_two_threads_under_one_id_are_both_copied_however_often_it_was_begun(tmp_path: Path) -> None:
    """An append id is its caller's, and names an append of one thread: another thread may have it as well."""
    async with open_embedded(Settings(log=f"sqlite:{tmp_path / 'source.db'}", actor="a test")) as parts:
        for _ in range(2):
            thread_id = await a_live_thread(parts.store)
            await append(parts.store, thread_id, user_message("to both"), append_id=AN_ID)
            await parts.store.shutdown_thread(thread_id)
    async with on_sqlite(tmp_path / "source.db") as source, on_sqlite(tmp_path / "target.db") as target:
        dying = DyingLog(target.log, batches=0)  # takes the first thread
        with pytest.raises(LogUnavailable):
            await copied(source, target, dying)

        rest = await copied(source, target)

        assert (4, 4, {}) == (rest.there, rest.copied, rest.refused)
        assert await compared(source.feed, target.feed) == SAME


def started(source: str, target: str) -> subprocess.Popen[bytes]:
    """Start `eventstore copy --verify` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "eventstore.cli", "copy", "--from", source, "--to", target, "--verify"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


async def length(log: OpenLog) -> int:
    """Return how many records the log has."""
    return sum([await log.feed.end(partition) for partition in range(log.feed.partitions)])


async def a_long_log(path: Path) -> int:
    """Fill a file with threads of some length; return how many records it has."""
    async with open_embedded(Settings(log=f"sqlite:{path}", actor="a test", synchronous="OFF")) as parts:
        for _ in range(60):
            thread_id = await a_live_thread(parts.store)
            for number in range(100):
                await say(parts.store, thread_id, f"{number}")
            await parts.store.shutdown_thread(thread_id)
        return await parts.feed.end(0) - 1


async def test_a_copy_killed_at_random_moments_is_completed_by_the_next(tmp_path: Path) -> None:
    """SIGKILL, while the target grows: each time somewhere else, and the last time nowhere."""
    dice = random.Random(seed := random.SystemRandom().randrange(1_000_000))
    source = f"sqlite:{tmp_path / 'source.db'}"
    records = await a_long_log(tmp_path / "source.db")
    async with a_log(partitions=3) as settings, open_log(settings) as target:
        reached = [0]
        while len(reached) < 3:
            copying = started(source, settings.log)
            goal = reached[-1] + dice.randrange(1, records // 8)
            async with asyncio.timeout(60):
                while await length(target) < goal:
                    assert copying.poll() is None, copying.communicate()
            copying.kill()
            copying.communicate()
            assert copying.returncode == -signal.SIGKILL
            reached.append(await length(target))
        assert 0 < reached[1] < reached[2] < records, (seed, reached)

        last = started(source, settings.log)
        said = (await asyncio.to_thread(last.communicate))[0].decode()

        assert last.returncode == 0, (seed, said)
        assert said.endswith("every thread is the same in both\n"), (seed, said)
