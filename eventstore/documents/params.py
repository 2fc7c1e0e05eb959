"""What is asked of the thread store, verb by verb, with the contract's field names (§1.3).

Each takes more than its fields then hold (any text of an id, any sequence, an enumeration's value), which an `__init__`
for type checkers alone says. What does not fit is pydantic's `ValidationError`, before the store is asked anything.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field, JsonValue

from eventstore.documents.fields import Document, Json, SessionSource, Text, ThreadIdField, Version
from eventstore.documents.items import RolloutItem
from eventstore.documents.patch import ThreadMetadataPatch
from eventstore.documents.threads import HistoryPosition, ThreadHistoryMode, ThreadMemoryMode
from eventstore.ids import AnyId

_EventMode: TypeAlias = Literal["Limited", "Extended"]
_HistoryMode: TypeAlias = Literal["legacy", "paginated"]
_SortKey: TypeAlias = Literal["CreatedAt", "UpdatedAt"]
_Direction: TypeAlias = Literal["Asc", "Desc"]


class ThreadEventPersistenceMode(StrEnum):
    """Which of Codex's events a live thread keeps: Extended adds what came of commands and tools (contract §3.4)."""

    LIMITED = "Limited"
    EXTENDED = "Extended"


class ThreadSortKey(StrEnum):
    CREATED_AT = "CreatedAt"
    UPDATED_AT = "UpdatedAt"


class SortDirection(StrEnum):
    ASC = "Asc"
    DESC = "Desc"


class BaseInstructions(Document):
    """The instructions that a thread begins with; its session_meta has them."""

    text: str


class ThreadPersistenceMetadata(Document):
    """What the caller knows of the thread's place when it creates or resumes it (contract §1.3, newer)."""

    cwd: str | None = None
    model_provider: str = "openai"
    memory_mode: ThreadMemoryMode = ThreadMemoryMode.ENABLED


class CreateThreadParams(Document):
    """A new thread. Its session_meta, item 0 of its history, is made of this."""

    thread_id: ThreadIdField
    """Chosen by the caller, before anything is stored."""
    forked_from_id: ThreadIdField | None = None
    """Noted, and nothing else: the items that the fork begins with are appended by the caller."""
    source: SessionSource = "cli"
    base_instructions: BaseInstructions | None = None
    dynamic_tools: tuple[JsonValue, ...] = ()
    event_persistence_mode: ThreadEventPersistenceMode = ThreadEventPersistenceMode.LIMITED
    session_id: ThreadIdField | None = None
    parent_thread_id: ThreadIdField | None = None
    thread_source: str | None = None
    originator: str = "eventstore"
    cli_version: str = ""
    history_mode: ThreadHistoryMode = ThreadHistoryMode.LEGACY
    history_base: HistoryPosition | None = None
    metadata: ThreadPersistenceMetadata = Field(default_factory=ThreadPersistenceMetadata)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            forked_from_id: AnyId | None = None,
            source: SessionSource = ...,
            base_instructions: BaseInstructions | None = None,
            dynamic_tools: Sequence[Json] = ...,
            event_persistence_mode: ThreadEventPersistenceMode | _EventMode = ...,
            session_id: AnyId | None = None,
            parent_thread_id: AnyId | None = None,
            thread_source: str | None = None,
            originator: str = ...,
            cli_version: str = ...,
            history_mode: ThreadHistoryMode | _HistoryMode = ...,
            history_base: HistoryPosition | None = None,
            metadata: ThreadPersistenceMetadata = ...,
        ) -> None: ...


class ResumeThreadParams(Document):
    """A stored thread that is to be live here."""

    thread_id: ThreadIdField
    rollout_path: str | None = None
    """Accepted for the contract's sake: threads are found by their ids."""
    history: tuple[RolloutItem, ...] | None = None
    """Already loaded; it is in the store already and is not appended again."""
    include_archived: bool = False
    event_persistence_mode: ThreadEventPersistenceMode = ThreadEventPersistenceMode.LIMITED
    metadata: ThreadPersistenceMetadata | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            rollout_path: str | None = None,
            history: Sequence[RolloutItem] | None = None,
            include_archived: bool = ...,
            event_persistence_mode: ThreadEventPersistenceMode | _EventMode = ...,
            metadata: ThreadPersistenceMetadata | None = None,
        ) -> None: ...


