"""One server as a process of its own: started, watched, and hit by the faults that it has to be tested with.

A node is a folder. Who finds the folder finds the process: its pid lies there beside the time it was born at, so that
a pid that was given to somebody else since is never taken for the node.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from time import monotonic
from typing import TypeAlias

Command: TypeAlias = Callable[[], Awaitable[Sequence[str]]]
"""Returns the words that start a server; asked only when they are needed, for finding the program may take long."""

FAULT_WITHIN = 10.0
"""Seconds a signal may take to have its effect; it takes milliseconds."""
POLL_EVERY = 0.02
LAST_LINES = 20


class ServiceError(Exception):
    """A service is not as it was asked to be; the message says what its log said last."""


class Standing(Enum):
    """What a process is doing, as the system sees it."""

    RUNNING = "running"
    HUNG = "hung"
    GONE = "gone"


class Node:
    """A server process that may outlive whoever started it."""

    def __init__(self, folder: Path, command: Command) -> None:
        """Take the folder that is the node, whether it runs or not. Nothing is started."""
        self.folder = folder
        self.name = folder.name
        self._command = command

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.standing.value}>"

    @property
    def log(self) -> Path:
        """The file with all it ever printed."""
        return self.folder / "log"

    @property
    def standing(self) -> Standing:
        recorded = self._recorded()
        return Standing.GONE if recorded is None else standing_of(*recorded)

    @property
    def pid(self) -> int:
        """The process's id.

        Raises:
            ServiceError: There is no such process.
        """
        recorded = self._recorded()
        if recorded is None or standing_of(*recorded) is Standing.GONE:
            raise ServiceError(f"{self.name} is not running")
        return recorded[0]

    def check(self) -> None:
        """See that the process is there.

        Raises:
            ServiceError: It is gone. The message ends with the last lines of its log.
        """
        if self.standing is Standing.GONE:
            raise ServiceError(f"{self.name} ended; the last lines of {self.log}:\n{self.last_lines()}")

    def last_lines(self) -> str:
        """Return the end of the log, without the frames of Java's stack traces, which are many and say little."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\tat ")]
        return "\n".join(f"    {line}" for line in lines[-LAST_LINES:])

    async def start(self) -> None:
        """Start the process, with the same command as ever; whether it serves is not waited for.

        Raises:
            ServiceError: It runs already, or there is no program to run.
        """
        if self.standing is not Standing.GONE:
            raise ServiceError(f"{self.name} is {self.standing.value} already")
        words = await self._command()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._record(self._spawned(words))

    async def stop(self, *, within: float = FAULT_WITHIN) -> None:
        """Ask it to end, as an operator does (SIGTERM), and see that it did.

        Raises:
            ServiceError: It was gone before, or did not end in time; it may end later.
        """
        await self._hit(signal.SIGTERM, Standing.GONE, within)

    async def kill(self) -> None:
        """Let it lose whatever it has in memory (SIGKILL), hung or not, and see that it is gone.

        Raises:
            ServiceError: It was gone before.
        """
        await self._hit(signal.SIGKILL, Standing.GONE)

    async def hang(self) -> None:
        """Let it stand still with all its connections open (SIGSTOP), and see that it does.

        Raises:
            ServiceError: It was not running.
        """
        if self.standing is not Standing.RUNNING:
            raise ServiceError(f"{self.name} is {self.standing.value}, and cannot be made to hang")
        await self._hit(signal.SIGSTOP, Standing.HUNG)

    async def wake(self) -> None:
        """Let it go on after a hang (SIGCONT), and see that it does.

        Raises:
            ServiceError: It was not hung.
        """
        if self.standing is not Standing.HUNG:
            raise ServiceError(f"{self.name} is {self.standing.value}, and cannot be woken")
        await self._hit(signal.SIGCONT, Standing.RUNNING)

    async def end(self) -> None:
        """Kill it if it is there, and see that it is gone."""
        if self.standing is not Standing.GONE:
            await self.kill()

    def _spawned(self, words: Sequence[str]) -> int:
        # Not a `Popen`: that insists on being waited for by whoever started it. A session of its own, for Ctrl-C at a
        # terminal goes to everybody in the terminal's one.
        return os.posix_spawn(
            words[0],
            list(words),
            os.environ,
            setsid=True,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ),
        )

    async def _hit(self, number: signal.Signals, effect: Standing, within: float = FAULT_WITHIN) -> None:
        os.kill(self.pid, number)
        deadline = monotonic() + within
        while self.standing is not effect:
            if monotonic() > deadline:
                raise ServiceError(f"{self.name} is {self.standing.value}, {within:g} s after {number.name}")
            await asyncio.sleep(POLL_EVERY)

    def _recorded(self) -> tuple[int, str] | None:
        """Return the pid and the birth of the process that was started last."""
        with suppress(FileNotFoundError):
            pid, born = (self.folder / "pid").read_text().split(maxsplit=1)
            return int(pid), born
        return None

    def _record(self, pid: int) -> None:
        _, born = seen(pid) or ("", "")
        written = self.folder / "pid.written"
        written.write_text(f"{pid} {born}")
        written.replace(self.folder / "pid")


def standing_of(pid: int, born: str) -> Standing:
    """Return what the process is doing that was born then; another one with its pid is not it."""
    match seen(pid):
        case (state, at) if at == born:
            if state == "Z":
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            return {"Z": Standing.GONE, "X": Standing.GONE, "T": Standing.HUNG}.get(state, Standing.RUNNING)
        case _:
            return Standing.GONE


def seen(pid: int) -> tuple[str, str] | None:
    """Return a process's state, as the letter that `ps` shows, and its birth; `None` where there is none."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        # The first thread of a killed process may be a zombie while others still hold its ports.
        state = "D" if fields[0] == "Z" and int(fields[17]) > 1 else fields[0]
        # Births are counted from the start of the machine, so they may repeat after the next one.
        return state, f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {fields[19]}"
    shown = subprocess.run(
        ["ps", "-o", "state=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return (shown[0][0], shown[1].strip()) if len(shown) == 2 else None
