"""The Kafka engine on the run's broker: each test has a topic of three partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.services import Topics
from tests.support.topics import Opened, made, opened


@pytest.fixture
async def engine(kafka: Topics) -> AsyncIterator[Opened]:
    async with opened(await made(kafka.url())) as engine:
        yield engine
