"""The store's own service: all that a store can do, for clients that are stores themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from string import hexdigits
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from eventstore.documents.items import Position, StoredItem
from eventstore.documents.params import ArchiveThreadParams, DeleteThreadParams
from eventstore.errors import InvalidRequest, LogUnavailable, quoted
from eventstore.ids import ThreadId, parse_thread_id
from eventstore.serve.answered import (
    event_message,
    item_message,
    page_message,
    receipt_message,
    thread_message,
    threads_message,
)
from eventstore.serve.asked import (
    append_params,
    change_params,
    create_params,
    history_params,
    list_params,
    page_params,
    read_params,
    resume_params,
    update_params,
)
from eventstore.serve.calls import Method, Streaming
from eventstore.serve.protos import eventstore_threads_pb2 as pb

if TYPE_CHECKING:
    from eventstore.serve.callers import Callers
    from eventstore.serve.turns import Turns
    from eventstore.threads import EventSourcedThreadStore

T = TypeVar("T")
_Reading: TypeAlias = (
    pb.ReadThreadRequest | pb.ListThreadsRequest | pb.FindThreadsRequest | pb.ReadHistoryRequest | pb.ReadItemsRequest
)

_LARGEST_LIST: Final = 10_000
"""Threads in one page, at most."""
_BATCH_ITEMS: Final = 500
_BATCH_BYTES: Final = 256 * 1024
"""The most that one message of a history holds, unless a single item is larger."""
_ID_DIGITS: Final = 32
"""Hexadecimal digits of a whole id."""


class Threads:
    """Answers from a store. Whoever names itself as the caller has live threads of its own."""

    def __init__(self, store: EventSourcedThreadStore, turns: Turns, callers: Callers) -> None:
        self._store = store
        self._turns = turns
        self._callers = callers
        self._ending = asyncio.Event()

    @property
    def methods(self) -> tuple[Method | Streaming, ...]:
        return (
            Method("Describe", pb.DescribeRequest, self.describe, changes=False),
            Method("EndCaller", pb.EndCallerRequest, self.end_caller),
            Method("CreateThread", pb.CreateThreadRequest, self.create),
            Method("ResumeThread", pb.ResumeThreadRequest, self.resume),
            Method("AppendItems", pb.AppendItemsRequest, self.append),
            Method("PersistThread", pb.LiveThreadRequest, self.persist, tells_arrival=True),
            Method("FlushThread", pb.LiveThreadRequest, self.flush, tells_arrival=True),
            Method("ShutdownThread", pb.LiveThreadRequest, self.shutdown),
            Method("DiscardThread", pb.LiveThreadRequest, self.discard),
            Method("ReadThread", pb.ReadThreadRequest, self.read, changes=False),
            Method("ListThreads", pb.ListThreadsRequest, self.list, changes=False),
            Method("FindThreads", pb.FindThreadsRequest, self.find, changes=False),
            Streaming("ReadHistory", pb.ReadHistoryRequest, self.read_history),
            Method("ReadItems", pb.ReadItemsRequest, self.read_items, changes=False),
            Streaming("FollowEvents", pb.FollowEventsRequest, self.follow_events),
            Method("UpdateThreadMetadata", pb.UpdateThreadMetadataRequest, self.update, tells_arrival=True),
            Method("ArchiveThread", pb.ChangeThreadRequest, self.archive, tells_arrival=True),
            Method("UnarchiveThread", pb.ChangeThreadRequest, self.unarchive, tells_arrival=True),
            Method("DeleteThread", pb.ChangeThreadRequest, self.delete),
            Method("RetryThread", pb.RetryThreadRequest, self.retry, tells_arrival=True),
        )

    def end(self) -> None:
        """End the calls that would go on for ever."""
        self._ending.set()

    async def describe(self, request: pb.DescribeRequest) -> pb.Description:
        feed = self._store.feed
        return pb.Description(log=feed.identity, partitions=feed.partitions)

    async def end_caller(self, request: pb.EndCallerRequest) -> pb.Done:
        await self._callers.end(request.caller)
        return pb.Done()

    async def create(self, request: pb.CreateThreadRequest) -> pb.Done:
        params = create_params(request)
        async with self._callers.opening(request.caller) as store:
            await store.create_thread(params)
        return pb.Done()

    async def resume(self, request: pb.ResumeThreadRequest) -> pb.Done:
        params = resume_params(request)
        async with self._callers.opening(request.caller) as store:
            await store.resume_thread(params)
        return pb.Done()

    async def append(self, request: pb.AppendItemsRequest) -> pb.Receipt:
        params = append_params(request)
        async with self._callers.calling(request.caller) as store:
            return receipt_message(await store.append_items(params, is_fresh=request.is_fresh))

    async def persist(self, request: pb.LiveThreadRequest) -> pb.Done:
        async with self._live(request) as (store, thread_id):
            return pb.Done(token=await store.persist_thread(thread_id))

    async def flush(self, request: pb.LiveThreadRequest) -> pb.Done:
        async with self._live(request) as (store, thread_id):
            return pb.Done(token=await store.flush_thread(thread_id))

    async def shutdown(self, request: pb.LiveThreadRequest) -> pb.Done:
        async with self._live(request) as (store, thread_id):
            return pb.Done(token=await store.shutdown_thread(thread_id))

    async def discard(self, request: pb.LiveThreadRequest) -> pb.Done:
        async with self._live(request) as (store, thread_id):
            await store.discard_thread(thread_id)
        return pb.Done()

    async def read(self, request: pb.ReadThreadRequest) -> pb.Thread:
        params = read_params(request)
        async with self._reading(request) as store:
            return thread_message(await store.read_thread(params))

    async def list(self, request: pb.ListThreadsRequest) -> pb.ThreadPage:
        params = list_params(request, largest=_LARGEST_LIST)
        async with self._reading(request) as store:
            return threads_message(await store.list_threads(params))

    async def find(self, request: pb.FindThreadsRequest) -> pb.Found:
        if not 0 < len(request.prefix) <= _ID_DIGITS or not all(digit in hexdigits for digit in request.prefix):
            raise InvalidRequest(
                f"{quoted(request.prefix)} is not the beginning of a thread id: give 1 to {_ID_DIGITS} hex digits"
            )
        async with self._reading(request) as store:
            return pb.Found(thread_ids=await store.matching(request.prefix, deleted=request.deleted))

    async def read_history(self, request: pb.ReadHistoryRequest) -> AsyncGenerator[pb.Items, None]:
        params = history_params(request)
        if not request.HasField("caller"):
            await self._turns.passed(params.thread_id)
        async with self._reading(request) as store:
            items = _each((await store.load_history(params)).items) if request.whole else store.iter_history(params)
            async for batch in _batches(items):
                yield pb.Items(items=map(item_message, batch))

    async def read_items(self, request: pb.ReadItemsRequest) -> pb.ItemPage:
        params = page_params(request)
        if not request.HasField("caller"):
            await self._turns.passed(params.thread_id)
        async with self._reading(request) as store:
            return page_message(await store.read_items(params))

    async def follow_events(self, request: pb.FollowEventsRequest) -> AsyncGenerator[pb.Event, None]:
        thread_id = parse_thread_id(request.thread_id) if request.HasField("thread_id") else None
        since = self._position(request.since) if request.HasField("since") else None
        async with aclosing(self._store.events(thread_id, since=since, follow=request.follow)) as records:
            async for record in _until(self._ending, records):
                yield event_message(record)
        if self._ending.is_set():
            raise LogUnavailable("the server ends; follow on from the last event's position at another one")

    async def update(self, request: pb.UpdateThreadMetadataRequest) -> pb.Thread:
        params = update_params(request)
        async with self._callers.calling(request.caller) as store:
            return thread_message(await store.update_thread_metadata(params))

    async def archive(self, request: pb.ChangeThreadRequest) -> pb.Done:
        params = change_params(request, ArchiveThreadParams)
        async with self._callers.calling(request.caller) as store:
            return pb.Done(token=await store.archive_thread(params))

    async def unarchive(self, request: pb.ChangeThreadRequest) -> pb.Thread:
        params = change_params(request, ArchiveThreadParams)
        async with self._callers.calling(request.caller) as store:
            return thread_message(await store.unarchive_thread(params))

    async def delete(self, request: pb.ChangeThreadRequest) -> pb.Done:
        params = change_params(request, DeleteThreadParams)
        if not request.HasField("caller"):
            async with self._turns.asked(params.thread_id):
                return pb.Done(token=await self._store.delete_thread(params))
        async with self._callers.calling(request.caller) as store:
            return pb.Done(token=await store.delete_thread(params))

    async def retry(self, request: pb.RetryThreadRequest) -> pb.Thread:
        thread_id = parse_thread_id(request.thread_id)
        async with self._callers.calling(request.caller) as store:
            return thread_message(await store.retry_thread(thread_id))

    @asynccontextmanager
    async def _live(self, request: pb.LiveThreadRequest) -> AsyncIterator[tuple[EventSourcedThreadStore, ThreadId]]:
        thread_id = parse_thread_id(request.thread_id)
        async with self._callers.calling(request.caller) as store:
            yield store, thread_id

    @asynccontextmanager
    async def _reading(self, request: _Reading) -> AsyncIterator[EventSourcedThreadStore]:
        """Give the caller's store, where a live thread may show more; who names no caller reads as well."""
        if not request.HasField("caller"):
            yield self._store
            return
        async with self._callers.calling(request.caller) as store:
            yield store

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


async def _each(items: Iterable[StoredItem]) -> AsyncIterator[StoredItem]:
    for item in items:
        yield item


async def _batches(items: AsyncIterator[StoredItem]) -> AsyncIterator[list[StoredItem]]:
    """Yield the items in as many as one message holds."""
    batch: list[StoredItem] = []
    filled = 0
    async for item in items:
        batch.append(item)
        filled += len(item.text)
        if len(batch) >= _BATCH_ITEMS or filled >= _BATCH_BYTES:
            yield batch
            batch, filled = [], 0
    if batch:
        yield batch
