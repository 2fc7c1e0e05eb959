"""What is known of a thread, as read and list show it."""

from enum import StrEnum
from typing import Any

from pydantic import ConfigDict, Field, JsonValue, model_serializer

from eventstore.documents.fields import Document, Moment, SessionSource, ThreadIdField
from eventstore.documents.items import StoredItem


class ThreadMemoryMode(StrEnum):
    ENABLED = "enabled"
    DISABLED = "disabled"


class ThreadHistoryMode(StrEnum):
    LEGACY = "legacy"
    PAGINATED = "paginated"


class HistoryPosition(Document):
    """A place in another thread's history, at which a fork continues."""

    thread_id: ThreadIdField
    end_ordinal_exclusive: int
    end_byte_offset: int


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
    """A thread's items."""

    thread_id: ThreadIdField
    items: tuple[StoredItem, ...]
    """All items that count, in order, session_meta first."""

    @model_serializer
    def _as_contract(self) -> dict[str, Any]:
        return {
            "thread_id": self.thread_id,
            "items": [{"type": item.type, "payload": item.payload} for item in self.items],
        }


def _read_only() -> JsonValue:
    return {"type": "read-only"}


class StoredThread(Document):
    """What is known of a thread; most of it is folded from its items."""

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
    token: str | None = Field(default=None, exclude=True)
    """The consistency token of the change that returned this; None of what was only read."""


class ThreadPage(Document):
    """Threads, in the order that was asked for."""

    items: tuple[StoredThread, ...]
    next_cursor: str | None = None
    """The `cursor` of the next page; None behind the last thread."""
