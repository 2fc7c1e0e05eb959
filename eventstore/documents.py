"""Parameters and results of the thread store, with the contract's field names and JSON semantics (§1).

Frozen pydantic models that refuse unknown fields. Items keep their payload as JSON text; whoever looks inside
parses it then. Annotations are evaluated here, not kept as text: pydantic would compile each one at import.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    PlainSerializer,
    model_serializer,
)
from pydantic_core import CoreSchema, core_schema

from eventstore.codex.moments import rfc_3339
from eventstore.errors import InvalidRequest
from eventstore.events import Item
from eventstore.ids import ThreadId, parse_thread_id
from eventstore.jsontext import MalformedJson, dumps, loads


class Document(BaseModel):
    # Validators are built when they are first used: a command that needs two of them does not wait for thirty.
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)


def _thread_id(value: object) -> ThreadId:
    try:
        return parse_thread_id(str(value))
    except InvalidRequest as exc:
        raise ValueError(str(exc)) from exc


ThreadIdField: TypeAlias = Annotated[ThreadId, BeforeValidator(_thread_id)]


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can carry the text: a lone surrogate it cannot, which is how Python reads other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: str) -> str:
    if not is_utf8(value):
        raise ValueError(f"{value!r} is not UTF-8")
    return value


Text: TypeAlias = Annotated[str, AfterValidator(_text)]
"""A text that can be kept."""


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("in UTC it lies before the year 1 or behind the year 9999") from exc


Moment: TypeAlias = Annotated[AwareDatetime, AfterValidator(_in_utc), PlainSerializer(rfc_3339, when_used="json")]
"""A datetime in UTC; in JSON, RFC 3339."""

SessionSource: TypeAlias = str | dict[str, JsonValue]
"""Who started a thread: `cli`, `vscode`, `exec`, `mcp`, `unknown`, or one of the contract's objects (§1.5)."""


class Position(NamedTuple):
    """A place in the log."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class RolloutItem:
    """One item to append: a type and a payload, kept as JSON text."""

    __slots__ = ("text", "type")

    def __init__(self, type: str, payload: JsonValue) -> None:  # noqa: A002 - the contract's name
        """Write the payload as JSON text.

        Raises:
            InvalidRequest: The payload has no JSON form.
        """
        self.type = type
        try:
            self.text = dumps(payload)
        except MalformedJson as exc:
            raise InvalidRequest(f"the payload of a {type!r} item has no JSON form: {exc}") from exc

    @classmethod
    def from_text(cls, type: str, text: str) -> "RolloutItem":  # noqa: A002 - the contract's name
        """Keep the payload's JSON text as it is; the caller vouches that it is JSON."""
        item = cls.__new__(cls)
        item.type, item.text = type, text
        return item

    @property
    def payload(self) -> Any:
        """The payload, parsed exactly."""
        return loads(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RolloutItem) and (self.type, self.text) == (other.type, other.text)

    def __hash__(self) -> int:
        return hash((self.type, self.text))

    def __repr__(self) -> str:
        return f"<RolloutItem {self.type} {self.text[:60]}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda item: {"type": item.type, "payload": item.payload}
            ),
        )

    @classmethod
    def _validate(cls, value: object) -> "RolloutItem":
        match value:
            case RolloutItem():
                return value
            case {"type": str(type_), "payload": payload, **rest} if not rest:
                return cls(type_, payload)
            case _:
                raise ValueError('an item is {"type": text, "payload": JSON value}')


class StoredItem(NamedTuple):
    """One item of a thread's history. A NamedTuple: histories make tens of thousands of them."""

    ordinal: int
    """Its 0-based place in the history."""
    position: Position
    """Where its record lies in the log."""
    item: Item
    """As it was appended."""

    @property
    def type(self) -> str:
        return self.item.type

    @property
    def at(self) -> datetime:
        """When the item was written, by its writer's clock."""
        return datetime.fromtimestamp(self.item.at / 1000, UTC)

    @property
    def text(self) -> str:
        """The payload's JSON text, as it came."""
        return self.item.payload

    @property
    def extras(self) -> str | None:
        """A JSON object with the rollout line's other keys, or None."""
        return self.item.extras

    @property
    def payload(self) -> Any:
        """The payload, parsed exactly."""
        return loads(self.item.payload)


