"""The command line under test: in this process, where errors are seen at once, or as the process it really is."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from eventstore.cli import main
from eventstore.cli.serve import READY
from eventstore.settings import Settings
from tests.conftest import EXAMPLE_HOME

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


class CommandLine:
    """Runs `eventstore` on one file."""

    def __init__(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], scratch: Path
    ) -> None:
        """Take the store's file, and a folder for what commands are given."""
        self.path = path
        self._scratch = scratch
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    @property
    def url(self) -> str:
        return f"sqlite:{self.path}"

    @property
    def where(self) -> list[str]:
        """What is said before each command."""
        return ["--log", self.url]

    def at(self, address: str) -> AtAServer:
        """Return the command line on the store of the server at this address."""
        return AtAServer(address, self.path, self._monkeypatch, self._capsys, self._scratch)

    def on(self, path: Path) -> CommandLine:
        """Return the command line on another file."""
        return CommandLine(path, self._monkeypatch, self._capsys, self._scratch)

    def __call__(self, *words: object, given: str | bytes = b"") -> Ended:
        """Run a command in this process, with `given` on standard input."""
        source = self._scratch / "given"
        source.write_bytes(given if isinstance(given, bytes) else given.encode("utf-8", "surrogatepass"))
        self._capsys.readouterr()
        with source.open("rb") as stdin, self._monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", stdin)
            try:
                code = main([*self.where, *map(str, words)])
            finally:
                # A process of its own would end here.
                gc.unfreeze()
                gc.enable()
        out, err = self._capsys.readouterr()
        return Ended(code, out, err)

    def done(self, *words: object, given: str | bytes = b"") -> Ended:
        """Run a command that has to succeed."""
        ended = self(*words, given=given)
        assert ended.code == 0, ended
        return ended

    def started(
        self,
        *words: object,
        stdin: int = subprocess.PIPE,
        stdout: int | IO[bytes] = subprocess.PIPE,
        program: str | None = None,
        before: Sequence[str] = (),
        heeding: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start a command as a process of its own, its streams connected to pipes, heeding Ctrl-C.

        `program` is Python that calls `main`, in the place of the module's own; it gets the words of `before` as well.
        """
        runs = ["-m", "eventstore.cli"] if program is None else ["-c", program]
        command = [sys.executable, *runs, *before, *self.where, *map(str, words)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with _ctrl_c_heeded() if heeding else nullcontext():
            return subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=False,
            )

    def threads(self, *words: object) -> list[dict[str, Any]]:
        """Return the threads that a list shows."""
        found: list[dict[str, Any]] = self.done("list", "--json", *words).json["items"]
        return found


class OnACluster(CommandLine):
    """Runs `eventstore` on a topic, with its views in Redis."""

    def __init__(self, settings: Settings, *others: Any) -> None:
        super().__init__(*others)
        self._settings = settings

    @property
    def url(self) -> str:
        return self._settings.log

    @property
    def where(self) -> list[str]:
        return ["--log", self.url, "--views", self._settings.views]


class AtAServer(CommandLine):
    """Runs `eventstore` on the store of a server."""

    def __init__(self, address: str, *others: Any) -> None:
        super().__init__(*others)
        self._address = address

    @property
    def url(self) -> str:
        return f"grpc://{self._address}"


@contextmanager
def _ctrl_c_heeded() -> Iterator[None]:
    """Undo what a shell does to jobs in the background: they, and what they start, ignore Ctrl-C.

    It is done here and not in the child, which would have to be forked for it: gRPC, where it has threads, may abort
    a forked process.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def terminal(*, columns: int = 80) -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal: what a person types into one end is read at the other, and the other way round."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture
def empty(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> CommandLine:
    """The command line on a file that is not there yet."""
    return CommandLine(tmp_path / "threads.db", monkeypatch, capsys, tmp_path_factory.mktemp("given"))


@pytest.fixture
async def cluster(clusters_log: Settings, empty: CommandLine) -> OnACluster:
    """The command line on a topic of its own, whose views nobody keeps yet."""
    return OnACluster(clusters_log, empty.path, empty._monkeypatch, empty._capsys, empty._scratch)


@pytest.fixture
async def clusters_log() -> AsyncIterator[Settings]:
    # Imported where it is used: the clients of Kafka and Redis take long to load.
    from tests.support.cluster import a_log

    async with a_log(partitions=2) as settings:
        yield settings


@contextmanager
def serving(behind: CommandLine, *words: str) -> Iterator[AtAServer]:
    """Serve the store for the block; it has to end in good order."""
    with behind.started("serve", "--listen", "0", *words, stdin=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().decode()
            assert ready.startswith(READY), process.communicate(timeout=60)
            yield behind.at(ready.removeprefix(READY).split(";")[0].strip())
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.fixture(scope="session")
def example_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the threads of the example home, as the command line imports them."""
    path = tmp_path_factory.mktemp("example") / "threads.db"
    command = [sys.executable, "-m", "eventstore.cli", "--log", f"sqlite:{path}", "import", str(EXAMPLE_HOME)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    return path


@pytest.fixture
def example(example_file: Path, empty: CommandLine) -> CommandLine:
    """The command line on a file of its own with the threads of the example home."""
    shutil.copy(example_file, empty.path)
    return empty


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Ends, at the end, whatever a test started and left running."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
