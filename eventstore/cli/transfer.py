"""`import` and `export`: threads from and to the files that Codex keeps them in."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eventstore.cli.opening import given_path, resolve, settings_of, with_store
from eventstore.cli.printing import counted, one_line, print_json, shown
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.codex.homes import RolloutFile
    from eventstore.codex.importing import Imported
    from eventstore.wiring import Parts

_PART_FAILED = 1
_LINES_TOLD = 5
"""Bad lines of one file that are told one by one."""


def import_(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH…", help="Codex homes, folders or rollout files.", show_default=False, parser=given_path
        ),
    ],
    fork: Annotated[
        bool, typer.Option("--fork", help="Of a file that diverged from what is here, import a copy.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One object a file, one a line.")] = False,
) -> int:
    """Import Codex's threads. Again and again if you like: only what is not here yet is added.

    A bad line is told with its file and number and left out, and the rest is imported; that is no failure.
    """

    from eventstore.codex.homes import find_rollouts

    files = find_rollouts(paths)

    async def work(parts: Parts) -> int:
        from eventstore.codex.importing import Importer

        settings = settings_of(context)
        importer = Importer(parts.log, parts.feed, parts.views, actor=settings.who, within=settings.within)
        outcomes: Counter[str] = Counter()
        items, left_out = 0, 0
        async with aclosing(_watched(importer.import_files(files, fork=fork), files)) as imports:
            async for imported in imports:
                outcomes[imported.outcome.value] += 1
                items += imported.added
                left_out += len(imported.bad_lines)
                _tell(imported, json)
        if not json:
            print(_summary(len(files), outcomes, items, left_out))
        return _PART_FAILED if outcomes.keys() & {"diverged", "unreadable", "failed"} else 0

    return with_store(context, work, makes_it=True)


def export(
    context: typer.Context,
    thread: Annotated[
        str | None, typer.Argument(metavar="ID", help="The thread's id, or its beginning.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; standard output without it.", parser=given_path),
    ] = None,
    all_: Annotated[
        Path | None,
        typer.Option("--all", metavar="DIR", help="All threads, as a new Codex home.", parser=given_path),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
) -> int:
    """Export a thread as a rollout file, or all of them as a Codex home."""
    if (thread is None) == (all_ is None):
        raise InvalidRequest("give the id of one thread, or --all DIR for all of them")
    if all_ is not None and (output is not None or force):
        raise InvalidRequest("--all DIR writes a new folder; -o and --force are for one thread")
    if output is not None and output.exists() and not force:
        raise InvalidRequest(f"{output} is there already; give another name, or --force to replace it")

    settings = settings_of(context)

    async def work(parts: Parts) -> int:
        if all_ is not None:
            return await _export_all(parts, all_)
        assert thread is not None
        if output is not None and not settings.is_cluster:
            _must_not_be_the_store(output, settings.sqlite.path)
        await _export_one(parts, thread, output, overwrite=force)
        return 0

    return with_store(context, work)


def _must_not_be_the_store(output: Path, store: str) -> None:
    """Refuse to replace what the threads are read from."""
    for part in (store, f"{store}-wal", f"{store}-shm"):
        with suppress(FileNotFoundError):
            if output.samefile(part):
                raise InvalidRequest(f"{output} is the store itself; give another name")


async def _export_one(parts: Parts, thread: str, output: Path | None, *, overwrite: bool) -> None:
    from eventstore.codex.exporting import export_lines, export_thread

    thread_id = await resolve(parts.store, thread)
    if output is None or str(output) == "-":
        lines = await export_lines(parts.feed, parts.views, thread_id)
        async for line in lines:
            print_json(line)
        _tell_unsaid(lines.unsaid)
        return
    exported = await export_thread(parts.feed, parts.views, thread_id, output, overwrite=overwrite)
    print(f"exported {thread_id} to {output} ({counted(exported.lines, 'line')})")
    _tell_unsaid(exported.unsaid)


async def _export_all(parts: Parts, directory: Path) -> int:
    from eventstore.codex.exporting import export_home

    written, lines, left_out = 0, 0, 0
    unsaid: set[str] = set()
    async for exported in export_home(parts.feed, parts.views, directory):
        if exported.path is None:
            left_out += 1
            print(f"left out {exported.thread_id}: {one_line(exported.note)}", file=sys.stderr)
        else:
            written += 1
            lines += exported.lines
            unsaid.update(exported.unsaid)
    print(f"exported {counted(written, 'thread')} to {directory} ({counted(lines, 'line')})")
    _tell_unsaid(unsaid)
    return _PART_FAILED if left_out else 0


def _tell_unsaid(fields: Collection[str]) -> None:
    """Name the fields that were set here and are not in what was exported."""
    if fields:
        named = ", ".join(sorted(fields))
        print(f"set here and not exported, for Codex's files cannot say it: {named}", file=sys.stderr)


async def _watched(imports: AsyncIterator[Imported], files: Sequence[RolloutFile]) -> AsyncGenerator[Imported, None]:
    """Hand the imports through; show a person on a terminal how far they have come."""
    if not sys.stderr.isatty():
        async for imported in imports:
            yield imported
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("importing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("importing", total=sum(file.size for file in files))
        async for imported in imports:
            progress.advance(bar, imported.file.size)
            yield imported


def _tell(imported: Imported, json: bool) -> None:
    """Say what became of a file, if a person has to know."""
    if json:
        from eventstore.jsontext import dumps

        print_json(dumps(_as_json(imported)))
        return
    path = shown(str(imported.path))
    for bad in imported.bad_lines[:_LINES_TOLD]:
        print(f"{path}:{bad.line_number}: left out, {one_line(bad.why)}", file=sys.stderr)
    if len(imported.bad_lines) > _LINES_TOLD:
        more = len(imported.bad_lines) - _LINES_TOLD
        print(f"{path}: {counted(more, 'more line')} left out", file=sys.stderr)
    if imported.outcome.value not in ("created", "grown", "unchanged"):
        whose = f" (thread {imported.thread_id})" if imported.thread_id is not None else ""
        print(f"{path}: {imported.outcome.value}{whose}, {one_line(imported.note)}", file=sys.stderr)


def _as_json(imported: Imported) -> dict[str, Any]:
    return {
        "path": str(imported.path),
        "outcome": imported.outcome.value,
        "thread_id": imported.thread_id,
        "added": imported.added,
        "bad_lines": [{"line": bad.line_number, "why": bad.why} for bad in imported.bad_lines],
        "note": imported.note or None,
    }


def _summary(files: int, outcomes: Counter[str], items: int, left_out: int) -> str:
    became = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.items())
    told = f"{counted(files, 'file')}: {became}; {counted(items, 'item')} added"
    return f"{told}, {counted(left_out, 'bad line')} left out" if left_out else told