class ThreadEventPersistenceMode(StrEnum):
    LIMITED = "Limited"
    EXTENDED = "Extended"


class ThreadSortKey(StrEnum):
    CREATED_AT = "CreatedAt"
    UPDATED_AT = "UpdatedAt"


class SortDirection(StrEnum):
    ASC = "Asc"
    DESC = "Desc"


class ThreadMemoryMode(StrEnum):
    ENABLED = "enabled"
    DISABLED = "disabled"


class ThreadHistoryMode(StrEnum):
    LEGACY = "legacy"
    PAGINATED = "paginated"


class BaseInstructions(Document):
    text: str


class ThreadPersistenceMetadata(Document):
    """What the caller knows of the thread's place when it creates or resumes it (contract §1.3, newer)."""

    cwd: str | None = None
    model_provider: str = "openai"
    memory_mode: ThreadMemoryMode = ThreadMemoryMode.ENABLED


class HistoryPosition(Document):
    """A place in another thread's history, at which a fork continues."""

    thread_id: ThreadIdField
    end_ordinal_exclusive: int
    end_byte_offset: int


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


class ReadThreadParams(Document):
    thread_id: ThreadIdField
    include_archived: bool = False
    include_history: bool = False


class ReadItemsParams(Document):
    thread_id: ThreadIdField
    include_archived: bool = True
    page_size: int = Field(default=50, ge=0)
    cursor: str | None = None
    """The `next_cursor` of the page before."""
    sort_direction: SortDirection = SortDirection.ASC
    """Desc begins with the latest item."""


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


class GitInfo(Document):
    commit_hash: str | None = None
    branch: str | None = None
    repository_url: str | None = None


class TokenUsage(Document):
    model_config = ConfigDict(frozen=True, extra="ignore")

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_output_tokens: int = 0
    total_tokens: int = 0


class StoredThreadHistory(Document):
    thread_id: ThreadIdField
    items: tuple[StoredItem, ...]
    """All items that count, in order, session_meta first."""
    from_views: bool = True
    """False: the views could not help and the thread's partition was replayed from its start."""

    @model_serializer
    def _as_contract(self) -> dict[str, Any]:
        return {
            "thread_id": self.thread_id,
            "items": [{"type": item.type, "payload": item.payload} for item in self.items],
        }


def _read_only() -> JsonValue:
    return {"type": "read-only"}


class StoredThread(Document):
    thread_id: ThreadIdField
    rollout_path: str | None = None
    forked_from_id: ThreadIdField | None = None
    parent_thread_id: ThreadIdField | None = None
    preview: str = ""
    name: str | None = None
    model_provider: str = ""
    model: str | None = None
    reasoning_effort: str | None = None
    created_at: Moment
    updated_at: Moment
    archived_at: Moment | None = None
    cwd: str = ""
    cli_version: str = ""
    source: SessionSource = "unknown"
    thread_source: str | None = None
    agent_nickname: str | None = None
    agent_role: str | None = None
    agent_path: str | None = None
    git_info: GitInfo | None = None
    approval_mode: JsonValue = "on-request"
    sandbox_policy: JsonValue = Field(default_factory=_read_only)
    permission_profile: JsonValue = None
    token_usage: TokenUsage | None = None
    first_user_message: str | None = None
    memory_mode: ThreadMemoryMode = ThreadMemoryMode.ENABLED
    history_mode: ThreadHistoryMode = ThreadHistoryMode.LEGACY
    history_base: HistoryPosition | None = None
    version: int
    """How often what a reader sees of the thread has changed; give it as `expected_version`."""
    item_count: int
    damaged: str | None = None
    """Why the thread cannot be read on, as listings say it; None for every healthy thread."""
    history: StoredThreadHistory | None = None


