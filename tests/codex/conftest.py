"""What tests of import and export ask for: a store on a file, and a Codex home that is still empty."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore.wiring import Embedded
from tests.support.files import opened
from tests.support.homes import CodexHome


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Embedded]:
    async with opened(tmp_path / "threads.db") as embedded:
        yield embedded


@pytest.fixture
def home(tmp_path: Path) -> CodexHome:
    return CodexHome(tmp_path / "codex")
