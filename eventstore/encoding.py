"""The body of a record, column by column in the schema's order (Avro specification, binary encoding).

Written out by hand, for every append and every history goes through here: a general writer looks each column up in a
row and tries the branches of each union, a general reader makes a row of them all. The tests hold both against one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from eventstore.events import (
    Command,
    Event,
    Field,
    Item,
    ItemsAppended,
    MetadataPatched,
    ThreadArchived,
    ThreadCreated,
    ThreadDeleted,
    ThreadUnarchived,
    WriterEvent,
    WriterOpened,
    items_of,
    new_item,
)

SCHEMA_VERSION = 1
"""Of the schema that this is the order of."""

_NULL, _SOME = b"\x00", b"\x02"
"""The branches of a union of null and something."""
_FALSE, _TRUE = b"\x00", b"\x01"
_END = b"\x00"
"""Ends an array."""
_LONGS = range(-(2**63), 2**63)
_KIND_OF_APPENDS = b"\x1aItemsAppended"
_BEFORE_ITEMS = 3 * _NULL
"""What precedes the items of an append: forked_from_id, epoch, replaces."""
_AFTER_ITEMS = {more: (_TRUE if more else _FALSE) + 2 * _NULL + _END + _NULL for more in (False, True)}
"""What follows the items of an append: more, commands_seen, expected_version, fields, reason."""
_REASONED = (ThreadArchived, ThreadUnarchived, ThreadDeleted)


def body_of(event: Event) -> bytes:
    """Return the event's columns.

    Raises:
        UnicodeEncodeError: A text holds a lone surrogate, which no UTF-8 can carry.
        OverflowError: A number has no 64-bit form.
    """
    if isinstance(event, ItemsAppended):
        return _append_body(event)
    said = event if isinstance(event, WriterEvent) else None
    opened = event if isinstance(event, WriterOpened) else None
    commanded = event if isinstance(event, Command) else None
    columns = (
        _text(event.event_id),
        _name(event.thread_id),
        _name(type(event).__name__),
        _long(event.rule),
        _time(event.occurred_at),
        _NULL if event.actor is None else _SOME + _name(event.actor),
        _NULL if said is None else _SOME + _name(said.writer_id),
        _NULL if said is None else _SOME + _long(said.writer_seq),
        _optional_text(event.forked_from_id) if isinstance(event, ThreadCreated) else _NULL,
        _NULL if opened is None else _SOME + _long(opened.epoch),
        _NULL if opened is None else _optional_text(opened.replaces),
        *_items(items_of(event)),
        _FALSE,  # more
        _NULL if commanded is None else _SOME + _long(commanded.commands_seen),
        _NULL if commanded is None else _optional_long(commanded.expected_version),
        _array([_field(field) for field in event.fields] if isinstance(event, MetadataPatched) else []),
        _optional_text(event.reason) if isinstance(event, _REASONED) else _NULL,
    )
    return b"".join(columns)


def _append_body(event: ItemsAppended) -> bytes:
    """Do the same for an append, which nearly all events are: most of its columns are known."""
    columns = (
        _text(event.event_id),
        _name(event.thread_id),
        _KIND_OF_APPENDS,
        _long(event.rule),
        _time(event.occurred_at),
        _NULL if event.actor is None else _SOME + _name(event.actor),
        _SOME + _name(event.writer_id),
        _SOME + _long(event.writer_seq),
        _BEFORE_ITEMS,
        *_items(event.items),
        _AFTER_ITEMS[event.more],
    )
    return b"".join(columns)


def items_of_append(record: bytes, at: int) -> list[Item] | None:
    """Return the items of an append whose body begins at `at` and is as `body_of` writes it.

    None for every other body, sound or not: a general reader has to tell.
    """
    try:
        return _items_of_append(record, at)
    except (IndexError, ValueError):
        return None


def _items_of_append(record: bytes, at: int) -> list[Item]:
    at = _past_text(record, _past_text(record, at))  # event_id, thread_id
    at = _past(record, at, _KIND_OF_APPENDS)
    at = _past_long(record, _past_long(record, at))  # rule, occurred_at
    at = _past(record, at, _NULL) if record[at] == 0 else _past_text(record, _past(record, at, _SOME))  # actor
    at = _past_text(record, _past(record, at, _SOME))  # writer_id
    at = _past_long(record, _past(record, at, _SOME))  # writer_seq
    at = _past(record, at, _BEFORE_ITEMS)
    items: list[Item] = []
    count, at = _long_at(record, at)
    millis, same = 0, b"\x00"
    for _ in range(count):
        if record.startswith(same, at):  # as it mostly is for all items of an append
            at += len(same)
        else:
            start = at
            millis, at = _long_at(record, at)
            same = record[start:at]
        type_, at = _text_at(record, at)
        payload, at = _text_at(record, at)
        extras = None
        if record[at] == 0:
            at += 1
        else:
            extras, at = _text_at(record, _past(record, at, _SOME))
        items.append(new_item((millis, type_, payload, extras)))
    if count:
        at = _past(record, at, _END)
    if record[at:] not in _AFTER_ITEMS.values():
        raise ValueError
    return items


def _past(record: bytes, at: int, expected: bytes) -> int:
    if not record.startswith(expected, at):
        raise ValueError
    return at + len(expected)


def _past_text(record: bytes, at: int) -> int:
    length = record[at]
    if length & 0x81:  # negative, or of more digits
        raise ValueError
    return at + 1 + (length >> 1)


def _past_long(record: bytes, at: int) -> int:
    while record[at] > 0x7F:
        at += 1
    return at + 1


def _text_at(record: bytes, at: int) -> tuple[str, int]:
    length, at = _long_at(record, at)
    end = at + length
    if length < 0 or end > len(record):
        raise ValueError
    return record[at:end].decode(), end


def _long_at(record: bytes, at: int) -> tuple[int, int]:
    digit = record[at]
    left, shift = digit & 0x7F, 7
    while digit > 0x7F:
        at += 1
        digit = record[at]
        left |= (digit & 0x7F) << shift
        shift += 7
    if left >> 64:
        raise ValueError
    return left >> 1 ^ -(left & 1), at + 1


def _items(items: Sequence[Item]) -> list[bytes]:
    """Return an array of items in pieces: large payloads are copied once, when all is joined."""
    if not items:
        return [_END]
    pieces = [_long(len(items))]
    same_at, same_type, named = None, None, b""
    for at, type_, payload, extras in items:
        if at != same_at or type_ != same_type:  # which all items of an append mostly share
            same_at, same_type = at, type_
            named = _time(at) + _text(type_)
        encoded = payload.encode()
        pieces += (named, _long(len(encoded)), encoded, _NULL if extras is None else _optional_text(extras))
    pieces.append(_END)
    return pieces


def _field(field: Field) -> bytes:
    return _text(field.name) + _optional_text(field.value)


def _array(values: list[bytes]) -> bytes:
    return b"".join((_long(len(values)), *values, _END)) if values else _END


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _long(len(encoded)) + encoded


_name = lru_cache(maxsize=4_096)(_text)
"""Of what names something, which is short and recurs."""


def _optional_text(text: str | None) -> bytes:
    return _NULL if text is None else _SOME + _text(text)


def _optional_long(number: int | None) -> bytes:
    return _NULL if number is None else _SOME + _long(number)


@lru_cache(maxsize=4_096)
def _long(number: int) -> bytes:
    """Return the zigzag variable-length form. Remembered: lengths recur."""
    if number not in _LONGS:
        raise OverflowError(f"{number} has no 64-bit form")
    return _digits(number << 1 ^ number >> 63)


def _time(number: int) -> bytes:
    """Do the same for a time: its last three digits are new each time, the others are those of the last second."""
    if number not in _LONGS:
        raise OverflowError(f"{number} has no 64-bit form")
    left = number << 1 ^ number >> 63
    if left < 1 << 21:
        return _digits(left)
    low = left & 0x7F | left << 1 & 0x7F00 | left << 2 & 0x7F_0000 | 0x80_8080
    return low.to_bytes(3, "little") + _digits(left >> 21)


@lru_cache(maxsize=256)
def _digits(left: int) -> bytes:
    """Return the digits of a number, seven bits each, the lowest first."""
    octets = bytearray()
    while left > 0x7F:
        octets.append(left & 0x7F | 0x80)
        left >>= 7
    octets.append(left)
    return bytes(octets)
