"""`serve`: the store over gRPC, for Codex to keep its threads in and for clients of its own service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import run_cancellable, settings_of
from eventstore.errors import InvalidRequest, Unsupported

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from prometheus_client import CollectorRegistry

    from eventstore.cli.running import Working
    from eventstore.serve.address import Address
    from eventstore.serve.server import Limits
    from eventstore.serve.tls import TlsFiles
    from eventstore.settings import Settings
    from eventstore.wiring import Parts

READY = "eventstore: ready on"


def serve(
    context: typer.Context,
    *,
    listen: Annotated[
        str, typer.Option(metavar="[HOST:]PORT", help="Where clients are to call; HOST is 127.0.0.1 by default.")
    ] = "127.0.0.1:7433",
    unprotected: Annotated[
        bool, typer.Option("--unprotected", help="Listen where others can call, who may then read and write all.")
    ] = False,
    shared: Annotated[
        bool, typer.Option("--shared", help="Other servers are asked about the same threads, behind a balancer.")
    ] = False,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The certificate to serve with, PEM; read again if it changes."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its key.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve only clients whose certificate comes from these.")
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Serve only callers whose token is in it, as NAME TOKEN; read again if it changes."
        ),
    ] = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="Keep the views of a log on Kafka as well, as eventstore worker does.")
    ] = False,
    monitor: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT", help="Serve /metrics, /livez and /readyz there; HOST is 127.0.0.1 by default."
        ),
    ] = None,
    writers: Annotated[int, typer.Option(min=1, help="Live threads of Codex at most, and as many of others.")] = 10_000,
    idle: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="When a live thread that nobody uses is closed.")
    ] = 900,
    deadline: Annotated[
        float,
        typer.Option(min=0.1, max=3600, metavar="SECONDS", help="When a call ends, if not before; streams go on."),
    ] = 30,
    calls: Annotated[int, typer.Option(min=1, help="Calls under way at the same time, at most.")] = 4_096,
    largest: Annotated[int, typer.Option(min=1, max=1024, metavar="MIB", help="The largest request.")] = 64,
    debug: Annotated[bool, typer.Option("--debug", help="Log every call.")] = False,
) -> int:
    """Serve the store over gRPC, to Codex 0.129.0 and to clients of its own (--log grpc://HOST:PORT).

    Ends on SIGTERM, SIGHUP and Ctrl-C; its live threads are stored then.
    """
    from eventstore.cli.logs import begin_logging
    from eventstore.serve.address import Address

    try:
        from eventstore.serve.deadline import SHARE_FOR_STORE
        from eventstore.serve.server import MIB, Limits
    except ModuleNotFoundError as exc:
        raise Unsupported(f"serving needs {exc.name}, which is not installed; install eventstore[serve]") from exc
    settings = settings_of(context)
    settings = settings.model_copy(update={"within": min(settings.within, SHARE_FOR_STORE * deadline)})
    if worker and not settings.is_cluster:
        raise InvalidRequest("an embedded store keeps its views itself; leave --worker away")
    limits = Limits(
        within=settings.within,
        writers=writers,
        idle_after=idle,
        shared=shared,
        deadline=deadline,
        calls=calls,
        largest=largest * MIB,
    )
    plan = _Plan(
        settings,
        Address.parse(listen),
        limits,
        _tls(tls_cert, tls_key, client_ca),
        tokens,
        with_worker=worker,
        monitor=None if monitor is None else Address.parse(monitor),
    )
    if not unprotected:
        _must_be_protected(plan)
    begin_logging(debug=debug)
    return run_cancellable(_serve(plan))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the command line asked for."""

    settings: Settings
    address: Address
    limits: Limits
    tls: TlsFiles | None
    tokens: Path | None
    with_worker: bool
    monitor: Address | None


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """Return the files for TLS; None without it.

    Raises:
        InvalidRequest: Some of them are missing.
    """
    from eventstore.serve.tls import TlsFiles

    if cert is not None and key is not None:
        return TlsFiles(cert, key, client_ca)
    if (cert, key, client_ca) != (None, None, None):
        raise InvalidRequest("TLS takes --tls-cert and --tls-key, and --client-ca if clients need certificates")
    return None


def _must_be_protected(plan: _Plan) -> None:
    """Refuse to listen where others can call, unless callers have to show who they are and nobody else can listen in.

    Raises:
        InvalidRequest: They need not, or somebody can.
    """
    if plan.address.is_local or (plan.tls is not None and plan.tls.client_ca is not None):
        return
    if plan.tokens is None:
        raise InvalidRequest(
            f"whoever reaches {plan.address} could read and write all threads; listen on 127.0.0.1, "
            "give --client-ca, or --tokens with TLS, or say --unprotected"
        )
    if plan.tls is None:
        raise InvalidRequest(
            f"whoever listens in on the way to {plan.address} could read the tokens; listen on 127.0.0.1, "
            "give --tls-cert and --tls-key, or say --unprotected"
        )


async def _serve(plan: _Plan) -> int:
    from contextlib import AsyncExitStack

    import structlog
    from prometheus_client import CollectorRegistry

    from eventstore.cli.running import EndSignals
    from eventstore.serve.server import serving
    from eventstore.wiring import open_parts

    log = structlog.get_logger("eventstore.serve")
    registry = CollectorRegistry()
    async with AsyncExitStack() as ends:
        told = ends.enter_context(EndSignals())
        parts = await ends.enter_async_context(open_parts(plan.settings))
        working = await _worker_beside(parts, plan, registry, ends) if plan.with_worker else None
        served = await ends.enter_async_context(
            serving(parts.store, plan.address, registry=registry, limits=plan.limits, tls=plan.tls, tokens=plan.tokens)
        )
        if plan.monitor is not None:
            await _watched(plan.monitor, registry, working, ends)
        print(f"{READY} {served.address}; for Codex's config.toml:\n{served.codex_setting}", flush=True)
        if working is None:
            await told.begun()
        else:
            await working.until(told.begun())
        log.info("ending")
    log.info("ended")
    return 0


async def _worker_beside(parts: Parts, plan: _Plan, registry: CollectorRegistry, ends: AsyncExitStack) -> Working:
    from eventstore.cli.running import working
    from eventstore.wiring import Clustered
    from projections.metrics import Metrics

    assert isinstance(parts, Clustered)
    return await ends.enter_async_context(working(plan.settings, parts.cluster, Metrics(registry)))


async def _watched(
    monitor: Address, registry: CollectorRegistry, working: Working | None, ends: AsyncExitStack
) -> None:
    import structlog

    from eventstore.cli.running import beating
    from projections.monitoring import Pulse, monitored

    pulse = Pulse()
    await ends.enter_async_context(beating(pulse))
    port = ends.enter_context(
        monitored(
            (monitor.host, monitor.port),
            registry,
            is_alive=lambda: pulse.is_alive,
            is_ready=lambda: pulse.is_alive and (working is None or working.is_ready),
        )
    )
    structlog.get_logger("eventstore.serve").info("monitored", port=port)
