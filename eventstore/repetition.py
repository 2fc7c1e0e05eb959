"""The append ids of a live thread, in bounded memory: an append that is repeated under its id has to be known as one.

The invariant: an id that was said is never denied. Where memory does not tell, whoever asks has to read the thread.
"""

from __future__ import annotations

from typing import Final

EXACTLY: Final = 1_024
"""Append ids that are kept as they are, some 130 bytes each: those that are repeated are mostly among the latest."""
_BITS: Final = 1 << 20
"""Of the filter, which takes 128 KiB: with 30,000 ids in it, it takes one in 1,800 others for one of them."""
_SHIFTS: Final = (0, 20, 40)
"""Where in an id's hash its three places in the filter are found."""


class AppendIds:
    """What is known of which appends a thread has."""

    __slots__ = ("_filter", "_is_asked", "_latest", "are_all_known")

    def __init__(self, *, are_all_known: bool) -> None:
        """Know none yet, which is all there are unless others have written the thread."""
        self.are_all_known = are_all_known
        """Whether an id that was never heard of here was never said."""
        self._is_asked = False
        self._latest: set[str] = set()
        self._filter: bytearray | None = None
        """Those that had to make room in `_latest`: a Bloom filter, which errs by taking one for known."""

    def say(self, append_id: str) -> None:
        """Remember an id that is appended now, unless those before it are unknown: then the log will be read anyway."""
        if self.are_all_known:
            self._latest.add(append_id)
            if len(self._latest) >= EXACTLY:
                self._make_room()

    def hear(self, append_id: str) -> None:
        """Remember an id that was read from the thread; the reader sets `are_all_known` when it has read them all."""
        self._latest.add(append_id)
        if len(self._latest) >= EXACTLY:
            self._make_room()

    def has(self, append_id: str) -> bool | None:
        """Say whether it was said; None if that has to be read."""
        self._is_asked = True
        if append_id in self._latest:
            return True
        if not self.are_all_known or (self._filter is not None and _is_in(self._filter, append_id)):
            return None
        return False

    def _make_room(self) -> None:
        if not self._is_asked:
            # Most threads have appends that nobody names: then there is nothing to be known of them.
            self.are_all_known = False
        else:
            self._filter = self._filter or bytearray(_BITS // 8)
            for append_id in self._latest:
                for place in _places(append_id):
                    self._filter[place >> 3] |= 1 << (place & 7)
        self._latest.clear()


def _places(append_id: str) -> list[int]:
    said = hash(append_id)
    return [said >> shift & _BITS - 1 for shift in _SHIFTS]


def _is_in(bits: bytearray, append_id: str) -> bool:
    return all(bits[place >> 3] >> (place & 7) & 1 for place in _places(append_id))
