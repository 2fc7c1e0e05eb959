"""How long a store may be used: until it is closed, and in the process that opened it only."""

from __future__ import annotations

import os

from eventstore.errors import InvalidRequest, LogUnavailable


class Life:
    """A store's life, which begins here."""

    def __init__(self) -> None:
        self.is_over = False
        self._process = os.getpid()

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
        if os.getpid() != self._process:
            raise InvalidRequest("this store was opened before the process forked; open another one in the child")


def closed() -> LogUnavailable:
    """Return the error of a store that was closed."""
    return LogUnavailable("the store is closed; open it again")
