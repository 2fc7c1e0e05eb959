"""The port for those who watch a worker or a server: where it may be."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from eventstore.serve.address import Address
from projections.monitoring import monitored


@pytest.mark.parametrize(("text", "host"), [("0", "127.0.0.1"), ("localhost:0", "localhost"), ("[::1]:0", "[::1]")])
def test_it_listens_where_it_is_told_to(text: str, host: str) -> None:
    address = Address.parse(text)
    with (
        monitored(
            (address.host, address.port), CollectorRegistry(), is_alive=lambda: True, is_ready=lambda: True
        ) as port,
        urllib.request.urlopen(f"http://{host}:{port}/readyz", timeout=10) as answer,
    ):
        assert answer.read() == b"ok\n"
