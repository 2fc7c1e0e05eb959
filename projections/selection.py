"""Which threads a listing asks for, as values that every kind of stored views compares alike.

Pure: knows no storage. Cursors name a place between two threads, so that none is lost among equal times.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import orjson

from eventstore.admission import Lifecycle
from eventstore.codex.metadata import Summary
from eventstore.documents.params import ListThreadsParams
from eventstore.errors import InvalidRequest
from eventstore.jsontext import MalformedJson, dumps
from eventstore.moments import moment, rfc_3339, stamp_micros
from eventstore.state import ThreadState

ACTIVE_SHELF, ARCHIVED_SHELF = 0, 1
"""Which listing shows a thread; None for neither."""


class Cursor(NamedTuple):
    """Where the page before ended."""

    micros: int
    thread: bytes | None
    """None for a bare timestamp: strictly before or after it."""


def parse_cursor(text: str) -> Cursor:
    """Read `RFC3339|UUID`, or a bare timestamp (also `YYYY-MM-DDThh-mm-ss`, as UTC; contract §5.1).

    Raises:
        InvalidRequest: `invalid cursor: …`
    """
    stamp, bar, thread = text.partition("|")
    try:
        micros = stamp_micros(stamp)
        if micros is None:
            raise ValueError(stamp)
        return Cursor(micros, UUID(thread).bytes if bar else None)
    except ValueError as exc:
        raise InvalidRequest(f"invalid cursor: {text}") from exc


def format_cursor(micros: int, thread: bytes) -> str:
    return f"{rfc_3339(moment(micros), 'microseconds')}|{UUID(bytes=thread)}"


def ids_beginning_with(prefix: str) -> tuple[bytes, bytes]:
    """Return the lowest and the highest binary id that begin with up to 32 hexadecimal digits, hyphens among them."""
    digits = prefix.replace("-", "").lower()
    return bytes.fromhex(digits.ljust(32, "0")), bytes.fromhex(digits.ljust(32, "f"))


def shelf_of(state: ThreadState) -> int | None:
    """Say in which listing the thread is shown: threads without a user message (or goal) in none."""
    if not state.summary.preview:
        return None
    match state.head.lifecycle:
        case Lifecycle.ACTIVE:
            return ACTIVE_SHELF
        case Lifecycle.ARCHIVED:
            return ARCHIVED_SHELF
        case Lifecycle.ABSENT | Lifecycle.DELETED:
            return None


def comparable_path(path: str) -> str:
    """Return the path as filters compare it: without redundant separators, dots or a trailing slash."""
    return posixpath.normpath(path) if path else ""


def comparable_source(source_json: str | None) -> str:
    """Return a session source's JSON text as filters compare it: with its keys in order; empty for none."""
    if source_json is None or not source_json.startswith("{"):
        return source_json or ""
    try:
        return orjson.dumps(orjson.loads(source_json), option=orjson.OPT_SORT_KEYS).decode()
    except (orjson.JSONDecodeError, TypeError):
        return source_json  # what cannot be ordered is compared as it is


def source_as_compared(source: object) -> str:
    """Return the session source that a query names as filters compare it.

    Raises:
        InvalidRequest: It has no JSON form, as no thread's source has.
    """
    try:
        return comparable_source(dumps(source))
    except MalformedJson as exc:
        raise InvalidRequest(f"the source {source!r} has no JSON form ({exc}); give one that has") from exc


def sought_in(summary: Summary) -> str:
    """Return the text that a search looks through."""
    return "\n".join(filter(None, (summary.name, summary.title, summary.preview)))


@dataclass(frozen=True, slots=True)
class Selection:
    """A listing's filters, joined by and; an empty set lets everything pass."""

    shelf: int
    providers: frozenset[str]
    sources: frozenset[str]
    directories: frozenset[str]
    term: str

    @classmethod
    def of(cls, query: ListThreadsParams) -> Selection:
        return cls(
            shelf=ARCHIVED_SHELF if query.archived else ACTIVE_SHELF,
            providers=frozenset(query.model_providers or ()),
            sources=frozenset(map(source_as_compared, query.allowed_sources)),
            directories=frozenset(map(comparable_path, query.cwd_filters or ())),
            term=query.search_term or "",
        )

    @property
    def looks_inside(self) -> bool:
        """Whether more is asked than shelf and provider, by which threads are listed."""
        return bool(self.sources or self.directories or self.term)

    def admits(self, state: ThreadState) -> bool:
        summary = state.summary
        return (
            shelf_of(state) == self.shelf
            and (not self.providers or summary.model_provider in self.providers)
            and (not self.sources or comparable_source(summary.source) in self.sources)
            and (not self.directories or comparable_path(summary.cwd) in self.directories)
            and (not self.term or self.term in sought_in(summary))
        )
