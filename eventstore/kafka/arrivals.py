"""One wait for all partitions that a consumer follows, on behalf of whoever reads one of them.

The client wakes every call that waits whenever anything arrives, whichever partition it is of. With a call for each of
24 partitions that costs more than reading and folding what came. So this waits once, for all, and wakes whom it
concerns; taking what arrived is left to that one, so nothing can get lost between the two.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import TopicPartition


class Arrivals:
    """Tells readers of an aiokafka consumer when something of their partition was fetched."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._awaited: dict[TopicPartition, asyncio.Future[None]] = {}
        self._waiter: asyncio.Future[None] | None = None

    async def next(self, place: TopicPartition, *, within: float) -> None:
        """Wait until something of the partition arrives, at most so many seconds.

        To be called right after a look at what was fetched: nothing may come in between.

        Raises:
            KafkaError: What the client has against the consumer.
        """
        awaited = self._awaited[place] = asyncio.get_running_loop().create_future()
        if self._waiter is None:
            self._wait()
        try:
            async with asyncio.timeout(within):
                await awaited
        except TimeoutError:
            return
        finally:
            del self._awaited[place]

    def _wait(self) -> None:
        # The client has no public way to wait without taking.
        self._waiter = self._consumer._fetcher._create_fetch_waiter()
        self._waiter.add_done_callback(self._something_came)

    def _something_came(self, waiter: asyncio.Future[None]) -> None:
        failed = waiter.exception()
        for place, awaited in self._awaited.items():
            if awaited.done():
                continue
            if failed is not None:
                awaited.set_exception(failed)
            elif place in self._consumer._fetcher._records:
                awaited.set_result(None)
        self._wait()
