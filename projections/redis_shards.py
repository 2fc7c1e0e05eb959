"""The Redis, or the Redis Cluster, that keeps the views of one log: scripts run at the partition they are about.

Which of the two it is, the server says. All keys of a partition share one hash tag, so that a partition is on one shard
and its keys are lost or kept together. A call takes one round trip, and ends within its deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from eventstore.errors import ViewsUnavailable
from projections.redis_edge import address_of, check_files, check_settings, refusal, translated

Argument: TypeAlias = "bytes | str | int"
Reply: TypeAlias = "list[Any]"
"""What a script returns: a generation and a checkpoint, and what it was asked for."""

AT_ONCE = 32
"""Calls under way at the same time, each on a connection of its own; others wait for their turn."""
_RETRIES = 3
"""How often a call is repeated at once whose connection broke: an idle one may be closed by a restart of Redis."""
_END_WITHIN = 1.0
"""Seconds that calls under way have to end by themselves when their connections are closed."""
MOVED, BEHIND = b"moved", b"behind"
"""Words of scripts for a mark that is not the expected one any more, and for a generation that may not serve yet."""
_VALUES = (MOVED, BEHIND)


@dataclass(frozen=True, slots=True)
class Script:
    """A script of ours, by its text and the digest that Redis knows it by."""

    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", sha1(self.text.encode(), usedforsecurity=False).hexdigest())


@cache
def script(name: str, *, writes: bool = False) -> Script:
    """Return the script in `redis_scripts/NAME.lua`; one that does not write runs even when memory is full."""
    folder = files("projections") / "redis_scripts"
    texts = [(folder / f"{part}.lua").read_text("utf-8") for part in ("generation", name)]
    return Script("\n".join(["#!lua" if writes else "#!lua flags=no-writes", *texts]))


class Shards:
    """Runs scripts on the partitions of one log; connected by whoever is first to need it, and closed in the end."""

    def __init__(self, url: str, name: str, *, within: float) -> None:
        """Name the Redis and the log; `within` is each call's deadline in seconds.

        Raises:
            InvalidRequest: It is not the URL of a Redis.
        """
        self.address = address_of(url)
        self.name = name
        self._url = url
        self._within = within
        self._client: Redis | RedisCluster | None = None
        self._connecting: asyncio.Task[Redis | RedisCluster] | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._is_closed = False
        self._under_way = 0
        self._at_rest = asyncio.Event()

    def __repr__(self) -> str:
        state = "unconnected" if self._client is None else "cluster" if self.is_cluster else "single"
        return f"<Shards {self.name} at {self.address} {state}>"

    async def connect(self) -> None:
        """Connect, unless that was done.

        Raises:
            InvalidRequest: A file that the URL names cannot be read.
            ViewsUnavailable: Nothing answers there in time, or it is not a Redis, or refuses.
            TopicMisconfigured: It is too old, or may drop what is kept there.
        """
        async with self._in_time():
            await self._connected()

    async def close(self) -> None:
        """End the connections; calls under way end with an error, and so do later ones."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        client, self._client = self._client, None
        if client is None:
            return
        await client.aclose()
        if self._under_way:
            # redis-py repeats a call whose connection was closed, on a new one, which has to be closed as well.
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_WITHIN):
                    await self._at_rest.wait()
            await client.aclose()

    async def _connected(self) -> Redis | RedisCluster:
        """Return the client; all who ask while there is none wait for the same attempt to connect."""
        if self._is_closed:
            raise closed()
        if self._client is None:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
                # It may fail when all who waited have been cancelled.
                self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
            connecting = self._connecting
            # Whoever is cancelled takes the attempt away from nobody.
            await asyncio.wait([connecting])
            if connecting.cancelled():
                raise closed()
            return connecting.result()
        return self._client

    @property
    def is_cluster(self) -> bool:
        return isinstance(self._client, RedisCluster)

    async def _connect(self) -> Redis | RedisCluster:
        async with asyncio.timeout(self._within):
            # Kept here: whoever waits for it may have been cancelled by then.
            self._client = await _client_of(self._url, self.address, self._within)
        return self._client

    def key(self, partition: int) -> str:
        """Return the key which all keys of the partition begin with."""
        return f"{{{self.name}/{partition}}}"

    def channel(self, partition: int) -> str:
        """Return the channel on which commits of the partition are announced."""
        return f"{self.name}/{partition}/folded"

    async def run(self, called: Script, partition: int, *arguments: Argument) -> Reply:
        """Run the script in one round trip; return its reply.

        A call whose connection broke is repeated: scripts that write compare a mark first, and so change nothing twice.

        Raises:
            ViewsUnavailable: Redis did not answer in time or refused, or the script did.
        """
        key = self.key(partition)
        async with self._in_time():
            client = await self._connected()
            try:
                reply = await client.execute_command("EVALSHA", called.digest, 1, key, *arguments)
            except NoScriptError:
                reply = await client.execute_command("EVAL", called.text, 1, key, *arguments)
        return self._accepted(reply, partition)

    async def run_all(self, called: Script, calls: Mapping[int, Sequence[Argument]]) -> dict[int, Reply]:
        """Run the script on several partitions, in one round trip to each shard, all at once.

        Raises:
            ViewsUnavailable: As for `run`, for any of the partitions.
        """
        replies: dict[int, Any] = {}
        async with self._in_time():
            client = await self._connected()
            pipeline = client.pipeline(transaction=False)
            for partition, arguments in calls.items():
                pipeline.execute_command("EVALSHA", called.digest, 1, self.key(partition), *arguments)
            replies.update(zip(calls, await pipeline.execute(raise_on_error=False), strict=True))
            for partition, reply in replies.items():
                if isinstance(reply, NoScriptError):
                    replies[partition] = await client.execute_command(
                        "EVAL", called.text, 1, self.key(partition), *calls[partition]
                    )
                elif isinstance(reply, Exception):
                    raise reply
        return {partition: self._accepted(reply, partition) for partition, reply in replies.items()}

    def subscription(self) -> PubSub:
        """Return a connection to subscribe with; whoever uses it meets the errors of redis.

        Raises:
            ConnectionError: Nobody has been able to connect yet.
        """
        if self._client is None:
            raise ConnectionError(f"{self.address} is not connected")
        return self._client.pubsub()

    @asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        self._under_way += 1
        self._at_rest.clear()
        try:
            async with asyncio.timeout(self._within), self._turns:
                yield
        except (RedisError, RedisClusterException, OSError, ValueError) as exc:
            # A TimeoutError is an OSError too.
            if isinstance(exc, TimeoutError):
                raise ViewsUnavailable(f"{self.address} did not answer within {self._within:g} s; try again") from exc
            raise translated(exc, self.address) from exc
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._at_rest.set()

    def _accepted(self, reply: Reply, partition: int) -> Reply:
        if reply and reply[0] == 0 and reply[1] not in _VALUES:
            raise refusal(reply[1], self.address, f"{self.name}/{partition}")
        return reply


