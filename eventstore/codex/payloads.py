"""A look into JSON text without giving the text up: its inner type, its members, its displayable parts.

Everything here takes text that others wrote. What is malformed says nothing; only `members` raises.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple, NoReturn

import orjson

from eventstore.jsontext import MalformedJson, loads_fast

type_first = re.compile(r'\s*\{\s*"type"\s*:\s*"([^"\\]*)"').match
"""Matches a payload that begins with its type, which is group 1. Codex writes them so."""
_GAP = re.compile(r"[ \t\n\r]*")


class Member(NamedTuple):
    """One key of a JSON object with its value, as they were written."""

    key: str
    key_text: str
    """The key's source text, quotes included."""
    text: str
    """The value's source text."""


def inner_type(text: str) -> str | None:
    """Return the `type` inside a payload; None if it has none.

    A look at the beginning answers nearly always.
    """
    found = type_first(text)
    if found is not None:
        return found[1]
    payload = parsed_object(text)
    kind = None if payload is None else payload.get("type")
    return kind if isinstance(kind, str) else None


def parsed_object(text: str) -> dict[str, Any] | None:
    """Return the payload if it is a JSON object, else None."""
    try:
        value = loads_fast(text)
    except MalformedJson:
        return None
    return value if isinstance(value, dict) else None


def as_text(value: object) -> str | None:
    """Return a string that UTF-8 can carry: lone surrogates become U+FFFD. None if the value is no string."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        # Views and pages are UTF-8; a thread whose user pasted half a character must not stop them.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def as_filled_text(value: object) -> str | None:
    """Return a string that is not empty, else None."""
    return as_text(value) or None


def as_json_text(value: object) -> str | None:
    """Return the value as JSON text that any reader takes; None if it is too deep or holds half characters."""
    try:
        # In a page of threads it stands deeper still, and one thread's value must not keep all from being written.
        return orjson.dumps([[[[value]]]])[4:-4].decode()
    except TypeError:
        return None


def members(text: str) -> list[Member]:
    """Return the members of a JSON object, in order, duplicates included.

    Raises:
        MalformedJson: The text is not one JSON object, or is nested too deeply.
    """
    try:
        return _members(text)
    except RecursionError as exc:
        raise MalformedJson("nested too deeply") from exc
    except MalformedJson:
        raise
    except ValueError as exc:
        raise MalformedJson(str(exc)) from exc


def joined(parts: list[Member]) -> str:
    """Write members as one compact JSON object, keys and values as they were."""
    return "{" + ",".join(f"{part.key_text}:{part.text}" for part in parts) + "}"


def member(key: str, text: str) -> Member:
    """Make a member from a key and the JSON text of its value."""
    return Member(key, json.dumps(key), text)


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedJson(f"{name} is not JSON")


# Numbers stay text: conversion would cost time, and Python refuses integers beyond 4,300 digits.
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def _members(text: str) -> list[Member]:
    at = _expect(text, _skip(text, 0), "{")
    found: list[Member] = []
    if text[at : at + 1] == "}":
        at += 1
    else:
        while True:
            part, at = _member_at(text, at)
            found.append(part)
            if text[at : at + 1] != ",":
                break
            at = _skip(text, at + 1)
        at = _expect(text, at, "}")
    if at != len(text):
        raise MalformedJson(f"more than one JSON value (char {at})")
    return found


def _member_at(text: str, at: int) -> tuple[Member, int]:
    if text[at : at + 1] != '"':
        raise MalformedJson(f"a key is missing (char {at})")
    key, key_end = _DECODER.raw_decode(text, at)
    start = _expect(text, _skip(text, key_end), ":")
    _, end = _DECODER.raw_decode(text, start)
    return Member(key, text[at:key_end], text[start:end]), _skip(text, end)


def _expect(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise MalformedJson(f"{sign!r} is missing (char {at})")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return at if gap is None else gap.end()
