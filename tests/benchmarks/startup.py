"""How long a person waits for the command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.measure import Figure, median, timed_raw


def measure(folder: Path, *, rounds: int) -> list[Figure]:
    """Return wall-clock medians, each beside a bare interpreter's in the same rounds."""
    store = f"sqlite:{folder / 'startup.db'}"
    bare = [sys.executable, "-c", "pass"]
    command = [sys.executable, "-m", "eventstore.cli"]
    times: dict[str, list[float]] = {"bare": [], "--version": [], "list": []}
    hello = b'{"type": "event_msg", "payload": {"type": "user_message", "message": "hello"}}'
    subprocess.run([*command, "--log", store, "new"], input=hello, check=True, capture_output=True)
    for _ in range(rounds):
        times["bare"].append(timed_raw(lambda: subprocess.run(bare, check=True)))
        for name, words in (("--version", ["--version"]), ("list", ["--log", store, "list"])):
            times[name].append(
                timed_raw(lambda w=words: subprocess.run([*command, *w], check=True, capture_output=True))
            )
    beside = f"a bare interpreter takes {median(times['bare']) * 1000:.0f} ms"
    return [
        Figure(f"eventstore {name}", median(times[name]) * 1000, "ms", "< 250", beside)
        for name in ("--version", "list")
    ]
