"""`rebuild`: fold the views in Redis anew beside those that serve, and put them in their place."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import settings_of, with_store
from eventstore.cli.printing import counted, one_line
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.wiring import Clustered, Parts
    from projections.rebuild import Progress, Rebuilt

_DIFFERENT = 1
_AT_ONCE = 4
"""Partitions rebuilt together: more only wait for this process's one core."""
_CLOSE_WITHIN = 5.0
"""Seconds for the reading ahead to end."""


def rebuild(
    context: typer.Context,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare with another fold before the switch, and tell what differs.")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Let the views serve that served before.")] = False,
) -> int:
    """Fold the views anew while the old ones serve; Ctrl-C leaves those as they are."""
    if not settings_of(context).is_cluster:
        raise InvalidRequest("an embedded store folds its views anew by eventstore verify --repair")

    async def work(parts: Parts) -> int:
        from eventstore.wiring import Clustered

        assert isinstance(parts, Clustered)
        return await (_roll_back(parts) if rollback else _rebuild(context, parts, verify))

    return with_store(context, work)


async def _rebuild(context: typer.Context, parts: Clustered, verify: bool) -> int:
    import asyncio

    from eventstore.kafka.group import KafkaFollower
    from eventstore.wiring import rebuild_of

    settings, partitions = settings_of(context), parts.feed.partitions
    ahead = KafkaFollower(settings.kafka, parts.cluster.feed)
    await ahead.follow(range(partitions), within=settings.within)
    rebuilding, board, turns = rebuild_of(parts, ahead), _Board(partitions), asyncio.Semaphore(_AT_ONCE)

    async def one(partition: int) -> Rebuilt:
        async with turns:
            return await rebuilding.run(partition, verify=verify, tell=board.tell)

    try:
        with board:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(one(partition)) for partition in range(partitions)]
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        await ahead.close(within=_CLOSE_WITHIN)
    return _told([task.result() for task in running])


def _told(rebuilt: list[Rebuilt]) -> int:
    different = [one for one in rebuilt if not one.switched]
    for one in different:
        assert one.verified is not None
        print(f"partition {one.partition} is as it was: {one_line(str(one.verified.difference))}")
    compared = [one.verified for one in rebuilt if one.verified is not None]
    if compared:
        records, threads = sum(one.records for one in compared), sum(one.threads for one in compared)
        print(f"compared {counted(records, 'record')} and {counted(threads, 'thread')} with another fold")
    print(
        f"{counted(len(rebuilt) - len(different), 'partition')} rebuilt; the views before, if any, are kept beside them"
    )
    return _DIFFERENT if different else 0


async def _roll_back(parts: Clustered) -> int:
    done = await parts.cluster.generations.roll_back_all(range(parts.feed.partitions))
    for partition, why in done.refused.items():
        print(f"partition {partition} is as it was: of the views before, {why}")
    if not done.refused:
        print("the views before serve again")
        return 0
    if done.switched:
        print(f"in {counted(len(done.switched), 'other partition')} they serve again; rebuild the rest, or all")
    else:
        print("nothing was changed; readers never go back, so rebuild instead")
    return _DIFFERENT


class _Board:
    """Shows how far all partitions are, on a terminal."""

    def __init__(self, partitions: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._ends = dict.fromkeys(range(partitions), (0, 0))
        self._bar = Progress(
            TextColumn("folding"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("folding", total=None, rate=0.0)

    def __enter__(self) -> None:
        self._bar.start()

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def tell(self, progress: Progress) -> None:
        self._ends[progress.partition] = progress.folded, progress.end
        folded, end = (sum(column) for column in zip(*self._ends.values(), strict=True))
        task = self._bar.tasks[0]
        self._bar.update(self._task, completed=folded, total=end, rate=task.speed or 0.0)
