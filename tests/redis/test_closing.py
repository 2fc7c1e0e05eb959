"""Connections to Redis are ended with the store, whatever is under way."""

from __future__ import annotations

import asyncio
import time

import pytest

from eventstore.errors import ViewsUnavailable
from projections.redis_shards import Shards, script
from tests.support.redis_rig import NAME
from tests.support.redis_server import RedisServer


def connections(server: RedisServer) -> int:
    """Count the server's connections, this one included."""
    with server.client() as client:
        return len(client.client_list())


def come_to(server: RedisServer, count: int) -> bool:
    """Say whether the server notices in time that no more connections are left: an end takes a moment to arrive."""
    deadline = time.monotonic() + 10
    while connections(server) > count:
        if time.monotonic() > deadline:
            return False
    return True


async def test_closing_leaves_no_connection_of_calls_under_way(server: RedisServer) -> None:
    """A call whose connection is closed is repeated on another one."""
    before = connections(server)
    for turns in range(40):
        shards = Shards(server.url, NAME, within=10)
        if turns % 2:
            await shards.connect()
        calls = [
            asyncio.create_task(shards.run(script("describe"), partition)) for partition in range(3) for _ in range(20)
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        await shards.close()
        ended = await asyncio.gather(*calls, return_exceptions=True)

        assert all(isinstance(one, ViewsUnavailable | list) for one in ended), ended
        assert come_to(server, before)


async def test_what_is_closed_refuses(server: RedisServer) -> None:
    shards = Shards(server.url, NAME, within=10)
    await shards.connect()
    await shards.close()

    with pytest.raises(ViewsUnavailable, match="closed"):
        await shards.run(script("describe"), 0)
