"""Reads a partition from any offset on: one request, one chunk, nothing read ahead and nothing left running.

aiokafka's consumer fetches in the background, which is right for following a log and wrong for jumping about in it:
each jump would throw a fetch away. So this speaks to the partition's leader by the client below the consumer.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, starmap
from typing import Any, Final, NamedTuple

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.structs import TopicPartition

from eventstore.errors import LogTruncated, LogUnavailable
from eventstore.kafka.batches import batches_of
from eventstore.kafka.edge import elsewhere, make_no_topics, quieten, refusal, translated
from eventstore.kafka.link import Link
from eventstore.kafka.records import LoggedRecord
from eventstore.kafka.url import KafkaUrl
from eventstore.life import closed

_AGAIN_AFTER: Final = 0.05
"""Seconds until a request is made again, after its leader has moved or has not answered."""
_LATEST, _EARLIEST = -1, -2
"""What a ListOffsets request asks for (Kafka protocol)."""
_READ_UNCOMMITTED: Final = 0
_UNPACKED_BYTES: Final = 4 * 1024 * 1024
"""Bytes of records after which no further batch is unpacked: on the wire they may take a thousandth of that."""
_MISSING_FOR: Final = 1.0
"""Seconds for which brokers must deny a topic until it is believed: just after its making they do not know it yet."""


class Chunk(NamedTuple):
    """What one request found."""

    records: Sequence[LoggedRecord]
    next: int
    """The offset to go on from: offsets have holes."""
    end: int
    """The partition's end when it answered."""
    bytes: int
    """How much came over the wire."""
    looked_at: int
    """How many records were unpacked, those of other keys too."""
    record_bytes: float | None = None
    """Bytes on the wire a record, where the chunk tells."""


