"""For whom a task acts: the name that the events it brings about bear, for audit.

A store has an actor of its own. A server acts on behalf of several callers, and names the caller in each call's task.
Tasks that such a task starts act for the same caller; what is queued for later keeps the name of who queued it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ACTOR: ContextVar[str | None] = ContextVar("eventstore_actor", default=None)


def acting() -> str | None:
    """Return for whom the current task acts; None: for the store's own actor."""
    return _ACTOR.get()


def act_as(actor: str) -> None:
    """Let the current task act for somebody from now on, until it ends."""
    _ACTOR.set(actor)


@contextmanager
def acting_as(actor: str | None) -> Iterator[None]:
    """Let the current task act for somebody in the block; None: for the store's own actor."""
    before = _ACTOR.set(actor)
    try:
        yield
    finally:
        _ACTOR.reset(before)
