"""What runs until it is told to end heeds that while it begins as well: what it waits for may never answer."""

from __future__ import annotations

import signal
import socket
import subprocess

import pytest

from eventstore.settings import Settings
from tests.cli.conftest import CommandLine, OnACluster

PATIENCE = 15.0
"""Seconds: half of what a store waits for its servers, and many times what ending takes."""


@pytest.fixture
def silent(empty: CommandLine, clusters_log: Settings, request: pytest.FixtureRequest) -> OnACluster:
    """The command line on a cluster of which one server takes connections and never answers."""
    listener: socket.socket = request.getfixturevalue("listener")
    at = f"127.0.0.1:{listener.getsockname()[1]}"
    which = {"log": f"kafka://{at}/threads", "views": f"redis://{at}/0"}
    settings = clusters_log.model_copy(update={request.param: which[request.param]})
    return OnACluster(settings, empty.path, empty._monkeypatch, empty._capsys, empty._scratch)


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("told_by", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("silent", "words"),
    [
        ("log", ["worker"]),
        ("views", ["worker"]),
        ("log", ["serve", "--listen", "0"]),
        ("views", ["serve", "--listen", "0", "--worker"]),
    ],
    indirect=["silent"],
)
def test_a_beginning_that_waits_for_a_silent_server_is_ended(
    silent: OnACluster,
    listener: socket.socket,
    words: list[str],
    told_by: signal.Signals,
    processes: list[subprocess.Popen[bytes]],
) -> None:
    process = silent.started(*words)
    processes.append(process)
    with listener, listener.accept()[0]:
        process.send_signal(told_by)
        _, err = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0, err
    assert b"Traceback" not in err