class AppendThreadItemsParams(Document):
    """Items for the end of a live thread, which count together or not at all."""

    thread_id: ThreadIdField
    items: tuple[RolloutItem, ...]
    """Of the types `event_msg` and `response_item` only the kinds that Codex keeps are taken (contract §3); items of
    any other type are all taken."""
    append_id: ThreadIdField | None = None
    """A UUID that names this append: appending it again adds nothing."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            items: Sequence[RolloutItem],
            append_id: AnyId | None = None,
        ) -> None: ...


class LoadThreadHistoryParams(Document):
    """All items of a thread."""

    thread_id: ThreadIdField
    include_archived: bool = False
    at_least: Text | None = None
    """A consistency token, as appends and commands return it: the answer reflects no less than what it names."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            include_archived: bool = ...,
            at_least: str | None = None,
        ) -> None: ...


class ReadThreadParams(Document):
    """What is known of a thread, with its items or without."""

    thread_id: ThreadIdField
    include_archived: bool = False
    include_history: bool = False
    at_least: Text | None = None
    """A consistency token, as appends and commands return it: the answer reflects no less than what it names."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            include_archived: bool = ...,
            include_history: bool = ...,
            at_least: str | None = None,
        ) -> None: ...


class ReadItemsParams(Document):
    """A page of a thread's items."""

    thread_id: ThreadIdField
    include_archived: bool = True
    """True, unlike elsewhere: a page is for looking through what was said, in any thread that there is."""
    page_size: int = Field(default=50, ge=0)
    cursor: str | None = None
    """The `next_cursor` of the page before, or an ordinal: Asc begins with that item, Desc with the one before it."""
    sort_direction: SortDirection = SortDirection.ASC
    """Desc begins with the latest item."""
    at_least: Text | None = None
    """A consistency token, as appends and commands return it: the answer reflects no less than what it names."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            include_archived: bool = ...,
            page_size: int = ...,
            cursor: str | None = None,
            sort_direction: SortDirection | _Direction = ...,
            at_least: str | None = None,
        ) -> None: ...


class ListThreadsParams(Document):
    """A page of the threads that have a preview; a thread has to pass all filters."""

    page_size: int = Field(default=25, ge=0)
    cursor: str | None = None
    """The `next_cursor` of the page before, or an RFC 3339 time."""
    sort_key: ThreadSortKey = ThreadSortKey.CREATED_AT
    sort_direction: SortDirection = SortDirection.DESC
    allowed_sources: tuple[Text | dict[str, JsonValue], ...] = ()
    """Empty: all sources."""
    model_providers: tuple[Text, ...] | None = None
    """None or empty: all providers."""
    cwd_filters: tuple[Text, ...] | None = None
    """None: all; empty: none."""
    archived: bool = False
    """True: only archived threads; False: only active ones."""
    search_term: Text | None = None
    """A part of the name, the title or the first message."""
    use_state_db_only: bool = False
    """Accepted for the contract's sake: there is nothing else to scan here."""
    exact: bool = False
    """Wait until the views have come to the log's end as it is now; otherwise what nobody flushed may be missing."""
    at_least: Text | None = None
    """A consistency token, as appends and commands return it: the answer reflects no less than what it names."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            page_size: int = ...,
            cursor: str | None = None,
            sort_key: ThreadSortKey | _SortKey = ...,
            sort_direction: SortDirection | _Direction = ...,
            allowed_sources: Sequence[SessionSource] = ...,
            model_providers: Sequence[str] | None = None,
            cwd_filters: Sequence[str] | None = None,
            archived: bool = ...,
            search_term: str | None = None,
            use_state_db_only: bool = ...,
            exact: bool = ...,
            at_least: str | None = None,
        ) -> None: ...


class UpdateThreadMetadataParams(Document):
    """A change of a stored or live thread's metadata."""

    thread_id: ThreadIdField
    patch: ThreadMetadataPatch
    include_archived: bool = False
    expected_version: Version | None = None
    """Change only at this version of the thread."""

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            patch: ThreadMetadataPatch,
            include_archived: bool = ...,
            expected_version: int | None = None,
        ) -> None: ...


class ArchiveThreadParams(Document):
    """A thread that is to be archived, or to be active again."""

    thread_id: ThreadIdField
    expected_version: Version | None = None
    reason: Text | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            expected_version: int | None = None,
            reason: str | None = None,
        ) -> None: ...


class DeleteThreadParams(Document):
    """A thread that is to be gone for good."""

    thread_id: ThreadIdField
    expected_version: Version | None = None
    reason: Text | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            thread_id: AnyId,
            expected_version: int | None = None,
            reason: str | None = None,
        ) -> None: ...
