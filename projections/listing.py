"""Pages of threads from the SQLite views: index scans merged, keyset cursors that lose no ties."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from eventstore.documents.params import ListThreadsParams, SortDirection, ThreadSortKey
from eventstore.ids import ThreadId
from eventstore.ports import RowPage, ThreadRow
from projections.selection import (
    ACTIVE_SHELF,
    ARCHIVED_SHELF,
    Cursor,
    comparable_path,
    format_cursor,
    parse_cursor,
    source_as_compared,
)
from projections.sqlite_views import THREAD_COLUMNS, state_of

_COLUMNS = {ThreadSortKey.CREATED_AT: "created_at", ThreadSortKey.UPDATED_AT: "updated_at"}
_LARGEST_PAGE = 2**62
"""SQLite counts to 2**63; no page comes near to it."""


def page_in(connection: sqlite3.Connection, query: ListThreadsParams) -> RowPage:
    """Return the page that the query asks for.

    Raises:
        InvalidRequest: `invalid cursor: …`
        DamagedRow: A thread's row cannot be decoded.
    """
    cursor = parse_cursor(query.cursor) if query.cursor is not None else None
    if query.page_size == 0 or query.cwd_filters == ():
        return RowPage((), None)
    column, descending = _COLUMNS[query.sort_key], query.sort_direction is SortDirection.DESC
    wanted = min(query.page_size, _LARGEST_PAGE) + 1
    scans = [scan.rows(connection, column, descending, cursor, wanted) for scan in _scans(query)]
    merged = heapq.merge(*scans, key=lambda row: (row[-1], row[0]), reverse=descending)
    rows = list(islice(merged, wanted))
    found = rows[: query.page_size]
    more = len(rows) > query.page_size
    return RowPage(
        [ThreadRow(ThreadId(str(UUID(bytes=row[0]))), state_of(row[:-1])) for row in found],
        format_cursor(found[-1][-1], found[-1][0]) if more else None,
    )


@dataclass(slots=True)
class _Scan:
    """One walk along one index, with what the index does not decide checked row by row."""

    conditions: list[str] = field(default_factory=list)
    values: list[object] = field(default_factory=list)

    def also(self, condition: str, values: Sequence[object]) -> _Scan:
        return _Scan([*self.conditions, condition], [*self.values, *values])

    def rows(
        self, connection: sqlite3.Connection, column: str, descending: bool, cursor: Cursor | None, limit: int
    ) -> Iterator[Sequence[Any]]:
        scan, order = self, "DESC" if descending else "ASC"
        if cursor is not None:
            beyond = "<" if descending else ">"
            if cursor.thread is None:
                scan = scan.also(f"t.{column} {beyond} ?", (cursor.micros,))
            else:
                scan = scan.also(f"(t.{column}, t.id) {beyond} (?, ?)", (cursor.micros, cursor.thread))
        sql = (
            f"SELECT {THREAD_COLUMNS}, t.{column} FROM thread t JOIN summary s ON s.no = t.no"
            f" WHERE {' AND '.join(scan.conditions)} ORDER BY t.{column} {order}, t.id {order} LIMIT ?"
        )
        return iter(connection.execute(sql, (*scan.values, limit)).fetchall())


def _scans(query: ListThreadsParams) -> list[_Scan]:
    """Return one scan for each value of the narrowest filter; the other filters are checked row by row."""
    base = _Scan(["t.shelf = ?"], [ARCHIVED_SHELF if query.archived else ACTIVE_SHELF])
    if query.search_term:
        base = base.also("instr(s.sought, ?) > 0", (query.search_term,))
    filters: list[tuple[str, list[str]]] = []
    if query.cwd_filters:
        filters.append(("cwd", [comparable_path(cwd) for cwd in query.cwd_filters]))
    if query.allowed_sources:
        filters.append(("source", [source_as_compared(source) for source in query.allowed_sources]))
    if query.model_providers:
        filters.append(("provider", list(query.model_providers)))
    if not filters:
        return [base]
    (column, values), *others = filters
    for other, allowed in others:
        # The unary plus keeps the planner on the index of the narrowest filter, which gives the order as well.
        base = base.also(f"+t.{other} IN ({', '.join('?' * len(allowed))})", allowed)
    return [base.also(f"t.{column} = ?", (value,)) for value in dict.fromkeys(values)]
