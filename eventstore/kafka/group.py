"""A topic's partitions, shared by the workers of a group, and each followed from where its views are.

Kafka's group protocol only hints who works where: a member that was thought dead still holds records and delivers them
once it wakes, and the views refuse what it makes of them. Offsets committed here serve dashboards and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka

from eventstore.codec import ForeignRecord
from eventstore.documents.items import Position
from eventstore.errors import LogTruncated
from eventstore.kafka.arrivals import Arrivals
from eventstore.kafka.edge import quieten, translated
from eventstore.kafka.feed import KafkaFeed
from eventstore.kafka.records import LoggedRecord, entry_of
from eventstore.kafka.url import KafkaUrl
from eventstore.ports import Entry

SESSION: Final = 10.0
"""Seconds without a heartbeat after which a member's partitions are given to others."""
_PREFETCH_BYTES: Final = 8 * 1024 * 1024
"""Packed bytes that are fetched ahead, of all partitions together; a larger record comes all the same. One fetch brings
them all: while some of it is left, the client is slow to ask for more, and a partition that got none stands still."""
_PREFETCH_SHARES: Final = 8
"""Of fewer partitions each gets no more than of so many."""
_READ_BYTES: Final = 16 * 1024 * 1024
"""Unpacked bytes of all partitions that are handed out at a time; of each at least one record."""
_NEVER_MS: Final = 10**12
_AT_THE_END_MS: Final = 500
"""How long a broker holds a request back while there is nothing; what comes meanwhile comes at once."""


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
        """Name the topic, and give its feed: what the client cannot read is read through that."""
        self._url = url
        self._feed = feed
        self._consumer: Any = None
        self._arrivals: Arrivals
        self._held_back: set[TopicPartition] = set()
        self._share = _READ_BYTES

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url}>"

    async def follow(self, partitions: Collection[int], *, within: float) -> None:
        """Begin to follow these partitions, whoever else does.

        Raises:
            LogUnavailable: No broker answered.
        """
        await self._start(self._made(group=None, instance=None), within)
        self._consumer.assign([TopicPartition(self._url.topic, partition) for partition in partitions])
        self.hold_back(partitions)

    async def close(self, *, within: float) -> None:
        """End, within so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._consumer.stop()

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        """Return up to `limit` entries from offset `start` on; none if none came in half a second.

        Raises:
            LogTruncated: The partition does not hold `start`.
            LogUnavailable: It is not followed any more, or cannot be read.
        """
        place = TopicPartition(self._url.topic, partition)
        try:
            await self._go_to(place, start)
            fetched = await self._fetched(place, limit)
            if not fetched:
                await self._arrivals.next(place, within=_AT_THE_END_MS / 1_000)
                fetched = await self._fetched(place, limit)
            following = await self._consumer.position(place)
        except kafka.OffsetOutOfRangeError as exc:
            raise LogTruncated(
                f"partition {partition} of topic {self._url.topic} does not hold offset {start}: "
                "records were deleted from it, or the topic was made anew"
            ) from exc
        except (kafka.KafkaError, kafka.ConsumerStoppedError, OSError) as exc:
            raise translated(exc, topic=self._url.topic, where=self._url.where) from exc
        except UnicodeDecodeError:
            # The client stops at a header's name that is not UTF-8, and has dropped what it had read before.
            return await self._feed.read(partition, start=start, limit=limit)
        entries = [entry_of(record, partition, self._feed.partitions) for record in fetched]
        if not entries and following > start:
            # Only markers of transactions, which nobody is shown: whoever folds them comes to the log's end.
            return [Entry(Position(partition, following - 1), None, ForeignRecord("a transaction's marker"))]
        return entries

    async def _fetched(self, place: TopicPartition, limit: int) -> Sequence[LoggedRecord]:
        """Take what was fetched: up to `limit` records, and few of large ones."""
        records: list[LoggedRecord] = []
        size = 0
        while len(records) < limit and size < self._share:
            # As many again as have proved small.
            wanted = min(limit - len(records), max(1, len(records)))
            found = (await self._consumer.getmany(place, timeout_ms=0, max_records=wanted)).get(place, ())
            records += found
            if len(found) < wanted:
                break
            size += sum([len(record.value or b"") for record in found])
        return records

    def end(self, partition: int) -> int | None:
        """Return the partition's end as the last fetch saw it; None if nothing was fetched."""
        place = TopicPartition(self._url.topic, partition)
        found: int | None = self._consumer.highwater(place) if place in self._consumer.assignment() else None
        return found

    async def note(self, checkpoints: Mapping[int, int]) -> None:
        """Tell nobody how far this is: it is in no group."""

    def _made(self, *, group: str | None, instance: str | None) -> Any:
        quieten()
        return AIOKafkaConsumer(
            **self._url.client_settings(),
            group_id=group,
            group_instance_id=instance,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=int(SESSION * 1_000),
            heartbeat_interval_ms=int(SESSION * 250),
            # The client leaves a group whose member fetches nothing for so long, and never comes back by itself: one
            # that has no partitions, or whose views are away, fetches nothing.
            max_poll_interval_ms=_NEVER_MS,
            fetch_max_wait_ms=_AT_THE_END_MS,
            max_partition_fetch_bytes=_PREFETCH_BYTES // max(_PREFETCH_SHARES, self._feed.partitions),
            fetch_max_bytes=_PREFETCH_BYTES,
        )

    async def _start(self, consumer: Any, within: float) -> None:
        self._consumer, self._arrivals = consumer, Arrivals(consumer)
        try:
            async with asyncio.timeout(within):
                await self._consumer.start()
        except (kafka.KafkaError, OSError, TimeoutError) as exc:
            await self._consumer.stop()
            raise translated(exc, topic=self._url.topic, where=self._url.where) from exc

    async def _go_to(self, place: TopicPartition, offset: int) -> None:
        if place in self._held_back or await self._consumer.position(place) != offset:
            self._consumer.seek(place, offset)
            self._consumer.resume(place)
            self._held_back.discard(place)

    def hold_back(self, partitions: Collection[int]) -> None:
        """Fetch nothing of the partitions until it is known where their views are; they share the memory."""
        self._share = _READ_BYTES // max(1, len(partitions))
        places = [TopicPartition(self._url.topic, partition) for partition in partitions]
        self._held_back = set(places)
        self._consumer.pause(*places)
        for place in places:
            # Any offset, or the client would ask the group for one and find none.
            self._consumer.seek(place, 0)


