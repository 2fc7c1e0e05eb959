"""Ctrl-C: it ends a command quietly at whatever moment it comes.

While the store is open the command is cancelled, so that nothing half done stays behind. Before and after that there
is nothing to tidy up, and the process ends where it stands, for an exception would surface in the middle of an import.
What comes while Python itself starts, before anything here runs, is not ours to answer.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130
"""As a shell reports a program ended by Ctrl-C."""


def end_at_once() -> None:
    """From now on Ctrl-C ends the process at once, unless whoever started it has Ctrl-C ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


@contextmanager
def cancelling() -> Iterator[None]:
    """Leave Ctrl-C to asyncio for the block: it cancels what runs there."""
    ours = signal.getsignal(signal.SIGINT) is _end
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: object) -> None:
    os._exit(INTERRUPTED)
