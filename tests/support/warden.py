"""Ends what a test run started once nobody of the run is left, be it that all were killed.

A process on its own: `python -m tests.support.warden FOLDER`. It inherits the lock `FOLDER/warden`, and whoever can
take that lock after the run knows that nothing is left.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import sys
from pathlib import Path

from compose.services.health import end_all, nodes_under


def main(folder: Path) -> None:
    with (folder / "alive").open("ab") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
    asyncio.run(end_all(nodes_under(folder)))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
