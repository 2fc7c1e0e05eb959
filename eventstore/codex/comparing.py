"""How a rollout file stands to a thread that is here: the same as far as both go, longer, or different.

A file is the thread's own, or an export of it. An export also has lines for what was said here (a name, for example),
which stand between the items of the history. Nothing else may stand between them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from eventstore.codex.payloads import inner_type
from eventstore.codex.rollout import MalformedLine, format_line, parse_line
from eventstore.codex.rolloutitems import Rollout
from eventstore.codex.rolloutlines import RolloutLines
from eventstore.documents.items import StoredItem
from eventstore.events import Item, MetadataPatched
from eventstore.history import replayed_whole
from eventstore.ids import ThreadId
from eventstore.ports import EventFeed, ThreadView


class Comparison(NamedTuple):
    """How a file stands to a thread: equal as far as both go, unless it `differs`."""

    differs: bool
    stored: int
    """How many items of the history it has."""
    growth: Item | None = None
    """Its first item behind the history's end."""
    is_export: bool = False
    """It has lines that only an export of the thread can have: what was said here."""
    may_be_export: bool = False
    """Only the history was compared so far, and what the file has instead of it may be a line of an export."""


async def compared_with_history(lines: RolloutLines, history: AsyncIterator[list[StoredItem]]) -> Comparison:
    """Read file and history in step until they differ or one of them ends."""
    compared = 0
    async for batch in history:
        for stored in batch:
            item = next(lines.items, None)
            if item is None:
                return Comparison(differs=False, stored=compared)
            if not _is_same(item, stored.item):
                numbered = item.extras is not None and stored.item.extras is None
                return Comparison(differs=True, stored=compared, may_be_export=numbered or _may_be_said_here(item))
            compared += 1
    growth = next(lines.items, None)
    return Comparison(False, compared, growth, may_be_export=growth is not None and _may_be_said_here(growth))


async def compared_with_export(
    lines: RolloutLines, feed: EventFeed, thread_id: ThreadId, view: ThreadView
) -> Comparison:
    """Read the file in step with what an export of the thread says, until they differ or one of them ends.

    Raises:
        UnreadableEvent: A record of the thread cannot be understood.
        LogTruncated: A record of the thread is not in the log any more.
    """
    rollout = Rollout(thread_id)
    stored, is_export = 0, False
    item = next(lines.items, None)
    end = await feed.end(feed.partition_of(thread_id))
    async for _, event, done in replayed_whole(feed, thread_id, view, stop=end):
        said_here = isinstance(event, MetadataPatched)
        for here in rollout.after(event, done):
            if item is not None and _is_same(item, here):
                item = next(lines.items, None)
                if said_here:
                    is_export = True
                else:
                    stored += 1
            elif item is not None and not said_here:
                return Comparison(True, stored, is_export=is_export)
    return Comparison(False, stored, item, is_export)


def _is_same(item: Item, here: Item) -> bool:
    """Whether the file's item is this one, as it is or as an export writes it: in one line.

    The time of a line that bears none is that of the line before, which need not be the same one there.
    """
    if item == here:
        return True
    try:
        return item == parse_line(format_line(here), at=item.at)
    except MalformedLine:
        return False


def _may_be_said_here(item: Item) -> bool:
    """Whether the item is of a kind that exports put between those of the history."""
    return item.type == "session_meta" or inner_type(item.payload) == "thread_name_updated"
