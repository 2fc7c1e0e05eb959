"""A summary as callers see it: the contract's StoredThread.

A list page makes fifty of them in two milliseconds, so the models are built without validation: summaries
hold checked values only.
"""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel

from eventstore.admission import Head
from eventstore.codex.summary import Summary
from eventstore.documents.threads import (
    GitInfo,
    HistoryPosition,
    StoredThread,
    ThreadHistoryMode,
    ThreadMemoryMode,
    TokenUsage,
)
from eventstore.ids import ThreadId
from eventstore.jsontext import loads_fast
from eventstore.moments import moment

_MEMORY_MODES = {mode.value: mode for mode in ThreadMemoryMode}
_HISTORY_MODES = {mode.value: mode for mode in ThreadHistoryMode}

_Model = TypeVar("_Model", bound=BaseModel)
_set = object.__setattr__  # the models are frozen


def stored_thread(thread_id: ThreadId, summary: Summary, head: Head, *, damaged: str | None = None) -> StoredThread:
    """Return the thread as read and list show it, without its history or the path of a file.

    `damaged` says why it cannot be read on; None for every healthy thread.
    """
    return _made(
        StoredThread,
        {
            "thread_id": thread_id,
            "rollout_path": None,
            "forked_from_id": summary.forked_from_id,
            "parent_thread_id": summary.parent_thread_id,
            "preview": summary.preview,
            "name": summary.name or None,
            "model_provider": summary.model_provider,
            "model": summary.model,
            "reasoning_effort": summary.reasoning_effort,
            "created_at": moment(summary.created_at),
            "updated_at": moment(summary.updated_at),
            "archived_at": None if summary.archived_at is None else moment(summary.archived_at),
            "cwd": summary.cwd,
            "cli_version": summary.cli_version,
            "source": _parsed(summary.source, "unknown"),
            "thread_source": summary.thread_source,
            "agent_nickname": summary.agent_nickname,
            "agent_role": summary.agent_role,
            "agent_path": summary.agent_path,
            "git_info": _git_info(summary),
            "approval_mode": _parsed(summary.approval_mode, "on-request"),
            "sandbox_policy": _parsed(summary.sandbox_policy, None) or {"type": "read-only"},
            "permission_profile": _parsed(summary.permission_profile, None),
            "token_usage": None if summary.token_usage is None else _made(TokenUsage, loads_fast(summary.token_usage)),
            "first_user_message": summary.first_user_message,
            "memory_mode": _MEMORY_MODES.get(summary.memory_mode or "", ThreadMemoryMode.ENABLED),
            "history_mode": _HISTORY_MODES.get(summary.history_mode or "", ThreadHistoryMode.LEGACY),
            "history_base": None
            if summary.history_base is None
            else _made(HistoryPosition, loads_fast(summary.history_base)),
            "version": head.version,
            "item_count": head.items,
            "damaged": damaged,
            "history": None,
            "token": None,
        },
    )


def _git_info(summary: Summary) -> GitInfo | None:
    sha, branch, origin = summary.git_sha, summary.git_branch, summary.git_origin
    if sha is None and branch is None and origin is None:
        return None
    return _made(GitInfo, {"commit_hash": sha, "branch": branch, "repository_url": origin})


def _parsed(text: str | None, default: Any) -> Any:
    return default if text is None else loads_fast(text)


def _made(model: type[_Model], values: dict[str, Any]) -> _Model:
    """Build a model from the values of all its fields, unchecked.

    This is the end of pydantic's `model_construct`, whose search for defaults and aliases takes three times as long.
    """
    made = model.__new__(model)
    _set(made, "__dict__", values)
    _set(made, "__pydantic_fields_set__", set(values))
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made