class KafkaGroup(KafkaFollower):
    """One membership in a group of workers, which follows the partitions that are its; `join` before use."""

    async def join(self, member: Member, *, group: str, instance: str | None = None, within: float) -> None:
        """Become a member, which is told from now on which partitions are its.

        `instance` makes the membership static: a restart within the session moves nothing.

        Raises:
            LogUnavailable: No broker answered.
        """
        consumer = self._made(group=group, instance=instance)
        consumer.subscribe([self._url.topic], listener=_Listener(self, member))
        await self._start(consumer, within)

    async def note(self, checkpoints: Mapping[int, int]) -> None:
        """Commit the checkpoints as the group's offsets, for those who watch its lag. Failing is no matter."""
        places = {TopicPartition(self._url.topic, partition): offset for partition, offset in checkpoints.items()}
        if not places:
            return
        with suppress(kafka.KafkaError, kafka.IllegalStateError, TimeoutError):
            async with asyncio.timeout(SESSION / 4):
                await self._consumer.commit(places)

    def check(self) -> None:
        """Say what the group has against this member; a client that fetches nothing would keep it to itself.

        Raises:
            LogUnavailable: It is not let in, or was put out for another of the same name.
        """
        try:
            self._consumer._coordinator.check_errors()
        except kafka.KafkaError as exc:
            raise translated(exc, topic=self._url.topic, where=self._url.where) from exc


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, group: KafkaGroup, member: Member) -> None:
        self._group = group
        self._member = member

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._member.let_go()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        partitions = sorted(place.partition for place in assigned)
        self._group.hold_back(partitions)
        await self._member.take(partitions)
