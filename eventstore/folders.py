"""Folders that hold conversations, and what the disk knows of the names in them.

A file whose bytes were synced is lost with the power all the same, while the folder that names it was not.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EINVAL
from pathlib import Path


def make_private_folders(path: Path) -> None:
    """Make the folder and those above it, where they are missing, with mode 0700, each of them to last.

    Raises:
        OSError: One of them cannot be made, or is something else.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_names(folder.parent)


def sync_names(folder: Path) -> None:
    """Have the disk take which files are in the folder, where we may read it and its file system does such a thing.

    Raises:
        OSError: The disk fails.
    """
    with suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as exc:
            if exc.errno != EINVAL:
                raise
        finally:
            os.close(handle)
