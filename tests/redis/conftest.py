"""Views of three partitions in a real Redis, over a log in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.partitions import PartitionedFeed
from tests.support.redis_rig import PARTITIONS, Rig, rig
from tests.support.redis_server import RedisServer


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    with redis_server.client() as client:
        client.flushall()
    return redis_server


@pytest.fixture
def feed() -> PartitionedFeed:
    return PartitionedFeed(PARTITIONS)


@pytest.fixture
async def made(server: RedisServer, feed: PartitionedFeed) -> AsyncIterator[Rig]:
    async with rig(server.url, feed, partitions=PARTITIONS) as parts:
        yield parts
