"""One idempotent aiokafka producer, from its start to its first failure.

An idempotent producer whose broker was away for too long fails for ever and looks alive, and its own `flush` and `stop`
have no deadline. So a session is given up at its first failure, and it ends at once, whatever the brokers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka

from eventstore.errors import EventStoreError, TopicMisconfigured
from eventstore.kafka.edge import make_no_topics, quieten, translated
from eventstore.kafka.records import OwnRecord
from eventstore.kafka.url import KafkaUrl

_BATCH_BYTES: Final = 64 * 1024
"""Bytes of records that go together. Larger ones are little faster to write, and a thread that is read takes in whole
batches, of which it wants one record."""
_UNDER_WAY_BYTES: Final = 32 * 1024 * 1024
"""Bytes handed over and not acknowledged. They may all be in one request, which a broker refuses from 100 MB on."""
_DISCONNECT_WITHIN: Final = 0.5
"""Seconds that connections have to close by themselves; a hung broker takes nothing of what is still to be sent."""
_NO_OFFSET: Final = -1
"""What a broker answers instead of an offset to a batch that it met before and remembers no place of."""


class OwnBatch:
    """Records of one partition that are to be written together."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.records = 0
        self.bytes = 0

    def add(self, record: OwnRecord) -> bool:
        """Take the record; False if it has to wait for the next batch. The first one always fits."""
        taken = self.builder.append(
            timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers
        )
        if taken is None:
            return False
        self.records += 1
        self.bytes += record.size
        return True


class Session:
    """Writes batches until something fails; then nothing of it is believed any more."""

    def __init__(self, url: KafkaUrl) -> None:
        """Name the topic. Nothing is connected yet."""
        self._topic = url.topic
        self._where = url.where
        self._producer = AIOKafkaProducer(
            **url.client_settings(),
            enable_idempotence=True,
            acks="all",
            compression_type="zstd",
            linger_ms=0,
            max_batch_size=_BATCH_BYTES,
        )
        make_no_topics(self._producer.client)
        self._accumulator = self._producer._message_accumulator
        # Or an outage longer than a request fails batches whose sequence numbers are spent, which the broker then never
        # forgives. Deadlines are kept elsewhere.
        self._accumulator._batch_ttl = float("inf")
        self._requests: set[asyncio.Task[None]] = set()
        sender = self._producer._sender
        sender._send_produce_req = partial(self._tracked, sender._send_produce_req)
        self._outcomes: set[asyncio.Future[int]] = set()
        self._under_way = 0
        self._room = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._heard_at = self._clock()
        self.failure: Exception | None = None
        """Why it was given up."""

    async def start(self, *, partitions: int) -> None:
        """Connect, and see that the topic has as many partitions as it had.

        Raises:
            KafkaError: No broker answered, or none knows the topic.
            TopicMisconfigured: It has another number of partitions.
        """
        quieten()
        await self._producer.start()
        found = len(await self._producer.partitions_for(self._topic))
        if found != partitions:
            raise TopicMisconfigured(
                f"topic {self._topic} at {self._where} has {found} partitions and had {partitions}; the number is part "
                "of the data: copy the log into a topic of the other number (eventstore copy)"
            )

    @property
    def quiet_for(self) -> float:
        """Seconds for which something has been waiting for an answer and none came."""
        return self._clock() - self._heard_at if self._outcomes else 0.0

    def translated(self, exc: Exception) -> EventStoreError:
        """Return the error of ours for one that says that nothing was written."""
        return translated(exc, topic=self._topic, where=self._where)

    def batch(self) -> OwnBatch:
        return OwnBatch(self._producer.create_batch())

    async def write(self, batch: OwnBatch, *, partition: int) -> int:
        """Write the batch; return the offset of its first record. One batch of a partition at a time.

        Raises:
            Exception: It may have been written or not, and the session is good for nothing any more.
        """
        while self._under_way and self._under_way + batch.bytes > _UNDER_WAY_BYTES and self.failure is None:
            self._room.clear()
            await self._room.wait()
        if self.failure is not None:
            raise self.failure
        if not self._outcomes:
            self._heard_at = self._clock()
        outcome: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._outcomes.add(outcome)
        self._under_way += batch.bytes
        try:
            # Its `send_batch` would first wait for a topic that is gone.
            acknowledged = await self._accumulator.add_batch(
                batch.builder, TopicPartition(self._topic, partition), timeout=1
            )
            acknowledged.add_done_callback(partial(self._settled, outcome))
            return await outcome
        finally:
            self._outcomes.discard(outcome)
            self._under_way -= batch.bytes
            self._room.set()

    def give_up(self, exc: Exception) -> None:
        """Fail what is not acknowledged yet, and whatever comes."""
        if self.failure is None:
            self.failure = exc
            self._room.set()
            for outcome in self._outcomes:
                if not outcome.done():
                    outcome.set_exception(exc)

    async def stop(self) -> None:
        """End, and leave nothing running; what is not acknowledged may be written or not."""
        self.give_up(kafka.ProducerClosed())
        sender = self._producer._sender.sender_task
        tasks = [*self._requests, *([] if sender is None else [sender])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        # Its own end would wait for every batch first.
        self._producer._closed = True
        client = self._producer.client
        writers = [connection._writer for connection in client._conns.values()]
        closing = asyncio.ensure_future(client.close())
        await asyncio.wait([closing], timeout=_DISCONNECT_WITHIN)
        if not closing.done():
            for writer in writers:
                if writer is not None:
                    writer.transport.abort()
        await closing

    def _settled(self, outcome: asyncio.Future[int], acknowledged: asyncio.Future[Any]) -> None:
        """Take in what became of a batch; nobody may be waiting for it any more."""
        if acknowledged.cancelled():
            outcome.cancel()
            return
        exc = acknowledged.exception()
        self._heard_at = self._clock()
        if outcome.done():
            return
        if exc is not None:
            outcome.set_exception(exc)
        elif acknowledged.result().offset == _NO_OFFSET:
            outcome.set_exception(kafka.DuplicateSequenceNumber())
        else:
            outcome.set_result(acknowledged.result().offset)

    def _tracked(
        self, send: Callable[[int, Any], Coroutine[Any, Any, None]], node_id: int, batches: Any
    ) -> Coroutine[Any, Any, None]:
        """Let a request be a task that can be ended: aiokafka's would be tried for as long as the broker is away."""
        request = asyncio.get_running_loop().create_task(send(node_id, batches))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return _end_of(request)


async def _end_of(request: Awaitable[None]) -> None:
    await request
