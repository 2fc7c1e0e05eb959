"""The event-sourced thread store: the contract's verbs over a log, its feed and the views.

Knows no engine. The invariant: between giving seqs and handing events to the log there is no await, so calls of one
thread take effect in the order in which they were made.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final

from eventstore.admission import Lifecycle
from eventstore.audit import audit
from eventstore.codex.metadata import patch_fields, stored_thread
from eventstore.commands import Commands, Counted, wrong_version
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
    SortDirection,
    UpdateThreadMetadataParams,
)
from eventstore.documents.patch import ThreadMetadataPatch
from eventstore.documents.records import EventRecord
from eventstore.documents.threads import StoredThread, StoredThreadHistory, ThreadPage
from eventstore.errors import InvalidRequest, ThreadNotFound, UnknownThread, Unsupported, ViewsBehind
from eventstore.history import Check, History, readable
from eventstore.ids import AnyId, ThreadId, parse_thread_id
from eventstore.life import Life
from eventstore.live import LiveThreads
from eventstore.memory import Memory
from eventstore.ports import EventFeed, EventLog, ThreadView, ThreadViews
from eventstore.splitting import fields_must_fit
from eventstore.tokens import checkpoints_of, token_at

_Missing = Callable[[ThreadId], UnknownThread]

_LOOK_EVERY: Final = 0.2
"""Seconds between two looks for events that came later."""


class EventSourcedThreadStore:
    """Keeps threads as events (protocol `ThreadStore`).

    Not to be carried over a fork, nor into another event loop, which has to open a store of its own.
    """

    def __init__(
        self,
        log: EventLog,
        feed: EventFeed,
        views: ThreadViews,
        *,
        name: str,
        actor: str | None = None,
        within: float = 30.0,
        durable: bool = False,
        memory: Memory | None = None,
    ) -> None:
        """Stand on an engine's three ports; `within` is each call's deadline in seconds.

        One that is `durable` acknowledges what counts in the log, and does not wait until readers see it. What its live
        threads keep is counted in the `memory`.
        """
        self.memory = memory or Memory()
        self.feed = feed
        self.views = views
        self.history = History(feed, views)
        self._log = log
        self._name = name
        self._actor = actor
        self._life = Life()
        self._within = within
        self._live = LiveThreads(log, feed, views, actor=actor, within=within, durable=durable, memory=self.memory)
        self._commands = Commands(log, feed, views, actor=actor, within=within, durable=durable)

    def __repr__(self) -> str:
        return f"<EventSourcedThreadStore {self._name} live={len(self._live)}>"

    def beside(self, *, actor: str | None, within: float, durable: bool) -> EventSourcedThreadStore:
        """Return another store on the same ports and in the same memory, with live threads of its own, as another
        process has one.
        """
        return EventSourcedThreadStore(
            self._log,
            self.feed,
            self.views,
            name=self._name,
            actor=actor or self._actor,
            within=within,
            durable=durable,
            memory=self.memory,
        )

    async def close(self) -> None:
        """End all live threads as discard does; what is flushed is stored. Later calls are refused."""
        self._life.end()
        self._live.abandon()

    async def create_thread(self, params: CreateThreadParams) -> None:
        self._life.must_go_on()
        # What a patch may not say is not said at the beginning either: it would be kept as `unknown`.
        patch_fields(ThreadMetadataPatch(source=params.source))
        self._live.create(params)

    async def resume_thread(self, params: ResumeThreadParams) -> None:
        self._life.must_go_on()
        await self._live.resume(params)

    async def append_items(self, params: AppendThreadItemsParams, *, is_fresh: bool = False) -> Receipt:
        """Append; `is_fresh` says that the append id was made for this very call, and spares looking for it."""
        self._life.must_go_on()
        return await self._live.append(params, is_fresh=is_fresh)

    async def persist_thread(self, thread_id: AnyId) -> str | None:
        self._life.must_go_on()
        return await self._live.flush(parse_thread_id(thread_id), even_if_empty=True)

    async def flush_thread(self, thread_id: AnyId) -> str | None:
        self._life.must_go_on()
        return await self._live.flush(parse_thread_id(thread_id))

    async def shutdown_thread(self, thread_id: AnyId) -> str | None:
        self._life.must_go_on()
        return await self._live.shutdown(parse_thread_id(thread_id))

    async def discard_thread(self, thread_id: AnyId) -> None:
        self._life.must_go_on()
        self._live.discard(parse_thread_id(thread_id))

    async def load_history(self, params: LoadThreadHistoryParams) -> StoredThreadHistory:
        self._life.must_go_on()
        items: list[StoredItem] = []
        at_least = self._checkpoint(params.thread_id, params.at_least)
        places = await self.history.places(
            params.thread_id, slice(None), self._history_check(params), at_least=at_least
        )
        async for batch in self.history.at(params.thread_id, places):
            items.extend(batch)
        return StoredThreadHistory.model_construct(thread_id=params.thread_id, items=tuple(items))

    async def iter_history(self, params: LoadThreadHistoryParams) -> AsyncGenerator[StoredItem, None]:
        self._life.must_go_on()
        at_least = self._checkpoint(params.thread_id, params.at_least)
        async for batch in self.history.items(params.thread_id, self._history_check(params), at_least=at_least):
            for item in batch:
                yield item

    async def read_thread(self, params: ReadThreadParams) -> StoredThread:
        view = await self._found(params.thread_id, params.include_archived, _no_rollout, at_least=params.at_least)
        thread = stored_thread(params.thread_id, view.state.summary, view.state.head)
        if not params.include_history:
            return thread
        history = await self.load_history(
            LoadThreadHistoryParams(thread_id=params.thread_id, include_archived=True, at_least=params.at_least)
        )
        return thread.model_copy(update={"history": history})

    async def list_threads(self, params: ListThreadsParams) -> ThreadPage:
        self._life.must_go_on()
        page = await self.views.page(params, exact=params.exact, at_least=self._checkpoints(params.at_least))
        threads = tuple(
            stored_thread(row.thread_id, row.state.summary, row.state.head, damaged=row.state.frozen)
            for row in page.rows
        )
        return ThreadPage.model_construct(items=threads, next_cursor=page.next_cursor)

    async def update_thread_metadata(self, params: UpdateThreadMetadataParams) -> StoredThread:
        self._life.must_go_on()
        if params.patch.project_id is not None:
            raise Unsupported("projects are not kept here; leave project_id away")
        fields = patch_fields(params.patch)
        fields_must_fit(fields)
        if params.patch.is_empty():
            view = await self._found(params.thread_id, params.include_archived, _no_thread)
            if params.expected_version not in (None, view.state.head.version):
                raise wrong_version(params.thread_id, view.state.head, params.expected_version)
            return stored_thread(params.thread_id, view.state.summary, view.state.head)
        deadline = time.monotonic() + self._within
        if params.thread_id in self._live:
            # What was said before counts then; whether readers see it is for the patch to wait for, and that the thread
            # was deleted elsewhere is for the patch to say.
            with suppress(ViewsBehind, ThreadNotFound):
                await self._live.flush(params.thread_id, even_if_empty=True, deadline=deadline)
        check = _checking(params.thread_id, params.include_archived, _no_thread)
        return self._changed(
            params.thread_id,
            await self._commands.patch(
                params.thread_id, fields, check, version=params.expected_version, deadline=deadline
            ),
        )

    async def archive_thread(self, params: ArchiveThreadParams) -> str:
        self._life.must_go_on()
        counted = await self._commands.archive(params, _checking(params.thread_id, False, _no_rollout))
        return token_at(self.feed.identity, counted.position)

    async def unarchive_thread(self, params: ArchiveThreadParams) -> StoredThread:
        self._life.must_go_on()
        return self._changed(
            params.thread_id,
            await self._commands.unarchive(params, lambda view: _checked_archived(view, params.thread_id)),
        )

    async def delete_thread(self, params: DeleteThreadParams) -> str:
        self._life.must_go_on()
        if self._live.is_unstored(params.thread_id):
            self._live.discard(params.thread_id)
        counted = await self._commands.delete(params, lambda view: _checked_present(view, params.thread_id))
        if params.thread_id in self._live:
            self._live.discard(params.thread_id)
        return token_at(self.feed.identity, counted.position)

    async def read_items(self, params: ReadItemsParams) -> ItemPage:
        self._life.must_go_on()
        backwards = params.sort_direction is SortDirection.DESC
        places = await self.history.places(
            params.thread_id,
            _span(params),
            _checking(params.thread_id, params.include_archived, _no_rollout),
            at_least=self._checkpoint(params.thread_id, params.at_least),
        )
        items = [item async for batch in self.history.at(params.thread_id, places) for item in batch]
        more = params.page_size > 0 and (places.start > 0 if backwards else places.stop < places.total)
        return ItemPage.model_construct(
            thread_id=params.thread_id,
            items=tuple(reversed(items) if backwards else items),
            next_cursor=str(places.start if backwards else places.stop) if more else None,
        )

    async def retry_thread(self, thread_id: AnyId) -> StoredThread | None:
        self._life.must_go_on()
        thread_id = parse_thread_id(thread_id)
        view = _checking(thread_id, True, _no_thread)(await self.views.get(thread_id))
        if view.state.frozen is not None:
            await self.views.refold(thread_id, within=self._within)
            found = await self.views.get(thread_id)
            if found is None or not found.state.head.exists:
                return None
            view = found
        readable(thread_id, view.state)
        return stored_thread(thread_id, view.state.summary, view.state.head)

    async def events(
        self, thread_id: AnyId | None = None, *, since: Position | None = None, follow: bool = False
    ) -> AsyncGenerator[EventRecord, None]:
        self._life.must_go_on()
        named = None if thread_id is None else parse_thread_id(thread_id)
        every = _LOOK_EVERY if follow else None
        async with aclosing(audit(self.feed, named, since=since, every=every)) as records:
            async for record in records:
                self._life.must_go_on()
                yield record

    @property
    def live_threads(self) -> Collection[ThreadId]:
        """The threads that are live here, or about to be."""
        return self._live.ids

    def is_live(self, thread_id: ThreadId) -> bool:
        """Whether the thread is live here."""
        return thread_id in self._live

    def is_unstored(self, thread_id: ThreadId) -> bool:
        """Whether the thread is live here and nothing of it is stored yet."""
        return self._live.is_unstored(thread_id)

    async def matching(self, prefix: str, *, deleted: bool = False) -> Sequence[ThreadId]:
        """Return at most two threads whose ids begin with `prefix`: one is a match, two are ambiguous.

        Deleted ones are looked for too if `deleted` says so.
        """
        self._life.must_go_on()
        return await self.views.matching(prefix, limit=2, deleted=deleted)

    def _history_check(self, params: LoadThreadHistoryParams) -> Check:
        # The contract's seed lets the live path win: a live thread's history is readable though it is archived.
        include_archived = params.include_archived or params.thread_id in self._live
        return _checking(params.thread_id, include_archived, _no_rollout)

    async def _found(
        self, thread_id: ThreadId, include_archived: bool, missing: _Missing, *, at_least: str | None = None
    ) -> ThreadView:
        self._life.must_go_on()
        found = await self.views.get(thread_id, at_least=self._checkpoint(thread_id, at_least))
        view = _checking(thread_id, include_archived, missing)(found)
        readable(thread_id, view.state)
        return view

    def _changed(self, thread_id: ThreadId, counted: Counted) -> StoredThread:
        """Return the thread as of a command of it, with the command's token."""
        thread = stored_thread(thread_id, counted.state.summary, counted.state.head)
        return thread.model_copy(update={"token": token_at(self.feed.identity, counted.position)})

    def _checkpoints(self, token: str | None) -> Mapping[int, int]:
        return checkpoints_of(token, log=self.feed.identity, partitions=self.feed.partitions)

    def _checkpoint(self, thread_id: ThreadId, token: str | None) -> int:
        """Return how far the thread's partition has to be folded for the token."""
        return 0 if token is None else self._checkpoints(token).get(self.feed.partition_of(thread_id), 0)


