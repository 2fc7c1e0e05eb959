"""`FIELD=VALUE` words become a metadata patch (contract §1.4). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
from eventstore.errors import InvalidRequest
from eventstore.jsontext import MalformedJson, loads
from eventstore.moments import micros

_GIT = "git."
_JSON_FIELDS = frozenset({"source", "approval_mode", "permission_profile", "token_usage"})
"""Their values may be JSON; anything that is none is taken as a text."""
_TIMES = frozenset({"created_at", "updated_at"})
"""Their values are times as people write them: pydantic takes a number for seconds since 1970, and so a year."""
_NOT_SHOWN = frozenset({"rollout_path", "advance_recency_at", "project_id"})
"""Fields of the contract which no view shows: to set one would change nothing that anybody sees."""


def patch_of(assignments: Iterable[str]) -> ThreadMetadataPatch:
    """Return the patch that the words make.

    Raises:
        InvalidRequest: A word is no assignment, names no field, names one twice, or has a value that does not fit.
    """
    fields: dict[str, Any] = {}
    git: dict[str, Any] = {}
    for word in assignments:
        name, equals, value = word.partition("=")
        if not equals:
            raise InvalidRequest(f"{word!r} is no assignment; write FIELD=VALUE, or FIELD= to clear the field")
        if name not in known_fields():
            raise InvalidRequest(f"{name!r} is no field; known are {', '.join(known_fields())}")
        place, key = (git, name.removeprefix(_GIT)) if name.startswith(_GIT) else (fields, name)
        if key in place:
            raise InvalidRequest(f"{name} is given twice; give it once")
        place[key] = _value(name, value)
    try:
        patch = ThreadMetadataPatch.model_validate({**fields, "git_info": git} if git else fields)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise InvalidRequest(f"{first['loc'][0]} cannot be {first['input']!r}: {first['msg']}") from exc
    for name in fields.keys() - dict(patch.changes()).keys():
        raise InvalidRequest(f"{name} cannot be cleared; give it a value")
    return patch


def known_fields() -> list[str]:
    """Return the names that can stand before the `=`."""
    own = [name for name in ThreadMetadataPatch.model_fields if name != "git_info" and name not in _NOT_SHOWN]
    return [*own, *(_GIT + name for name in GitInfoPatch.model_fields)]


def _value(name: str, text: str) -> Any:
    if not text:
        return None
    if name == "name" and not text.strip():
        raise InvalidRequest("Thread name cannot be empty.")
    if name in _TIMES and micros(text) is None:
        raise InvalidRequest(f"{name} cannot be {text!r}: give a time such as 2026-05-01T12:00:00Z")
    if name not in _JSON_FIELDS:
        return text
    try:
        return loads(text)
    except MalformedJson:
        return text
