"""Files of tokens."""

from __future__ import annotations

from pathlib import Path

ONE, TWO, THREE = "one-" + "1" * 20, "two-" + "2" * 20, "three-" + "3" * 20


def filled(file: Path, text: str | bytes, *, mode: int = 0o600) -> Path:
    """Write the file, as somebody does who replaces it."""
    beside = file.with_suffix(".next")
    beside.write_bytes(text if isinstance(text, bytes) else text.encode())
    beside.chmod(mode)
    beside.replace(file)
    return file
