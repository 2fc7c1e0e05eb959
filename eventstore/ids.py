"""Names of threads, events and writers.

Every name is a UUID in its lower-case hyphenated form; fresh ones are version 7, so they sort by time.
"""

from __future__ import annotations

import os
import re
import time
from struct import unpack
from typing import NewType, TypeAlias
from uuid import UUID

from eventstore.errors import InvalidRequest

ThreadId = NewType("ThreadId", str)
EventId = NewType("EventId", str)
WriterId = NewType("WriterId", str)

AnyId: TypeAlias = str | UUID
"""What callers may give for an id: a UUID, or its text in any usual form."""

_CANONICAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID = re.compile(
    r"[0-9a-f]{32} | (urn:uuid:)? [0-9a-f]{8} (-[0-9a-f]{4}){3} -[0-9a-f]{12}", re.ASCII | re.IGNORECASE | re.VERBOSE
)
"""Stricter than `uuid.UUID`, which takes hyphens anywhere, underscores and any script's digits."""


def parse_thread_id(given: AnyId) -> ThreadId:
    """Return the canonical form of a thread id (contract §1.1: any UUID version parses).

    Raises:
        InvalidRequest: It is not a UUID.
    """
    text = given if isinstance(given, str) else str(given)
    if _CANONICAL.fullmatch(text):
        return ThreadId(text)
    if not _UUID.fullmatch(text):
        raise InvalidRequest(f"invalid thread id {text!r}: give a UUID")
    return ThreadId(str(UUID(text.lower())))


def new_thread_id() -> ThreadId:
    """Return a fresh id, which sorts behind all that were made before (UUID version 7)."""
    return ThreadId(_uuid7())


def new_event_id() -> EventId:
    return EventId(_uuid7())


def new_writer_id() -> WriterId:
    return WriterId(_uuid7())


def _uuid7() -> str:
    """Return a fresh version 7 UUID (RFC 9562 §5.7, §6.2 method 3).

    48 bits of milliseconds, 12 bits of their fraction, so that ids made one after the other sort so, 62 random bits.
    """
    millis, nanos = divmod(time.time_ns(), 1_000_000)
    fraction = nanos * 4_096 // 1_000_000
    noise = _fresh_noise() & (1 << 62) - 1
    bits = (millis & 0xFFFF_FFFF_FFFF) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62 | noise
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_AT_A_TIME = 64
_noise: list[int] = []
"""Random 64-bit numbers not used yet: a system call for each id would take longer than all the rest of it."""


def _fresh_noise() -> int:
    while True:
        try:
            # One step, so no two threads are given the same.
            return _noise.pop()
        except IndexError:
            _noise.extend(unpack(f"{_AT_A_TIME}Q", os.urandom(8 * _AT_A_TIME)))


if hasattr(os, "register_at_fork"):
    # A forked process would use the same again.
    os.register_at_fork(after_in_child=_noise.clear)
