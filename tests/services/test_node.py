"""A node is the process that was started in its folder, no other, and a fault that did not happen is an error."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from compose.services.health import nodes_under, until_healthy
from compose.services.node import Node, ServiceError, Standing


async def a_server() -> Sequence[str]:
    return (found("sleep"), "1000")


def found(program: str) -> str:
    path = shutil.which(program)
    assert path is not None
    return path


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    made = Node(tmp_path / "server", a_server)
    await made.start()
    yield made
    await made.end()


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([found("sleep"), "1000"]) as process:
        yield process
        process.kill()


async def test_faults_are_seen_to_happen(node: Node) -> None:
    pid = node.pid
    await node.hang()
    assert node.standing is Standing.HUNG
    await node.wake()
    assert node.standing is Standing.RUNNING
    await node.kill()
    assert node.standing is Standing.GONE
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_node_that_hangs_can_be_killed(node: Node) -> None:
    await node.hang()
    await node.kill()
    assert node.standing is Standing.GONE


async def test_a_fault_that_hits_nothing_is_an_error(node: Node) -> None:
    with pytest.raises(ServiceError, match="running, and cannot be woken"):
        await node.wake()
    await node.hang()
    with pytest.raises(ServiceError, match="hung, and cannot be made to hang"):
        await node.hang()
    await node.kill()
    for fault in (node.kill, node.stop):
        with pytest.raises(ServiceError, match="not running"):
            await fault()


async def test_a_node_that_does_not_stop_is_an_error(node: Node) -> None:
    await node.hang()
    with pytest.raises(ServiceError, match=r"hung, 0\.1 s after SIGTERM"):
        await node.stop(within=0.1)


async def test_a_node_is_not_started_twice(node: Node) -> None:
    with pytest.raises(ServiceError, match="running already"):
        await node.start()


async def test_a_node_starts_again_and_is_found_by_its_folder(node: Node) -> None:
    first = node.pid
    await node.stop()
    await node.start()
    (same,) = nodes_under(node.folder.parent)
    assert first != node.pid == same.pid


async def test_a_pid_that_is_another_process_by_now_is_left_alone(
    node: Node, stranger: subprocess.Popen[bytes]
) -> None:
    """Pids are given out again; the process that has ours by now is somebody else's."""
    born = (node.folder / "pid").read_text().partition(" ")[2]
    await node.kill()
    (node.folder / "pid").write_text(f"{stranger.pid} {born}, before")
    assert node.standing is Standing.GONE
    with pytest.raises(ServiceError, match="not running"):
        await node.kill()
    await node.end()
    assert stranger.poll() is None


async def test_who_waits_for_a_server_that_died_is_told_what_it_said(tmp_path: Path) -> None:
    async def last_words() -> Sequence[str]:
        return (found("sh"), "-c", "echo out of luck >&2")

    async def sick() -> str | None:
        return "no answer"

    node = Node(tmp_path / "server", last_words)
    await node.start()
    with pytest.raises(ServiceError, match=r"server ended; the last lines of .*\n    out of luck"):
        await until_healthy([node], sick, within=10.0)


async def test_who_waits_too_long_is_told_what_was_missing(node: Node) -> None:
    async def sick() -> str | None:
        return "no answer"

    with pytest.raises(ServiceError, match=r"not healthy after 0\.1 s: no answer"):
        await until_healthy([node], sick, within=0.1)
