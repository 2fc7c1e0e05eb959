"""The engine's edge: aiokafka's errors become ours, and its loggers keep their voices down.

An outage makes aiokafka say the same thing thousands of times a minute, and a deleted topic a hundred thousand times.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiokafka import errors as kafka
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from eventstore.errors import EventStoreError, LogUnavailable, TopicMisconfigured
from eventstore.kafka.url import KafkaUrl

_SAME_LINE_EVERY: Final = 10.0
"""Seconds in which a logger may repeat one of its messages, whatever its arguments."""

_MISSING = (kafka.UnknownTopicOrPartitionError, kafka.InvalidTopicError)
_NOT_ALLOWED = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.AuthenticationFailedError,
    kafka.SaslAuthenticationFailed,
    kafka.AuthenticationMethodNotSupported,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
)
_TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
_UNWANTED = (kafka.InvalidTimestampError, kafka.UnsupportedForMessageFormatError, kafka.PolicyViolationError)
REFUSALS: Final = (*_NOT_ALLOWED, *_TOO_LARGE, *_UNWANTED)
"""What brokers answer where they wrote nothing, and never will."""


def translated(exc: Exception, *, topic: str, where: str) -> EventStoreError:
    """Return the error of ours that says what to do about aiokafka's, where nothing was written."""
    if isinstance(exc, _MISSING):
        return TopicMisconfigured(
            f"there is no topic {topic} at {where}; make it with eventstore topic create, or give another URL"
        )
    if isinstance(exc, _NOT_ALLOWED):
        return LogUnavailable(
            f"{where} does not let this client at topic {topic} ({exc}); check user, password and sasl=, and what the "
            "brokers' ACLs let this user do"
        )
    if isinstance(exc, _UNWANTED):
        return TopicMisconfigured(
            f"topic {topic} at {where} refuses records of the store ({_said(exc)}); "
            "see what is wrong with it by eventstore topic verify"
        )
    if isinstance(exc, _TOO_LARGE):
        return TopicMisconfigured(
            f"topic {topic} takes smaller records than the store may write; raise its max.message.bytes "
            "(eventstore topic verify says to what)"
        )
    check = "check the address"
    if isinstance(exc, kafka.KafkaConnectionError):
        check += ", and whether the broker wants TLS, a user or a client's certificate (cert=)"
    return LogUnavailable(f"the log at {where} cannot be reached ({_said(exc)}); {check}, or try again later")


def elsewhere(client: Any, *, where: str) -> LogUnavailable:
    """Return the error for brokers that answered a client, and that it does not reach where they say that they are."""
    brokers = ", ".join(f"{broker.host}:{broker.port}" for broker in client.cluster.brokers())
    return LogUnavailable(
        f"{where} answers and says that the brokers are at {brokers}, where none can be reached; see their "
        "advertised.listeners, or try again later"
    )


async def refusal(url: KafkaUrl) -> Exception | None:
    """Connect to a broker once, and return why that fails: aiokafka's clients say it in their log only."""
    host, _, port = url.servers[0].rpartition(":")
    settings = {name: value for name, value in url.client_settings().items() if name != "bootstrap_servers"}
    try:
        connection = await create_conn(host.strip("[]"), int(port), **settings)
    except (kafka.KafkaError, OSError, TimeoutError) as exc:
        return exc
    await connection.close()
    return None


def _said(exc: Exception) -> str:
    if isinstance(exc, kafka.KafkaError | OSError):
        return str(exc) or type(exc).__name__
    # One of Python's own says little without its name: a KeyError no more than the key.
    return repr(exc)


def make_no_topics(client: Any) -> None:
    """Keep one of aiokafka's clients from having a topic made by asking about it, as brokers do by default.

    A mistyped name, or a topic that was deleted, would be one of the brokers' own settings, which lose threads.
    """
    connected = client._get_conn

    async def guarded(*node: Any, **group: Any) -> Any:
        connection = await connected(*node, **group)
        if connection is not None and "send" not in vars(connection):
            connection.send = partial(_sent, connection.send)
        return connection

    client._get_conn = guarded


def _sent(send: Callable[..., Any], request: Any, *more: Any, **named: Any) -> Any:
    if isinstance(request, MetadataRequest):
        request._allow_auto_topic_creation = False
    return send(request, *more, **named)


class _Quiet(logging.Filter):
    """Lets each message of a logger pass once in a while, and says how often it was held back."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        said, now = str(record.msg), time.monotonic()
        if now - self._last.get(said, -_SAME_LINE_EVERY) < _SAME_LINE_EVERY:
            self._held[said] = self._held.get(said, 0) + 1
            return False
        self._last[said] = now
        held = self._held.pop(said, 0)
        if held:
            record.msg = f"{record.getMessage()} (and {held} times like it before)"
            record.args = ()
        return True


def quieten() -> None:
    """Limit the rate of what aiokafka logs from now on; made twice it is the same as once."""
    for name in list(logging.root.manager.loggerDict):
        if name.split(".")[0] == "aiokafka":
            logger = logging.getLogger(name)
            if not any(isinstance(known, _Quiet) for known in logger.filters):
                logger.addFilter(_Quiet())
