"""The deadline that a server sets for each call, whatever its client allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from eventstore.errors import OutcomeUnknown
from eventstore.serve.statuses import NotInTime

SHARE_FOR_STORE: Final = 0.9
"""Of a call's time, the share in which the store has to answer: it can tell why it did not, which the rest is for."""


@asynccontextmanager
async def ended_within(within: float, *, changes: bool) -> AsyncIterator[None]:
    """End the block, which `changes` something or only reads, after so many seconds.

    Raises:
        OutcomeUnknown: They were over. What the block began is as it would be had its caller gone.
        NotInTime: They were over, and nothing was changed.
    """
    limit = asyncio.timeout(within)
    try:
        async with limit:
            yield
    except TimeoutError as exc:
        if not limit.expired():
            raise
        over = f"a call may take {within:g} s here, and this one had not ended"
        if not changes:
            raise NotInTime(f"{over}; nothing was changed: ask for less, or try again later") from exc
        raise OutcomeUnknown(
            f"{over}; what it was to change may be changed still: flush the thread if it is live, read it, or repeat "
            "an append with the same append id"
        ) from exc
