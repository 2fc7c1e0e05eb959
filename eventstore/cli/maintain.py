"""`verify`, `retry` and `backup`: are the views what the log says, and a copy of an embedded store."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import (
    ThreadArgument,
    given_path,
    is_missing,
    no_store,
    resolve,
    settings_of,
    with_store,
    with_threads,
)
from eventstore.cli.printing import counted, one_line
from eventstore.errors import InvalidRequest, ViewsUnavailable

if TYPE_CHECKING:
    from eventstore.cli.opening import Threads
    from eventstore.wiring import Parts
    from projections.verify import Difference

_DIFFERENT = 1


def verify(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="If they differ, have the views folded anew.")] = False,
) -> int:
    """Fold the log anew and compare it with the views; print the first difference."""

    async def work(parts: Parts) -> int:
        difference, records, threads = await _compared(parts)
        if difference is not None:
            print(one_line(str(difference)))
            if not repair:
                print(f"views are disposable: {_remedy(parts)} has them folded anew", file=sys.stderr)
                return _DIFFERENT
            await _fold_anew(parts)
            difference, records, threads = await _compared(parts)
            if difference is not None:
                print(f"folded anew, and still: {one_line(str(difference))}")
                return _DIFFERENT
        compared = f"{counted(records, 'record')} and {counted(threads, 'thread')} compared"
        print(f"the views are what the log says: {compared}")
        return 0

    return with_store(context, work)


async def _compared(parts: Parts) -> tuple[Difference | None, int, int]:
    """Compare all partitions; return the first difference, and how many records and threads were compared."""
    from eventstore.wiring import Embedded
    from projections.verify import first_difference

    # The views follow the log to its end first, so that all of it is compared.
    try:
        await parts.views.matching("0", limit=1)
    except ViewsUnavailable:
        if not isinstance(parts, Embedded):
            raise  # no worker keeps them
        # What keeps a file's views from following it is the difference to be told.
    views, records, threads = parts.stored_views(), 0, 0
    for partition in range(parts.feed.partitions):
        verified = await first_difference(parts.feed, views, partition=partition)
        records, threads = records + verified.records, threads + verified.threads
        if verified.difference is not None:
            return verified.difference, records, threads
    return None, records, threads


async def _fold_anew(parts: Parts) -> None:
    from eventstore.wiring import Embedded
    from projections.sqlite_views import SqliteViews

    if not isinstance(parts, Embedded):
        raise InvalidRequest(f"views in Redis are folded anew beside those that serve: {_remedy(parts)}")
    await SqliteViews(parts.file).begin_anew()


def _remedy(parts: Parts) -> str:
    from eventstore.wiring import Embedded

    return "eventstore verify --repair" if isinstance(parts, Embedded) else "eventstore rebuild"


def retry(context: typer.Context, thread: ThreadArgument) -> int:
    """Fold a frozen thread anew, with a version that understands what froze it; list --damaged shows which are."""

    async def work(store: Threads) -> None:
        thread_id = await resolve(store, thread)
        read = await store.retry_thread(thread_id)
        if read is None:
            print(f"thread {thread_id} was deleted")
        else:
            print(f"thread {thread_id} can be read: {counted(read.item_count, 'item')}, at version {read.version}")

    return with_threads(context, work)


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file.", show_default=False, parser=given_path)],
) -> int:
    """Copy the store to a new file, at one moment, while others go on writing."""
    settings = settings_of(context)
    if settings.is_cluster:
        raise InvalidRequest("a log on Kafka is kept by its brokers; only an embedded store is copied as one file")
    if is_missing(settings):
        raise no_store(settings)

    async def work(parts: Parts) -> None:
        import asyncio

        from eventstore.sqlite.backup import backup as copy

        path = Path(settings.sqlite.path)
        size = await asyncio.to_thread(copy, path, file)
        read_it = shlex.join(["eventstore", "--log", f"sqlite:{file}", "list"])
        print(f"copied {path} to {file} ({size:,} bytes); read it with {read_it}")

    return with_store(context, work)
