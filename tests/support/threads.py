"""Threads to test with, in few words: how one is made, what is said in it, what it says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from eventstore import (
    AppendThreadItemsParams,
    ArchiveThreadParams,
    CreateThreadParams,
    DeleteThreadParams,
    ItemPage,
    LoadThreadHistoryParams,
    ReadItemsParams,
    ReadThreadParams,
    Receipt,
    ResumeThreadParams,
    RolloutItem,
    StoredItem,
    StoredThread,
    StoredThreadHistory,
    ThreadMetadataPatch,
    ThreadStore,
    UpdateThreadMetadataParams,
    new_thread_id,
)
from eventstore.errors import ThreadNotFound
from eventstore.ids import ThreadId


def user_message(text: str) -> RolloutItem:
    return RolloutItem("event_msg", {"type": "user_message", "message": text})


def agent_message(text: str) -> RolloutItem:
    return RolloutItem("event_msg", {"type": "agent_message", "message": text})


def warning(text: str) -> RolloutItem:
    """An item which the persistence policy drops."""
    return RolloutItem("event_msg", {"type": "warning", "message": text})


async def created(store: ThreadStore, thread_id: ThreadId | None = None, **given: Any) -> ThreadId:
    """Create a thread: live, and not stored."""
    thread_id = thread_id or new_thread_id()
    await store.create_thread(CreateThreadParams(thread_id=thread_id, **given))
    return thread_id


async def not_live(store: ThreadStore, thread_id: ThreadId) -> None:
    """Check that the thread is not live in the store."""
    with pytest.raises(ThreadNotFound):
        await store.flush_thread(thread_id)


async def a_live_thread(store: ThreadStore, *texts: str, **given: Any) -> ThreadId:
    """Make a live thread, stored, whose user has said these texts (one: hello)."""
    thread_id = await created(store, **given)
    await append(store, thread_id, *map(user_message, texts or ("hello",)))
    await store.flush_thread(thread_id)
    return thread_id


async def a_cold_thread(store: ThreadStore, *texts: str, **given: Any) -> ThreadId:
    """Make a stored thread that nobody writes."""
    thread_id = await a_live_thread(store, *texts, **given)
    await store.shutdown_thread(thread_id)
    return thread_id


async def an_archived_thread(store: ThreadStore, *texts: str, **given: Any) -> ThreadId:
    thread_id = await a_cold_thread(store, *texts, **given)
    await archive(store, thread_id)
    return thread_id


async def resumed_elsewhere(store: ThreadStore, thread_id: ThreadId) -> ThreadId:
    """Let another store take the thread over."""
    await resume(store, thread_id)
    return thread_id


async def resume(store: ThreadStore, thread_id: ThreadId, *, include_archived: bool = True) -> None:
    await store.resume_thread(ResumeThreadParams(thread_id=thread_id, include_archived=include_archived))


async def append(store: ThreadStore, thread_id: ThreadId, *items: RolloutItem, append_id: str | None = None) -> Receipt:
    params = AppendThreadItemsParams.model_validate({"thread_id": thread_id, "items": items, "append_id": append_id})
    return await store.append_items(params)


async def say(store: ThreadStore, thread_id: ThreadId, *texts: str, append_id: str | None = None) -> Receipt:
    """Append what the agent says, one item a text."""
    return await append(store, thread_id, *map(agent_message, texts), append_id=append_id)


async def say_and_flush(store: ThreadStore, thread_id: ThreadId, *texts: str) -> None:
    await say(store, thread_id, *texts)
    await store.flush_thread(thread_id)


async def history(store: ThreadStore, thread_id: ThreadId) -> StoredThreadHistory:
    return await store.load_history(LoadThreadHistoryParams(thread_id=thread_id, include_archived=True))


def texts(items: StoredThreadHistory | ItemPage | Iterable[StoredItem]) -> list[str]:
    """Return what was said, in order: the session_meta and other items that say nothing are left out."""
    found = items.items if isinstance(items, StoredThreadHistory | ItemPage) else items
    return [item.payload["message"] for item in found if item.type == "event_msg" and "message" in item.payload]


async def said(store: ThreadStore, thread_id: ThreadId) -> list[str]:
    """Return what was said in the thread, as the store reads it now."""
    return texts(await history(store, thread_id))


async def streamed(items: AsyncIterator[StoredItem]) -> list[StoredItem]:
    return [item async for item in items]


async def read(store: ThreadStore, thread_id: ThreadId) -> StoredThread:
    return await store.read_thread(ReadThreadParams(thread_id=thread_id, include_archived=True))


async def page(store: ThreadStore, thread_id: ThreadId, **asked: Any) -> ItemPage:
    return await store.read_items(ReadItemsParams(thread_id=thread_id, **asked))


async def patch(
    store: ThreadStore, thread_id: ThreadId, *, expected_version: int | None = None, **fields: Any
) -> StoredThread:
    return await store.update_thread_metadata(
        UpdateThreadMetadataParams(
            thread_id=thread_id,
            patch=ThreadMetadataPatch(**fields),
            include_archived=True,
            expected_version=expected_version,
        )
    )


async def archive(store: ThreadStore, thread_id: ThreadId, *, expected_version: int | None = None) -> None:
    await store.archive_thread(ArchiveThreadParams(thread_id=thread_id, expected_version=expected_version))


async def unarchive(store: ThreadStore, thread_id: ThreadId) -> StoredThread:
    return await store.unarchive_thread(ArchiveThreadParams(thread_id=thread_id))


async def delete(store: ThreadStore, thread_id: ThreadId, *, expected_version: int | None = None) -> None:
    await store.delete_thread(DeleteThreadParams(thread_id=thread_id, expected_version=expected_version))
