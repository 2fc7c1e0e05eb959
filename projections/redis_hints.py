"""Hints that a partition was folded further, as its commits announce them.

Only hints: one may be lost, and all are while Redis cannot be subscribed to. Whoever waits reads again after a while,
hint or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from redis.asyncio.client import PubSub
from redis.exceptions import RedisClusterException, RedisError

from projections.redis_shards import Shards

_SUBSCRIBE_AGAIN_AFTER = 1.0
"""Seconds until the next attempt when the subscription broke."""


class Hints:
    """One subscription for a whole process, begun when somebody first waits."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._next: dict[int, asyncio.Future[None]] = {}
        self._wanted: set[int] = set()
        self._heard: dict[int, int] = {}
        self._more_wanted = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None

    def next(self, partition: int) -> asyncio.Future[None]:
        """Return a future that the partition's next hint resolves. Ask before reading, or a hint may be missed."""
        loop = asyncio.get_running_loop()
        if partition not in self._wanted:
            self._wanted.add(partition)
            self._more_wanted.set()
        if self._listening is None:
            self._listening = loop.create_task(self._listen())
        hint = self._next.get(partition)
        if hint is None:
            hint = self._next[partition] = loop.create_future()
        return hint

    def may_be_at(self, partition: int, goal: int) -> bool:
        """Say whether the partition may be folded up to the goal, for all that was heard of it."""
        return self._heard.get(partition, goal) >= goal

    async def close(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])

    async def _listen(self) -> None:
        while True:
            try:
                async with self._shards.subscription() as subscription:
                    await self._subscribe(subscription, self._wanted)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._subscribe_to_more(subscription))
                        tasks.create_task(self._read(subscription))
            except* (RedisError, RedisClusterException, OSError):
                self._heard.clear()
                await asyncio.sleep(_SUBSCRIBE_AGAIN_AFTER)

    async def _subscribe_to_more(self, subscription: PubSub) -> None:
        while True:
            await self._more_wanted.wait()
            await self._subscribe(subscription, self._wanted)

    async def _subscribe(self, subscription: PubSub, partitions: Collection[int]) -> None:
        self._more_wanted.clear()
        await subscription.subscribe(*map(self._shards.channel, partitions))

    async def _read(self, subscription: PubSub) -> None:
        while True:
            # A confirmed subscription is a hint as well: what came before it was not heard.
            message = await subscription.get_message(timeout=None)
            if message is not None:
                partition = int(message["channel"].decode().rsplit("/", 2)[1])
                if message["type"] == "message":
                    self._heard[partition] = int(message["data"])
                hint = self._next.pop(partition, None)
                if hint is not None and not hint.done():
                    hint.set_result(None)
