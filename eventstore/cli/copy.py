"""`copy`: one log's events into another."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import is_missing, no_store, run_cancellable, settings_of
from eventstore.cli.printing import counted
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.copying import Copied
    from eventstore.settings import Settings
    from eventstore.wiring import OpenLog

_DIFFERENT = 1


def copy(
    context: typer.Context,
    source: Annotated[
        str, typer.Option("--from", metavar="URL", help="The log to copy: sqlite:PATH or kafka://HOST:PORT/TOPIC.")
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="URL", help="The log to write; on Kafka the topic must be there.")
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Then fold both and compare every thread of the source.")
    ] = False,
) -> int:
    """Copy what counts of a log into another one. Again and again if you like: only what is missing is added."""
    settings = settings_of(context, threads_suffice=True)
    one, other = (settings.model_copy(update={"log": url, "views": ""}) for url in (source, target))
    if source == target:
        raise InvalidRequest("--from and --to name the same log")
    if is_missing(one):
        raise no_store(one)
    return run_cancellable(_copy(one, other, verify))


async def _copy(source: Settings, target: Settings, verify: bool) -> int:
    from eventstore.copying import compared
    from eventstore.copying import copy as copied

    async with _opened(source) as one, _opened(target) as other:
        done = await copied(one.feed, other.feed, other.log, within=target.within, tell=_tell)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        print(
            f"copied {counted(done.copied, 'event')}; {done.there:,} were there already, "
            f"{done.void:,} records do not count"
        )
        for thread_id, events in sorted(done.refused.items()):
            print(
                f"thread {thread_id} went on in the target in another way, or was deleted there: "
                f"{counted(events, 'event')} of the source would not count and stayed behind"
            )
        if not verify:
            return _DIFFERENT if done.refused else 0
        found = await compared(one.feed, other.feed)
    if found.difference is not None:
        print(found.difference)
        return _DIFFERENT
    if found.more:
        print(f"every thread of the source is the same in the target, which has {found.more:,} more")
    else:
        print("every thread is the same in both")
    return 0


def _opened(settings: Settings) -> AbstractAsyncContextManager[OpenLog]:
    from eventstore.wiring import open_log

    return open_log(settings)


def _tell(done: Copied) -> None:
    if sys.stderr.isatty():
        print(f"\r{done.read:,} records read, {done.copied:,} copied", end="", file=sys.stderr)