def _checking(thread_id: ThreadId, include_archived: bool, missing: _Missing) -> Check:
    """Return what refuses a thread that is missing or, unless they are included, archived."""

    def check(view: ThreadView | None) -> ThreadView:
        if view is None or (view.state.frozen is None and not view.state.head.exists):
            raise missing(thread_id)
        if view.state.head.lifecycle is Lifecycle.ARCHIVED and not include_archived:
            raise missing(thread_id)
        return view

    return check


def _checked_archived(view: ThreadView | None, thread_id: ThreadId) -> ThreadView:
    if view is not None:
        readable(thread_id, view.state)
    if view is None or view.state.head.lifecycle is not Lifecycle.ARCHIVED:
        raise UnknownThread(f"no archived rollout found for thread id {thread_id}")
    return view


def _checked_present(view: ThreadView | None, thread_id: ThreadId) -> ThreadView:
    if view is not None:
        readable(thread_id, view.state)
    if view is None or not view.state.head.exists:
        raise ThreadNotFound(thread_id)
    return view


def _no_rollout(thread_id: ThreadId) -> UnknownThread:
    return UnknownThread(f"no rollout found for thread id {thread_id}")


def _no_thread(thread_id: ThreadId) -> UnknownThread:
    return UnknownThread(f"thread not found: {thread_id}")


def _span(params: ReadItemsParams) -> slice:
    """Return the items of the page, counted from the end where nothing says how many there are."""
    size, cursor = params.page_size, _edge(params.cursor)
    if params.sort_direction is not SortDirection.DESC:
        return slice(cursor or 0, (cursor or 0) + size)
    if cursor is not None:
        return slice(max(0, cursor - size), cursor)
    return slice(-size, None) if size else slice(0, 0)


def _edge(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise InvalidRequest(f"invalid cursor: {cursor}")
    return int(cursor)
