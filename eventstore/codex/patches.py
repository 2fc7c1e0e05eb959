"""Metadata patches as the log carries them: flat fields of JSON text, applied literally.

What is in the log is never complained about: fields of unknown names and malformed values change nothing, so that
newer writers harm nobody. A patch that would be one of those is refused before it is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

from pydantic import BaseModel

from eventstore.codex.observation import TOKEN_COUNTS, policy_text, token_usage_text
from eventstore.codex.payloads import as_json_text, as_text
from eventstore.codex.sources import PLAIN, is_source, source_text
from eventstore.codex.summary import Scalar, Summary
from eventstore.documents.fields import is_utf8
from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
from eventstore.documents.threads import TokenUsage
from eventstore.errors import InvalidRequest
from eventstore.events import Field
from eventstore.jsontext import MalformedJson, dumps, loads_fast
from eventstore.moments import in_calendar, micros, rfc_3339

_GIT_FIELDS = {"sha": "git_sha", "branch": "git_branch", "origin_url": "git_origin"}
_MOST_TOKENS = 2**63 - 1
"""As Codex counts them."""
_SHOWN = 60
"""Characters of a refused value that are repeated in the sentence about it."""


def patch_fields(patch: ThreadMetadataPatch) -> tuple[Field, ...]:
    """Return the patch as event fields, in the patch's order; `git_info` as three flat ones.

    Raises:
        InvalidRequest: A value has no JSON form, or would change nothing or something else when it is applied.
    """
    return tuple(_field(name, value) for name, value in _flat(patch))


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


def _field(name: str, value: object) -> Field:
    if value is None:
        return Field(name, None)
    try:
        text = _text(value)
    except MalformedJson as exc:
        raise InvalidRequest(f"{name} has a value that JSON cannot hold: {exc}") from exc
    allowed = _ALLOWED.get(name, _A_TEXT)
    if not allowed.fits(value):
        said = value.model_dump_json(exclude_unset=True) if isinstance(value, BaseModel) else text
        raise InvalidRequest(f"{name} cannot be {said[:_SHOWN]}: give {allowed.what}")
    return Field(name, text)


def _text(value: object) -> str:
    match value:
        case datetime():
            return dumps(rfc_3339(value))
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


class _Allowed(NamedTuple):
    """What a patch may say of a field: exactly that which its reader takes as it is."""

    fits: Callable[[object], bool]
    what: str
    """In words, behind `give`."""


def _is_kept_policy(value: object) -> bool:
    return policy_text(value) is not None


def _is_kept_source(value: object) -> bool:
    return is_source(value) and as_json_text(value) is not None


def _is_kept_usage(value: object) -> bool:
    match value:
        case TokenUsage(model_fields_set=named) if named:
            return all(0 <= count <= _MOST_TOKENS for count in value.model_dump().values())
        case _:
            return False


_A_TEXT = _Allowed(lambda value: not isinstance(value, str) or is_utf8(value), "a text that UTF-8 can carry")
_A_POLICY = _Allowed(_is_kept_policy, "a text or an object, not empty, that any reader of JSON takes")
_ALLOWED = {
    "approval_mode": _A_POLICY,
    "permission_profile": _A_POLICY,
    "source": _Allowed(_is_kept_source, f'{", ".join(sorted(PLAIN))} or an object such as {{"custom":"mine"}}'),
    "token_usage": _Allowed(
        _is_kept_usage, f"an object with counts from 0 to {_MOST_TOKENS}, one or more of {', '.join(TOKEN_COUNTS)}"
    ),
}
