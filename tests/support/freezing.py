"""Records that nobody understands, or an earlier version only, and a version that does not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

import eventstore.state
from eventstore.codex.metadata import Summary, apply_patch
from eventstore.events import Field
from eventstore.ids import ThreadId

BEYOND = "something that only a later version understands"


@contextmanager
def an_earlier_version() -> Iterator[None]:
    """Let the fold raise at a name, as a version does that does not know what to make of it."""

    def patched(summary: Summary, fields: Sequence[Field], occurred_at: int) -> Summary:
        if any(BEYOND in (field.value or "") for field in fields):
            raise ValueError(BEYOND)
        return apply_patch(summary, tuple(fields), occurred_at)

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(eventstore.state, "apply_patch", patched)
        yield


def of_an_unknown_schema(thread_id: ThreadId) -> bytes:
    return b"\xc3\x01" + b"unheard!" + b"whatever it says"
