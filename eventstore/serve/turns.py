"""The order among overlapping calls about one thread: they take effect one after the other, as they came."""

from __future__ import annotations

import asyncio
from types import TracebackType

from eventstore.errors import LogUnavailable
from eventstore.ids import ThreadId


class Turns:
    """Hands out turns, thread by thread; a thread that nobody asks for costs nothing."""

    def __init__(self, *, within: float) -> None:
        """Let nobody wait longer than `within` seconds."""
        self.within = within
        self._last: dict[ThreadId, Turn] = {}

    def is_taken(self, thread_id: ThreadId) -> bool:
        """Whether somebody has the thread's turn, or waits for it."""
        return thread_id in self._last

    def asked(self, thread_id: ThreadId) -> Turn:
        """Return the turn behind all that were asked for before; it has to be taken, by `async with`."""
        turn = Turn(self, thread_id, self._last.get(thread_id))
        self._last[thread_id] = turn
        return turn

    async def passed(self, thread_id: ThreadId) -> None:
        """Wait until the calls that came before have taken effect, and hold up none that come later.

        Raises:
            LogUnavailable: They took too long.
        """
        if self.is_taken(thread_id):
            async with self.asked(thread_id):
                pass

    def over(self, turn: Turn) -> None:
        """Forget a turn behind which nobody waits."""
        if self._last.get(turn.thread_id) is turn:
            del self._last[turn.thread_id]


class Turn:
    """One call's place in the line."""

    def __init__(self, turns: Turns, thread_id: ThreadId, before: Turn | None) -> None:
        self.thread_id = thread_id
        self._turns = turns
        self._before = None if before is None else before._over
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> None:
        """Wait for the turn.

        Raises:
            LogUnavailable: The calls before took too long; nothing was done.
        """
        if self._before is None:
            return
        try:
            async with asyncio.timeout(self._turns.within):
                await asyncio.shield(self._before)
        except BaseException as exc:
            # Who gives up leaves those behind waiting for those before.
            self._before.add_done_callback(lambda _: self.end())
            if isinstance(exc, TimeoutError):
                raise LogUnavailable(
                    f"the calls before this one about thread {self.thread_id} did not end within "
                    f"{self._turns.within:g} s; try again later"
                ) from exc
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Let the next one have its turn; again does nothing."""
        if not self._over.done():
            self._over.set_result(None)
            self._turns.over(self)
