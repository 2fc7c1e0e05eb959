"""What a rollout file is called (contract §1.6).

The time in a name is the machine's local time when it is written, and taken for UTC by every reader; the truth
is in the session_meta.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from eventstore.ids import ThreadId, parse_thread_id

_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_NAME = re.compile(rf"rollout-(\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\d)-({_UUID})(?:_{_UUID})?\.jsonl", re.ASCII)
"""What follows the thread's id, in files that a revert made, is the rollout's own."""
_TIME_FORM = "%Y-%m-%dT%H-%M-%S"


class RolloutName(NamedTuple):
    """What a file's name says."""

    created: datetime
    """The name's time, taken for UTC."""
    thread_id: ThreadId


def parse_rollout_name(name: str) -> RolloutName | None:
    """Return what the name of a file (without its folder) says; None if it is no rollout file's."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    try:
        created = datetime.strptime(found[1], _TIME_FORM).replace(tzinfo=UTC)
    except ValueError:
        return None
    return RolloutName(created, parse_thread_id(found[2]))


def rollout_name(created: datetime, thread_id: ThreadId) -> str:
    """Return the name of a thread's rollout file; `created` is written as it stands: give local time."""
    return f"rollout-{created:{_TIME_FORM}}-{thread_id}.jsonl"
