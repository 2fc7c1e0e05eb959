"""The real Codex under test: its app server driven over JSON-RPC, and one prompt run by `codex exec`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 60.0
"""Seconds after which an answer that did not come is a failure, not a slow machine."""
_LONGEST_LINE = 64 * 1024 * 1024


@cache
def binary() -> str:
    """Return the path of the Codex that can use a server, fetched if it is not here yet.

    Raises:
        AssertionError: It cannot be had.
    """
    done = subprocess.run([ROOT / "compose" / "codex"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Refused(Exception):
    """The app server refused a call."""


@dataclass
class CodexHome:
    """A private CODEX_HOME, and the directory that its agent works in."""

    folder: Path
    work: Path
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def made(cls, folder: Path, *, model: str, setting: str = "") -> CodexHome:
        """Write a configuration with the model at this URL, and one line more: where threads are kept, if not here."""
        work = folder / "work"
        work.mkdir(parents=True)
        home = cls(folder, work, {"CODEX_HOME": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]})
        home.configure(model=model, setting=setting)
        return home

    def configure(self, *, model: str, setting: str) -> None:
        (self.folder / "config.toml").write_text(
            'model = "a-model"\nmodel_provider = "loopback"\napproval_policy = "never"\n'
            f'sandbox_mode = "danger-full-access"\n{setting}\n'
            f'[model_providers.loopback]\nname = "loopback"\nbase_url = "{model}"\nwire_api = "responses"\n'
            "[analytics]\nenabled = false\n"
        )

    @property
    def rollouts(self) -> list[Path]:
        """The threads that Codex keeps here itself."""
        return sorted(self.folder.rglob("rollout-*.jsonl"))

    async def exec(self, *words: str) -> str:
        """Run `codex exec` to its end and return what it printed."""
        process = await asyncio.create_subprocess_exec(
            binary(),
            "exec",
            "--skip-git-repo-check",
            *words,
            cwd=self.work,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0, err.decode()[-4_000:]
        return out.decode()


class AppServer:
    """A running `codex app-server`."""

    def __init__(self, process: asyncio.subprocess.Process, home: CodexHome) -> None:
        self.process = process
        self._home = home
        self._calls = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._told: list[dict[str, Any]] = []
        self._more = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method and return its result.

        Raises:
            Refused: It answered with an error.
        """
        self._calls += 1
        answer = self._answers[self._calls] = asyncio.get_running_loop().create_future()
        self._send({"id": self._calls, "method": method, "params": params})
        return await asyncio.wait_for(answer, PATIENCE)

    async def start(self, **params: Any) -> str:
        """Start a thread and return its id."""
        started = await self.call("thread/start", cwd=str(self._home.work), **params)
        return str(started["thread"]["id"])

    async def resume(self, thread_id: str) -> Any:
        """Resume a thread. The first resume after a start of this Codex always fails in Codex itself."""
        try:
            return await self.call("thread/resume", threadId=thread_id)
        except Refused as exc:
            if "rollout path missing" not in str(exc):
                raise
        return await self.call("thread/resume", threadId=thread_id)

    async def say(self, thread_id: str, text: str) -> None:
        """Say something in a thread, and wait until the agent is done with it."""
        since = self.told_so_far
        await self.call("turn/start", threadId=thread_id, input=[{"type": "text", "text": text}])
        done = await self.told("turn/completed", lambda params: params["threadId"] == thread_id, since=since)
        assert done["turn"]["status"] == "completed", done

    @property
    def told_so_far(self) -> int:
        """How many things Codex has told."""
        return len(self._told)

    async def told(self, method: str, is_it: Callable[[Any], bool], *, since: int) -> Any:
        """Wait until Codex tells this, beyond the first `since` things it told, and return what it tells."""
        async with asyncio.timeout(PATIENCE), self._more:
            while True:
                for message in self._told[since:]:
                    if message["method"] == method and is_it(message["params"]):
                        return message["params"]
                since = len(self._told)
                await self._more.wait()

    async def initialize(self) -> None:
        await self.call(
            "initialize",
            clientInfo={"name": "tests", "title": None, "version": "1"},
            capabilities={"experimentalApi": True},
        )
        self._send({"method": "initialized"})

    async def end(self) -> None:
        """Close its input, as a client does that goes, and wait until it has ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), PATIENCE)
        await self._reading

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            message = json.loads(line)
            if "method" in message:
                async with self._more:
                    self._told.append(message)
                    self._more.notify_all()
            elif "error" in message:
                self._answers.pop(message["id"]).set_exception(Refused(str(message["error"]["message"])))
            else:
                self._answers.pop(message["id"]).set_result(message["result"])
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Refused("the app server has ended"))


@asynccontextmanager
async def app_server(home: CodexHome) -> AsyncIterator[AppServer]:
    """Run an app server for the block."""
    with (home.folder / "app-server.log").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            binary(),
            "app-server",
            cwd=home.work,
            env=home.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            limit=_LONGEST_LINE,
        )
    server = AppServer(process, home)
    try:
        await server.initialize()
        yield server
        await server.end()
    finally:
        await server.kill()


def texts(read: Any) -> list[str]:
    """Return what was said in a thread that was read with its turns, in order."""
    return [
        item["text"] if item["type"] == "agentMessage" else item["content"][0]["text"]
        for turn in read["thread"]["turns"]
        for item in turn["items"]
        if item["type"] in ("agentMessage", "userMessage")
    ]
