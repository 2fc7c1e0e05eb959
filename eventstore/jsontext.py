"""JSON kept as the text it came in.

Payloads are carried as source text, so that 23-digit integers, 1e400, lone surrogates and key order
survive. Parsing happens only where somebody looks inside.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

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


def dumps(value: Any) -> str:
    """Write compactly.

    Raises:
        MalformedJson: The value has no JSON form (NaN, a set, a cycle).
    """
    try:
        text = orjson.dumps(value).decode()
    except TypeError:
        return _dumps_exactly(value)
    if "null" in text:
        _dumps_exactly(value)  # refuses NaN and Infinity, which orjson writes as null
    return text


def _dumps_exactly(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise MalformedJson(str(exc)) from exc


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
