"""A topic's partitions, shared by the workers of a group, and each followed from where its views are.

Kafka's group protocol only hints who works where: a member that was thought dead still holds records and delivers them
once it wakes, and the views refuse what it makes of them. Offsets committed here serve dashboards and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka

from eventstore.codec import ForeignRecord
from eventstore.documents.items import Position
from eventstore.errors import LogUnavailable
from eventstore.kafka.ahead import Ahead
from eventstore.kafka.batches import Unread
from eventstore.kafka.edge import make_no_topics, quieten, translated
from eventstore.kafka.feed import KafkaFeed
from eventstore.kafka.reader import KafkaReader
from eventstore.kafka.records import entry_of
from eventstore.kafka.url import REQUEST_WITHIN, KafkaUrl
from eventstore.ports import Entry

SESSION: Final = 10.0
"""Seconds without a heartbeat after which a member's partitions are given to others."""
_PREFETCH_BYTES: Final = 8 * 1024 * 1024
"""Packed bytes that are fetched ahead, of all partitions together, and as many that are being unpacked; a larger record
comes all the same."""
_PREFETCH_SHARES: Final = 8
"""Of fewer partitions each gets no more than of so many."""
_READ_BYTES: Final = 16 * 1024 * 1024
"""Unpacked bytes of all partitions that are handed out at a time; of each at least one record."""
_NEVER_MS: Final = 10**12
_AT_THE_END: Final = 0.5
"""Seconds after which who waits for records is told that there are none."""
_ASK_WITHIN: Final = 15.0
"""Seconds for which a partition's leader is looked for and asked again until its reader is told."""


class Member(Protocol):
    """Who works on partitions: told what it has, and asked to let go."""

    async def take(self, partitions: Collection[int]) -> None:
        """Begin to work on these partitions, and on no others."""
        ...

    async def let_go(self) -> None:
        """End the work on all partitions; return when it has ended. They are others' afterwards."""
        ...


