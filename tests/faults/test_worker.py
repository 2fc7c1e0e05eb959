"""The projection worker under trouble: views lost under it, bad records, being told to end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from eventstore import ListThreadsParams
from eventstore.errors import UnreadableEvent
from eventstore.ids import ThreadId
from eventstore.kafka.records import key_of, partition_of
from eventstore.settings import Settings
from eventstore.store import ThreadStore
from eventstore.wiring import Clustered, open_clustered
from projections.fold import FOLD
from projections.metrics import Metrics
from projections.redis_generations import Role
from projections.verify import first_difference
from projections.worker import Stage
from tests.support.cluster import a_log, a_worker
from tests.support.freezing import BEYOND, an_earlier_version
from tests.support.load import all_folded, checkpoints
from tests.support.threads import a_cold_thread, a_live_thread, patch, read, said, say
from tests.support.topics import a_thread, an_append

ROOT = Path(__file__).parent.parent.parent
A_LATER_VERSION = """
import sys, projections.fold
projections.fold.FOLD += 1
from eventstore.cli import main
sys.exit(main(["worker", *sys.argv[1:]]))
"""
MIB = 1024 * 1024
WITHIN = 60.0
"""Seconds for what takes a few on a quiet machine."""


async def listed(store: ThreadStore) -> list[ThreadId]:
    return [thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items]


async def differences(parts: Clustered) -> list[str]:
    """Fold the whole log anew and say what the views have otherwise."""
    found = [
        (await first_difference(parts.feed, parts.stored_views(), partition=partition)).difference
        for partition in range(parts.feed.partitions)
    ]
    return [str(difference) for difference in found if difference is not None]


@asynccontextmanager
async def a_process(
    settings: Settings, *arguments: str, program: Sequence[str] = ("-m", "projections")
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `python -m projections` for the block; kill it if it is there still."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "EVENTSTORE_LOG": settings.log,
        "EVENTSTORE_VIEWS": settings.views,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def logged(process: asyncio.subprocess.Process, event: str) -> None:
    """Wait until the worker has logged this."""
    assert process.stderr is not None
    async with asyncio.timeout(WITHIN):
        while event.encode() not in (line := await process.stderr.readline()):
            assert line, "the worker has ended"


async def until(is_so: Callable[[], bool]) -> None:
    """Look again and again until it is so."""
    async with asyncio.timeout(WITHIN):
        while not is_so():
            await later_on()


async def later_on() -> None:
    await asyncio.sleep(0.05)


async def test_views_that_are_lost_while_nothing_happens_are_built_again() -> None:
    """Promise 5. "Redis may be flushed": the worker finds out by itself, though the log gives it nothing to fold."""
    async with a_log(partitions=2) as settings, a_worker(settings) as worker, open_clustered(settings) as parts:
        await worker.ready()
        threads = [await a_cold_thread(parts.store, f"{number}") for number in range(4)]

        async with Redis.from_url(settings.views) as redis:
            await redis.flushdb()

        assert ["2"] == await said(parts.store, threads[2]), "the log answers meanwhile"
        assert sorted(threads) == sorted(await listed(parts.store))
        assert [] == await differences(parts)


async def test_a_record_of_the_future_freezes_its_thread_and_the_partition_goes_on() -> None:
    metrics = Metrics()
    async with a_log(partitions=1) as settings, a_worker(settings, metrics=metrics), open_clustered(settings) as parts:
        bad, good = await a_live_thread(parts.store, "bad"), await a_live_thread(parts.store, "good")
        await write_record(settings, bad, b"\xc3\x01" + bytes(8) + b"of the future")
        await say(parts.store, good, "goes on")
        await parts.store.flush_thread(good)

        with pytest.raises(UnreadableEvent, match="is frozen"):
            await said(parts.store, bad)
        assert ["good", "goes on"] == await said(parts.store, good)
        count = metrics.registry.get_sample_value(
            "eventstore_events_total", {"partition": "0", "outcome": "unreadable"}
        )
        assert count == 1.0


async def test_a_worker_that_understands_what_froze_a_thread_folds_it_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Promise 7. Another fold builds other views: a thread that the version before froze is whole in them."""
    async with a_log(partitions=1) as settings:
        with monkeypatch.context() as earlier, an_earlier_version():
            earlier.setattr("projections.fold.FOLD", FOLD - 1)
            async with a_worker(settings), open_clustered(settings) as parts:
                bad, good = await a_live_thread(parts.store, "bad"), await a_live_thread(parts.store, "good")
                with pytest.raises(UnreadableEvent, match=BEYOND):
                    await patch(parts.store, bad, name=BEYOND)
                await say(parts.store, bad, "behind")
                with pytest.raises(UnreadableEvent):
                    await parts.store.flush_thread(bad)

        async with a_worker(settings) as worker, open_clustered(settings) as parts:
            await worker.ready()
            named = await read(parts.store, bad)
            assert (BEYOND, ["bad", "behind"]) == (named.name, await said(parts.store, bad))
            assert ["good"] == await said(parts.store, good)
            assert [] == await differences(parts)


