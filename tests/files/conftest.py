"""What tests of one file ask for: its path, and a store on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore.wiring import Embedded
from tests.support.files import opened


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
async def parts(path: Path) -> AsyncIterator[Embedded]:
    async with opened(path) as parts:
        yield parts
