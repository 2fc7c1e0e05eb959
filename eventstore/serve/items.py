"""Items on the wire: the JSON text of an object of type and payload, in which the payload keeps its source text."""

from __future__ import annotations

import json
import re
from typing import Final

import orjson

from eventstore.codex.payloads import members
from eventstore.documents.items import RolloutItem, StoredItem, parsed_item
from eventstore.errors import InvalidRequest, quoted
from eventstore.jsontext import MalformedJson

_OWN_LAYOUT: Final = re.compile(r'\{"type":"(\w+)","payload":', re.ASCII)
"""The beginning of an item as Codex writes it; the payload and a brace follow."""


def item_of(text: str) -> RolloutItem:
    """Return the item.

    Raises:
        InvalidRequest: The text is not the JSON of an object of type and payload.
    """
    return _of_own_layout(text) or _of_any_layout(text)


def item_text(item: StoredItem) -> str:
    """Return the item's JSON text."""
    return f'{{"type":{json.dumps(item.type)},"payload":{item.text}}}'


def _of_own_layout(text: str) -> RolloutItem | None:
    """Read Codex's own layout; None if the text has another one, or none."""
    beginning = _OWN_LAYOUT.match(text)
    if beginning is None or not text.endswith("}"):
        return None
    payload = text[beginning.end() : -1]
    try:
        orjson.loads(payload)  # one JSON value, hence the text's last one
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return None
    return parsed_item(beginning[1], payload)


def _of_any_layout(text: str) -> RolloutItem:
    try:
        found = {part.key: part.text for part in members(text)}
        kind = json.loads(found.get("type", "null"))
    except (MalformedJson, ValueError) as exc:
        raise InvalidRequest(f"{quoted(text)} is no item: {exc}") from exc
    if not isinstance(kind, str) or found.keys() != {"type", "payload"}:
        raise InvalidRequest(f'{quoted(text)} is no item: it takes {{"type": text, "payload": JSON value}}')
    return parsed_item(kind, found["payload"])