async def test_workers_of_two_versions_do_not_build_against_each_other_for_ever() -> None:
    """Whoever comes last, the later version's views serve, and the earlier one's worker says what to do."""
    async with (
        a_log(partitions=1) as settings,
        a_worker(settings) as earlier,
        open_clustered(settings) as parts,
    ):
        await earlier.ready()
        thread_id = await a_live_thread(parts.store, "one")
        async with a_process(settings, program=("-c", A_LATER_VERSION)) as later:
            await logged(later, "views are built")
            await until(lambda: earlier.stages[0] is Stage.BROKEN)
            await say(parts.store, thread_id, "two")
            end = await parts.feed.end(0)
            async with asyncio.timeout(WITHIN):
                while (generations := await parts.cluster.generations.all(0))[-1].checkpoint < end:
                    await later_on()
            # Told to look again at once, as after a rebalance, the earlier one leaves them alone.
            await earlier.let_go()
            await earlier.take([0])
            await until(lambda: earlier.stages[0] is Stage.BROKEN)

            assert [1, 2] == [generation.number for generation in await parts.cluster.generations.all(0)]
            assert (2, Role.SERVING) == generations[-1][:2]
            assert ["one", "two"] == await said(parts.store, thread_id), "the log answers an earlier version's reader"


async def test_a_worker_that_is_told_to_end_leaves_its_group_and_another_goes_on() -> None:
    async with a_log(partitions=3) as settings, open_clustered(settings) as parts:
        async with a_process(settings) as first:
            await logged(first, "took partitions")
            thread_id = await a_live_thread(parts.store, "one")
            first.send_signal(signal.SIGTERM)
            async with asyncio.timeout(WITHIN):
                assert await first.wait() == 0
        async with a_process(settings) as second:
            await logged(second, "took partitions")
            await say(parts.store, thread_id, "two")
            await parts.store.flush_thread(thread_id)

            assert ["one", "two"] == await said(parts.store, thread_id)
            assert [] == await differences(parts)


async def test_a_workers_partitions_share_its_memory() -> None:
    """However many they are: here half a gigabyte waits for it, packed into little."""
    partitions, each = 16, 32
    async with a_log(partitions=partitions) as settings, open_clustered(settings) as parts:
        for partition in range(partitions):
            thread_id = a_thread(partition, partitions)
            await parts.log.append([an_append(thread_id, seq, "x" * MIB) for seq in range(each)], within=WITHIN)
        async with a_process(settings) as worker:
            await logged(worker, "took partitions")
            await all_folded(parts)
            peak = resident_at_most(worker.pid)
        assert peak < 300 * MIB < partitions * each * MIB
        assert [each] * partitions == await checkpoints(parts)


def resident_at_most(pid: int) -> int:
    """Return the most bytes that the process has had in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


async def test_a_worker_says_how_it_is() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with a_log(partitions=2) as settings, open_clustered(settings) as parts:
        async with a_process(settings, "--monitor", str(port)) as process:
            await logged(process, "took partitions")
            await a_cold_thread(parts.store, "hello")

            assert (200, "ok\n") == await fetched(port, "/livez")
            async with asyncio.timeout(WITHIN):
                while (await fetched(port, "/readyz"))[0] != 200:
                    await logged(process, "stage")
            status, text = await fetched(port, "/metrics")

        assert status == 200
        assert 'eventstore_events_total{outcome="admitted"' in text
        assert 'eventstore_lag_events{partition="' in text
        assert "eventstore_step_seconds_bucket" in text


async def fetched(port: int, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    return await asyncio.to_thread(fetch)


async def write_record(settings: Settings, thread_id: ThreadId, record: bytes) -> None:
    async with AIOKafkaProducer(**settings.kafka.client_settings()) as producer:
        key = key_of(thread_id)
        await producer.send_and_wait(settings.kafka.topic, record, key, partition=partition_of(key, 1))
