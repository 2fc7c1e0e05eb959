"""Files that hold conversations: readable by their owner only, and there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from uuid import uuid4

from eventstore.errors import InvalidRequest
from eventstore.folders import make_private_folders, sync_names


@contextmanager
def private_file(path: Path, *, overwrite: bool = False) -> Iterator[TextIO]:
    """Write a file that appears under its name, to last, when the block ends, and not at all when the block raises.

    Its mode is 0600; missing folders above it are made with mode 0700.

    Raises:
        InvalidRequest: The file is there already and may not be replaced, or it cannot be written.
    """
    try:
        make_private_folders(path.parent)
        _refuse_existing(path, overwrite)
        part = path.with_name(f".{path.name}.{uuid4().hex}.part")
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _refuse_existing(path, overwrite)
            part.replace(path)
            sync_names(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as exc:
        raise InvalidRequest(f"{path} cannot be written: {exc.strerror}; free some space or give another path") from exc


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise InvalidRequest(f"{path} is no ordinary file; give another name")
    if path.exists() and not overwrite:
        raise InvalidRequest(f"{path} is there already; give another name, or ask to overwrite it")
