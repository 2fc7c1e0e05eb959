"""Ports that stay free until a server listens on them, and while it is down between two starts."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Self

from compose.services.node import ServiceError

HOST = "127.0.0.1"
RANGE = range(20_000, 32_000)
"""Below what systems give to outgoing connections. From there, a client that tries again and again to reach a server
that is down would one day be given the server's own port, connect to itself and keep it."""

_LAST = 65_535


class Ports:
    """Ports that are ours within this block: others who choose by this class pass them by."""

    def __init__(self) -> None:
        self._locks: list[FileIO] = []

    def __enter__(self) -> Self:
        return self

    def choose(self) -> int:
        """Return a port that nobody uses and nobody else chose."""
        while True:
            port = random.choice(RANGE)
            if self._claim(port) and is_free(port):
                return port

    def take(self, port: int) -> int:
        """Return this port, which nobody else chose.

        Raises:
            ServiceError: Somebody did, or there is no such port.
        """
        if not 0 < port <= _LAST:
            raise ServiceError(f"{port} is no port; give one from 1 to {_LAST}")
        if not self._claim(port):
            raise ServiceError(f"port {port} is used by another program")
        return port

    def _claim(self, port: int) -> bool:
        folder = Path(tempfile.gettempdir()) / f"eventstore-ports-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = FileIO(folder / str(port), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._locks.append(lock)
        return True

    def __exit__(self, *failed: object) -> None:
        for lock in self._locks:
            lock.close()
        self._locks.clear()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do it: connections that ended a while ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def must_be_free(ports: Iterable[int]) -> None:
    """See that nobody uses the ports.

    Raises:
        ServiceError: Somebody does.
    """
    for port in ports:
        if not is_free(port):
            raise ServiceError(f"port {port} is used by another program")
