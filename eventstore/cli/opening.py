"""Opening the store for a command, and finding the thread that a person means."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from string import hexdigits
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.ids import ThreadId
    from eventstore.settings import Settings
    from eventstore.threads import EventSourcedThreadStore
    from eventstore.wiring import Embedded

ThreadArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="The thread's id, or enough of its beginning.", show_default=False)
]

_FULL_LENGTH = 32
"""Hexadecimal digits of an id."""


@dataclass(frozen=True, slots=True)
class Where:
    """What was said before the command."""

    log: str | None = None
    views: str | None = None
    actor: str | None = None

    def settings(self) -> Settings:
        from eventstore.settings import load_settings

        return load_settings(log=self.log, views=self.views, actor=self.actor)


def with_store(context: typer.Context, work: Callable[[Embedded], Awaitable[int | None]]) -> int:
    """Open the store, do the work in it, and return the exit code."""
    import asyncio

    from eventstore.wiring import open_embedded

    settings = context.find_object(Where) or Where()

    async def opened() -> int:
        async with open_embedded(settings.settings()) as embedded:
            gc.enable()
            return await work(embedded) or 0

    return asyncio.run(opened())


async def resolve(store: EventSourcedThreadStore, text: str) -> ThreadId:
    """Return the id that the text is, or is the beginning of. A whole id is not looked up.

    Raises:
        InvalidRequest: It is no id, or the beginning of none or of several.
    """
    from eventstore.ids import parse_thread_id

    digits = text.strip().replace("-", "")
    if len(digits) >= _FULL_LENGTH or ":" in text:
        return parse_thread_id(text.strip())
    if not digits or not all(digit in hexdigits for digit in digits):
        raise InvalidRequest(f"invalid thread id {text!r}: give a UUID or the beginning of one; eventstore list has them")
    match await store.matching(digits):
        case []:
            raise InvalidRequest(f"no thread begins with {text}; eventstore list shows which there are")
        case [only]:
            return only
        case [one, other, *_]:
            raise InvalidRequest(f"{text} is the beginning of {one} and of {other}; give more of it")
        case _:
            raise AssertionError("a sequence has no, one or more members")
