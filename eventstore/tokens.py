"""Consistency tokens: each names a place in a log that an answer has to reflect.

An append or a command returns one; any process gives it to a read as `at_least`. Opaque: a log's identity, and the last
offset of each partition that matters, written so that a mistyped one is told. Nobody takes one apart but this module.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from functools import lru_cache
from zlib import crc32

from eventstore.documents.items import Position
from eventstore.errors import InvalidRequest, quoted


@lru_cache(maxsize=64)
def token_at(log: str, position: Position) -> str:
    """Return the token of a position in the log of that identity. Remembered: a flush names what its append named."""
    return _written(log, f"{position.partition}:{position.offset}")


def merged(tokens: Iterable[str]) -> str | None:
    """Return the token that asks for all that these ask for; None of none.

    Raises:
        InvalidRequest: One is no token, or they are of different logs.
    """
    log: str | None = None
    last: dict[int, int] = {}
    for token in tokens:
        theirs, offsets = _read(token)
        if log is not None and theirs != log:
            raise InvalidRequest(f"the consistency tokens are of two logs, {log} and {theirs}; give those of one")
        log = theirs
        for partition, offset in offsets.items():
            last[partition] = max(offset, last.get(partition, offset))
    if log is None:
        return None
    return _written(log, " ".join(f"{partition}:{offset}" for partition, offset in sorted(last.items())))


def checkpoints_of(token: str | None, *, log: str, partitions: int) -> Mapping[int, int]:
    """Return how far each partition that the token names has to be folded: the offset behind its last; {} of None.

    Raises:
        InvalidRequest: It is no token, or it is one of another log than that of this identity.
    """
    if token is None:
        return {}
    theirs, offsets = _read(token)
    if theirs != log or any(partition >= partitions for partition in offsets):
        raise InvalidRequest(f"the consistency token is of the log {theirs}, and this is {log}; leave it away here")
    return {partition: offset + 1 for partition, offset in offsets.items()}


def beyond(partition: int, checkpoint: int, end: int) -> InvalidRequest:
    """Return the error for a token that names what this log does not hold."""
    return InvalidRequest(
        f"the consistency token names offset {checkpoint - 1} of partition {partition}, and the log ends at {end}: "
        "records were taken out of it, or it was made anew; leave the token away"
    )


def _written(log: str, offsets: str) -> str:
    body = f"{log} {offsets}".encode()
    return urlsafe_b64encode(crc32(body).to_bytes(4) + body).rstrip(b"=").decode()


def _read(token: str) -> tuple[str, dict[int, int]]:
    try:
        raw = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        log, *offsets = raw[4:].decode().split(" ")
        if crc32(raw[4:]).to_bytes(4) == raw[:4] and offsets:
            pairs = (text.split(":") for text in offsets)
            return log, {int(partition): int(offset) for partition, offset in pairs}
    except ValueError:
        pass  # not base64, not text, not numbers
    raise InvalidRequest(f"{quoted(token)} is no consistency token; give one as an append or a command has returned it")
