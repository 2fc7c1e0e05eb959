"""compose/up and compose/down, as they are typed: twice, beside strangers, and when something is amiss."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis as RedisClient

from compose.services.health import nodes_under
from compose.services.node import Node, Standing
from tests.support.processes import eventually
from tests.support.services import ROOT, RUN


class Compose:
    """The two commands, on a folder of their own."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def __call__(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "compose" / verb), "--state", str(self.state), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def done(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        ended = self(verb, *words)
        assert ended.returncode == 0, ended
        return ended

    @property
    def nodes(self) -> dict[str, Node]:
        return {node.name: node for node in nodes_under(self.state)}


@pytest.fixture
def compose(pytestconfig: pytest.Config) -> Iterator[Compose]:
    """The commands; what they start and a failed test leaves running ends with the run."""
    run = pytestconfig.stash[RUN]
    run.watch()
    made = Compose(run.own_folder())
    (made.state / "lock").touch()  # the folder is theirs, whatever a test puts there first
    yield made
    made("down", "--delete")


def test_up_and_down_may_be_said_twice_and_the_data_stays(compose: Compose) -> None:
    first = compose.done("up")
    kafka, redis = first.stdout.splitlines()
    assert re.fullmatch(r"kafka://127\.0\.0\.1:\d+/threads", kafka)
    assert re.fullmatch(r"redis://127\.0\.0\.1:\d+/0", redis)
    with RedisClient.from_url(redis) as client:
        client.set("kept", "yes")
    pids = {name: node.pid for name, node in compose.nodes.items()}
    assert {"kafka-1", "redis-1"} == set(pids)

    again = compose.done("up", "--topic", "others")
    assert [kafka.replace("threads", "others"), redis] == again.stdout.splitlines()
    assert "running already" in again.stderr
    assert pids == {name: node.pid for name, node in compose.nodes.items()}

    assert "stopped kafka-1, redis-1" in compose.done("down").stderr
    assert {Standing.GONE} == {node.standing for node in compose.nodes.values()}
    assert "nothing is running" in compose.done("down").stderr

    refused = compose("up", "--brokers", "3")
    assert refused.returncode == 1
    assert "was made with --brokers 1, not 3; compose/down --delete makes room" in refused.stderr

    assert first.stdout == compose.done("up").stdout
    with RedisClient.from_url(redis, decode_responses=True) as client:
        assert client.get("kept") == "yes"
    compose.done("down", "--delete")
    assert not compose.nodes


def test_down_leaves_strangers_alone(compose: Compose) -> None:
    """A pid file that outlived its process may name somebody else's by now."""
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        folder = compose.state / "redis" / "redis-1"
        folder.mkdir(parents=True)
        (folder / "pid").write_text(f"{stranger.pid} long ago")
        assert "nothing is running" in compose.done("down", "--delete").stderr
        assert stranger.poll() is None
        stranger.kill()


def test_a_port_in_use_is_said_and_nothing_stays_behind(compose: Compose) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = compose("up", "--redis-port", str(port))
        assert refused.returncode == 1
        assert f"up: port {port} is used by another program" in refused.stderr
        assert "" == refused.stdout
    assert {Standing.GONE} >= {node.standing for node in compose.nodes.values()}


def test_a_folder_that_holds_something_else_is_left_as_it_is(compose: Compose, tmp_path: Path) -> None:
    """`kafka` and `redis` in it would be taken for what a start left behind that did not succeed."""
    precious = tmp_path / "kafka" / "precious"
    precious.parent.mkdir()
    precious.write_text("precious")
    for words in (("up",), ("down", "--delete")):
        refused = compose(*words, "--state", str(tmp_path))
        assert (1, "") == (refused.returncode, refused.stdout)
        assert f"{words[0]}: {tmp_path} holds something else; give a folder of its own with --state\n" == refused.stderr
    assert [precious] == [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--kafka-port", "99999"), "99999 is no port; give one from 1 to 65535"),
        (("--redis-port", "65535", "--redis-replica"), "65536 is no port; give one from 1 to 65535"),
        (("--state", "/dev/null"), "/dev/null cannot be used: .*; give another folder with --state"),
    ],
)
def test_what_cannot_be_had_is_said_in_a_sentence(compose: Compose, words: tuple[str, ...], sentence: str) -> None:
    refused = compose("up", *words)

    assert (1, "") == (refused.returncode, refused.stdout)
    assert re.fullmatch(f"up: {sentence}\n", refused.stderr), refused.stderr
    assert not compose.nodes


def test_a_broker_that_dies_while_it_starts_is_quoted(compose: Compose) -> None:
    data = compose.state / "kafka" / "kafka-1" / "data"
    data.mkdir(parents=True)
    (data / "meta.properties").write_text("version=1\ncluster.id=somebody-elses\nnode.id=7\n")
    (compose.state / "kafka" / "layout.json").write_text(
        '{"cluster_id": "AAAAAAAAAAAAAAAAAAAAAQ", "ports": [21001], "controller_ports": [21002]}'
    )
    failed = compose("up")
    assert failed.returncode == 1
    assert "kafka-1 ended; the last lines of" in failed.stderr
    assert "Stored node id 7 doesn't match" in failed.stderr
    assert {Standing.GONE} == {node.standing for node in compose.nodes.values()}


def test_a_start_that_is_cut_short_leaves_nothing(compose: Compose) -> None:
    with subprocess.Popen([ROOT / "compose" / "up", "--state", compose.state]) as starting:
        eventually(lambda: "kafka-1" in compose.nodes, "a broker is being started", alive=starting)
        starting.terminate()
        assert 128 + signal.SIGTERM == starting.wait()
    assert {Standing.GONE} == {node.standing for node in compose.nodes.values()}


@pytest.fixture
def ordinary_user(tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who is not root, and on whose path `mvn` fails."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in (("id", "echo 1000"), ("mvn", '[ "$1" = --version ] || { echo no such host; exit 1; }')):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    return os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_who_may_not_install_is_told_the_command(ordinary_user: dict[str, str]) -> None:
    ended = subprocess.run(
        [ROOT / "compose" / "packages", "the views need Redis", "redis", "redis-server"],
        env=ordinary_user,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    command = "run:  (sudo apt-get install -y redis-server|brew install redis)"
    assert re.fullmatch(f"packages: the views need Redis; ({command}|install it .*)\n", ended.stderr)


def test_jars_that_cannot_be_fetched_leave_no_half_folder(ordinary_user: dict[str, str], tmp_path: Path) -> None:
    ended = subprocess.run(
        [ROOT / "compose" / "programs", "kafka"], env=ordinary_user, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "no such host" in ended.stderr
    assert [] == [path.name for path in (tmp_path / "cache" / "eventstore").iterdir() if path.name != "lock"]
