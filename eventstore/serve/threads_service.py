"""The store's own service: what it can tell and Codex cannot ask, for whoever follows threads from elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from eventstore.audit import audit, parse_position
from eventstore.documents.items import Position, StoredItem
from eventstore.documents.params import DeleteThreadParams, LoadThreadHistoryParams, ReadItemsParams, SortDirection
from eventstore.documents.records import EventRecord
from eventstore.errors import InvalidRequest, LogUnavailable
from eventstore.ids import parse_thread_id
from eventstore.serve.calls import Method, Streaming
from eventstore.serve.codex_wire import document
from eventstore.serve.protos import eventstore_threads_pb2 as pb

if TYPE_CHECKING:
    from eventstore.serve.turns import Turns
    from eventstore.threads import EventSourcedThreadStore

T = TypeVar("T")

SERVICE: Final = "eventstore.v1.Threads"
LARGEST_PAGE: Final = 1_000
"""Items in one page, at most."""
_BATCH_ITEMS: Final = 500
_BATCH_BYTES: Final = 256 * 1024
"""The most that one message of a history holds, unless a single item is larger."""
_LOOK_EVERY: Final = 0.2
"""Seconds between two looks for events that came later."""


class Threads:
    """Answers from a store."""

    def __init__(self, store: EventSourcedThreadStore, turns: Turns) -> None:
        self._store = store
        self._turns = turns
        self._ending = asyncio.Event()

    @property
    def methods(self) -> tuple[Method | Streaming, ...]:
        return (
            Streaming("ReadHistory", pb.ReadHistoryRequest, self.read_history),
            Method("ReadItems", pb.ReadItemsRequest, self.read_items),
            Streaming("FollowEvents", pb.FollowEventsRequest, self.follow_events),
            Method("DeleteThread", pb.DeleteThreadRequest, self.delete),
        )

    def end(self) -> None:
        """End the calls that would go on for ever."""
        self._ending.set()

    async def read_history(self, request: pb.ReadHistoryRequest) -> AsyncGenerator[pb.Items, None]:
        params = LoadThreadHistoryParams(
            thread_id=parse_thread_id(request.thread_id), include_archived=request.include_archived
        )
        await self._turns.passed(params.thread_id)
        batch: list[StoredItem] = []
        filled = 0
        async for item in self._store.iter_history(params):
            batch.append(item)
            filled += len(item.text)
            if len(batch) >= _BATCH_ITEMS or filled >= _BATCH_BYTES:
                yield pb.Items(items=map(_item, batch))
                batch, filled = [], 0
        if batch:
            yield pb.Items(items=map(_item, batch))

    async def read_items(self, request: pb.ReadItemsRequest) -> pb.ItemPage:
        params = document(
            ReadItemsParams,
            thread_id=parse_thread_id(request.thread_id),
            include_archived=request.include_archived,
            page_size=min(request.page_size, LARGEST_PAGE),
            cursor=request.cursor if request.HasField("cursor") else None,
            sort_direction=SortDirection.DESC if request.latest_first else SortDirection.ASC,
        )
        await self._turns.passed(params.thread_id)
        page = await self._store.read_items(params)
        return pb.ItemPage(items=map(_item, page.items), next_cursor=page.next_cursor)

    async def follow_events(self, request: pb.FollowEventsRequest) -> AsyncGenerator[pb.Event, None]:
        thread_id = parse_thread_id(request.thread_id) if request.HasField("thread_id") else None
        since = self._position(request.since) if request.HasField("since") else None
        every = _LOOK_EVERY if request.follow else None
        async with aclosing(audit(self._store.feed, thread_id, since=since, every=every)) as records:
            async for record in _until(self._ending, records):
                yield _event(record)
        if self._ending.is_set():
            raise LogUnavailable("the server ends; follow on from the last event's position at another one")

    async def delete(self, request: pb.DeleteThreadRequest) -> pb.Deleted:
        params = document(
            DeleteThreadParams,
            thread_id=parse_thread_id(request.thread_id),
            expected_version=request.expected_version if request.HasField("expected_version") else None,
            reason=request.reason if request.HasField("reason") else None,
        )
        async with self._turns.asked(params.thread_id):
            await self._store.delete_thread(params)
        return pb.Deleted()

    def _position(self, message: pb.Position) -> Position:
        if not 0 <= message.partition < self._store.feed.partitions or message.offset < 0:
            raise InvalidRequest(
                f"{message.partition}:{message.offset} is no position in a log of "
                f"{self._store.feed.partitions} partitions"
            )
        return Position(message.partition, message.offset)


async def _until(ending: asyncio.Event, source: AsyncGenerator[T, None]) -> AsyncIterator[T]:
    """Yield what the source yields until it ends, or the event is set."""
    over = asyncio.ensure_future(ending.wait())
    try:
        while True:
            following = asyncio.ensure_future(anext(source, None))
            try:
                await asyncio.wait([over, following], return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait([following])
            if following.cancelled() or (found := following.result()) is None:
                return
            yield found
    finally:
        over.cancel()


def _item(item: StoredItem) -> pb.Item:
    return pb.Item(
        ordinal=item.ordinal,
        position=pb.Position(partition=item.position.partition, offset=item.position.offset),
        at_millis=item.item.at,
        type=item.type,
        payload=item.text,
        extras=item.extras,
    )


def _event(record: EventRecord) -> pb.Event:
    position = parse_position(record.position)
    return pb.Event(
        position=pb.Position(partition=position.partition, offset=position.offset),
        kind=record.kind,
        event_id=record.event_id,
        thread_id=record.thread_id,
        occurred_at_micros=None if record.occurred_at is None else _micros(record.occurred_at),
        writer_id=record.writer_id,
        writer_seq=record.writer_seq,
        actor=record.actor,
        verdict=record.verdict,
        why=record.why,
        reason=record.reason,
        items=record.items,
    )


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)
