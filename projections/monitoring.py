"""The port at which a worker or a server is watched: /metrics for Prometheus, /livez and /readyz for orchestrators.

Served by a thread, so that a stuck event loop is seen as what it is.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

ALIVE_WITHIN: Final = 15.0
"""Seconds without a beat after which the process is taken for dead: longer than any step, shorter than patience."""


class Pulse:
    """Says whether whoever beats it is alive."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def beat(self) -> None:
        self._last = time.monotonic()

    @property
    def is_alive(self) -> bool:
        return time.monotonic() - self._last < ALIVE_WITHIN


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _IPv6Server(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        return


@contextmanager
def monitored(
    address: tuple[str, int], registry: CollectorRegistry, *, is_alive: Callable[[], bool], is_ready: Callable[[], bool]
) -> Iterator[int]:
    """Serve for the block; give the port that it is at, which for port 0 is any that was free.

    Raises:
        InvalidRequest: The port cannot be had.
    """
    metrics = make_wsgi_app(registry)

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        match environment.get("PATH_INFO"):
            case "/metrics":
                exposed: Iterable[bytes] = metrics(environment, start)
                return exposed
            case "/livez":
                return _said(is_alive(), start)
            case "/readyz":
                return _said(is_ready(), start)
            case _:
                start("404 Not Found", [("Content-Type", "text/plain")])
                return [b"/metrics, /livez, /readyz\n"]

    server_class = _IPv6Server if ":" in address[0] else _Server
    try:
        server = make_server(*address, answer, server_class=server_class, handler_class=_Quiet)
    except OSError as exc:
        raise InvalidRequest(f"port {address[1]} of {address[0]} cannot be had ({exc.strerror}); give another") from exc
    thread = threading.Thread(target=server.serve_forever, name="eventstore-monitoring", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _said(well: bool, start: StartResponse) -> Iterable[bytes]:
    start("200 OK" if well else "503 Service Unavailable", [("Content-Type", "text/plain")])
    return [b"ok\n" if well else b"not ok\n"]
