"""One suite, every engine: who asks for `elsewhere` gets the engines that several processes share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore.store import ThreadStore
from tests.support.engines import Engine, MakeEngine, engines


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        makers = engines(shared="elsewhere" in metafunc.fixturenames)
        metafunc.parametrize("make_engine", list(makers.values()), ids=list(makers))


@pytest.fixture
async def engine(make_engine: MakeEngine, tmp_path: Path) -> AsyncIterator[Engine]:
    made = make_engine(tmp_path)
    yield made
    await made.end()


@pytest.fixture
async def store(engine: Engine) -> ThreadStore:
    return await engine.open()


@pytest.fixture
async def elsewhere(engine: Engine, store: ThreadStore) -> ThreadStore:
    """Another store on the same data, as another process has it."""
    return await engine.open()
