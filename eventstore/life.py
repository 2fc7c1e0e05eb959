"""How long a store may be used, and where: until it is closed, in the process and the event loop that opened it."""

from __future__ import annotations

import os
from asyncio import get_running_loop
from typing import ClassVar

from eventstore.errors import InvalidRequest, LogUnavailable


class Life:
    """A store's life, which begins here, in the event loop that runs now."""

    forks: ClassVar[int] = 0
    """How often this process was carried over a fork; asking the system who it is would take a call of it each time."""

    def __init__(self) -> None:
        self.is_over = False
        self._forks = self.forks
        self._loop = get_running_loop()

    def end(self) -> None:
        self.is_over = True

    def must_go_on(self) -> None:
        """Refuse what is asked of a store that cannot do it any more.

        Raises:
            LogUnavailable: It was closed.
            InvalidRequest: It was carried over a fork, or into another event loop.
        """
        if self.is_over:
            raise closed()
        if self._forks != self.forks:
            raise InvalidRequest(
                "this store was opened before the process forked; fork first, or start the process anew (spawn)"
            )
        if get_running_loop() is not self._loop:
            # Its engine would take what is asked and wake nobody: the call would fail, and be done all the same.
            raise InvalidRequest(
                "this store was opened in another event loop; call it there (asyncio.run_coroutine_threadsafe does, "
                "from other threads), or open another one in this loop"
            )


def _count_fork() -> None:
    Life.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def closed() -> LogUnavailable:
    """Return the error of a store that was closed."""
    return LogUnavailable("the store is closed; open it again")
