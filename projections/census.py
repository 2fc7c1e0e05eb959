"""How many threads the SQLite views know, how far they have come, and which threads are frozen."""

from __future__ import annotations

import sqlite3
from uuid import UUID

from eventstore.admission import Lifecycle
from eventstore.errors import ViewsUnavailable
from eventstore.ids import ThreadId
from projections.ports import Census
from projections.sqlite_views import mark_in


def census_in(connection: sqlite3.Connection) -> Census:
    """Count what the views hold.

    Raises:
        ViewsUnavailable: They are not there, or damaged.
    """
    mark = mark_in(connection)
    counts = _counts(connection)
    frozen = connection.execute("SELECT id, frozen FROM thread WHERE frozen IS NOT NULL ORDER BY id")
    return Census(
        generation=mark.generation,
        checkpoint=mark.checkpoint,
        active=counts.get(Lifecycle.ACTIVE, (0, 0))[0],
        archived=counts.get(Lifecycle.ARCHIVED, (0, 0))[0],
        deleted=counts.get(Lifecycle.DELETED, (0, 0))[0],
        items=sum(items for lifecycle, (_, items) in counts.items() if lifecycle != Lifecycle.DELETED),
        frozen=tuple((ThreadId(str(UUID(bytes=key))), why) for key, why in frozen),
    )


def _counts(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Return how many threads there are in each lifecycle, and how many items they have."""
    sql = "SELECT json_extract(head, '$[0]'), count(*), sum(json_extract(head, '$[8]')) FROM thread GROUP BY 1"
    try:
        return {lifecycle: (threads, items) for lifecycle, threads, items in connection.execute(sql)}
    except sqlite3.OperationalError as exc:
        if "malformed JSON" not in str(exc):
            raise
        raise ViewsUnavailable(f"the views are damaged ({exc}); eventstore verify --repair folds them anew") from exc
