"""The names index, `session_index.jsonl`: append-only; the last entry of a thread wins (contract §4.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson

from eventstore.codex.observation import thread_id_of
from eventstore.codex.payloads import as_text
from eventstore.ids import ThreadId
from eventstore.jsontext import dumps
from eventstore.moments import micros, moment, rfc_3339


class NameEntry(NamedTuple):
    """The newest word on a thread's name."""

    name: str | None
    """None: the name was cleared."""
    updated_at: int | None
    """Microseconds since the epoch; None if the entry bears no time."""


def read_names(lines: Iterable[bytes]) -> dict[ThreadId, NameEntry]:
    """Return the newest entry of each thread, in the order of these entries; lines that are no entry are skipped."""
    names: dict[ThreadId, NameEntry] = {}
    for line in lines:
        read = _entry(line)
        if read is not None:
            thread_id, entry = read
            names.pop(thread_id, None)
            names[thread_id] = entry
    return names


def format_name(thread_id: ThreadId, name: str | None, *, updated_at: int) -> str:
    """Return an entry without its newline; `updated_at` in microseconds since the epoch. No name clears it."""
    stamp = rfc_3339(moment(updated_at), "microseconds")
    return dumps({"id": thread_id, "thread_name": name or "", "updated_at": stamp})


def _entry(line: bytes) -> tuple[ThreadId, NameEntry] | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(entry, dict):
        return None
    thread_id, name, stamp = thread_id_of(entry.get("id")), as_text(entry.get("thread_name")), entry.get("updated_at")
    if thread_id is None or name is None:
        return None
    return thread_id, NameEntry(name.strip() or None, micros(stamp) if isinstance(stamp, str) else None)
