"""`worker`: keep the Redis views of a log on Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import settings_of
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.settings import Settings
    from projections.monitoring import Pulse

_LEAVE_WITHIN = 10.0
"""Seconds that a worker has to finish its steps and leave its group when it is told to end."""
_BEAT_EVERY = 1.0
"""Seconds between two signs of life."""


def worker(
    context: typer.Context,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Workers of one group share the partitions. TOPIC.views by default."),
    ] = None,
    static_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="This worker's own name: restarted within 10 s, it has its partitions back."),
    ] = None,
    monitor: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT", help="Serve /metrics, /livez and /readyz there; HOST is 127.0.0.1 by default."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Records folded in one step.")] = 500,
) -> int:
    """Follow the log and keep its views; ends on SIGTERM and Ctrl-C when its steps are done."""
    import asyncio

    from eventstore.cli.logs import begin_logging

    settings = settings_of(context)
    if not settings.is_cluster:
        raise InvalidRequest(
            "an embedded store needs no worker; give --log kafka://HOST:PORT/TOPIC and --views redis://…"
        )
    begin_logging()
    return asyncio.run(_work(settings, group, static_id, _address(monitor), batch))


async def _work(
    settings: Settings, group: str | None, static_id: str | None, monitor: tuple[str, int] | None, batch: int
) -> int:
    import asyncio
    import signal
    from contextlib import ExitStack

    import structlog

    from eventstore.kafka.group import KafkaGroup
    from eventstore.wiring import open_cluster, worker_on
    from projections.metrics import Metrics
    from projections.monitoring import Pulse, monitored

    log = structlog.get_logger("eventstore.worker")
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not told.done():
            told.set_result(None)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    async with open_cluster(settings) as cluster:
        metrics, pulse = Metrics(), Pulse()
        beating = loop.create_task(_beat(pulse))
        membership = KafkaGroup(settings.kafka, partitions=cluster.feed.partitions)
        working = worker_on(cluster, membership, metrics=metrics, batch=batch)
        with ExitStack() as watching:
            if monitor is not None:
                port = watching.enter_context(
                    monitored(
                        monitor, metrics.registry, is_alive=lambda: pulse.is_alive, is_ready=lambda: working.is_ready
                    )
                )
                log.info("monitored", port=port)
            await membership.join(
                working,
                group=group or f"{settings.kafka.topic}.views",
                instance=static_id,
                within=settings.within,
            )
            log.info(
                "joined", log=str(settings.kafka), views=cluster.shards.address, partitions=cluster.feed.partitions
            )
            try:
                while not told.done() and not working.crashed.done():
                    membership.check()
                    await asyncio.wait(
                        [told, working.crashed], timeout=_BEAT_EVERY, return_when=asyncio.FIRST_COMPLETED
                    )
            finally:
                log.info("ending")
                await working.let_go(for_good=True)
                await membership.close(within=_LEAVE_WITHIN)
        beating.cancel()
        if working.crashed.done():
            working.crashed.result()
    log.info("ended")
    return 0


async def _beat(pulse: Pulse) -> None:
    """Give signs of life for as long as the loop runs."""
    import asyncio

    while True:
        pulse.beat()
        await asyncio.sleep(_BEAT_EVERY)


def _address(text: str | None) -> tuple[str, int] | None:
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535 or (colon and not host):
        raise InvalidRequest(f"{text!r} is no port to be monitored at; give PORT or HOST:PORT")
    return host or "127.0.0.1", int(port)
