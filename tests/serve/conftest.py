"""Stores to be served, on every engine, and a model for the Codex that uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from eventstore.settings import Settings
from tests.support.model import Model, model
from tests.support.serving import ServerProcess, a_server


@dataclass(frozen=True)
class Served:
    """A store that server processes may be started on."""

    settings: Settings
    folder: Path
    extra: tuple[str, ...]
    """What the first server is told beside that."""

    def server(self, *words: str) -> AbstractAsyncContextManager[ServerProcess]:
        return a_server(self.settings, self.folder, *self.extra, *words)


@pytest.fixture(params=["sqlite", "cluster"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    if request.param == "sqlite":
        yield Served(Settings(log=f"sqlite:{tmp_path / 'threads.db'}"), tmp_path, ())
        return
    # Imported where it is used: the clients of Kafka and Redis take long to load.
    from tests.support.cluster import a_log

    async with a_log(partitions=2) as settings:
        yield Served(settings, tmp_path, ("--worker",))


@pytest.fixture
def a_model() -> Iterator[Model]:
    with model() as made:
        yield made
