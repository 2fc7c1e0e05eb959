"""The URLs of Redis: what redis-py would overlook or stumble over is told."""

from __future__ import annotations

import pytest

from eventstore.errors import InvalidRequest
from projections.redis_edge import address_of


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://127.0.0.1", "redis://127.0.0.1:6379"),
        ("redis://127.0.0.1:7000/", "redis://127.0.0.1:7000"),
        ("redis://user:secret@views:7000/12", "redis://views:7000"),
        ("rediss://[::1]:7000/0?ssl_ca_certs=a&ssl_certfile=b&ssl_keyfile=c", "rediss://[::1]:7000"),
    ],
)
def test_an_address_shows_no_more_than_where_it_is(url: str, address: str) -> None:
    assert address == address_of(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis:views",
        "redis://",
        "redis://:7000",
        "redis://:secret@",
        "redis://views:0",
        "redis://views:x",
        "redis://views:99999",
        "redis://views/first",
        "redis://views/1/2",
        "redis://views/0#x",
        "redis://views/0?socket_timeout=1",
        "redis://views/0?ssl_ca_certs=a",
        "rediss://views/0?secret=a",
        "rediss://views/0?ssl_ca_certs=a&ssl_ca_certs=b",
        "rediss://views/0?ssl_ca_certs=",
        "http://views",
    ],
)
def test_what_is_no_url_of_a_redis_is_refused(url: str) -> None:
    with pytest.raises(
        InvalidRequest, match="the URL of the views is none of a Redis; give redis://HOST:PORT/DB"
    ) as told:
        address_of(url)
    assert "secret" not in str(told.value)
