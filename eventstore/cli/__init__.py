"""The command line `eventstore`.

Starting is what a person waits for: nothing heavy is imported before the command that needs it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given == ["--version"]:
        from eventstore import __version__

        print(f"eventstore {__version__}")
        return 0
    from eventstore.cli.ending import run

    return run(given)
