"""`doctor`: what is connected and in which state, and what to do about what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

import typer

from eventstore.cli.opening import is_missing, no_store, settings_of, with_store
from eventstore.cli.printing import counted, one_line, print_facts, styled
from eventstore.errors import Broken, EventStoreError

if TYPE_CHECKING:
    from eventstore.settings import Settings
    from eventstore.sqlite.checkup import Checkup
    from eventstore.wiring import Clustered, Embedded, Parts
    from projections.ports import Census


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


async def _examine(parts: Parts) -> int:
    from eventstore.wiring import Embedded

    findings = await (_examine_file(parts) if isinstance(parts, Embedded) else _examine_cluster(parts))
    for finding in findings:
        mark = styled("wrong", "bold", "red") if finding.broken else styled("note", "yellow")
        print(f"{mark}  {finding.what}")
    if not findings:
        print(styled("all is well", "green"))
    return Broken.exit_code if any(finding.broken for finding in findings) else 0


async def _examine_file(parts: Embedded) -> list[_Finding]:
    import asyncio

    from eventstore.sqlite.checkup import check

    checkup = await asyncio.to_thread(check, Path(parts.file.path))
    # Views beyond this log's end are of what others wrote meanwhile: any others were refused when the store was opened.
    (census,) = await parts.censuses()
    assert census is not None
    print_facts([*_file_facts(checkup, parts.file.synchronous), *_thread_facts([census], checkup.records, checkup.end)])
    return [
        *_findings_in_file(checkup),
        *_findings_in_views([census], checkup.end - census.checkpoint, who="the next read"),
    ]


async def _examine_cluster(parts: Clustered) -> list[_Finding]:
    from eventstore.kafka.topic import describe, judged

    facts = await describe(parts.cluster.topic, within=parts.cluster.reader.within)
    counted_by_partition = await parts.censuses()
    ends = {partition.partition: partition.end for partition in facts.partitions}
    built = {partition: census for partition, census in enumerate(counted_by_partition) if census is not None}
    folded = {partition: census.checkpoint for partition, census in built.items()}
    behind = sum(max(0, end - folded.get(partition, 0)) for partition, end in ends.items())
    records = sum(partition.end - partition.beginning for partition in facts.partitions)
    print_facts(
        [
            ("topic", f"{facts.topic} on cluster {facts.cluster_id}, {counted(len(facts.partitions), 'partition')}"),
            ("views at", parts.cluster.shards.address),
            *_thread_facts(list(built.values()), records, behind + sum(c.checkpoint for c in built.values())),
        ]
    )
    findings = [_Finding(str(finding), finding.loses) for finding in judged(facts)]
    missing = [str(partition) for partition, census in enumerate(counted_by_partition) if census is None]
    if missing:
        findings.append(
            _Finding(
                f"partitions {', '.join(missing)} have no views yet: run eventstore worker, which builds them", False
            )
        )
    return [*findings, *_findings_in_views(list(built.values()), behind, who="a worker")]


class _Finding(NamedTuple):
    what: str
    """What is wrong, and what to do about it."""
    broken: bool


def _versions(settings: Settings) -> Iterator[tuple[str, str]]:
    import platform
    import sqlite3

    from eventstore import __version__

    yield "eventstore", f"{__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    yield ("log", str(settings.kafka)) if settings.is_cluster else ("log and views", f"sqlite:{settings.sqlite.path}")
    yield "actor", settings.who


def _file_facts(checkup: Checkup, synchronous: str) -> Iterator[tuple[str, str]]:
    waiting = f" and {checkup.waiting:,} in its write-ahead log" if checkup.waiting else ""
    yield "file", f"{checkup.size:,} bytes{waiting}, mode {checkup.mode:04o}, format {checkup.format}"
    yield "identity", checkup.identity
    yield "durability", f"journal {checkup.journal}, synchronous {synchronous}"
    yield "soundness", "ok" if not checkup.unsound else one_line(checkup.unsound[0])


def _thread_facts(censuses: Sequence[Census], records: int, end: int) -> Iterator[tuple[str, str]]:
    behind = max(0, end - sum(census.checkpoint for census in censuses))
    active, archived, deleted, items = (
        sum(getattr(census, name) for census in censuses) for name in ("active", "archived", "deleted", "items")
    )
    frozen = sum(len(census.frozen) for census in censuses)
    yield "records", f"{records:,}"
    yield "threads", f"{active:,} active, {archived:,} archived, {deleted:,} deleted"
    yield "items", f"{items:,}"
    generations = ", ".join(map(str, sorted({census.generation for census in censuses}))) or "none"
    yield "views", f"generation {generations}, {'up to date' if not behind else counted(behind, 'record') + ' behind'}"
    yield "frozen", counted(frozen, "thread") if frozen else "none"


def _findings_in_views(censuses: Sequence[Census], behind: int, *, who: str) -> Iterator[_Finding]:
    for census in censuses:
        for thread_id, why in census.frozen:
            yield _Finding(
                f"thread {thread_id} is frozen, {one_line(why)}: upgrade eventstore, then eventstore retry {thread_id} "
                f"(eventstore events {thread_id} shows its records)",
                True,
            )
    if behind > 0:
        yield _Finding(f"the views are behind: {who} folds what is missing", False)


def _findings_in_file(checkup: Checkup) -> Iterator[_Finding]:
    for text in checkup.unsound:
        yield _Finding(f"the file is damaged ({one_line(text)}): stop writing to it and restore a backup", True)
    if checkup.mode & 0o077:
        yield _Finding(f"others can read the conversations in it: chmod 600 {quote(str(checkup.path))}", False)
    if checkup.journal != "wal":
        yield _Finding(f"the journal is {checkup.journal}, not wal: keep the file on a local disk", False)
