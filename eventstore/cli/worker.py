"""`worker`: keep the Redis views of a log on Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import run_cancellable, settings_of
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.cli.running import Working
    from eventstore.serve.address import Address
    from eventstore.settings import Settings


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
    batch: Annotated[int, typer.Option(min=1, max=10_000, help="Records folded in one step, at most.")] = 500,
) -> int:
    """Follow the log and keep its views; ends on SIGTERM, SIGHUP and Ctrl-C when its steps are done."""
    from eventstore.cli.logs import begin_logging
    from eventstore.serve.address import Address

    settings = settings_of(context)
    if not settings.is_cluster:
        raise InvalidRequest(
            "an embedded store needs no worker; give --log kafka://HOST:PORT/TOPIC and --views redis://…"
        )
    watched_at = None if monitor is None else Address.parse(monitor)
    begin_logging()
    return run_cancellable(_work(settings, group, static_id, watched_at, batch))


async def _work(
    settings: Settings, group: str | None, static_id: str | None, monitor: Address | None, batch: int
) -> int:
    from contextlib import AsyncExitStack

    import structlog

    from eventstore.cli.running import EndSignals, beating, working
    from eventstore.wiring import open_cluster
    from projections.metrics import Metrics
    from projections.monitoring import Pulse, monitored

    log = structlog.get_logger("eventstore.worker")
    async with AsyncExitStack() as ends:
        told = ends.enter_context(EndSignals())
        cluster = await ends.enter_async_context(open_cluster(settings))
        metrics, pulse = Metrics(), Pulse()
        await ends.enter_async_context(beating(pulse))
        joined: list[Working] = []
        if monitor is not None:
            port = ends.enter_context(
                monitored(
                    (monitor.host, monitor.port),
                    metrics.registry,
                    is_alive=lambda: pulse.is_alive,
                    is_ready=lambda: any(each.is_ready for each in joined),
                )
            )
            log.info("monitored", port=port)
        joined.append(
            await ends.enter_async_context(
                working(settings, cluster, metrics, group=group, static_id=static_id, batch=batch)
            )
        )
        await joined[0].until(told.begun())
    log.info("ended")
    return 0
