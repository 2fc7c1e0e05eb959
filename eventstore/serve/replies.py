"""What of a thread or a page fits into a reply: Codex refuses those of more than 4 MiB.

Of a larger history it gets what it needs to go on: the session_meta, and everything from the last compaction that says
what stands for all before it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from eventstore.codex.payloads import parsed_object
from eventstore.documents.items import StoredItem
from eventstore.documents.threads import StoredThread
from eventstore.ids import ThreadId
from eventstore.serve.items import item_text
from eventstore.serve.statuses import ReplyTooLarge

LARGEST_REPLY: Final = 4 * 1024 * 1024
"""Bytes that Codex takes in one reply."""
_AROUND: Final = 64 * 1024
"""Bytes of a reply left for all that is not its history."""
_AROUND_ITEM: Final = 6
"""Bytes at most that an item of less than 2^31 takes beside its text."""
LONGEST_SHOWN: Final = 1_000
"""Characters left of a text which is only shown, where it does not fit whole."""


async def fitting_history(thread_id: ThreadId, items: AsyncIterator[StoredItem]) -> list[str]:
    """Return the JSON texts of the items: of all, or of the first one and those from the last compaction on.

    Holds no more than one reply of them at any time.

    Raises:
        ReplyTooLarge: Those are too many as well.
    """
    first: list[str] = []
    rest = _Fitting()
    async for item in items:
        text = item_text(item)
        if first:
            rest.add(text, begins_anew=_stands_for_all_before(item))
        else:
            first.append(text)
            rest.room -= _size(text)
    if not rest.fits:
        raise ReplyTooLarge(
            f"thread {thread_id} has a history of more than the {LARGEST_REPLY:,} bytes that a reply may have, also "
            f"from its last compaction on; eventstore export {thread_id} writes it to a file"
        )
    return first + rest.texts


class _Fitting:
    """As many texts as fit: all, while they do, and then those from the last one on that begins anew."""

    def __init__(self) -> None:
        self.room = LARGEST_REPLY - _AROUND
        self.texts: list[str] = []
        self._filled = 0
        self._anew: int | None = None
        """Where the last text is that begins anew."""
        self._is_whole = True
        self._fits = True

    @property
    def fits(self) -> bool:
        return self._fits and self._filled <= self.room

    def add(self, text: str, *, begins_anew: bool) -> None:
        if begins_anew and not self._is_whole:
            self.texts, self._filled, self._fits = [], 0, True
        elif begins_anew:
            self._anew = len(self.texts)
        if not self._fits:
            return
        self.texts.append(text)
        self._filled += _size(text)
        if self._filled > self.room:
            self._cut()

    def _cut(self) -> None:
        """Give up what lies before the last text that begins anew; everything, if that was done already."""
        kept = self.texts[self._anew :] if self._is_whole and self._anew is not None else []
        self._is_whole = False
        self._filled = sum(map(_size, kept))
        self._fits = bool(kept) and self._filled <= self.room
        self.texts = kept if self._fits else []


def _size(text: str) -> int:
    return _AROUND_ITEM + (len(text) if text.isascii() else len(text.encode()))


def _stands_for_all_before(item: StoredItem) -> bool:
    """Whether the item is a compaction that holds a history in the place of all before it."""
    if item.type != "compacted" or '"replacement_history"' not in item.text:
        return False
    payload = parsed_object(item.text)
    return payload is not None and isinstance(payload.get("replacement_history"), list)


def shortened(thread: StoredThread) -> StoredThread:
    """Return the thread with what is only shown cut short."""
    changes = {
        name: text[: LONGEST_SHOWN - 1] + "…"
        for name in ("preview", "first_user_message", "name")
        if isinstance(text := getattr(thread, name), str) and len(text) > LONGEST_SHOWN
    }
    return thread.model_copy(update=changes) if changes else thread
