"""The command line `eventstore`.

Starting is what a person waits for: nothing heavy is imported before the command that needs it runs, and nothing at all
before Ctrl-C is taken care of.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as type checkers know it: `typing` takes longer to import than all that is done here
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code.

    Without arguments those of the process are taken, which is then this command's own.
    """
    try:
        if arguments is None:
            from eventstore.cli.interrupts import end_at_once

            end_at_once()
        from eventstore.cli.ending import run

        return run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        return 130  # INTERRUPTED, whose import may be what was cut short
