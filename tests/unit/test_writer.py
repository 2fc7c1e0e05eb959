"""What a writer tells of its verdicts without asking anybody."""

from __future__ import annotations

import time
from typing import Any

import pytest

from eventstore.errors import OutcomeUnknown
from eventstore.events import new_item
from eventstore.ids import new_thread_id
from eventstore.writer import Writer


async def test_a_verdict_that_was_not_had_in_time_names_the_time_of_the_whole_call() -> None:
    nobody: Any = None
    writer = Writer(nobody, nobody, nobody, new_thread_id(), actor=None)
    writer.create(new_item((0, "session_meta", "{}", None)), None, 0)

    with pytest.raises(OutcomeUnknown, match=r"within 0\.3 s; flush it again"):
        await writer.settle(writer.last_seq, within=0.3, deadline=time.monotonic() - 0.2)
