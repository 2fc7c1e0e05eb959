"""How an append becomes records: sizes, limits, and the split, all checked before anything is queued."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eventstore.admission import RUN_PARTS
from eventstore.errors import AppendTooLarge, InvalidRequest
from eventstore.events import Field, Item

RECORD_PAYLOAD = 512 * 1024
"""Bytes of items one record holds where items allow it."""
LARGEST_ITEM = 16 * 1024 * 1024 - 64 * 1024
"""Bytes of one item: the largest record, less room for everything around it."""
_ITEM_OVERHEAD = 32
"""Bytes an item takes beside its texts, at most."""


def size_of(item: Item) -> int:
    """Return an upper bound of the bytes that the item takes in a record."""
    _, type_, payload, extras = item
    return _ITEM_OVERHEAD + _bytes_of(payload) + _bytes_of(type_) + (_bytes_of(extras) if extras else 0)


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def must_fit(text: str) -> None:
    """Refuse a text that no record can hold.

    Raises:
        AppendTooLarge: It is too long.
    """
    if len(text) > LARGEST_ITEM or len(text.encode(errors="replace")) > LARGEST_ITEM:
        raise AppendTooLarge(f"a text of {len(text):,} characters cannot be kept; the most is {LARGEST_ITEM:,} bytes")


def fields_must_fit(fields: Iterable[Field]) -> None:
    """Refuse a patch that no record can hold.

    Raises:
        AppendTooLarge: Its values are too long.
    """
    must_fit("".join(field.value or "" for field in fields))


def split(items: Sequence[Item]) -> list[tuple[list[Item], int]]:
    """Split an append into records, each with its size in bytes.

    Raises:
        AppendTooLarge: An item is larger than a record may be, or more records than a run may have are needed.
        InvalidRequest: A text is not UTF-8.
    """
    parts: list[tuple[list[Item], int]] = []
    current: list[Item] = []
    filled = 0
    for item in items:
        _, type_, payload, extras = item
        try:
            # Most items are so, and measured without a call for each of them.
            plain = extras is None and payload.isascii() and type_.isascii()
            size = _ITEM_OVERHEAD + len(payload) + len(type_) if plain else size_of(item)
        except UnicodeEncodeError as exc:
            raise InvalidRequest("an item holds half a surrogate pair; write it as JSON's escape \\ud83d") from exc
        if size > LARGEST_ITEM:
            raise AppendTooLarge(f"an item of {size:,} bytes cannot be kept; the most is {LARGEST_ITEM:,}; shorten it")
        if current and filled + size > RECORD_PAYLOAD:
            parts.append((current, filled))
            current, filled = [], 0
        current.append(item)
        filled += size
    parts.append((current, filled))
    if len(parts) > RUN_PARTS:
        raise AppendTooLarge(f"an append of {len(parts)} records is more than {RUN_PARTS}; append it in several calls")
    return parts
