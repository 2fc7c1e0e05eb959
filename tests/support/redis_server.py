"""The Redis of `compose.services`, for tests that do not await: started, hit and asked while the loop stands still.

It forgets everything when it ends, as a Redis that keeps no file does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from compose.services.health import end_all
from compose.services.ports import HOST, Ports
from compose.services.redis import Kind, Redis
from tests.support.services import joined

_START_WITHIN = 20.0
"""Seconds until a replica has to be like its master, on a machine that is busy with other tests."""
FORGETFUL: Mapping[str, str] = {"appendonly": "no"}


class RedisServer:
    """One server of a Redis."""

    def __init__(self, whole: Redis, number: int = 0) -> None:
        self._whole = whole
        self._node = whole.nodes[number]
        self.port = whole.ports[number]

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def start(self) -> None:
        """Start what does not run of the whole Redis, and wait until it is healthy."""
        _done(self._whole.start())

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0))

    def follow(self, master: RedisServer) -> None:
        """Become a replica."""
        with self.client() as client:
            client.execute_command("REPLICAOF", HOST, master.port)

    def copy(self, master: RedisServer) -> None:
        """Be a replica until everything is here, and then a master of one's own."""
        self.follow(master)
        with self.client() as here, master.client() as there:
            deadline = time.monotonic() + _START_WITHIN
            while here.info("replication")["master_link_status"] != "up" or here.dbsize() != there.dbsize():
                assert time.monotonic() < deadline, "the replica does not catch up"
                time.sleep(0.02)
            here.execute_command("REPLICAOF", "NO", "ONE")

    def hold(self) -> None:
        """Let the process stand still: it takes connections and answers nothing."""
        _done(self._node.hang())

    def release(self) -> None:
        _done(self._node.wake())

    def kill(self) -> None:
        _done(self._node.kill())


@contextmanager
def running(**settings: str) -> Iterator[RedisServer]:
    """Run a server of its own, with settings such as `maxmemory="10mb"`."""
    with _made("single", settings) as (server,):
        yield server


@contextmanager
def running_cluster() -> Iterator[Sequence[RedisServer]]:
    """Run a Redis Cluster of three masters."""
    with _made("cluster", {}) as servers:
        yield servers


@contextmanager
def free_port() -> Iterator[int]:
    """Keep a port free that nobody listens on."""
    with Ports() as ports:
        yield ports.choose()


@contextmanager
def _made(kind: Kind, settings: Mapping[str, str]) -> Iterator[Sequence[RedisServer]]:
    run = joined()
    run.watch()
    with Ports() as ports:
        named = {name.replace("_", "-"): value for name, value in settings.items()}
        whole = Redis.made(run.own_folder(), ports=ports, kind=kind, settings=FORGETFUL | named)
        try:
            _done(whole.start())
            yield [RedisServer(whole, number) for number in range(len(whole.nodes))]
        finally:
            _done(end_all(whole.nodes))


def _done(call: Coroutine[Any, Any, None]) -> None:
    """Wait for the call, in a loop of its own: this one's may be running."""
    with ThreadPoolExecutor(1, "redis-server") as thread:
        thread.submit(asyncio.run, call).result()
