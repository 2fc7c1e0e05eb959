"""Codex's calls against a server process: single ones beside the same in the library, and 200 clients at once.

Each call has a connection of its own, as Codex's have; what an empty call costs so is measured and taken off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from eventstore.codex.policy import persisted
from eventstore.codex.rollout import BadLine, read_lines
from eventstore.documents.items import RolloutItem
from eventstore.documents.params import AppendThreadItemsParams, ListThreadsParams, ThreadEventPersistenceMode
from eventstore.documents.threads import ThreadHistoryMode
from eventstore.ids import new_thread_id
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.settings import Settings
from eventstore.wiring import Parts, open_clustered
from tests.benchmarks import clusters, listings
from tests.benchmarks.measure import Figure, fresh_store, items, median, stored_thread, timed
from tests.support.serving import a_server
from tests.support.threads_wire import ThreadsWire
from tests.support.wire import CodexWire, item

EXAMPLE_HOME = Path(__file__).parents[2] / "compose" / "example-home"
CLIENTS = 200
_SMALL_ENOUGH = 3 * 1024 * 1024
"""Bytes of a rollout that is replayed: its history has to fit into a reply."""
_PERSISTED_EVERY = 5
"""Appends between two calls of PersistThread, as in a real run."""
_PAGE = 25
_PARTITIONS = 24
_LONG = 10_000
"""Items of a history that is streamed."""


async def measure(folder: Path, *, quick: bool, rollouts: Path | None) -> list[Figure]:
    """Return the figures; rollouts are those of the example home unless a folder of them is given."""
    threads, calls = (10_000, 200) if quick else (100_000, 1_000)
    for name in ("ours", "served"):
        async with fresh_store(folder / f"{name}.db") as embedded:
            await listings.fill(embedded, threads)
    settings = Settings(log=f"sqlite:{folder / 'served.db'}", actor="bench")
    async with fresh_store(folder / "ours.db") as embedded, a_server(settings, folder) as server:
        codex = CodexWire(server.address)
        long = await _streamed(codex)
        figures = [await _append(embedded, codex, calls, "on SQLite")]
        query = ListThreadsParams(page_size=_PAGE)
        page, empty, listed = await _in_turns(
            calls // 10,
            lambda: embedded.store.list_threads(query),
            lambda: _empty(codex),
            lambda: codex.call("ListThreads", pb.ListThreadsRequest(page_size=_PAGE)),
        )
    figures += [
        Figure(
            f"ListThreads of {_PAGE} from {threads:,}, less an empty call", (listed - empty) / page,
            "of the library's", "< 2", f"{listed * 1e3:.2f} ms against {page * 1e3:.2f} ms",
        ),
        Figure(f"history of {_LONG:,} items, streamed", _LONG / long, "items/s", ">= 50,000"),
    ]  # fmt: skip
    conversations = [lines for path in _rollouts(rollouts or EXAMPLE_HOME) if (lines := _conversation(path))]
    settings = Settings(log=f"sqlite:{folder / 'loaded.db'}", actor="bench")
    figures += await _load("on SQLite", settings, folder, conversations)
    async with clusters.servers(folder) as made, made(partitions=_PARTITIONS) as settings:
        async with a_server(settings, folder, "--worker") as server, open_clustered(settings) as clustered:
            figures.append(await _append(clustered, CodexWire(server.address), calls, "on Kafka and Redis"))
        figures += await _load("on Kafka and Redis", settings, folder, conversations, "--worker")
    return figures


async def _append(parts: Parts, codex: CodexWire, calls: int, where: str) -> Figure:
    """Return how a call that appends compares with the same append in the library, on the same log."""
    one = AppendThreadItemsParams(thread_id=await stored_thread(parts), items=items(1))
    request = await _append_of_one(codex)
    append, empty, appended = await _in_turns(
        calls,
        lambda: parts.store.append_items(one),
        lambda: _empty(codex),
        lambda: codex.call("AppendItems", request),
    )
    return Figure(
        f"AppendItems of one item over gRPC {where}, less an empty call", (appended - empty) / append,
        "of the library's", "<= 1.5",
        f"{appended * 1e3:.2f} ms against {append * 1e3:.2f} ms; empty {empty * 1e3:.2f} ms",
    )  # fmt: skip


async def _in_turns(times: int, *works: Callable[[], Awaitable[object]]) -> list[float]:
    """Return each one's median of so many times; they take turns, so that a slow moment slows all of them."""
    took: list[list[float]] = [[] for _ in works]
    for _ in range(times):
        for work, seconds in zip(works, took, strict=True):
            seconds.append(await timed(work))
    return [median(seconds) for seconds in took]


