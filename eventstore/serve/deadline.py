"""The deadline that a server sets for each call, whatever its client allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from eventstore.errors import OutcomeUnknown

SHARE_FOR_STORE: Final = 0.9
"""Of a call's time, the share in which the store has to answer: it can tell why it did not, which the rest is for."""


@asynccontextmanager
async def ended_within(within: float) -> AsyncIterator[None]:
    """End the block after so many seconds.

    Raises:
        OutcomeUnknown: They were over. What the block began is as it would be had its caller gone.
    """
    limit = asyncio.timeout(within)
    try:
        async with limit:
            yield
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise OutcomeUnknown(
            f"a call may take {within:g} s here, and this one had not ended; what it was to change may be changed "
            "still: read the thread, or repeat an append with the same append id"
        ) from exc
