"""`eventstore serve` as the process it is, and a bare client for its calls."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from eventstore.settings import Settings

ROOT = Path(__file__).parent.parent.parent
_NUMBERS = count()
PATIENCE = 60.0
"""Seconds after which a server that is not ready, or has not ended, is a failure, not a slow machine."""


@dataclass
class ServerProcess:
    """A running server."""

    process: asyncio.subprocess.Process
    address: str
    setting: str
    """The line for Codex's config.toml, as the server printed it."""
    errors: Path

    async def end(self, told: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to end, and see that it did so in good order."""
        self.process.send_signal(told)
        code = await asyncio.wait_for(self.process.wait(), PATIENCE)
        assert code == 0, self.errors.read_text()[-4_000:]

    async def kill(self) -> None:
        """End it as a crash does."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    def said(self) -> str:
        """Return what it has logged."""
        return self.errors.read_text()


@asynccontextmanager
async def a_server(settings: Settings, folder: Path, *words: str) -> AsyncIterator[ServerProcess]:
    """Run a server on the store for the block; it has to end in good order unless it was ended in there."""
    errors = folder / f"server-{next(_NUMBERS)}.log"
    named = {
        "EVENTSTORE_LOG": settings.log,
        "EVENTSTORE_VIEWS": settings.views,
        "EVENTSTORE_WITHIN": str(settings.within),
    }
    with errors.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "eventstore.cli",
            "serve",
            "--listen",
            "0",
            *words,
            env={**os.environ, "PYTHONPATH": str(ROOT), **{name: value for name, value in named.items() if value}},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            ready = (await process.stdout.readline()).decode()
            setting = (await process.stdout.readline()).decode().strip()
        assert ready.startswith("eventstore: ready on "), errors.read_text()[-4_000:]
        server = ServerProcess(process, ready.split()[3].rstrip(";"), setting, errors)
        yield server
        if process.returncode is None:
            await server.end()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def refusal(settings: Settings, *words: str) -> tuple[int | None, str]:
    """Run `serve`, which has to end by itself; return its exit code and what it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "eventstore.cli",
        "serve",
        *words,
        env={**os.environ, "PYTHONPATH": str(ROOT), "EVENTSTORE_LOG": settings.log},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert out == b""
    return process.returncode, err.decode()
