"""What the embedded store does not load: it starts quickly, and runs where no extra is installed."""

from __future__ import annotations

import subprocess
import sys

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
