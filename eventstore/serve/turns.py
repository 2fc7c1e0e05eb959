"""The order among overlapping calls about one thread: they take effect one after the other, as they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from eventstore.errors import LogUnavailable
from eventstore.ids import ThreadId


class _Line:
    """Those who wait for their turn with one thread, and who has it."""

    __slots__ = ("lock", "people")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.people = 0


class Turns:
    """Hands out turns, thread by thread; a thread that nobody asks for costs nothing."""

    def __init__(self, *, within: float) -> None:
        """Let nobody wait longer than `within` seconds."""
        self._within = within
        self._lines: dict[ThreadId, _Line] = {}

    def is_taken(self, thread_id: ThreadId) -> bool:
        """Whether somebody has the thread's turn, or waits for it."""
        return thread_id in self._lines

    @asynccontextmanager
    async def taken(self, thread_id: ThreadId) -> AsyncIterator[None]:
        """Wait for the turn and hold it for the block. Who asked first has it first.

        Raises:
            LogUnavailable: The calls before took too long; nothing was done.
        """
        line = self._lines.setdefault(thread_id, _Line())
        line.people += 1
        try:
            try:
                async with asyncio.timeout(self._within):
                    await line.lock.acquire()
            except TimeoutError as exc:
                raise LogUnavailable(
                    f"the calls before this one about thread {thread_id} did not end within {self._within:g} s"
                ) from exc
            try:
                yield
            finally:
                line.lock.release()
        finally:
            line.people -= 1
            if not line.people:
                del self._lines[thread_id]

    async def passed(self, thread_id: ThreadId) -> None:
        """Wait until the calls that came before have taken effect, and hold up none that come later.

        Raises:
            LogUnavailable: They took too long.
        """
        if thread_id in self._lines:
            async with self.taken(thread_id):
                pass
