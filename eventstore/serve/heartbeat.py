"""Signs of life on a connection, which either end asks the other one for: who is gone without a word is noticed."""

from __future__ import annotations

from typing import Final

ASK_AFTER: Final = 30.0
"""Seconds without a word after which a sign of life is asked for."""
ANSWER_WITHIN: Final = 10.0
"""Seconds that the other end has for it; then the connection is closed, and its calls end."""


def options() -> tuple[tuple[str, int], ...]:
    """Return gRPC's options for either end."""
    ask_after, answer_within = int(ASK_AFTER * 1_000), int(ANSWER_WITHIN * 1_000)
    return (
        ("grpc.keepalive_time_ms", ask_after),
        ("grpc.keepalive_timeout_ms", answer_within),
        # The one above ends no connection while this one, a minute without more, has time left.
        ("grpc.http2.ping_timeout_ms", answer_within),
        # Also while there is no call, and however often nothing else is said.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        # A server takes clients that ask often for a nuisance and closes their connections; but a machine that was held
        # up asks several times at once.
        ("grpc.http2.max_ping_strikes", 0),
    )
