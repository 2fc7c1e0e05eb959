"""A partition, read from one offset to another: each entry once, whatever the batches and the holes between offsets."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore.documents.items import Position
from eventstore.ports import Entry
from eventstore.reading import entries_between
from tests.support.logs import ListFeed
from tests.support.tellings import ONE, appended

OFFSETS = (0, 1, 2, 4, 7, 8)


@pytest.mark.parametrize("batch", [1, 2, 3, 500])
async def test_each_entry_is_read_once(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr("eventstore.reading.BATCH", batch)
    log: Any = ListFeed([Entry(Position(0, offset), ONE, appended(offset)) for offset in OFFSETS])

    for start, end in ((start, end) for start in range(10) for end in range(10)):
        batches = [entries async for entries in entries_between(log, 0, start=start, end=end)]
        found = [entry.position.offset for entries in batches for entry in entries]
        assert found == [offset for offset in OFFSETS if start <= offset < end]
        assert all(len(entries) <= batch for entries in batches)
