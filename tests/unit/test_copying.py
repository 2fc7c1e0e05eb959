"""What is told of two logs that do not mean the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eventstore.copying import compared
from eventstore.documents.items import Position
from eventstore.events import Event, Item
from eventstore.ports import Entry
from tests.support.logs import ListFeed
from tests.support.tellings import ONE, OTHER, appended, archived, created

CREATED, APPENDED = created(), appended(1)
ANOTHERS = created(thread=OTHER, event="another", writer="w2")


async def told(source: list[Event], target: list[Event]) -> tuple[str | None, int]:
    logs: list[Any] = [
        ListFeed([Entry(Position(0, offset), event.thread_id, event) for offset, event in enumerate(events)])
        for events in (source, target)
    ]
    return await compared(*logs)


async def test_a_log_with_more_threads_says_the_same_of_those_that_both_have() -> None:
    assert (None, 0) == await told([CREATED, APPENDED], [CREATED, APPENDED])
    assert (None, 0) == await told([CREATED, replace(APPENDED, thread_id=OTHER)], [CREATED]), "nothing came of it"
    assert (None, 1) == await told([CREATED, APPENDED], [ANOTHERS, CREATED, APPENDED])


async def test_the_first_thread_that_differs_is_named_and_in_what() -> None:
    otherwise = replace(APPENDED, items=(Item(0, "x", "[]"),))

    targets = {"version": [CREATED], "digest": [CREATED, otherwise], "lifecycle": [CREATED, archived("a")]}

    assert (f"thread {OTHER} is in the source only", 0) == await told([CREATED, ANOTHERS], [CREATED])
    for name, target in targets.items():
        difference = f"thread {ONE} is not the same in both: {name} differs"
        assert (difference, 0) == await told([ANOTHERS, CREATED, APPENDED], [*target])