class KafkaFollower:
    """Follows partitions, reading ahead; `follow` before use, `close` after."""

    def __init__(self, url: KafkaUrl, feed: KafkaFeed) -> None:
        """Name the topic, and give its feed, which knows how many partitions it has."""
        self._url = url
        self._partitions = feed.partitions
        self._reader = KafkaReader(url, within=_ASK_WITHIN)
        self._ahead: dict[int, Ahead] = {}
        self._unread: dict[int, Unread] = {}
        self._share = _READ_BYTES

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url}>"

    async def follow(self, partitions: Collection[int], *, within: float) -> None:
        """Begin to follow these partitions, whoever else does.

        Raises:
            LogUnavailable: No broker answered.
        """
        await self._open(within)
        await self._turn_to(partitions)

    async def close(self, *, within: float) -> None:
        """End, within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._turn_to(())
                await self._reader.close()

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        """Return up to `limit` entries from offset `start` on; none if none came in half a second.

        Raises:
            LogTruncated: The partition does not hold `start`.
            LogUnavailable: It is not followed any more, or cannot be read.
            TopicMisconfigured: The topic is gone.
        """
        ahead = self._ahead.get(partition)
        if ahead is None:
            raise LogUnavailable(f"partition {partition} of {self._url} is not followed any more; join again")
        unread = self._unread.get(partition)
        if unread is not None and unread.next == start and (entries := self._taken(unread, partition, limit)):
            return entries
        payload = await ahead.payload(start, within=_AT_THE_END)
        if payload is None:
            return []
        unread = self._unread[partition] = Unread(payload, start)
        return self._taken(unread, partition, limit)

    def _taken(self, unread: Unread, partition: int, limit: int) -> Sequence[Entry]:
        start = unread.next
        try:
            records = unread.take(limit, size=self._share)
        except (kafka.KafkaError, ValueError) as exc:
            raise self._reader.unreadable(partition, start, exc) from exc
        if not records and unread.next > start:
            # Only markers of transactions, which nobody is shown: whoever folds them comes to the log's end.
            return [Entry(Position(partition, unread.next - 1), None, ForeignRecord("a transaction's marker"))]
        return [entry_of(record, partition, self._partitions) for record in records]

    def end(self, partition: int) -> int | None:
        """Return the partition's end as the last fetch saw it; None if nothing was fetched."""
        ahead = self._ahead.get(partition)
        return None if ahead is None else ahead.end

    async def note(self, checkpoints: Mapping[int, int]) -> None:
        """Tell nobody how far this is: it is in no group."""

    async def _open(self, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self._reader.open()
        except TimeoutError as exc:
            raise translated(exc, topic=self._url.topic, where=self._url.where) from exc

    async def _turn_to(self, partitions: Collection[int]) -> None:
        """Follow these partitions and no others; they share the memory."""
        left, self._ahead = self._ahead, {}
        self._unread.clear()
        await asyncio.gather(*(ahead.close() for ahead in left.values()))
        self._share = _READ_BYTES // max(1, len(partitions))
        size = _PREFETCH_BYTES // max(_PREFETCH_SHARES, self._partitions)
        self._ahead = {partition: Ahead(self._reader, partition, size=size) for partition in partitions}


class KafkaGroup(KafkaFollower):
    """One membership in a group of workers, which follows the partitions that are its; `join` before use.

    A consumer of aiokafka keeps the membership, and fetches nothing: its partitions are paused for good.
    """

    async def join(self, member: Member, *, group: str, instance: str | None = None, within: float) -> None:
        """Become a member, which is told from now on which partitions are its.

        `instance` makes the membership static: a restart within the session moves nothing.

        Raises:
            LogUnavailable: No broker answered.
        """
        await self._open(within)
        quieten()
        self._consumer = AIOKafkaConsumer(
            **self._url.client_settings(),
            group_id=group,
            group_instance_id=instance,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=int(SESSION * 1_000),
            heartbeat_interval_ms=int(SESSION * 250),
            # The client leaves a group whose member fetches nothing for so long, and never comes back by itself.
            max_poll_interval_ms=_NEVER_MS,
        )
        make_no_topics(self._consumer._client)
        self._consumer.subscribe([self._url.topic], listener=_Listener(self, member))
        try:
            async with asyncio.timeout(within):
                await self._consumer.start()
        except BaseException as exc:
            await self.close(within=REQUEST_WITHIN)
            if isinstance(exc, kafka.KafkaError | OSError | TimeoutError):
                raise translated(exc, topic=self._url.topic, where=self._url.where) from exc
            raise

    async def close(self, *, within: float) -> None:
        """Leave the group and end, within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await asyncio.gather(self._consumer.stop(), super().close(within=within))

    async def note(self, checkpoints: Mapping[int, int]) -> None:
        """Commit the checkpoints as the group's offsets, for those who watch its lag. Failing is no matter."""
        places = self._places(checkpoints)
        if not places:
            return
        with suppress(kafka.KafkaError, kafka.IllegalStateError, TimeoutError):
            async with asyncio.timeout(SESSION / 4):
                await self._consumer.commit({place: checkpoints[place.partition] for place in places})

    def check(self) -> None:
        """Say what the group has against this member; a client that fetches nothing would keep it to itself.

        Raises:
            LogUnavailable: It is not let in, or was put out for another of the same name.
        """
        try:
            self._consumer._coordinator.check_errors()
        except kafka.KafkaError as exc:
            raise translated(exc, topic=self._url.topic, where=self._url.where) from exc

    async def assigned(self, partitions: Collection[int]) -> None:
        """Follow what the group has given, and keep its consumer from that."""
        places = self._places(partitions)
        self._consumer.pause(*places)
        for place in places:
            # Any offset, or the client would ask the group for one and find none.
            self._consumer.seek(place, 0)
        await self._turn_to(partitions)

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._url.topic, partition) for partition in partitions]


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, group: KafkaGroup, member: Member) -> None:
        self._group = group
        self._member = member

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._member.let_go()
        await self._group.assigned(())

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        partitions = sorted(place.partition for place in assigned)
        await self._group.assigned(partitions)
        await self._member.take(partitions)
