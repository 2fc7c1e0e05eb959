"""Threads of AI agents, kept as events.

    async with open_store("sqlite:agent.db") as store: ...

Everything public is importable from here, but for `eventstore.tokens`; modules are loaded when they are first used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it: `typing` takes longer to import than all that is done here
if TYPE_CHECKING:
    from eventstore.audit import parse_position
    from eventstore.documents.fields import Json
    from eventstore.documents.items import ItemPage, Position, Receipt, RolloutItem, StoredItem
    from eventstore.documents.params import (
        AppendThreadItemsParams,
        ArchiveThreadParams,
        BaseInstructions,
        CreateThreadParams,
        DeleteThreadParams,
        ListThreadsParams,
        LoadThreadHistoryParams,
        ReadItemsParams,
        ReadThreadParams,
        ResumeThreadParams,
        SortDirection,
        ThreadEventPersistenceMode,
        ThreadPersistenceMetadata,
        ThreadSortKey,
        UpdateThreadMetadataParams,
    )
    from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
    from eventstore.documents.records import EventRecord
    from eventstore.documents.threads import (
        GitInfo,
        HistoryPosition,
        StoredThread,
        StoredThreadHistory,
        ThreadHistoryMode,
        ThreadMemoryMode,
        ThreadPage,
        TokenUsage,
    )
    from eventstore.errors import (
        AppendTooLarge,
        Behind,
        Broken,
        Conflict,
        EventStoreError,
        InvalidRequest,
        LogTruncated,
        LogUnavailable,
        OutcomeUnknown,
        Rejected,
        Superseded,
        ThreadExists,
        ThreadNotFound,
        TooMany,
        TopicMisconfigured,
        Unavailable,
        Unknown,
        UnknownThread,
        UnreadableEvent,
        Unsupported,
        ViewsAheadOfLog,
        ViewsBehind,
        ViewsUnavailable,
        WriterFenced,
        WrongExpectedVersion,
    )
    from eventstore.ids import ThreadId, new_thread_id, parse_thread_id
    from eventstore.store import ThreadStore
    from eventstore.wiring import open_store

__version__ = "0.1.0"

_HOMES = {
    "audit": "parse_position",
    "documents.fields": "Json",
    "documents.items": "ItemPage Position Receipt RolloutItem StoredItem",
    "documents.params": (
        "AppendThreadItemsParams ArchiveThreadParams BaseInstructions CreateThreadParams DeleteThreadParams "
        "ListThreadsParams LoadThreadHistoryParams ReadItemsParams ReadThreadParams ResumeThreadParams SortDirection "
        "ThreadEventPersistenceMode ThreadPersistenceMetadata ThreadSortKey UpdateThreadMetadataParams"
    ),
    "documents.patch": "GitInfoPatch ThreadMetadataPatch",
    "documents.records": "EventRecord",
    "documents.threads": (
        "GitInfo HistoryPosition StoredThread StoredThreadHistory ThreadHistoryMode ThreadMemoryMode ThreadPage "
        "TokenUsage"
    ),
    "errors": (
        "AppendTooLarge Behind Broken Conflict EventStoreError InvalidRequest LogTruncated LogUnavailable "
        "OutcomeUnknown Rejected Superseded ThreadExists ThreadNotFound TooMany TopicMisconfigured Unavailable "
        "Unknown UnknownThread UnreadableEvent Unsupported ViewsAheadOfLog ViewsBehind ViewsUnavailable WriterFenced "
        "WrongExpectedVersion"
    ),
    "ids": "ThreadId new_thread_id parse_thread_id",
    "store": "ThreadStore",
    "wiring": "open_store",
}

__all__ = [
    # open
    "open_store",
    "ThreadStore",
    "ThreadId",
    "new_thread_id",
    "parse_thread_id",
    "parse_position",
    # ask
    "AppendThreadItemsParams",
    "ArchiveThreadParams",
    "BaseInstructions",
    "CreateThreadParams",
    "DeleteThreadParams",
    "GitInfoPatch",
    "HistoryPosition",
    "Json",
    "ListThreadsParams",
    "LoadThreadHistoryParams",
    "ReadItemsParams",
    "ReadThreadParams",
    "ResumeThreadParams",
    "RolloutItem",
    "SortDirection",
    "ThreadEventPersistenceMode",
    "ThreadHistoryMode",
    "ThreadMemoryMode",
    "ThreadMetadataPatch",
    "ThreadPersistenceMetadata",
    "ThreadSortKey",
    "TokenUsage",
    "UpdateThreadMetadataParams",
    # answer
    "EventRecord",
    "GitInfo",
    "ItemPage",
    "Position",
    "Receipt",
    "StoredItem",
    "StoredThread",
    "StoredThreadHistory",
    "ThreadPage",
    # errors, by the caller's next move
    "EventStoreError",
    "Rejected",
    "InvalidRequest",
    "UnknownThread",
    "ThreadNotFound",
    "AppendTooLarge",
    "Unsupported",
    "Conflict",
    "WriterFenced",
    "WrongExpectedVersion",
    "ThreadExists",
    "Unavailable",
    "LogUnavailable",
    "ViewsUnavailable",
    "TooMany",
    "Behind",
    "ViewsBehind",
    "Unknown",
    "OutcomeUnknown",
    "Broken",
    "UnreadableEvent",
    "Superseded",
    "LogTruncated",
    "TopicMisconfigured",
    "ViewsAheadOfLog",
]


def __dir__() -> list[str]:
    # What is not loaded yet would be in no completion and no help.
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    from importlib import import_module

    for module, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f"eventstore.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
