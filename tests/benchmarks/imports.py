"""Importing a Codex home: rollout text per second on one core, and the file's size against the text's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from eventstore.ids import new_thread_id
from tests.benchmarks.measure import Figure, payload

_THREADS = 40
_TURNS = 60
_STAMP = "2026-05-01T10:00:00.000Z"


def measure(folder: Path) -> list[Figure]:
    """Import a home of about 25 MB in a process of its own, held on one core."""
    home = folder / "home"
    size = _write_home(home)
    store = folder / "imported.db"
    words = [sys.executable, "-m", "eventstore.cli", "--log", f"sqlite:{store}", "import", str(home)]
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, preexec_fn=_on_one_core)
    seconds = time.perf_counter() - began
    text = f"{size / 1e6:.0f} MB in {_THREADS} threads, process start included"
    return [
        Figure("import of rollout text", size / 1e6 / seconds, "MB/s on one core", ">= 20", text),
        Figure("size of the file", store.stat().st_size / size, "times the imported text", "<= 1.2"),
    ]


def _on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _write_home(home: Path) -> int:
    folder = home / "sessions" / "2026" / "05" / "01"
    folder.mkdir(parents=True)
    size = 0
    for _ in range(_THREADS):
        thread = new_thread_id()
        file = folder / f"rollout-2026-05-01T10-00-00-{thread}.jsonl"
        file.write_text("".join(_lines(thread)))
        size += file.stat().st_size
    return size


def _lines(thread: str) -> list[str]:
    meta = {
        "id": thread,
        "timestamp": _STAMP,
        "cwd": "/home/dev/p",
        "originator": "bench",
        "cli_version": "0.129.0",
        "source": "cli",
        "model_provider": "openai",
        "base_instructions": None,
    }
    return [_line("session_meta", meta), *(line for turn in range(_TURNS) for line in _turn(turn))]


def _turn(number: int) -> list[str]:
    said = {"type": "user_message", "message": f"turn {number}", "images": [], "local_images": []}
    context = {
        "turn_id": f"t{number}",
        "cwd": "/home/dev/p",
        "approval_policy": "never",
        "sandbox_policy": {"type": "read-only"},
        "model": "m",
        "summary": "auto",
    }
    total = {"input_tokens": number, "cached_input_tokens": 0, "output_tokens": 1, "total_tokens": number}
    return [
        _line("event_msg", said),
        _line("turn_context", context),
        *(_line("response_item", payload(n)) for n in range(12)),
        _line("event_msg", {"type": "token_count", "info": {"total_token_usage": total, "last_token_usage": total}}),
    ]


def _line(type_: str, body: object) -> str:
    return json.dumps({"timestamp": _STAMP, "type": type_, "payload": body}, separators=(",", ":")) + "\n"
