"""The thread store as its callers see it: the contract's thirteen verbs and what an event log adds to them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

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
from eventstore.ids import AnyId


class ThreadStore(Protocol):
    """Keeps the threads of agents.

    A thread is *live* here between create or resume and shutdown or discard. What flush, persist, shutdown or a command
    acknowledged is kept for ever, once, in order. Calls may overlap; those of one thread take effect in call order.

    Every verb may raise `LogUnavailable`, `ViewsUnavailable`, `ViewsBehind`, `OutcomeUnknown`, for a damaged thread
    `UnreadableEvent` and, where a server bounds what it takes, `TooMany`; further errors are named at each verb. A read
    that is given a consistency token (`at_least`) raises `InvalidRequest` if that is none, or one of another log.
    """

    async def create_thread(self, params: CreateThreadParams) -> None:
        """Make a new live thread; nothing is stored until persist, or flush or shutdown with items queued.

        Until then no reader finds it, here or elsewhere.

        Raises:
            InvalidRequest: The thread is live here already, or its source is none of the contract's (§1.5).
        """
        ...

    async def resume_thread(self, params: ResumeThreadParams) -> None:
        """Make a stored thread live, taking it over from whatever writer it has elsewhere.

        Raises:
            InvalidRequest: It is live here already, unknown, or archived and `include_archived` is false.
            WriterFenced: Other writers won the race twice.
        """
        ...

    async def append_items(self, params: AppendThreadItemsParams) -> Receipt:
        """Append the items that the persistence policy keeps; of a stored thread, they are in the log on return.

        Raises:
            ThreadNotFound: The thread is not live here.
            AppendTooLarge: It can never be logged; nothing was queued.
            WriterFenced: Another writer took the thread over; nothing was queued.
            OutcomeUnknown: The items are queued and may be in the log; flush, or append again with the same append id.
        """
        ...

    async def persist_thread(self, thread_id: AnyId) -> str | None:
        """Store the thread and everything appended so far, even if that is nothing; return its consistency token.

        Raises:
            ThreadNotFound: The thread is not live here.
            ThreadExists: A stored thread has the id of this created one.
            WriterFenced: Another writer took the thread over.
        """
        ...

    async def flush_thread(self, thread_id: AnyId) -> str | None:
        """Acknowledge everything appended so far: it counts, and every reader sees it.

        Return its consistency token; None while nothing is stored.

        Raises:
            ThreadNotFound: The thread is not live here.
            ThreadExists: A stored thread has the id of this created one.
            WriterFenced: Another writer took the thread over.
        """
        ...

    async def shutdown_thread(self, thread_id: AnyId) -> str | None:
        """Flush, then end the live thread, which stays live if that fails; return the consistency token of all of it.

        Raises:
            ThreadNotFound: The thread is not live here.
            ThreadExists: A stored thread has the id of this created one.
            WriterFenced: Another writer took the thread over.
        """
        ...

    async def discard_thread(self, thread_id: AnyId) -> None:
        """End the live thread without storing what is queued; what is stored stays.

        Raises:
            ThreadNotFound: The thread is not live here.
        """
        ...

    async def load_history(self, params: LoadThreadHistoryParams) -> StoredThreadHistory:
        """Return all items of the thread, in order.

        Raises:
            InvalidRequest: It is unknown, or archived and `include_archived` is false.
        """
        ...

    async def read_thread(self, params: ReadThreadParams) -> StoredThread:
        """Return what is known of the thread.

        Raises:
            InvalidRequest: It is unknown, or archived and `include_archived` is false.
        """
        ...

    async def list_threads(self, params: ListThreadsParams) -> ThreadPage:
        """Return a page of the threads that have a preview: of a first user message, a goal or a patch.

        Raises:
            InvalidRequest: The cursor is none.
        """
        ...

    async def update_thread_metadata(self, params: UpdateThreadMetadataParams) -> StoredThread:
        """Apply the patch, all fields or none, and return the thread, with the consistency token of the patch.

        A live thread is stored first, with everything appended so far; an empty patch is a read, and stores nothing.

        Raises:
            InvalidRequest: It is unknown, or archived and `include_archived` is false; or a value of the patch is one
                that its field does not take.
            Unsupported: The patch names a project.
            AppendTooLarge: The patch can never be logged.
            ThreadExists: The thread was created here, and a stored one has its id.
            WriterFenced: The thread is live here, and another writer took it over.
            WrongExpectedVersion: The thread is not at the expected version.
        """
        ...

    async def archive_thread(self, params: ArchiveThreadParams) -> str | None:
        """Move the thread to the archived ones; return the consistency token of that.

        Raises:
            InvalidRequest: It is unknown or archived already.
            WrongExpectedVersion: The thread is not at the expected version.
        """
        ...

    async def unarchive_thread(self, params: ArchiveThreadParams) -> StoredThread:
        """Move the thread back to the active ones; return it, with the consistency token of that.

        Raises:
            InvalidRequest: It is unknown or not archived.
            WrongExpectedVersion: The thread is not at the expected version.
        """
        ...

    async def delete_thread(self, params: DeleteThreadParams) -> str | None:
        """Delete the thread for good: nothing appended later counts. Return the consistency token of that.

        Raises:
            ThreadNotFound: It is unknown or deleted already.
            WrongExpectedVersion: The thread is not at the expected version.
        """
        ...

    async def read_items(self, params: ReadItemsParams) -> ItemPage:
        """Return a page of the thread's items, from either end, at the page's own cost.

        Raises:
            InvalidRequest: It is unknown, archived and `include_archived` is false, or the cursor is none.
        """
        ...

    async def retry_thread(self, thread_id: AnyId) -> StoredThread | None:
        """Fold a thread anew that froze at a record which this version understands; return what is known of it.

        A healthy thread is left as it is. None says that there is none any more: a delete lay behind the record.

        Raises:
            InvalidRequest: It is unknown.
            UnreadableEvent: A record of it cannot be understood by this version either. Nothing was changed.
            LogTruncated: Records of it are missing from the log. Nothing was changed.
        """
        ...

    def iter_history(self, params: LoadThreadHistoryParams) -> AsyncGenerator[StoredItem, None]:
        """Yield all items of the thread, in order, in bounded memory.

        Raises:
            InvalidRequest: It is unknown, or archived and `include_archived` is false.
        """
        ...

    def events(
        self, thread_id: AnyId | None = None, *, since: Position | None = None, follow: bool = False
    ) -> AsyncGenerator[EventRecord, None]:
        """Yield every record of one thread, or of the log, with its verdict, partition by partition.

        With `since` only those of its partition are shown, from there on. With `follow` it goes on as records come,
        until the store is closed. Whatever is shown, the log is judged from its start, which keeps some 600 bytes a
        thread.

        Raises:
            InvalidRequest: `since` is in a partition that the log does not have, or not in the thread's.
            LogTruncated: The log's beginning is gone, and with it the ground for any verdict.
        """
        ...
