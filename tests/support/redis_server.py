"""Real Redis servers for tests: each on a free port of this machine, in a folder of its own, ended by its id."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

_START_WITHIN = 20.0
"""Seconds until a server has to answer, on a machine that is busy with other tests."""


class RedisServer:
    """One server process."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Name the folder for its files, and options such as `--maxmemory 10mb`."""
        self._folder = folder
        self._options = options
        self.port = free_port()
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "these tests need redis-server: apt-get install redis-server"
        self._folder.mkdir(parents=True, exist_ok=True)
        given = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder), "--save", ""]
        with (self._folder / "redis.log").open("ab") as log:
            self._running = subprocess.Popen([program, *given, *self._options], stdout=log, stderr=log)
        with self.client() as client:
            deadline = time.monotonic() + _START_WITHIN
            while True:
                assert self._running.poll() is None, (self._folder / "redis.log").read_text()
                try:
                    client.info("server")
                    return
                except redis.AuthenticationError:
                    return
                except redis.ConnectionError:
                    assert time.monotonic() < deadline, "redis-server does not answer"
                    time.sleep(0.02)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, retry=Retry(NoBackoff(), 0))

    def follow(self, master: RedisServer) -> None:
        """Become a replica."""
        with self.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", master.port)

    def copy(self, master: RedisServer) -> None:
        """Be a replica until everything is here, and then a master of one's own."""
        self.follow(master)
        with self.client() as here, master.client() as there:
            deadline = time.monotonic() + _START_WITHIN
            while here.info("replication")["master_link_status"] != "up" or here.dbsize() != there.dbsize():
                assert time.monotonic() < deadline, "the replica does not catch up"
                time.sleep(0.02)
            here.execute_command("REPLICAOF", "NO", "ONE")

    def hold(self) -> None:
        """Let the process stand still: it takes connections and answers nothing."""
        assert self._running is not None
        self._running.send_signal(signal.SIGSTOP)

    def release(self) -> None:
        assert self._running is not None
        self._running.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None


@contextmanager
def running(folder: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def running_cluster(folder: Path, *, nodes: int = 3) -> Iterator[Sequence[RedisServer]]:
    """Run a Redis Cluster of so many masters."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
        servers = [stack.enter_context(running(folder / f"{number}", *options)) for number in range(nodes)]
        addresses = [f"127.0.0.1:{server.port}" for server in servers]
        program = shutil.which("redis-cli")
        assert program is not None, "these tests need redis-cli: apt-get install redis-tools"
        subprocess.run(
            [program, "--cluster", "create", *addresses, "--cluster-yes"], check=True, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _START_WITHIN
        for server in servers:
            with server.client() as client:
                while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    assert time.monotonic() < deadline, "the cluster does not come up"
                    time.sleep(0.02)
        yield servers


def free_port() -> int:
    """Return a port that nobody listens on; a cluster's second port, 10,000 higher, has to be one as well."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        if port < 55_000:
            return port
