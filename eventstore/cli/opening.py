"""Opening the store for a command, and finding the thread that a person means."""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from string import hexdigits
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

import typer

from eventstore.cli.interrupts import cancelling
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.ids import ThreadId
    from eventstore.remote.store import RemoteThreadStore
    from eventstore.settings import Settings
    from eventstore.threads import EventSourcedThreadStore
    from eventstore.wiring import Parts

    Threads: TypeAlias = EventSourcedThreadStore | RemoteThreadStore

T = TypeVar("T")

ThreadArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="ID", help="The thread's id, or enough of its beginning.", show_default=False)
]

TokensOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--at-least",
        metavar="TOKEN",
        help="Reflect no less than the append or change whose consistency token this is. Repeatable.",
    ),
]
AcknowledgedOption: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Say it as an object in one line, with the consistency token of what was done.")
]

_FULL_LENGTH = 32
"""Hexadecimal digits of an id."""


@dataclass(frozen=True, slots=True)
class Where:
    """What was said before the command."""

    log: str | None = None
    views: str | None = None
    actor: str | None = None


def settings_of(context: typer.Context, *, threads_suffice: bool = False) -> Settings:
    """Return the settings: what was said before the command wins over the environment.

    Raises:
        InvalidRequest: One of them is wrong.
        Unsupported: A server keeps the threads, and they do not suffice.
    """
    from eventstore.settings import load_settings

    where = context.find_object(Where) or Where()
    settings = load_settings(log=where.log, views=where.views, actor=where.actor)
    if settings.is_remote and not threads_suffice:
        from eventstore.wiring import needs_the_log

        raise needs_the_log()
    return settings


def with_store(
    context: typer.Context, work: Callable[[Parts], Awaitable[int | None]], *, makes_it: bool = False
) -> int:
    """Open the store, do the work in it, and return the exit code. Only a command that `makes_it` makes its file.

    Where nothing was said and nothing is kept yet, the others work on an empty store.

    Raises:
        InvalidRequest: A setting is wrong, or names a file that is not there.
    """
    from eventstore.wiring import Embedded, open_parts

    settings = settings_of(context)
    if not makes_it:
        settings = _of_what_is_there(settings)

    async def opened() -> int:
        async with open_parts(settings) as parts:
            if isinstance(parts, Embedded) and (was := parts.file.migrated_from) is not None:
                print(f"{parts.file.path} is of the newest format now; as it was: {was}", file=sys.stderr)
            return await work(parts) or 0

    return run_cancellable(opened())


def with_threads(
    context: typer.Context, work: Callable[[Threads], Awaitable[int | None]], *, makes_it: bool = False
) -> int:
    """Do what `with_store` does for work that needs the threads alone, which a server may keep as well."""
    from eventstore.wiring import open_threads

    settings = settings_of(context, threads_suffice=True)
    if not settings.is_remote:
        return with_store(context, lambda parts: work(parts.store), makes_it=makes_it)

    async def opened() -> int:
        async with open_threads(settings) as store:
            return await work(store) or 0

    return run_cancellable(opened())


def given_path(text: str) -> Path:
    """Refuse what a variable that is not set leaves: as a path, nothing is the current folder.

    Raises:
        InvalidRequest: It is empty.
    """
    if not text:
        raise InvalidRequest("'' is no path; write . for the current folder")
    return Path(text)


def absolute(folder: Path) -> str:
    """Return the folder's path from the root on.

    Raises:
        InvalidRequest: It begins in the current folder, which was removed.
    """
    try:
        return str(folder.absolute())
    except FileNotFoundError as exc:
        raise InvalidRequest("the current folder was removed; go to another one, or give --cwd a whole path") from exc


def run_cancellable(work: Coroutine[Any, Any, T]) -> T:
    """Run the work in a loop of its own, where Ctrl-C cancels it unless it has other plans, and garbage is collected.

    Every command's work runs here, however long: what fails over and over leaves cycles behind each time.
    """
    import asyncio
    import logging

    # What the brokers did is in the error's sentence; Python prints logs that nobody handles to standard error.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    # What was imported stays: collecting would begin by looking through all of it.
    gc.freeze()
    gc.enable()
    with asyncio.Runner() as runner:
        # Made while Ctrl-C still ends the process: asyncio heeds it only once it runs something.
        runner.get_loop()
        with cancelling():
            return runner.run(work)


def is_missing(settings: Settings) -> bool:
    """Whether the store's file is not made yet; any other trouble with it is for opening to tell."""
    if settings.is_cluster or settings.is_remote:
        return False
    try:
        Path(settings.sqlite.path).stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def no_store(settings: Settings) -> InvalidRequest:
    return InvalidRequest(
        f"there is no store at {settings.sqlite.path}; give the path of one, "
        "or make one there with eventstore import or eventstore new"
    )


def _of_what_is_there(settings: Settings) -> Settings:
    """Return the settings; with an empty store where the default file is not there yet.

    Raises:
        InvalidRequest: The file that was named is not there: it was mistyped, or moved.
    """
    from eventstore.settings import Settings
    from eventstore.sqlite.file import MEMORY

    if settings.is_cluster or settings.sqlite.path == MEMORY or not is_missing(settings):
        return settings
    if settings.log:
        raise no_store(settings)
    return Settings.model_construct(
        log=f"sqlite:{MEMORY}", actor=settings.actor, synchronous=settings.synchronous, within=settings.within
    )


def holds_nothing(settings: Settings) -> bool:
    """Whether the store is one in memory, or stands for a file that is not there yet."""
    from eventstore.sqlite.file import MEMORY

    if settings.is_cluster or settings.is_remote:
        return False
    return settings.sqlite.path == MEMORY or (not settings.log and is_missing(settings))


async def resolve(store: Threads, text: str, *, deleted: bool = False) -> ThreadId:
    """Return the id that the text is, or is the beginning of; of a deleted thread too if `deleted` says so.

    A whole id is not looked up.

    Raises:
        InvalidRequest: It is no id, or the beginning of none or of several.
    """
    from eventstore.ids import parse_thread_id

    digits = text.strip().replace("-", "")
    if len(digits) >= _FULL_LENGTH or ":" in text:
        return parse_thread_id(text.strip())
    if not digits or not all(digit in hexdigits for digit in digits):
        raise InvalidRequest(
            f"invalid thread id {text!r}: give a UUID or the beginning of one; eventstore list has them"
        )
    found = await store.matching(digits, deleted=deleted)
    if not found:
        raise InvalidRequest(f"no thread begins with {text}; eventstore list shows which there are")
    if len(found) > 1:
        raise InvalidRequest(f"{text} is the beginning of {found[0]} and of {found[1]}; give more of it")
    return found[0]
