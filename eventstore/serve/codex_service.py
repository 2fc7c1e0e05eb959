"""The service that Codex calls: each of its thirteen methods as a call of the store.

Calls about one thread take effect in the order of their arrival. What changes a thread is carried through even if its
caller has gone: nothing is left half done, and the next call finds it done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from eventstore.documents.items import RolloutItem
from eventstore.documents.params import (
    AppendThreadItemsParams,
    ArchiveThreadParams,
    ListThreadsParams,
    LoadThreadHistoryParams,
    ReadThreadParams,
)
from eventstore.documents.threads import StoredThread
from eventstore.errors import EventStoreError
from eventstore.ids import ThreadId, parse_thread_id
from eventstore.serve.calls import Method
from eventstore.serve.codex_wire import (
    create_params,
    history_message,
    list_params,
    page_message,
    resume_params,
    thread_message,
    update_params,
)
from eventstore.serve.items import item_of
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.replies import LARGEST_REPLY, fitting_history, shortened
from eventstore.serve.statuses import ReplyTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventstore.serve.turns import Turns
    from eventstore.serve.writers import Writers
    from eventstore.threads import EventSourcedThreadStore

T = TypeVar("T")

SERVICE: Final = "codex.thread_store.v1.ThreadStore"
_READ_AT_ONCE: Final = 1024 * 1024
"""Characters of items that are looked at before other calls have a chance."""
_DONE = pb.Empty()

log = structlog.get_logger("eventstore.serve")


class CodexThreads:
    """Answers Codex from a store."""

    def __init__(self, store: EventSourcedThreadStore, turns: Turns, writers: Writers) -> None:
        self._store = store
        self._turns = turns
        self._writers = writers
        self._changing: set[asyncio.Task[object]] = set()

    @property
    def methods(self) -> tuple[Method, ...]:
        return (
            Method("CreateThread", pb.CreateThreadRequest, self.create),
            Method("ResumeThread", pb.ResumeThreadRequest, self.resume),
            Method("AppendItems", pb.AppendThreadItemsRequest, self.append),
            Method("PersistThread", pb.ThreadIdRequest, self.persist),
            Method("FlushThread", pb.ThreadIdRequest, self.flush),
            Method("ShutdownThread", pb.ThreadIdRequest, self.shutdown),
            Method("DiscardThread", pb.ThreadIdRequest, self.discard),
            Method("LoadHistory", pb.LoadThreadHistoryRequest, self.load_history, changes=False),
            Method("ReadThread", pb.ReadThreadRequest, self.read, changes=False),
            Method("ListThreads", pb.ListThreadsRequest, self.list_, changes=False),
            Method("UpdateThreadMetadata", pb.UpdateThreadMetadataRequest, self.update),
            Method("ArchiveThread", pb.ArchiveThreadRequest, self.archive),
            Method("UnarchiveThread", pb.ArchiveThreadRequest, self.unarchive),
        )

    async def settled(self, *, within: float) -> None:
        """Wait for what is carried through for callers who have gone."""
        if self._changing:
            await asyncio.wait(self._changing, timeout=within)

    async def create(self, request: pb.CreateThreadRequest) -> pb.Empty:
        params = create_params(request)
        await self._changed(params.thread_id, lambda: self._writers.create(params))
        return _DONE

    async def resume(self, request: pb.ResumeThreadRequest) -> pb.Empty:
        params = resume_params(request)
        await self._changed(params.thread_id, lambda: self._writers.resume(params))
        return _DONE

    async def append(self, request: pb.AppendThreadItemsRequest) -> pb.Empty:
        thread_id = parse_thread_id(request.thread_id)

        async def append() -> None:
            items = await _items(request.items_json)
            params = AppendThreadItemsParams.model_construct(thread_id=thread_id, items=items, append_id=None)
            await self._writers.append(params)

        await self._changed(thread_id, append)
        return _DONE

    async def persist(self, request: pb.ThreadIdRequest) -> pb.Empty:
        return await self._with_writer(request, self._store.persist_thread)

    async def flush(self, request: pb.ThreadIdRequest) -> pb.Empty:
        return await self._with_writer(request, self._store.flush_thread)

    async def shutdown(self, request: pb.ThreadIdRequest) -> pb.Empty:
        return await self._with_writer(request, self._store.shutdown_thread)

    async def discard(self, request: pb.ThreadIdRequest) -> pb.Empty:
        thread_id = parse_thread_id(request.thread_id)
        await self._changed(thread_id, lambda: self._writers.discard(thread_id))
        return _DONE

    async def load_history(self, request: pb.LoadThreadHistoryRequest) -> pb.StoredThreadHistory:
        thread_id = parse_thread_id(request.thread_id)
        await self._turns.passed(thread_id)
        return history_message(thread_id, await self._history(thread_id, request.include_archived))

    async def read(self, request: pb.ReadThreadRequest) -> pb.StoredThreadResponse:
        thread_id = parse_thread_id(request.thread_id)
        await self._turns.passed(thread_id)
        thread = await self._store.read_thread(
            ReadThreadParams(thread_id=thread_id, include_archived=request.include_archived)
        )
        if not request.include_history:
            return _response(thread)
        # What was found may be read, whatever was done to it since.
        history = await self._history(thread_id, include_archived=True)
        return pb.StoredThreadResponse(thread=thread_message(shortened(thread), history))

    async def list_(self, request: pb.ListThreadsRequest) -> pb.ListThreadsResponse:
        params = list_params(request)
        page = await self._store.list_threads(params)
        reply = page_message(page.items, page.next_cursor)
        if reply.ByteSize() <= LARGEST_REPLY:
            return reply
        return await self._shorter_page(params)

    async def update(self, request: pb.UpdateThreadMetadataRequest) -> pb.StoredThreadResponse:
        params = update_params(request)
        return _response(await self._changed(params.thread_id, lambda: self._store.update_thread_metadata(params)))

    async def archive(self, request: pb.ArchiveThreadRequest) -> pb.Empty:
        params = ArchiveThreadParams(thread_id=parse_thread_id(request.thread_id))
        await self._changed(params.thread_id, lambda: self._store.archive_thread(params))
        return _DONE

    async def unarchive(self, request: pb.ArchiveThreadRequest) -> pb.StoredThreadResponse:
        params = ArchiveThreadParams(thread_id=parse_thread_id(request.thread_id))
        return _response(await self._changed(params.thread_id, lambda: self._store.unarchive_thread(params)))

    async def _with_writer(self, request: pb.ThreadIdRequest, act: Callable[[ThreadId], Awaitable[object]]) -> pb.Empty:
        thread_id = parse_thread_id(request.thread_id)
        await self._changed(thread_id, lambda: self._writers.used(thread_id, lambda: act(thread_id)))
        return _DONE

    async def _changed(self, thread_id: ThreadId, act: Callable[[], Coroutine[None, None, T]]) -> T:
        """Do something to the thread when it is this call's turn, and carry it through whoever waits for it."""

        turn = self._turns.asked(thread_id)

        async def change() -> T:
            async with turn:
                return await act()

        changing = asyncio.ensure_future(change())
        self._changing.add(changing)
        changing.add_done_callback(self._changing.discard)
        try:
            return await asyncio.shield(changing)
        except asyncio.CancelledError:
            changing.add_done_callback(_unheard)
            raise

    async def _history(self, thread_id: ThreadId, include_archived: bool) -> list[str]:
        params = LoadThreadHistoryParams(thread_id=thread_id, include_archived=include_archived)
        return await fitting_history(thread_id, self._store.iter_history(params))

    async def _shorter_page(self, params: ListThreadsParams) -> pb.ListThreadsResponse:
        """Return the page with what is only shown cut short, and with fewer threads if that is not enough."""
        while True:
            page = await self._store.list_threads(params)
            reply = page_message(map(shortened, page.items), page.next_cursor)
            if reply.ByteSize() <= LARGEST_REPLY:
                return reply
            if params.page_size <= 1:
                raise ReplyTooLarge(f"thread {page.items[0].thread_id} has metadata larger than a reply may be")
            params = params.model_copy(update={"page_size": params.page_size // 2})


def _unheard(changing: asyncio.Task[object]) -> None:
    """Take in how a change ended whose caller has gone; what is not an error of the store is a bug, for the log."""
    error = None if changing.cancelled() else changing.exception()
    if error is not None and not isinstance(error, EventStoreError):
        log.error("call failed unexpectedly after its client had gone", exc_info=error)


def _response(thread: StoredThread) -> pb.StoredThreadResponse:
    reply = pb.StoredThreadResponse(thread=thread_message(thread))
    if reply.ByteSize() > LARGEST_REPLY:
        reply = pb.StoredThreadResponse(thread=thread_message(shortened(thread)))
    return reply


async def _items(texts: Iterable[str]) -> tuple[RolloutItem, ...]:
    """Return the items; of many megabytes, other calls are let through meanwhile."""
    items: list[RolloutItem] = []
    seen = 0
    for text in texts:
        items.append(item_of(text))
        seen += len(text)
        if seen >= _READ_AT_ONCE:
            seen = 0
            await asyncio.sleep(0)
    return tuple(items)