async def _median(work: Callable[[], Awaitable[object]], times: int) -> float:
    return median([await timed(work) for _ in range(times)])


async def _empty(codex: CodexWire) -> None:
    request = health_pb2.HealthCheckRequest().SerializeToString()
    await codex.raw("grpc.health.v1.Health/Check", request)


async def _append_of_one(codex: CodexWire) -> pb.AppendThreadItemsRequest:
    """Return a request that appends one item to a thread which is stored."""
    thread = new_thread_id()
    await codex.create(thread)
    await codex.append(thread, "measure me")
    await codex.say("FlushThread", thread)
    texts = [item(each.type, each.payload) for each in items(1)]
    return pb.AppendThreadItemsRequest(thread_id=thread, items_json=texts)


async def _streamed(codex: CodexWire) -> float:
    """Return the seconds that the stream of a long history takes, its client's decoding included."""
    thread = new_thread_id()
    await codex.create(thread)
    texts = [item(each.type, each.payload) for each in items(500)]
    for _ in range(_LONG // 500):
        await codex.call("AppendItems", pb.AppendThreadItemsRequest(thread_id=thread, items_json=texts))
    await codex.say("PersistThread", thread)
    async with grpc.aio.insecure_channel(codex.address) as channel:
        threads = ThreadsWire(channel)
        assert len(await threads.history(thread)) == _LONG + 1
        return await _median(lambda: threads.history(thread), 5)


async def _load(
    where: str, settings: Settings, folder: Path, conversations: Sequence[Sequence[RolloutItem]], *words: str
) -> list[Figure]:
    """Let clients replay conversations at the same time, and see that all of it is there."""
    took: list[float] = []
    async with a_server(settings, folder, *words) as server:
        codex = CodexWire(server.address)
        began = time.perf_counter()
        clients = (_client(codex, conversations[number % len(conversations)], took) for number in range(CLIENTS))
        await asyncio.gather(*clients)
        seconds = time.perf_counter() - began
        largest = _largest_size(server.process.pid)
    took.sort()
    median_, slowest = took[len(took) // 2] * 1e3, took[len(took) * 99 // 100] * 1e3
    return [
        Figure(
            f"{CLIENTS} clients at once {where}, the slowest of a hundred calls", slowest, "ms", "no error",
            f"{len(took):,} calls, {len(took) / seconds:,.0f}/s, half of them within {median_:,.0f} ms",
        ),
        Figure(f"memory of the server under {CLIENTS} clients {where}", largest, "MiB", "bounded", "at most"),
    ]  # fmt: skip


def _rollouts(folder: Path) -> list[Path]:
    return sorted(folder.rglob("rollout-*.jsonl"))


def _conversation(path: Path) -> list[RolloutItem]:
    """Return the items that Codex would append; none if there are too many for a reply."""
    if path.stat().st_size > _SMALL_ENOUGH:
        return []
    with path.open("rb") as lines:
        read = [line for line in read_lines(lines) if not isinstance(line, BadLine)]
    return [RolloutItem.from_text(line.type, line.payload) for line in read[1:]]


async def _client(codex: CodexWire, conversation: Sequence[RolloutItem], took: list[float]) -> None:
    thread = new_thread_id()

    async def call(work: Awaitable[object]) -> None:
        began = time.perf_counter()
        await work
        took.append(time.perf_counter() - began)

    await call(codex.create(thread))
    for number, said in enumerate(conversation):
        text = f'{{"type":"{said.type}","payload":{said.text}}}'
        await call(codex.call("AppendItems", pb.AppendThreadItemsRequest(thread_id=thread, items_json=[text])))
        if number % _PERSISTED_EVERY == 0:
            await call(codex.say("PersistThread", thread))
    await call(codex.say("FlushThread", thread))
    history = await codex.history(thread)
    kept, _ = persisted(
        conversation, history_mode=ThreadHistoryMode.LEGACY, event_mode=ThreadEventPersistenceMode.LIMITED
    )
    assert [each["type"] for each in history] == ["session_meta", *(each.type for each in kept)]
    await call(codex.say("ShutdownThread", thread))


def _largest_size(process: int) -> float:
    """Return the most memory that a process has had, in MiB; 0 where the system does not tell it so."""
    try:
        status = Path(f"/proc/{process}/status").read_text("ascii")
    except OSError:
        return 0.0
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
