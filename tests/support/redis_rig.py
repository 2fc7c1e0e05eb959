"""Views in a real Redis, made ready to be folded and read, and everything that they hold, to be compared."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import redis

from eventstore.documents.params import ListThreadsParams
from eventstore.ids import ThreadId
from eventstore.ports import Entry, EventFeed
from eventstore.state import IndexEntry, ThreadState
from projections.projector import Projector
from projections.redis_generations import Generations
from projections.redis_shards import Shards, open_shards
from projections.redis_views import RedisViews
from projections.shared import SharedViews
from tests.support.logs import ListFeed
from tests.support.redis_server import RedisServer

NAME = "threads"
PARTITIONS = 3
"""Of the rigs that tests of several partitions stand on."""
ALL_ITEMS = 1 << 40

_NUMBERS = re.compile(rb"\{[^}]*\}\d+p")
_LIST = re.compile(rb"(\{[^}]*\}\d+)([cu][01])(\d+)")

Contents: TypeAlias = "dict[bytes, Any]"


@dataclass
class Rig:
    """The parts that stand on one Redis and one log."""

    feed: EventFeed
    shards: Shards
    stored: RedisViews
    generations: Generations
    shared: SharedViews
    partitions: int
    start: int
    """The log's first offset."""

    async def serve(self) -> None:
        """Let a generation serve that holds all of the log."""
        for partition in range(self.partitions):
            begun = await self.generations.begin(partition, start=self.start)
            building = RedisViews(self.shards, partition_of=self.feed.partition_of, generation=begun.generation)
            await Projector(self.feed, building, partition=partition).catch_up(await self.feed.end(partition))
            assert await self.generations.switch(partition, begun.generation)

    async def fold(self, *, batch: int = 256) -> None:
        """Fold what the log holds beyond the checkpoints, by projectors that know nothing yet."""
        for partition in range(self.partitions):
            projector = Projector(self.feed, self.stored, partition=partition, batch=batch)
            await projector.catch_up(await self.feed.end(partition))


@asynccontextmanager
async def rig(
    url: str, feed: EventFeed, *, partitions: int = 1, start: int = 0, cluster: str = "a test", within: float = 20.0
) -> AsyncIterator[Rig]:
    async with open_shards(url, NAME, within=within) as shards:
        shared = SharedViews(feed, shards, partitions=partitions, within=within)
        stored = RedisViews(shards, partition_of=feed.partition_of)
        try:
            yield Rig(feed, shards, stored, Generations(shards, feed, cluster=cluster), shared, partitions, start)
        finally:
            await shared.close()


def contents(server: RedisServer) -> Contents:
    """Return everything in the server; lists by their providers, whose numbers are in order of appearance."""
    with server.client() as client:
        return {_named(client, key): _value(client, key) for key in client.scan_iter() if not _NUMBERS.fullmatch(key)}


def _named(client: redis.Redis, key: bytes) -> bytes:
    listed = _LIST.fullmatch(key)
    if listed is None:
        return key
    numbers = {number: provider for provider, number in client.hgetall(listed[1] + b"p").items()}
    return b"%b%b of %b" % (listed[1], listed[2], numbers.get(listed[3], b"others"))


def _value(client: redis.Redis, key: bytes) -> Any:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"hash":
            # A count that went up and down again is 0, one that never did is not there.
            return {name: value for name, value in client.hgetall(key).items() if value != b"0"}
        case _:
            return client.zrange(key, 0, -1, withscores=True)


def copied(server: RedisServer) -> dict[bytes, Any]:
    """Return all keys as Redis writes them to its files."""
    with server.client() as client:
        return {key: client.dump(key) for key in client.scan_iter()}


def put_back(server: RedisServer, copies: dict[bytes, Any]) -> None:
    """Let the server have lost whatever it was told since the copies were made."""
    with server.client() as client:
        client.flushall()
        for key, value in copies.items():
            client.restore(key, 0, value)


async def read_all(
    stored: RedisViews, threads: Iterable[ThreadId]
) -> tuple[dict[ThreadId, ThreadState], dict[ThreadId, list[IndexEntry]]]:
    """Return the states and indexes of the threads."""
    snapshot = await stored.snapshot(0, tuple(threads))
    return dict(snapshot.states), {
        thread: list(await stored.index(thread, start=0, stop=ALL_ITEMS)) for thread in snapshot.states
    }


READS: dict[str, Callable[[Rig, ThreadId], Awaitable[object]]] = {
    "get": lambda parts, thread_id: parts.shared.get(thread_id),
    "page": lambda parts, thread_id: parts.shared.page(ListThreadsParams()),
    "matching": lambda parts, thread_id: parts.shared.matching(thread_id, limit=2),
    "thread_ids": lambda parts, thread_id: parts.shared.thread_ids(after=None, limit=9),
    "snapshot": lambda parts, thread_id: parts.stored.snapshot(0, [thread_id]),
    "index": lambda parts, thread_id: parts.stored.index(thread_id, start=0, stop=9),
    "census": lambda parts, thread_id: parts.stored.census(0),
}

OF_ALL = [name for name in READS if name != "get"]
"""Reads that only the views can answer; of one thread the log can, too."""


@asynccontextmanager
async def fresh(server: RedisServer, feed: ListFeed) -> AsyncIterator[Rig]:
    """Serve views of what the feed holds, on a Redis that held nothing."""
    with server.client() as client:
        client.flushall()
    async with rig(server.url, feed, start=1) as made:
        await made.serve()
        yield made


async def projected(server: RedisServer, entries: Sequence[Entry]) -> Contents:
    async with fresh(server, ListFeed(entries)):
        return contents(server)