class KafkaReader:
    """A connection that reads one topic; `open` before use, `close` after."""

    def __init__(self, url: KafkaUrl, *, within: float) -> None:
        """Name the topic; `within` is each call's deadline in seconds."""
        self._url = url
        self.within = within
        self._client: AIOKafkaClient
        self._connection_settings: dict[str, Any]
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.partitions = 0
        """How many the topic has; part of the data, so it is read once."""
        self.cluster_id = ""

    def __repr__(self) -> str:
        return f"<KafkaReader {self._url} partitions={self.partitions}>"

    @property
    def topic(self) -> str:
        return self._url.topic

    async def open(self) -> None:
        """Connect and look the topic up.

        Raises:
            LogUnavailable: No broker answered.
            TopicMisconfigured: There is no such topic.
        """
        settings = self._url.client_settings()
        self._client = AIOKafkaClient(**settings)
        make_no_topics(self._client)
        self._connection_settings = {name: value for name, value in settings.items() if name != "bootstrap_servers"}
        quieten()
        try:
            async with asyncio.timeout(self.within):
                await self._connect()
                self.partitions = await self._look_up()
                await self._client.add_topic(self._url.topic)
        except BaseException as exc:
            await self.close()
            if isinstance(exc, kafka.NodeNotReadyError):
                raise elsewhere(self._client, where=self._url.where) from exc
            if isinstance(exc, TimeoutError | OSError | kafka.KafkaError):
                raise translated(exc, topic=self._url.topic, where=self._url.where) from exc
            raise

    async def _connect(self) -> None:
        try:
            await self._client.bootstrap()
        except kafka.KafkaConnectionError as exc:
            raise (await refusal(self._url)) or exc from exc

    async def close(self) -> None:
        """End the connections; whoever waits for an answer is told."""
        if not self._closing.done():
            self._closing.set_result(None)
        await self._client.close()

    async def end(self, partition: int) -> int:
        """Return the offset which the next record will have or exceed.

        Raises:
            LogUnavailable: The partition's leader did not answer.
            TopicMisconfigured: The topic is gone.
        """
        return await self._offset(partition, _LATEST)

    async def ends(self, partitions: Sequence[int]) -> list[int]:
        """Return the partitions' ends: one request to each broker that leads some of them. Raises as `end` does."""
        led: defaultdict[int | None, list[int]] = defaultdict(list)
        for partition in partitions:
            led[self._client.cluster.leader_for_partition(TopicPartition(self._url.topic, partition))].append(partition)
        told = dict(chain.from_iterable(await asyncio.gather(*starmap(self._ends_told_by, led.items()))))
        # A leader that has moved, or does not answer, is looked for as for any request.
        rest = [partition for partition in partitions if partition not in told]
        told.update(zip(rest, await asyncio.gather(*map(self.end, rest)), strict=True))
        return [told[partition] for partition in partitions]

    async def _ends_told_by(self, leader: int | None, partitions: Sequence[int]) -> list[tuple[int, int]]:
        """Return each partition of which the broker says where it ends, and where."""
        if leader is None or self._closing.done():
            return []
        asked = [(partition, _LATEST) for partition in partitions]
        try:
            response = await self._send(leader, OffsetRequest(-1, _READ_UNCOMMITTED, [(self._url.topic, asked)]))
        except kafka.KafkaError:
            return []
        return [
            (place, end) for place, error, _, end in response.topics[0][1] if kafka.for_code(error) is kafka.NoError
        ]

    async def beginning(self, partition: int) -> int:
        """Return the first offset that is still there; raises as `end` does."""
        return await self._offset(partition, _EARLIEST)

    async def chunk(
        self,
        partition: int,
        start: int,
        *,
        size: int,
        limit: int | None = None,
        stop: int | None = None,
        key: bytes | None = None,
    ) -> Chunk:
        """Return records from offset `start` on (before `stop`, of that key only), of at least one batch, if any.

        `size` is how many bytes are asked for; a batch that is larger comes whole. Unpacking stops after the batch with
        which there are `limit` records, or more unpacked bytes than should be in memory at once.

        Raises:
            LogTruncated: The partition does not hold `start`.
            LogUnavailable: The partition's leader did not answer.
            TopicMisconfigured: The topic is gone.
        """
        payload, end = await self.fetch(partition, start, size=size)
        try:
            chunk = _parsed(payload, start, limit=limit, stop=stop, key=key, end=end)
        except (kafka.KafkaError, ValueError) as exc:
            raise self.unreadable(partition, start, exc) from exc
        if chunk.next == start < end:
            raise LogUnavailable(
                f"{self._url.where} sent nothing of partition {partition} at offset {start}; try again"
            )
        return chunk

    async def fetch(
        self, partition: int, start: int, *, size: int, held_ms: int = 0, link: Link | None = None
    ) -> tuple[bytes, int]:
        """Return about `size` bytes of batches, from the one that has offset `start` on, and the partition's end.

        The leader holds the request back for `held_ms` milliseconds while there is nothing, and with it what else comes
        by that `link`. Raises as `chunk` does.
        """
        wanted = [(self._url.topic, [(partition, start, size)])]
        request = FetchRequest(held_ms, min(held_ms, 1), size, _READ_UNCOMMITTED, wanted)
        try:
            (_, _, end, *_, payload) = await self._ask(partition, request, link=link)
        except kafka.OffsetOutOfRangeError as exc:
            first = await self.beginning(partition)
            raise LogTruncated(
                f"partition {partition} of topic {self._url.topic} begins at offset {first} and is asked for {start}: "
                "records were deleted from it, or the topic was made anew"
            ) from exc
        return payload or b"", end

    def link(self) -> Link:
        """Return a connection of its own for who fetches, to whichever broker leads."""
        return Link(self._connection_settings)

    def unreadable(self, partition: int, start: int, exc: Exception) -> LogUnavailable:
        """Return the error for what came and is damaged."""
        return LogUnavailable(
            f"what {self._url.where} sent of partition {partition} from offset {start} on cannot be read ({exc}); try "
            "again, and if that does not help, see whether the broker's disk is sound"
        )

    async def topic_is_there(self) -> bool:
        """Say whether brokers know the topic; True where none answers."""
        try:
            async with asyncio.timeout(self.within):
                await self._look_up()
        except (kafka.UnknownTopicOrPartitionError, kafka.InvalidTopicError):
            return False
        except (kafka.KafkaError, TimeoutError):
            return True
        return True

    async def first(self, partition: int) -> LoggedRecord | None:
        """Return the partition's first record; None while it is empty. Raises as `chunk` does."""
        start = await self.beginning(partition)
        while True:
            chunk = await self.chunk(partition, start, size=1)
            if chunk.records:
                return chunk.records[0]
            if chunk.next >= chunk.end:
                return None
            start = chunk.next

    async def _offset(self, partition: int, which: int) -> int:
        request = OffsetRequest(-1, _READ_UNCOMMITTED, [(self._url.topic, [(partition, which)])])
        (_, _, _, offset) = await self._ask(partition, request)
        return int(offset)

    async def _ask(self, partition: int, request: Any, *, link: Link | None = None) -> Any:
        """Ask the partition's leader until it answers; return what it says of the partition."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.within
        denied_since: float | None = None
        while True:
            if self._closing.done():
                raise closed()
            try:
                async with asyncio.timeout_at(deadline):
                    response = await self._send(self._leader(partition), request, link)
                answer = response.topics[0][1][0]
                error = kafka.for_code(answer[1])
                if error is kafka.NoError:
                    return answer
                raise error()
            except kafka.OffsetOutOfRangeError:
                raise
            except (kafka.KafkaError, TimeoutError) as exc:
                denied = isinstance(exc, kafka.UnknownTopicOrPartitionError)
                denied_since = (denied_since or clock()) if denied else None
                given_up = denied_since is not None and clock() - denied_since >= _MISSING_FOR
                if given_up or not getattr(exc, "retriable", False) or clock() + _AGAIN_AFTER >= deadline:
                    raise translated(exc, topic=self._url.topic, where=self._url.where) from exc
            await self._find_leaders(deadline)

    async def _send(self, node: int | None, request: Any, link: Link | None = None) -> Any:
        if link is not None:
            broker = self._client.cluster.broker_metadata(node)
            if broker is None:
                raise kafka.StaleMetadata()
            return await link.send(broker.host, broker.port, request)
        try:
            return await self._client.send(node, request)
        except KeyError as exc:
            # Two requests that time out together both close the one connection.
            raise kafka.KafkaConnectionError() from exc

    def _leader(self, partition: int) -> int:
        leader = self._client.cluster.leader_for_partition(TopicPartition(self._url.topic, partition))
        if leader is None:
            raise kafka.UnknownTopicOrPartitionError()
        if leader == -1:
            raise kafka.LeaderNotAvailableError()
        return int(leader)

    async def _find_leaders(self, deadline: float) -> None:
        """Wait a little and look the leaders up anew."""
        await asyncio.sleep(_AGAIN_AFTER)
        if self._closing.done():
            return
        try:
            async with asyncio.timeout_at(deadline):
                found = self._client.force_metadata_update()
                # Once the client is closed nobody would answer.
                await asyncio.wait([found, self._closing], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            return  # the next attempt says what is wrong

    async def _sent_to_any(self, request: Any) -> Any:
        """Return what the first broker answers that can be reached; one that was lost is named for a while."""
        nodes = [broker.nodeId for broker in self._client.cluster.brokers()] or [None]
        random.shuffle(nodes)
        *others, last = nodes
        for node in others:
            with suppress(kafka.KafkaError):
                return await self._send(node, request)
        return await self._send(last, request)

    async def _look_up(self) -> int:
        """Return how many partitions the topic has."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while True:
            response = await self._sent_to_any(MetadataRequest([self._url.topic]))
            found = response.to_object()
            self.cluster_id = found.get("cluster_id") or ""
            (topic,) = found["topics"]
            error = kafka.for_code(topic["error_code"])
            if error is kafka.NoError:
                return len(topic["partitions"])
            if clock() - began >= _MISSING_FOR or not error.retriable:
                raise error()
            await asyncio.sleep(_AGAIN_AFTER)


def _parsed(payload: bytes, start: int, *, limit: int | None, stop: int | None, key: bytes | None, end: int) -> Chunk:
    """Return the records of a fetched payload that lie at `start` or behind, and before `stop`."""
    records: list[LoggedRecord] = []
    first: int | None = None
    following, unpacked, looked_at, at = start, 0, 0, 0
    for batch in batches_of(payload, start):
        at = batch.stop
        first = batch.first if first is None else first
        following = max(following, batch.next)
        for record in batch.records:
            if stop is not None and record.offset >= stop:
                break
            looked_at += 1
            if record.offset >= start and (key is None or record.key == key):
                records.append(record)
                unpacked += len(record.value or b"")
        enough = unpacked >= _UNPACKED_BYTES or (limit is not None and len(records) >= limit)
        if enough or (stop is not None and following >= stop):
            break
    record_bytes = None if first is None else at / (following - first)
    return Chunk(
        records, following if stop is None else min(following, stop), end, len(payload), looked_at, record_bytes
    )
