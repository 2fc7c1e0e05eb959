"""What the embedded store does not load: it starts quickly, and runs where no extra is installed."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import eventstore
from eventstore import errors
from eventstore.documents import params, patch

NOT_LOADED = ("aiokafka", "redis", "hiredis", "projections.shared", "grpc", "google.protobuf", "eventstore.serve")

OPENING = """
import asyncio, sys
from eventstore import ListThreadsParams, open_store

async def main():
    async with open_store("sqlite::memory:") as store:
        await store.list_threads(ListThreadsParams())

asyncio.run(main())
print(*sys.modules)
"""


def test_opening_an_embedded_store_loads_neither_the_cluster_nor_the_server() -> None:
    done = subprocess.run([sys.executable, "-c", OPENING], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())

    assert "projections.embedded" in loaded
    assert not loaded.intersection(NOT_LOADED)


@pytest.mark.parametrize("module", [params, patch, errors])
def test_what_a_user_asks_with_and_what_he_is_told_is_importable_from_the_package(module: ModuleType) -> None:
    own = [kind for kind in vars(module).values() if isinstance(kind, type) and kind.__module__ == module.__name__]

    assert {kind.__name__ for kind in own} <= set(eventstore.__all__)


def test_all_that_the_package_names_is_there() -> None:
    assert set(eventstore.__all__) <= set(dir(eventstore))
    assert all(getattr(eventstore, name) is not None for name in eventstore.__all__)
    assert len(eventstore.__all__) == len(set(eventstore.__all__))
