"""What is given to commands, what they are asked about, and what they say."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from tests.conftest import EXAMPLE_HOME

if TYPE_CHECKING:
    from tests.cli.conftest import CommandLine

NAMED = "01a09ef9-b536-7696-a7ca-7de3bcd7fb5e"
PAGINATED = "01a1539c-8e31-79fa-97ac-6194f0ce09d1"
ARCHIVED = "01a0441f-212b-78f8-80f3-f0844eb9b951"
"""Threads of the example home."""
ANYTHING = (
    "show",
    "history",
    "export",
    "append",
    "archive",
    "unarchive",
    "delete --yes",
    "rename {} N",
    "set {} name=N",
)
"""Commands about one thread, whose id stands at the end or in the place of the braces."""
REJECTED, UNAVAILABLE, BROKEN = 2, 4, 7
"""Exit codes of families of errors."""


def rollout(thread_id: str) -> list[dict[str, object]]:
    """Return the lines of a thread's rollout in the example home."""
    (file,) = EXAMPLE_HOME.rglob(f"rollout-*{thread_id}.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def said(*texts: str) -> str:
    """Return the lines of what an agent says."""
    return "".join(
        json.dumps({"type": "event_msg", "payload": {"type": "agent_message", "message": text}}) + "\n"
        for text in texts
    )


def asked(text: str) -> str:
    """Return the line of what a user says."""
    return json.dumps({"type": "event_msg", "payload": {"type": "user_message", "message": text}}) + "\n"


def texts(cli: CommandLine, thread_id: str) -> list[str]:
    """Return what was said in the thread."""
    lines = cli.done("history", thread_id, "--json").lines
    return [line["payload"]["message"] for line in lines if "message" in line["payload"]]


def words_of(command: str, thread: str) -> list[str]:
    """Return the words of the command about the thread."""
    return command.format(thread).split() if "{}" in command else [*command.split(), thread]


def matches(sentence: str, said_: str) -> bool:
    """Whether this is said, in one line."""
    return re.fullmatch(f"{sentence}\n?", said_) is not None
