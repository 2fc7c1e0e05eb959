"""A run of tests shares its services among its processes and leaves none behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.services.node import Standing, standing_of
from tests.support.processes import eventually
from tests.support.services import ROOT, VARIABLE

TESTS = """
import os, pathlib, time
import pytest

SEEN = pathlib.Path(__file__).parent

async def note(redis_url, request):
    run = pathlib.Path(os.environ["TESTS_SERVICES"])
    process = (run / "redis" / "redis-1" / "pid").read_text()
    (SEEN / f"{request.node.name}.seen").write_text(f"{redis_url} {run} {process}")

@pytest.mark.parametrize("number", range(4))
async def test_shared(redis_url, request, number):
    await note(redis_url, request)

async def test_failing(redis_url, request):
    await note(redis_url, request)
    assert False

async def test_endless(redis_url, request):
    await note(redis_url, request)
    time.sleep(1000)

def test_frugal():
    (SEEN / "frugal.seen").write_text(str(sorted(os.listdir(os.environ["TESTS_SERVICES"]))))
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    (tmp_path / "test_it.py").write_text(TESTS)
    return tmp_path


def a_run(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a run of its own, which is no part of this one."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE and "XDIST" not in name}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.services", "-o", "asyncio_mode=auto", *words],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@dataclass(frozen=True)
class Note:
    """What a test of a run saw."""

    url: str
    run: Path
    pid: int
    born: str

    @property
    def redis(self) -> Standing:
        return standing_of(self.pid, self.born)


def notes(folder: Path) -> list[Note]:
    texts = [path.read_text().split(maxsplit=3) for path in folder.glob("test_*.seen")]
    return [Note(url, Path(run), int(pid), born) for url, run, pid, born in texts]


def test_a_run_shares_a_server_and_leaves_nothing_and_another_goes_on_until_it_is_killed(
    elsewhere: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "test_it.py").write_text(TESTS)
    with a_run(other, "-k", "endless") as endless, a_run(elsewhere, "-n", "2", "-k", "shared or failing") as run:
        output = run.communicate()[0].decode()
        assert "1 failed, 4 passed" in output
        found = notes(elsewhere)
        assert (5, 1) == (len(found), len({(note.run, note.pid) for note in found}))
        assert {"/0", "/1"} >= {note.url[-2:] for note in found}
        assert {Standing.GONE} == {note.redis for note in found}
        assert not found[0].run.exists()

        eventually(lambda: bool(notes(other)), "the other run saw its Redis", alive=endless)
        (note,) = notes(other)
        assert note.redis is Standing.RUNNING
        endless.kill()
        assert endless.wait() == -signal.SIGKILL
        eventually(lambda: note.redis is Standing.GONE and not note.run.exists(), "nothing is left")


def test_a_run_that_needs_no_service_starts_none(elsewhere: Path) -> None:
    with a_run(elsewhere, "-k", "frugal") as run:
        assert run.wait() == 0
    assert "['alive']" == (elsewhere / "frugal.seen").read_text()
