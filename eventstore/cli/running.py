"""What commands share that run until they are told to end: the telling, the signs of life, and a worker among them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from eventstore.settings import Settings
    from eventstore.wiring import Cluster
    from projections.metrics import Metrics
    from projections.monitoring import Pulse
    from projections.worker import Worker

BEAT_EVERY = 1.0
"""Seconds between two signs of life."""
_LEAVE_WITHIN = 10.0
"""Seconds that a worker has to finish its steps and leave its group when it is told to end."""


class EndSignals:
    """SIGTERM, SIGHUP and Ctrl-C: they end the block in good order, and do nothing else meanwhile.

    While the block begins they cancel it, for what it waits for may never come. Then they resolve what `begun` returns.
    """

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._come: asyncio.Future[None] = loop.create_future()
        self._beginning = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            # Under nohup the terminal's end is ignored, and stays so.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._tell)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        return kind is asyncio.CancelledError and self._come.done()

    def begun(self) -> asyncio.Future[None]:
        """Return a future that one of them resolves; from now on none cancels the block."""
        self._beginning = None
        return self._come

    def _tell(self) -> None:
        if not self._come.done():
            self._come.set_result(None)
            if self._beginning is not None:
                self._beginning.cancel()


@asynccontextmanager
async def beating(pulse: Pulse) -> AsyncIterator[None]:
    """Give signs of life in the block, for as long as the loop runs."""

    async def beat() -> None:
        while True:
            pulse.beat()
            await asyncio.sleep(BEAT_EVERY)

    task = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        task.cancel()


class Working:
    """A worker that has joined its group."""

    def __init__(self, worker: Worker, check: asyncio.Task[None]) -> None:
        self.worker = worker
        self._check = check

    @property
    def is_ready(self) -> bool:
        return self.worker.is_ready

    async def until(self, told: asyncio.Future[None]) -> None:
        """Wait until the program is told to end; if the worker cannot go on before that, raise why."""
        failures = (self.worker.crashed, self._check)
        await asyncio.wait([told, *failures], return_when=asyncio.FIRST_COMPLETED)
        for failure in failures:
            if failure.done():
                failure.result()


@asynccontextmanager
async def working(
    settings: Settings,
    cluster: Cluster,
    metrics: Metrics,
    *,
    group: str | None = None,
    static_id: str | None = None,
    batch: int | None = None,
) -> AsyncIterator[Working]:
    """Keep the views of the log for the block, as one of a group; leave it in good order."""
    import structlog

    from eventstore.kafka.group import KafkaGroup
    from eventstore.wiring import worker_on

    log = structlog.get_logger("eventstore.worker")
    membership = KafkaGroup(settings.kafka, cluster.feed)
    worker = worker_on(cluster, membership, metrics=metrics, batch=batch)

    async def check() -> None:
        while True:
            membership.check()
            await asyncio.sleep(BEAT_EVERY)

    try:
        await membership.join(
            worker, group=group or f"{settings.kafka.topic}.views", instance=static_id, within=settings.within
        )
    except BaseException:
        # It may have been given partitions already.
        await worker.let_go(for_good=True)
        raise
    log.info("joined", log=str(settings.kafka), views=cluster.shards.address, partitions=cluster.feed.partitions)
    checking = asyncio.ensure_future(check())
    try:
        yield Working(worker, checking)
    finally:
        log.info("ending")
        checking.cancel()
        await worker.let_go(for_good=True)
        await membership.close(within=_LEAVE_WITHIN)
