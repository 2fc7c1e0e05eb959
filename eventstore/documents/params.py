"""What is asked of the thread store, verb by verb, with the contract's field names (§1.3)."""

from enum import StrEnum

from pydantic import Field, JsonValue

from eventstore.documents.fields import Document, SessionSource, Text, ThreadIdField
from eventstore.documents.items import RolloutItem
from eventstore.documents.patch import ThreadMetadataPatch
from eventstore.documents.threads import HistoryPosition, ThreadHistoryMode, ThreadMemoryMode


class ThreadEventPersistenceMode(StrEnum):
    LIMITED = "Limited"
    EXTENDED = "Extended"


class ThreadSortKey(StrEnum):
    CREATED_AT = "CreatedAt"
    UPDATED_AT = "UpdatedAt"


class SortDirection(StrEnum):
    ASC = "Asc"
    DESC = "Desc"


class BaseInstructions(Document):
    text: str


class ThreadPersistenceMetadata(Document):
    """What the caller knows of the thread's place when it creates or resumes it (contract §1.3, newer)."""

    cwd: str | None = None
    model_provider: str = "openai"
    memory_mode: ThreadMemoryMode = ThreadMemoryMode.ENABLED


class CreateThreadParams(Document):
    thread_id: ThreadIdField
    """Chosen by the caller, before anything is stored."""
    forked_from_id: ThreadIdField | None = None
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


class ResumeThreadParams(Document):
    thread_id: ThreadIdField
    rollout_path: str | None = None
    history: tuple[RolloutItem, ...] | None = None
    """Already loaded; it is in the store already and is not appended again."""
    include_archived: bool = False
    event_persistence_mode: ThreadEventPersistenceMode = ThreadEventPersistenceMode.LIMITED
    metadata: ThreadPersistenceMetadata | None = None


class AppendThreadItemsParams(Document):
    thread_id: ThreadIdField
    items: tuple[RolloutItem, ...]
    append_id: ThreadIdField | None = None
    """A UUID that names this append: appending it again adds nothing."""


class LoadThreadHistoryParams(Document):
    thread_id: ThreadIdField
    include_archived: bool = False
    at_least: Text | None = None
    """A consistency token, as appends and commands return it: the answer reflects no less than what it names."""


class ReadThreadParams(Document):
    thread_id: ThreadIdField
    include_archived: bool = False
    include_history: bool = False
    at_least: Text | None = None
    """A consistency token, as appends and commands return it: the answer reflects no less than what it names."""


class ReadItemsParams(Document):
    thread_id: ThreadIdField
    include_archived: bool = True
    page_size: int = Field(default=50, ge=0)
    cursor: str | None = None
    """The `next_cursor` of the page before."""
    sort_direction: SortDirection = SortDirection.ASC
    """Desc begins with the latest item."""
    at_least: Text | None = None
    """A consistency token, as appends and commands return it: the answer reflects no less than what it names."""


class ListThreadsParams(Document):
    page_size: int = Field(default=25, ge=0)
    cursor: str | None = None
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
    use_state_db_only: bool = False
    """Accepted for the contract's sake: there is nothing else to scan here."""
    exact: bool = False
    """Wait until the views have come to the log's end as it is now; otherwise what nobody flushed may be missing."""
    at_least: Text | None = None
    """A consistency token, as appends and commands return it: the answer reflects no less than what it names."""


class UpdateThreadMetadataParams(Document):
    thread_id: ThreadIdField
    patch: ThreadMetadataPatch
    include_archived: bool = False
    expected_version: int | None = None
    """Change only at this version of the thread."""


class ArchiveThreadParams(Document):
    thread_id: ThreadIdField
    expected_version: int | None = None
    reason: Text | None = None


class DeleteThreadParams(Document):
    thread_id: ThreadIdField
    expected_version: int | None = None
    reason: Text | None = None
