"""Rollout files line by line: what Codex writes becomes items, items become what Codex reads (contract §1.5).

A line's payload and its other keys keep their source text: what is read and written again is the same JSON,
numbers digit by digit. A bad line is reported and never stops a reading.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import orjson

from eventstore.codex.payloads import Member, as_text, joined, member, members
from eventstore.events import Item
from eventstore.jsontext import MalformedJson
from eventstore.moments import is_canonical, micros, spelled

_OWN_LAYOUT = re.compile(
    rb'\{"timestamp":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)",(?:"ordinal":(0|[1-9]\d*),)?'
    rb'"type":"(\w+)","payload":'
)
"""The beginning of a line as Codex writes it; the payload and a brace follow."""

_NO_TIMESTAMP = '""'
"""Stands in an item's extras for a line that had no timestamp: no line that has one can say this."""


class MalformedLine(ValueError):
    """The line is no rollout line; the text says why."""


class BadLine(NamedTuple):
    """A line that was skipped."""

    line_number: int
    """1-based."""
    why: str


def parse_line(line: str | bytes, *, at: int = 0) -> Item | None:
    """Return the line as an item, or None for a blank line.

    The item's payload is a substring of the line. Its extras hold the line's other keys, in order, as they were
    written; `timestamp` is among them only if it is not in the canonical form. `at` (milliseconds since the epoch) is
    taken for the time of a line whose timestamp is missing or no string.

    Raises:
        MalformedLine: It is not UTF-8 or not one JSON object, has a key twice, lacks a payload or a type, or bears a
            timestamp that is none.
    """
    try:
        source = (line.encode() if isinstance(line, str) else line).strip()
    except UnicodeEncodeError as exc:
        raise MalformedLine("it is not UTF-8") from exc
    if not source:
        return None
    return _parse_own_layout(source) or _parse_any_layout(source, at)


def read_lines(stream: Iterable[bytes]) -> Iterator[Item | BadLine]:
    """Yield the lines of a rollout file: items and bad lines, in order, nothing for blank ones.

    A line without a time is taken to be as old as the one before it. A byte-order mark, which some editors leave at a
    file's beginning, is none of its text.
    """
    at = 0
    for number, line in enumerate(stream, 1):
        try:
            item = parse_line(line.removeprefix(BOM_UTF8) if number == 1 else line, at=at)
        except MalformedLine as exc:
            yield BadLine(number, str(exc))
            continue
        if item is not None:
            at = item.at
            yield item


def format_line(item: Item) -> str:
    """Return the item as a rollout line, without the newline at its end.

    What `parse_line` made of a line becomes the same JSON again: timestamp, ordinal, type, payload, the other keys.
    """
    timestamp, ordinal, others = f'"timestamp":"{spelled(item.at)}",', "", ""
    for part in members(item.extras) if item.extras else ():
        if part.key == "timestamp":
            timestamp = "" if part.text == _NO_TIMESTAMP else f'"timestamp":{part.text},'
        elif part.key == "ordinal":
            ordinal = f'"ordinal":{part.text},'
        else:
            others += f",{part.key_text}:{part.text}"
    line = f'{{{timestamp}{ordinal}"type":{json.dumps(item.type)},"payload":{item.payload}{others}}}'
    # Between JSON tokens a line break is any white space; inside of them there is none.
    return line.replace("\r", " ").replace("\n", " ")


def _parse_own_layout(source: bytes) -> Item | None:
    """Read Codex's own layout; None if the line has another one, or none."""
    beginning = _OWN_LAYOUT.match(source)
    if beginning is None or not source.endswith(b"}"):
        return None
    payload = source[beginning.end() : -1].strip()
    try:
        orjson.loads(payload)  # one JSON value, hence the line's last one
    except orjson.JSONDecodeError:
        return None
    stamp, ordinal, kind = beginning.groups()
    at = micros(stamp.decode())
    if at is None:
        return None
    extras = None if ordinal is None else f'{{"ordinal":{ordinal.decode()}}}'
    return Item(at // 1000, kind.decode(), payload.decode(), extras)


def _parse_any_layout(source: bytes, at: int) -> Item:
    """Read any layout, exactly."""
    parts = _members_of(source)
    found: dict[str, Member] = {}
    for part in parts:
        if part.key in found:
            raise MalformedLine(f"the key {part.key!r} is there twice")
        found[part.key] = part
    if "type" not in found or not found["type"].text.startswith('"'):
        raise MalformedLine("it has no type")
    if "payload" not in found:
        raise MalformedLine("it has no payload")
    kind = json.loads(found["type"].text)
    if as_text(kind) != kind:
        raise MalformedLine(f"its type {kind!r} is not UTF-8")
    others = [part for part in parts if part.key not in ("timestamp", "type", "payload")]
    stamp = found.get("timestamp")
    if stamp is None:
        others.append(member("timestamp", _NO_TIMESTAMP))
    elif not stamp.text.startswith('"'):
        others.append(stamp)
    else:
        at = _at_of(stamp)
        if not is_canonical(stamp.text[1:-1]):
            others.append(stamp)
    return Item(at, kind, found["payload"].text, joined(others) if others else None)


def _members_of(source: bytes) -> list[Member]:
    try:
        return members(source.decode())
    except UnicodeDecodeError as exc:
        raise MalformedLine("it is not UTF-8") from exc
    except MalformedJson as exc:
        raise MalformedLine(f"it is not a JSON object: {exc}") from exc


def _at_of(stamp: Member) -> int:
    text = json.loads(stamp.text)
    at = micros(text)
    if at is None:
        raise MalformedLine(f"its timestamp {text!r} is none")
    return at // 1000
