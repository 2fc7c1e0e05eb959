"""The remote store: the thread store's verbs, said to a server that keeps one.

The server knows this client as one caller, whose live threads are its own as those of a process are.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Final, TypeVar

from google.protobuf.message import Message

from eventstore.documents.items import ItemPage, Position, Receipt, StoredItem
from eventstore.documents.params import (
    AppendThreadItemsParams,
    ArchiveThreadParams,
    CreateThreadParams,
    DeleteThreadParams,
    ListThreadsParams,
    LoadThreadHistoryParams,
    ReadItemsParams,
    ReadThreadParams,
    ResumeThreadParams,
    UpdateThreadMetadataParams,
)
from eventstore.documents.records import EventRecord
from eventstore.documents.threads import StoredThread, StoredThreadHistory, ThreadPage
from eventstore.errors import Broken, EventStoreError, OutcomeUnknown, ThreadNotFound
from eventstore.ids import AnyId, ThreadId, parse_thread_id
from eventstore.life import Life
from eventstore.remote.changes import Call, Changes
from eventstore.remote.connection import Connection
from eventstore.remote.url import RemoteUrl
from eventstore.serve.answered import event_of, item_of, page_of, thread_of, threads_of
from eventstore.serve.asked import (
    change_request,
    create_request,
    history_request,
    list_request,
    page_request,
    read_request,
    resume_request,
    update_request,
)
from eventstore.serve.messages import given, message
from eventstore.serve.protos import eventstore_threads_pb2 as pb

M = TypeVar("M", bound=Message)

_END_WITHIN: Final = 5.0
"""Seconds that a closing store has to tell the server so."""


@asynccontextmanager
async def open_remote(
    url: RemoteUrl, *, actor: str = "", within: float = 30.0, durable: bool = False, token: str = ""
) -> AsyncIterator[RemoteThreadStore]:
    """Open the store of a server, which is shown the bearer `token`, if any; closing it ends its live threads as
    discard does.

    Raises:
        InvalidRequest: A file of certificates cannot be used.
        LogUnavailable: The server does not answer.
        Unsupported: It serves something else.
    """
    store = RemoteThreadStore(Connection(url, actor=actor, within=within, durable=durable, token=token))
    try:
        await store.connect()
        yield store
    finally:
        await store.close()


class RemoteThreadStore:
    """Keeps threads at a server (protocol `ThreadStore`).

    Not to be carried over a fork, nor into another event loop: each has to open a store of its own.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._changes = Changes(connection)
        self._within = connection.within
        self._perhaps_live: set[ThreadId] = set()
        """Threads of which it is not known whether the server has made them live: opening one again begins anew."""
        self._ended_unheard: dict[ThreadId, str | None] = {}
        """Threads whose shutdown was done when its caller had gone, with its token."""
        self._life = Life()

    def __repr__(self) -> str:
        return f"<RemoteThreadStore {self._connection.url}>"

    async def connect(self) -> None:
        """See that the server is there; raises as `open_remote` does."""
        await self._connection.describe()

    async def close(self) -> None:
        """End all live threads as discard does; what is flushed is stored. Later calls are refused."""
        if self._life.is_over:
            return
        self._life.end()
        try:
            await self._changes.settled(within=_END_WITHIN)
            deadline = time.monotonic() + min(_END_WITHIN, self._within)
            await self._connection.ask("EndCaller", pb.EndCallerRequest(), pb.Done, deadline=deadline)
        except EventStoreError:
            pass  # The server forgets a caller of whom nothing is heard.
        finally:
            await self._connection.close()

    async def create_thread(self, params: CreateThreadParams) -> None:
        await self._opened(params.thread_id, "CreateThread", create_request(params))

    async def resume_thread(self, params: ResumeThreadParams) -> None:
        await self._opened(params.thread_id, "ResumeThread", resume_request(params))

    async def append_items(self, params: AppendThreadItemsParams) -> Receipt:
        self._life.must_go_on()
        receipt = await self._changes.append(params)
        self._perhaps_live.discard(params.thread_id)
        return receipt

    async def persist_thread(self, thread_id: AnyId) -> str | None:
        return await self._about_live(thread_id, "PersistThread")

    async def flush_thread(self, thread_id: AnyId) -> str | None:
        return await self._about_live(thread_id, "FlushThread")

    async def shutdown_thread(self, thread_id: AnyId) -> str | None:
        self._life.must_go_on()
        ended = parse_thread_id(thread_id)

        async def unheard(token: str | None) -> None:
            self._ended_unheard[ended] = token

        return await self._changes.in_turn(ended, lambda call: self._end(ended, "ShutdownThread", call), unheard)

    async def discard_thread(self, thread_id: AnyId) -> None:
        self._life.must_go_on()
        thread_id = parse_thread_id(thread_id)
        await self._changes.in_turn(thread_id, lambda call: self._end(thread_id, "DiscardThread", call))

    async def load_history(self, params: LoadThreadHistoryParams) -> StoredThreadHistory:
        self._life.must_go_on()
        items: list[StoredItem] = []
        async with aclosing(self._history(params, whole=True)) as batches:
            async for batch in batches:
                items.extend(map(item_of, batch.items))
        return StoredThreadHistory.model_construct(thread_id=params.thread_id, items=tuple(items))

    async def iter_history(self, params: LoadThreadHistoryParams) -> AsyncGenerator[StoredItem, None]:
        self._life.must_go_on()
        async with aclosing(self._history(params, whole=False)) as batches:
            async for batch in batches:
                for item in batch.items:
                    yield item_of(item)

    async def read_thread(self, params: ReadThreadParams) -> StoredThread:
        self._life.must_go_on()
        thread = _there(await self._connection.ask("ReadThread", read_request(params), pb.Thread))
        if not params.include_history:
            return thread
        history = await self.load_history(
            LoadThreadHistoryParams(thread_id=params.thread_id, include_archived=True, at_least=params.at_least)
        )
        return thread.model_copy(update={"history": history})

    async def list_threads(self, params: ListThreadsParams) -> ThreadPage:
        self._life.must_go_on()
        return threads_of(await self._connection.ask("ListThreads", list_request(params), pb.ThreadPage))

    async def update_thread_metadata(self, params: UpdateThreadMetadataParams) -> StoredThread:
        request = update_request(params)
        return _there(await self._told(params.thread_id, "UpdateThreadMetadata", request, pb.Thread))

    async def archive_thread(self, params: ArchiveThreadParams) -> str | None:
        return await self._done(params.thread_id, "ArchiveThread", change_request(params))

    async def unarchive_thread(self, params: ArchiveThreadParams) -> StoredThread:
        return _there(await self._told(params.thread_id, "UnarchiveThread", change_request(params), pb.Thread))

    async def delete_thread(self, params: DeleteThreadParams) -> str | None:
        async def delete(call: Call) -> pb.Done:
            return await self._changes.tell("DeleteThread", change_request(params), pb.Done, call.deadline)

        self._life.must_go_on()
        return _token_of(await self._changes.in_turn(params.thread_id, delete))

    async def read_items(self, params: ReadItemsParams) -> ItemPage:
        self._life.must_go_on()
        items: list[StoredItem] = []
        rest = params
        while True:
            request = page_request(rest)
            page = page_of(params.thread_id, await self._connection.ask("ReadItems", request, pb.ItemPage))
            items.extend(page.items)
            if page.next_cursor is None or len(items) >= params.page_size:
                return page.model_copy(update={"items": tuple(items)})
            rest = params.model_copy(update={"cursor": page.next_cursor, "page_size": params.page_size - len(items)})

    async def retry_thread(self, thread_id: AnyId) -> StoredThread | None:
        thread_id = parse_thread_id(thread_id)
        request = pb.RetryThreadRequest(thread_id=thread_id)
        return thread_of(await self._told(thread_id, "RetryThread", request, pb.Thread))

    async def matching(self, prefix: str, *, deleted: bool = False) -> Sequence[ThreadId]:
        """Return at most two threads whose ids begin with `prefix`: one is a match, two are ambiguous."""
        self._life.must_go_on()
        request = message(pb.FindThreadsRequest, prefix=prefix, deleted=deleted)
        found = await self._connection.ask("FindThreads", request, pb.Found)
        return [ThreadId(thread_id) for thread_id in found.thread_ids]

    async def events(
        self, thread_id: AnyId | None = None, *, since: Position | None = None, follow: bool = False
    ) -> AsyncGenerator[EventRecord, None]:
        self._life.must_go_on()
        named = None if thread_id is None else parse_thread_id(thread_id)
        position = None if since is None else message(pb.Position, partition=since.partition, offset=since.offset)
        request = message(pb.FollowEventsRequest, thread_id=named, since=position, follow=follow)
        async with aclosing(self._connection.stream("FollowEvents", request, pb.Event, endless=True)) as events:
            async for event in events:
                yield event_of(event)

    async def _opened(self, thread_id: ThreadId, method: str, request: Message) -> None:
        """Make a thread live; if the caller has gone meanwhile, it is live no longer."""
        live = pb.LiveThreadRequest(thread_id=thread_id)

        async def open_it(call: Call) -> None:
            if thread_id in self._perhaps_live:
                with suppress(ThreadNotFound):
                    await self._changes.tell("DiscardThread", live, pb.Done, call.deadline)
                self._perhaps_live.discard(thread_id)
            try:
                await self._changes.tell(method, request, pb.Done, call.deadline)
            except OutcomeUnknown:
                self._perhaps_live.add(thread_id)
                self._changes.forget(thread_id)
                raise
            self._changes.forget(thread_id)
            self._ended_unheard.pop(thread_id, None)

        async def unheard(_: None) -> None:
            await self._changes.tell("DiscardThread", live, pb.Done, time.monotonic() + self._within)

        self._life.must_go_on()
        await self._changes.in_turn(thread_id, open_it, unheard)

    async def _end(self, thread_id: ThreadId, method: str, call: Call) -> str | None:
        if thread_id in self._ended_unheard:
            return self._ended_unheard.pop(thread_id)
        if method == "ShutdownThread":
            await self._changes.catch_up(thread_id, call.deadline)
        done = await self._changes.tell(method, pb.LiveThreadRequest(thread_id=thread_id), pb.Done, call.deadline)
        self._changes.forget(thread_id)
        return _token_of(done)

    async def _about_live(self, thread_id: AnyId, method: str) -> str | None:
        thread_id = parse_thread_id(thread_id)
        return await self._done(thread_id, method, pb.LiveThreadRequest(thread_id=thread_id))

    async def _done(self, thread_id: ThreadId, method: str, request: Message) -> str | None:
        return _token_of(await self._told(thread_id, method, request, pb.Done))

    async def _told(self, thread_id: ThreadId, method: str, request: Message, reply: type[M]) -> M:
        self._life.must_go_on()
        return await self._changes.told(thread_id, method, request, reply)

    def _history(self, params: LoadThreadHistoryParams, *, whole: bool) -> AsyncGenerator[pb.Items, None]:
        return self._connection.stream("ReadHistory", history_request(params, whole=whole), pb.Items)


def _there(found: pb.Thread) -> StoredThread:
    thread = thread_of(found)
    if thread is None:
        raise Broken("the server answered with no thread; see that it runs the version that this program is of")
    return thread


def _token_of(done: pb.Done) -> str | None:
    token: str | None = given(done, "token")
    return token