class ThreadPage(Document):
    items: tuple[StoredThread, ...]
    next_cursor: str | None = None


class ItemPage(Document):
    thread_id: ThreadIdField
    items: tuple[StoredItem, ...]
    next_cursor: str | None = None


class Receipt(Document):
    """What came of an append."""

    append_id: str | None
    """The name of the append; None when the policy dropped every item."""
    appended: int
    """How many items were taken."""
    dropped: tuple[str, ...] = ()
    """The types (`event_msg/warning`) of the items which the persistence policy does not keep, in order."""


class GitInfoPatch(Document):
    """Three-state fields: absent = unchanged, None = clear, text = set."""

    sha: str | None = None
    branch: str | None = None
    origin_url: str | None = None

    @model_serializer
    def _present(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def merge(self, later: "GitInfoPatch") -> "GitInfoPatch":
        return GitInfoPatch(**{**dict(self.changes()), **dict(later.changes())})

    def changes(self) -> Iterator[tuple[str, str | None]]:
        return ((name, getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set)


_CLEARABLE = frozenset(
    {"name", "reasoning_effort", "thread_source", "agent_nickname", "agent_role", "agent_path", "project_id"}
)


class ThreadMetadataPatch(Document):
    """What to change of a thread's metadata (contract §1.4).

    Fields are applied literally. Clearable ones have three states: absent = unchanged, None = clear, value = set;
    the others have two, and None is the same as absent.
    """

    name: str | None = None
    rollout_path: str | None = None
    """Accepted for the contract's sake, as `advance_recency_at` and `project_id` are: no view shows them."""
    preview: str | None = None
    title: str | None = None
    model_provider: str | None = None
    model: str | None = None
    reasoning_effort: str | None = None
    created_at: Moment | None = None
    updated_at: Moment | None = None
    advance_recency_at: Moment | None = None
    source: SessionSource | None = None
    thread_source: str | None = None
    agent_nickname: str | None = None
    agent_role: str | None = None
    agent_path: str | None = None
    cwd: str | None = None
    cli_version: str | None = None
    approval_mode: JsonValue = None
    permission_profile: JsonValue = None
    token_usage: TokenUsage | None = None
    first_user_message: str | None = None
    git_info: GitInfoPatch | None = None
    memory_mode: ThreadMemoryMode | None = None
    project_id: str | None = None

    def changes(self) -> Iterator[tuple[str, Any]]:
        """Yield the fields that are present, a clear as None; `git_info` as its patch."""
        for name in type(self).model_fields:
            if name not in self.model_fields_set:
                continue
            value = getattr(self, name)
            if value is None and name not in _CLEARABLE:
                continue
            if isinstance(value, GitInfoPatch) and not value.model_fields_set:
                continue
            yield name, value

    def is_empty(self) -> bool:
        return next(self.changes(), None) is None

    def merge(self, later: "ThreadMetadataPatch") -> "ThreadMetadataPatch":
        """Return this patch followed by `later`: what is present there replaces what is here."""
        merged = dict(self.changes())
        for name, value in later.changes():
            before = merged.get(name)
            merged[name] = before.merge(value) if isinstance(before, GitInfoPatch) else value
        return ThreadMetadataPatch(**merged)

    @model_serializer(mode="wrap")
    def _as_contract(self, handler: Any) -> dict[str, Any]:
        full: dict[str, Any] = handler(self)
        return {name: value for name, value in full.items() if name in self.model_fields_set or name not in _CLEARABLE}


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


class EventRecord(Document):
    """One record of the log with its verdict, for audit."""

    position: str
    kind: str
    event_id: str | None
    thread_id: str | None
    occurred_at: Moment | None
    writer_id: str | None = None
    writer_seq: int | None = None
    actor: str | None = None
    verdict: Literal["admitted", "duplicate", "fenced", "refused", "unreadable", "foreign"]
    why: str | None = None
    reason: str | None = None
    """What its sender gave as the reason of an archive, unarchive or delete."""
    items: int = 0
