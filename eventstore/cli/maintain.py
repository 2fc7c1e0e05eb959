"""`verify`, `backup`, `doctor`: is all well, and what to do if not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from eventstore.cli.opening import is_missing, no_store, settings_of, with_store
from eventstore.cli.printing import counted, one_line, print_facts, styled
from eventstore.errors import Broken, EventStoreError, ViewsUnavailable

if TYPE_CHECKING:
    from eventstore.settings import Settings
    from eventstore.sqlite.checkup import Checkup
    from eventstore.wiring import Embedded
    from projections.ports import Census

_DIFFERENT = 1


def verify(
    context: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="If they differ, have the views folded anew.")] = False,
) -> int:
    """Fold the log anew and compare it with the views; print the first difference."""

    async def work(embedded: Embedded) -> int:
        from projections.sqlite_views import SqliteViews
        from projections.verify import first_difference

        views = SqliteViews(embedded.file)
        # The views follow the log to its end first, so that all of it is compared.
        with suppress(ViewsUnavailable):  # what keeps them from following it is the difference to be told
            await embedded.views.matching("0", limit=1)
        verified = await first_difference(embedded.feed, views)
        if verified.difference is not None:
            print(one_line(str(verified.difference)))
            if not repair:
                print("views are disposable: eventstore verify --repair has them folded anew", file=sys.stderr)
                return _DIFFERENT
            await views.begin_anew()
            await embedded.views.matching("0", limit=1)
            verified = await first_difference(embedded.feed, views)
            if verified.difference is not None:
                print(f"folded anew, and still: {one_line(str(verified.difference))}")
                return _DIFFERENT
        compared = f"{counted(verified.records, 'record')} and {counted(verified.threads, 'thread')} compared"
        print(f"the views are what the log says: {compared}")
        return 0

    return with_store(context, work)


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file.", show_default=False)],
) -> int:
    """Copy the store to a new file, at one moment, while others go on writing."""
    settings = settings_of(context)
    if is_missing(settings):
        raise no_store(settings)

    async def work(embedded: Embedded) -> None:
        import asyncio

        from eventstore.sqlite.backup import backup as copy

        size = await asyncio.to_thread(copy, Path(embedded.file.path), file)
        print(
            f"copied {embedded.file.path} to {file} ({size:,} bytes); read it with eventstore --log sqlite:{file} list"
        )

    return with_store(context, work)


def doctor(context: typer.Context) -> int:
    """Say what is connected and in which state, and what to do about what is wrong."""
    settings = settings_of(context)
    print_facts(list(_versions(settings)))
    try:
        if is_missing(settings):
            if settings.log:
                raise no_store(settings)
            print(f"there is no file at {settings.sqlite.path} yet; eventstore import and eventstore new make it")
            return 0
        return with_store(context, _examine)
    except EventStoreError as exc:
        print(f"{styled('wrong', 'bold', 'red')}  {exc}")
        return exc.exit_code


async def _examine(embedded: Embedded) -> int:
    import asyncio

    from eventstore.sqlite.checkup import check
    from projections.census import census_in

    checkup = await asyncio.to_thread(check, Path(embedded.file.path))
    census = await embedded.file.read(census_in)
    print_facts([*_file_facts(checkup, embedded.file.synchronous), *_thread_facts(checkup, census)])
    findings = list(_findings(checkup, census))
    for finding in findings:
        mark = styled("wrong", "bold", "red") if finding.broken else styled("note", "yellow")
        print(f"{mark}  {finding.what}")
    if not findings:
        print(styled("all is well", "green"))
    return Broken.exit_code if any(finding.broken for finding in findings) else 0


class _Finding(NamedTuple):
    what: str
    """What is wrong, and what to do about it."""
    broken: bool


def _versions(settings: Settings) -> Iterator[tuple[str, str]]:
    import platform
    import sqlite3

    from eventstore import __version__

    yield "eventstore", f"{__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    yield "log and views", f"sqlite:{settings.sqlite.path}"
    yield "actor", settings.who


def _file_facts(checkup: Checkup, synchronous: str) -> Iterator[tuple[str, str]]:
    waiting = f" and {checkup.waiting:,} in its write-ahead log" if checkup.waiting else ""
    yield "file", f"{checkup.size:,} bytes{waiting}, mode {checkup.mode:04o}, format {checkup.format}"
    yield "identity", checkup.identity
    yield "durability", f"journal {checkup.journal}, synchronous {synchronous}"
    yield "soundness", "ok" if not checkup.unsound else one_line(checkup.unsound[0])


def _thread_facts(checkup: Checkup, census: Census) -> Iterator[tuple[str, str]]:
    behind = max(0, checkup.end - census.checkpoint)
    yield "records", f"{checkup.records:,}"
    yield "threads", f"{census.active:,} active, {census.archived:,} archived, {census.deleted:,} deleted"
    yield "items", f"{census.items:,}"
    lag = "up to date" if not behind else f"{counted(behind, 'record')} behind"
    yield "views", f"generation {census.generation}, {lag}"
    yield "frozen", counted(len(census.frozen), "thread") if census.frozen else "none"


def _findings(checkup: Checkup, census: Census) -> Iterator[_Finding]:
    for text in checkup.unsound:
        yield _Finding(f"the file is damaged ({one_line(text)}): stop writing to it and restore a backup", True)
    if census.checkpoint > checkup.end:
        yield _Finding("the views have folded records which the log does not hold: restore a backup of the file", True)
    for thread_id, why in census.frozen:
        yield _Finding(
            f"thread {thread_id} is frozen, {one_line(why)}: upgrade eventstore, or see eventstore events {thread_id}",
            True,
        )
    if checkup.mode & 0o077:
        yield _Finding(f"others can read the conversations in it: chmod 600 {checkup.path}", False)
    if checkup.journal != "wal":
        yield _Finding(f"the journal is {checkup.journal}, not wal: keep the file on a local disk", False)
    if 0 < checkup.end - census.checkpoint:
        yield _Finding("the views are behind: the next read folds what is missing", False)
