"""Threads of AI agents, kept as events.

    async with open_store("sqlite:agent.db") as store: ...

Everything public is importable from here; modules are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = (
    False  # as type checkers know it: `typing` would be half of what a command imports before Ctrl-C is heeded
)
if TYPE_CHECKING:
    from eventstore.documents import (
        AppendThreadItemsParams,
        ArchiveThreadParams,
        CreateThreadParams,
        DeleteThreadParams,
        ItemPage,
        ListThreadsParams,
        LoadThreadHistoryParams,
        Position,
        ReadItemsParams,
        ReadThreadParams,
        Receipt,
        ResumeThreadParams,
        RolloutItem,
        SortDirection,
        StoredItem,
        StoredThread,
        StoredThreadHistory,
        ThreadMetadataPatch,
        ThreadPage,
        ThreadSortKey,
        UpdateThreadMetadataParams,
    )
    from eventstore.errors import EventStoreError
    from eventstore.ids import new_thread_id, parse_thread_id
    from eventstore.store import ThreadStore
    from eventstore.wiring import open_store

__version__ = "0.1.0"

_HOMES = {
    "documents": (
        "AppendThreadItemsParams ArchiveThreadParams CreateThreadParams DeleteThreadParams ItemPage ListThreadsParams "
        "LoadThreadHistoryParams Position ReadItemsParams ReadThreadParams Receipt ResumeThreadParams RolloutItem "
        "SortDirection StoredItem StoredThread StoredThreadHistory ThreadMetadataPatch ThreadPage ThreadSortKey "
        "UpdateThreadMetadataParams"
    ),
    "errors": "EventStoreError",
    "ids": "new_thread_id parse_thread_id",
    "store": "ThreadStore",
    "wiring": "open_store",
}

__all__ = [
    # open
    "open_store",
    "ThreadStore",
    "EventStoreError",
    "new_thread_id",
    "parse_thread_id",
    # ask
    "AppendThreadItemsParams",
    "ArchiveThreadParams",
    "CreateThreadParams",
    "DeleteThreadParams",
    "ListThreadsParams",
    "LoadThreadHistoryParams",
    "ReadItemsParams",
    "ReadThreadParams",
    "ResumeThreadParams",
    "RolloutItem",
    "SortDirection",
    "ThreadMetadataPatch",
    "ThreadSortKey",
    "UpdateThreadMetadataParams",
    # answer
    "ItemPage",
    "Position",
    "Receipt",
    "StoredItem",
    "StoredThread",
    "StoredThreadHistory",
    "ThreadPage",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    for module, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"eventstore.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
