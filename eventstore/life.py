"""How long a store may be used: until it is closed, and in the process that opened it only."""

from __future__ import annotations

import os
from typing import ClassVar

from eventstore.errors import InvalidRequest, LogUnavailable


class Life:
    """A store's life, which begins here."""

    forks: ClassVar[int] = 0
    """How often this process was carried over a fork; asking the system who it is would take a call of it each time."""

    def __init__(self) -> None:
        self.is_over = False
        self._forks = self.forks

    def end(self) -> None:
        self.is_over = True

    def must_go_on(self) -> None:
        """Refuse what is asked of a store that cannot do it any more.

        Raises:
            LogUnavailable: It was closed.
            InvalidRequest: It was carried over a fork.
        """
        if self.is_over:
            raise closed()
        if self._forks != self.forks:
            raise InvalidRequest("this store was opened before the process forked; open another one in the child")


def _count_fork() -> None:
    Life.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def closed() -> LogUnavailable:
    """Return the error of a store that was closed."""
    return LogUnavailable("the store is closed; open it again")
