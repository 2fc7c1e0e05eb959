"""Append ids in bounded memory: none that was said is denied, and few that were not are believed."""

from __future__ import annotations

import tracemalloc
from uuid import uuid4

import pytest

from eventstore.repetition import EXACTLY, AppendIds

MANY = 20 * EXACTLY


def ids(number: int) -> list[str]:
    return [str(uuid4()) for _ in range(number)]


def asked() -> AppendIds:
    known = AppendIds(are_all_known=True)
    assert known.has(str(uuid4())) is False
    return known


def test_what_was_said_is_never_denied() -> None:
    known, said = asked(), ids(MANY)
    for number, append_id in enumerate(said, start=1):
        known.say(append_id)
        assert known.has(append_id) is (True if number % EXACTLY else None), "the latest are known exactly"

    assert not any(known.has(append_id) is False for append_id in said)


def test_what_was_not_said_is_seldom_taken_for_known() -> None:
    known = asked()
    for append_id in ids(MANY):
        known.say(append_id)

    answers = [known.has(append_id) for append_id in ids(10_000)]

    assert True not in answers
    assert answers.count(None) < 50


def test_what_was_read_is_known_as_well_as_what_was_said() -> None:
    known, read = AppendIds(are_all_known=False), ids(2 * EXACTLY)
    assert known.has(read[0]) is None
    for append_id in read:
        known.hear(append_id)
    assert known.has(str(uuid4())) is None, "there may be more"

    known.are_all_known = True

    assert not any(known.has(append_id) is False for append_id in read)
    assert known.has(str(uuid4())) is False


def test_where_nobody_asks_many_are_forgotten_and_have_to_be_read() -> None:
    known = AppendIds(are_all_known=True)
    for append_id in ids(EXACTLY):
        known.say(append_id)

    assert known.has(append_id) is None
    assert known.has(str(uuid4())) is None


@pytest.mark.parametrize("known", [asked(), AppendIds(are_all_known=True), AppendIds(are_all_known=False)])
def test_however_many_there_are_they_take_no_more_memory(known: AppendIds) -> None:
    tracemalloc.start()
    try:
        for number in range(MANY):
            known.say(f"{number:036}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 300_000
