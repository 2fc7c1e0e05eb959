"""Who acts: the name that events bear, for audit, of what one task asks for.

A store names its own actor. Where it is asked on behalf of several, as a server is, each call's task says for whom;
what is queued for later keeps the name of who queued it. A task that is started meanwhile acts for the same one.
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
