"""Metadata patches as the log carries them: flat fields of JSON text, applied literally.

Fields of unknown names and malformed values change nothing, so that newer writers harm nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from pydantic import BaseModel

from eventstore.codex.moments import in_calendar, micros
from eventstore.codex.observation import policy_text, token_usage_text
from eventstore.codex.payloads import as_json_text, as_text
from eventstore.codex.sources import source_text
from eventstore.codex.summary import Scalar, Summary
from eventstore.documents import GitInfoPatch, ThreadMetadataPatch
from eventstore.events import Field
from eventstore.jsontext import MalformedJson, dumps, loads_fast

_GIT_FIELDS = {"sha": "git_sha", "branch": "git_branch", "origin_url": "git_origin"}


def patch_fields(patch: ThreadMetadataPatch) -> tuple[Field, ...]:
    """Return the patch as event fields, in the patch's order; `git_info` as three flat ones.

    Raises:
        MalformedJson: A value has no JSON form.
    """
    return tuple(Field(name, None if value is None else _text(value)) for name, value in _flat(patch))


def apply_patch(summary: Summary, fields: Iterable[Field], occurred_at: int) -> Summary:
    """Return the summary after a patch at `occurred_at`, microseconds since the epoch.

    `updated_at` becomes the later of the two times, unless the patch sets it.
    """
    changes: dict[str, Any] = {"updated_at": max(summary.updated_at, in_calendar(occurred_at))}
    for name, text in fields:
        if text is None:
            if name in _CLEARABLE:
                changes[name] = None
        elif name in _READERS:
            value = _value(name, text)
            if value is not None:
                changes[name] = value
    return replace(summary, **changes)


def _flat(patch: ThreadMetadataPatch) -> Iterator[tuple[str, object]]:
    for name, value in patch.changes():
        if isinstance(value, GitInfoPatch):
            yield from ((_GIT_FIELDS[part], text) for part, text in value.changes())
        else:
            yield name, value


def _text(value: object) -> str:
    match value:
        case datetime():
            return dumps(value.astimezone(UTC).isoformat().replace("+00:00", "Z"))
        case BaseModel():
            return dumps(value.model_dump(mode="json"))
        case Enum():
            return dumps(value.value)
        case _:
            return dumps(value)


def _value(name: str, text: str) -> Scalar:
    try:
        return _READERS[name](loads_fast(text))
    except MalformedJson:
        return None


def _micros(value: object) -> int | None:
    return micros(value) if isinstance(value, str) else None


def _memory_mode(value: object) -> str | None:
    return value if isinstance(value, str) and value in ("enabled", "disabled") else None


def _source(value: object) -> str | None:
    return source_text(value) if isinstance(value, (str, dict)) else None


def _object_text(value: object) -> str | None:
    return as_json_text(value) if isinstance(value, dict) else None


_CLEARABLE = frozenset(
    {
        "name",
        "reasoning_effort",
        "thread_source",
        "agent_nickname",
        "agent_role",
        "agent_path",
        "git_sha",
        "git_branch",
        "git_origin",
        "imported",
    }
)
_READERS: dict[str, Callable[[object], Scalar]] = {
    "name": as_text,
    "preview": as_text,
    "title": as_text,
    "model_provider": as_text,
    "model": as_text,
    "reasoning_effort": as_text,
    "created_at": _micros,
    "updated_at": _micros,
    "source": _source,
    "thread_source": as_text,
    "agent_nickname": as_text,
    "agent_role": as_text,
    "agent_path": as_text,
    "cwd": as_text,
    "cli_version": as_text,
    "approval_mode": policy_text,
    "permission_profile": policy_text,
    "token_usage": token_usage_text,
    "first_user_message": as_text,
    "git_sha": as_text,
    "git_branch": as_text,
    "git_origin": as_text,
    "memory_mode": _memory_mode,
    "imported": _object_text,
}
