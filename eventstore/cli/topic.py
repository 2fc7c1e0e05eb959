"""`topic`: make, check and describe the topic that a log on Kafka is kept in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from eventstore.cli.opening import run_cancellable, settings_of
from eventstore.cli.printing import counted, print_facts, print_table, styled
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.kafka.url import KafkaUrl

T = TypeVar("T")

_WRONG = 1
_MOST_PARTITIONS, _MOST_REPLICAS = 2**31 - 1, 2**15 - 1
"""The largest numbers that Kafka's protocol has room for; brokers set narrower bounds."""

app = typer.Typer(help="Make, check and describe the topic of a log on Kafka.", no_args_is_help=True)


@app.command()
def create(
    context: typer.Context,
    partitions: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=_MOST_PARTITIONS,
            help="Fixed for ever: the most workers that can share the topic. 24 by default.",
        ),
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=_MOST_REPLICAS, help="Brokers that keep each partition.")] = 3,
    min_insync: Annotated[
        int | None, typer.Option(min=1, help="Replicas that must have a record: one less than replicas by default.")
    ] = None,
) -> int:
    """Make the topic, with the settings that lose nothing."""
    from eventstore.kafka.topic import PARTITIONS
    from eventstore.kafka.topic import create as make

    number = partitions or PARTITIONS
    in_sync = min_insync or max(1, replicas - 1)
    if in_sync > replicas:
        raise InvalidRequest(
            f"{in_sync} of {replicas} replicas cannot be in sync; give --min-insync {replicas} or less"
        )
    url, _ = _asked(
        context,
        lambda url, within: make(url, partitions=number, replicas=replicas, min_insync=in_sync, within=within),
    )
    print(f"made topic {url.topic} with {counted(number, 'partition')}, {counted(replicas, 'replica')} of each")
    return 0


@app.command()
def verify(context: typer.Context) -> int:
    """Check settings, replicas, and that every partition holds its own threads; exit code 1 if threads may be lost."""
    from eventstore.kafka.topic import verify as check

    url, findings = _asked(context, lambda url, within: check(url, within=within))
    for finding in findings:
        print(f"{styled('wrong', 'bold', 'red') if finding.loses else styled('note', 'yellow')}  {finding}")
    if not findings:
        print(f"topic {url.topic} is as it should be")
    return _WRONG if any(finding.loses for finding in findings) else 0


@app.command()
def describe(context: typer.Context) -> int:
    """Show the topic's partitions and the settings that matter."""
    from eventstore.kafka.topic import SETTINGS
    from eventstore.kafka.topic import describe as look

    _, facts = _asked(context, lambda url, within: look(url, within=within))
    shown = [*SETTINGS, "min.insync.replicas"]
    print_facts(
        [
            ("topic", facts.topic),
            ("cluster", facts.cluster_id),
            ("records", f"{sum(partition.end - partition.beginning for partition in facts.partitions):,}"),
            *((name, facts.settings.get(name, "-")) for name in shown),
        ]
    )
    rows = [
        (
            str(partition.partition),
            f"{partition.beginning:,}",
            f"{partition.end:,}",
            str(partition.leader),
            " ".join(map(str, partition.replicas)),
            " ".join(map(str, partition.in_sync)),
        )
        for partition in facts.partitions
    ]
    print_table(("partition", "begins", "ends", "leader", "replicas", "in sync"), rows, right=frozenset({0, 1, 2}))
    return 0


def _asked(context: typer.Context, ask: Callable[[KafkaUrl, float], Awaitable[T]]) -> tuple[KafkaUrl, T]:
    """Ask the brokers that the log's URL names."""
    settings = settings_of(context)
    if not settings.is_cluster:
        raise InvalidRequest("only a log on Kafka has a topic; give --log kafka://HOST:PORT/TOPIC")
    url = settings.kafka

    async def asked() -> T:
        return await ask(url, settings.within)

    return url, run_cancellable(asked())
