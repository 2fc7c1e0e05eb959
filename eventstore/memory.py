"""What live threads keep in memory, and how much of it there may be: one account, which stores beside each other share.

Kept is what was appended to threads of which nothing is stored yet, and what writers have said and is not known to
count. The invariant: each of its bytes is given back once, whichever way its thread or its writer ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final, Protocol
from weakref import WeakSet

from eventstore.errors import TooMany

_LEFT: Final = 0.5
"""The share of the bound that is left when room was made: making it costs a look at the log for each writer."""
_TOGETHER: Final = 32
"""Writers whose words are judged at the same time."""


class Keeper(Protocol):
    """A writer, as far as it keeps what it said."""

    @property
    def unverified_bytes(self) -> int:
        """Bytes of what it said and is not known to count."""
        ...

    async def verify(self, *, within: float) -> None:
        """Have what was said judged, as far as the log answers."""
        ...


class Memory:
    """An account of bytes, without bounds until `bound` sets them."""

    def __init__(self) -> None:
        self.unstored = 0
        """Of appends to threads of which nothing is stored yet."""
        self.unverified = 0
        """Of what writers have said and is not known to count."""
        self._most_unstored = self._most_unverified = sys.maxsize
        self._given_back = 0
        self._keepers: WeakSet[Keeper] = WeakSet()
        self._making_room: asyncio.Task[bool] | None = None

    def bound(self, *, unstored: int, unverified: int) -> None:
        """Let no more be kept than so many bytes; the append that reaches a bound may go beyond it."""
        self._most_unstored, self._most_unverified = unstored, unverified

    def join(self, keeper: Keeper) -> None:
        """Let the writer be asked to have its words judged when room is needed."""
        self._keepers.add(keeper)

    def keep(self, size: int) -> None:
        """Count what a writer has said."""
        self.unverified += size

    def give_back(self, size: int) -> None:
        """Count what a writer keeps no longer."""
        self.unverified -= size
        self._given_back += size

    @property
    def is_full_of_unstored(self) -> bool:
        return self.unstored >= self._most_unstored

    def must_take_unstored(self) -> None:
        """Refuse what would be kept for a thread that is not stored.

        Raises:
            TooMany: As much as may be is kept.
        """
        if self.is_full_of_unstored:
            raise TooMany(
                f"threads that are not stored yet hold {self.unstored:,} bytes here, as much as may be; "
                "persist, flush or discard one, or try again later"
            )

    async def make_room(self, *, within: float) -> None:
        """Wait until more may be said, while what was said before is judged.

        Raises:
            TooMany: The log did not answer in time for enough of it.
        """
        deadline = time.monotonic() + within
        while self.unverified >= self._most_unverified:
            if self._making_room is None or self._making_room.done():
                self._making_room = asyncio.get_running_loop().create_task(self._verify_fullest(within))
            ended, _ = await asyncio.wait([self._making_room], timeout=max(0.0, deadline - time.monotonic()))
            if self.unverified >= self._most_unverified and not any(making.result() for making in ended):
                raise TooMany(
                    f"{self.unverified:,} bytes of appends are kept here for which the log has not answered, as much "
                    "as may be; try again later"
                )

    async def _verify_fullest(self, within: float) -> bool:
        """Have those judged who keep most, each once, until enough is given back; say whether anything was."""
        enough, given_back = _LEFT * self._most_unverified, self._given_back
        fullest = sorted(self._keepers, key=lambda keeper: -keeper.unverified_bytes)
        while fullest and self.unverified > enough:
            some, fullest = fullest[:_TOGETHER], fullest[_TOGETHER:]
            await asyncio.gather(*(keeper.verify(within=within) for keeper in some if keeper.unverified_bytes))
        return self._given_back > given_back
