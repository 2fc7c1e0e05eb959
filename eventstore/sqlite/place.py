"""Where a store's file lies: it is made readable by its owner only, and has one name, in its folder.

SQLite keeps the write-ahead log beside the name. Nothing here opens a file that SQLite may have open in this process.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EACCES
from io import FileIO
from pathlib import Path

from eventstore.errors import LogUnavailable
from eventstore.folders import make_private_folders

_MOUNTS = Path("/proc/self/mountinfo")
"""What is mounted where, on Linux: the fifth word of each line."""
_LINKS = Path("/proc/self/fd")
"""Where each file that this process has open is, on Linux."""


def inode_of(path: str) -> tuple[int, int] | None:
    """Return what the path leads to, on which device; None if it leads nowhere."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Held:
    """A file that is held open beside SQLite, which tells whether its name still leads to it.

    Its inode would tell as well, but whoever asks for that has the system note when it is written next, which costs a
    commit to a write-ahead log a third of its fsync (Linux, from 6.13 on). It must not be a file that SQLite has locks
    on: they would be dropped when this one is closed.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._inode = inode_of(path)
        self._handle: FileIO | None = None
        self._link = self._name = ""
        if hasattr(os, "O_PATH") and _LINKS.is_dir():
            with suppress(FileNotFoundError):
                self._handle = FileIO(path, opener=_named_only)
                self._link = f"{_LINKS}/{self._handle.fileno()}"
                self._name = os.readlink(self._link)

    def is_in_place(self) -> bool:
        if self._handle is not None:
            # Of one that was removed it ends in "(deleted)", also where another one has its name.
            return os.readlink(self._link) == self._name
        return self._inode is not None and inode_of(self._path) == self._inode

    def close(self) -> None:
        if self._handle is not None:
            self._handle.close()


def _named_only(path: str, flags: int) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)


def make_private(path: Path) -> None:
    """Create the file, readable by its owner only, if it is not there (SQLite gives its side files the same mode).

    It is not opened for that: closing it would drop all locks that SQLite has on it in this process, and the next one
    elsewhere to close it would take itself for the last and delete the write-ahead log.

    Raises:
        LogUnavailable: It cannot be made or written, is no ordinary file, or has a second name or a mount of its own.
    """
    try:
        make_private_folders(path.parent)
        if not path.exists():
            _make_unopened(os.path.realpath(path))
        if not path.is_file():
            raise LogUnavailable(f"{path} is no ordinary file; give another path")
        if path.stat().st_nlink > 1:
            raise LogUnavailable(
                f"{path} has another name too (a hard link), and SQLite would keep a write-ahead log under each, which "
                "ruins the file; remove the other name, or put a copy in its place"
            )
        if _is_mounted_alone(path):
            raise LogUnavailable(
                f"{path} is mounted without its folder, and SQLite would keep a write-ahead log on either side, which "
                "ruins the file; mount the folder"
            )
        if not os.access(path, os.R_OK | os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))
    except OSError as exc:
        raise LogUnavailable(f"{path} cannot be opened for writing ({exc.strerror}); give another path") from exc


def _is_mounted_alone(path: Path) -> bool:
    """Say whether the file itself is a mount, as a container may be given one, where the system tells."""
    found = os.path.realpath(path).replace("\\", "\\134").replace(" ", "\\040")
    try:
        with _MOUNTS.open(encoding="utf-8", errors="surrogateescape") as mounts:
            return any(mount.split(" ")[4] == found for mount in mounts)
    except OSError:
        return False


def _make_unopened(path: str) -> None:
    with suppress(FileExistsError):
        try:
            os.mknod(path, 0o600)
        except OSError:  # some systems let only root do it, some file systems nobody; it is ours alone all but surely
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
