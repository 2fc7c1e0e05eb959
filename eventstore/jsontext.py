"""JSON kept as the text it came in.

Payloads are carried as source text, so that 23-digit integers, 1e400, lone surrogates and key order
survive. Parsing happens only where somebody looks inside.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any, NoReturn
from uuid import UUID

import orjson


class MalformedJson(ValueError):
    """The text is not one JSON value."""


def loads(text: str | bytes) -> Any:
    """Parse exactly: integers of up to 4,300 digits (Python's own limit), lone surrogates.

    Raises:
        MalformedJson: The text is not one JSON value (NaN and Infinity are none).
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise MalformedJson(str(exc)) from exc


def loads_fast(text: str | bytes) -> Any:
    """Parse for a look inside: integers beyond 64 bits may come out as floats.

    Raises:
        MalformedJson: The text is not one JSON value.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return loads(text)


def must_be_json(text: str) -> None:
    """Refuse what is not one JSON value; numbers may have any length.

    Raises:
        MalformedJson: The text is none.
    """
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            json.loads(text, parse_int=str, parse_float=str, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as exc:
            raise MalformedJson(str(exc)) from exc


def dumps(value: Any) -> str:
    """Write compactly: JSON values, and what orjson takes for such: UUIDs, fragments, members of enumerations.

    Raises:
        MalformedJson: The value has no JSON form (NaN, a set, a datetime, a cycle).
    """
    try:
        text = orjson.dumps(value, option=_JSON_VALUES).decode()
    except TypeError:
        return _dumps_exactly(value)
    if "null" in text:
        _dumps_exactly(value)  # refuses NaN and Infinity, which orjson writes as null
    return text


_JSON_VALUES = orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_DATACLASS
"""Leaves datetimes and dataclasses to `_dumps_exactly`, which refuses them. Otherwise orjson would take them, but not
where something else in the value has to go the exact way."""


def _dumps_exactly(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False, default=_as_orjson_has_it)
    except (TypeError, ValueError, RecursionError) as exc:
        raise MalformedJson(str(exc)) from exc


def _as_orjson_has_it(value: object) -> Any:
    """Return as JSON values what orjson takes, and cannot be told to leave."""
    match value:
        case Enum():
            return value.value
        case UUID():
            return str(value)
        case orjson.Fragment():
            return loads(orjson.dumps(value))
        case _:
            raise TypeError(f"an object of type {type(value).__name__} is no JSON value")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
