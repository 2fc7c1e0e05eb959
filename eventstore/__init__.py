"""Threads of AI agents, kept as events.

    async with open_store("sqlite:agent.db") as store: ...

Everything public is importable from here; modules are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it: `typing` takes longer to import than all that is done here
if TYPE_CHECKING:
    from eventstore.documents.items import ItemPage, Position, Receipt, RolloutItem, StoredItem
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
        ThreadSortKey,
        UpdateThreadMetadataParams,
    )
    from eventstore.documents.patch import ThreadMetadataPatch
    from eventstore.documents.threads import StoredThread, StoredThreadHistory, ThreadPage
    from eventstore.errors import EventStoreError
    from eventstore.ids import new_thread_id, parse_thread_id
    from eventstore.store import ThreadStore
    from eventstore.wiring import open_store

__version__ = "0.1.0"

_HOMES = {
    "documents.items": "ItemPage Position Receipt RolloutItem StoredItem",
    "documents.params": (
        "AppendThreadItemsParams ArchiveThreadParams CreateThreadParams DeleteThreadParams ListThreadsParams "
        "LoadThreadHistoryParams ReadItemsParams ReadThreadParams ResumeThreadParams SortDirection ThreadSortKey "
        "UpdateThreadMetadataParams"
    ),
    "documents.patch": "ThreadMetadataPatch",
    "documents.threads": "StoredThread StoredThreadHistory ThreadPage",
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