def closed() -> ViewsUnavailable:
    """Return the error of views whose store was closed."""
    return ViewsUnavailable("the store is closed; open it again")


@asynccontextmanager
async def open_shards(url: str, name: str, *, within: float = 30.0, needed: bool = True) -> AsyncIterator[Shards]:
    """Connect to the Redis or Redis Cluster at `url` (`redis://`, `rediss://`) that keeps the views of the log `name`.

    `within` is each call's deadline in seconds. One that is not there when it is not `needed` is connected to later.

    Raises:
        InvalidRequest: It is not the URL of a Redis, or names a file that cannot be read.
        ViewsUnavailable: Nothing answers there in time, or it is not a Redis, or refuses.
        TopicMisconfigured: It is too old, or may drop what is kept there.
    """
    shards = Shards(url, name, within=within)
    try:
        if needed:
            await shards.connect()
        yield shards
    finally:
        await shards.close()


async def _client_of(url: str, address: str, within: float) -> Redis | RedisCluster:
    check_files(url)
    settings: dict[str, Any] = {
        # None: with one, redis-py waits for each write by `asyncio.wait_for`, which before Python 3.12 may swallow a
        # cancellation. Every call has a deadline around it.
        "socket_timeout": None,
        "socket_connect_timeout": within,
        "socket_keepalive": True,
        "max_connections": 2 * AT_ONCE,
        "protocol": 2,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), _RETRIES),
    }
    single: Redis = Redis.from_url(url, **settings)
    try:
        info = await single.info()
        if not info.get("cluster_enabled"):
            check_settings(info, address)
            return single
    except BaseException:
        await single.aclose()
        raise
    await single.aclose()
    cluster = RedisCluster.from_url(url, **settings)
    try:
        for node, info in (await cluster.info(target_nodes=RedisCluster.PRIMARIES)).items():
            check_settings(info, f"{address} (node {node})")
    except BaseException:
        await cluster.aclose()
        raise
    return cluster
