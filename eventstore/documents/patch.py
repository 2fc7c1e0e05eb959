"""What to change of a thread's metadata: three-state fields, with the contract's JSON semantics (§1.4)."""

from collections.abc import Iterator
from typing import Any

from pydantic import JsonValue, model_serializer

from eventstore.documents.fields import Document, Moment, SessionSource
from eventstore.documents.threads import ThreadMemoryMode, TokenUsage


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
