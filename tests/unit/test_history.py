"""What a replay makes of a thread: its past as of a time or a version, and records that cannot be understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

import eventstore.judging
from eventstore.admission import Lifecycle
from eventstore.codec import UnreadableRecord
from eventstore.documents.items import Position
from eventstore.errors import InvalidRequest, LogTruncated, UnreadableEvent
from eventstore.events import Event, ItemsAppended
from eventstore.history import UNSEEN, AsOf, History, caught_up, state_at
from eventstore.ids import ThreadId
from eventstore.ports import Entry, ThreadView
from eventstore.state import UNKNOWN_THREAD, Step, freeze, step
from tests.support.logs import ListFeed
from tests.support.passing import PassingViews
from tests.support.tellings import ONE, appended, archived, created, deleted

SECOND = 1_000_000


def at(second: int, event: Event) -> Event:
    return replace(event, occurred_at=second * SECOND)


def entries(events: Sequence[Event | UnreadableRecord], *, first: int = 1) -> list[Entry]:
    return [Entry(Position(0, offset), ONE, event) for offset, event in enumerate(events, start=first)]


def folded(log: Sequence[Entry]) -> ThreadView:
    """Return what views know of the thread that have folded these entries, which all count."""
    view = UNSEEN
    for position, _, event in log:
        assert isinstance(event, Event)
        done = step(view.state, event, offset=position.offset)
        view = ThreadView(done.state, position.offset + 1, (*view.indexed, *done.indexed))
    return view


class Nothing(PassingViews):
    """Views that have folded nothing yet."""

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        return None


class Knowing(PassingViews):
    """Views that know this of the thread."""

    def __init__(self, view: ThreadView) -> None:
        self.view = view

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        return self.view


async def ordinals(second: int, *events: Event) -> list[int]:
    """Return the items that the thread had at that second."""
    no_others: Any = None
    _, items = await History(ListFeed(entries(events)), Nothing(no_others)).as_of(ONE, AsOf(micros=second * SECOND))
    return [item.ordinal for item in items]


async def test_where_a_clock_stepped_back_the_latest_time_so_far_counts() -> None:
    events = (at(1, created()), at(9, appended(1)), at(4, appended(2)), at(10, appended(3)))

    assert [0] == await ordinals(5, *events)
    assert [0, 1, 2] == await ordinals(9, *events)
    assert [0, 1, 2, 3] == await ordinals(10, *events)


@pytest.mark.parametrize(
    "void",
    [
        pytest.param(appended(7, writer="stranger"), id="fenced"),
        pytest.param(archived("late", version=99), id="refused"),
        pytest.param(appended(1), id="duplicate"),
    ],
)
async def test_the_time_of_what_does_not_count_does_not_count(void: Event) -> None:
    events = (at(1, created()), at(2, appended(1)), at(99, void), at(3, appended(2)))

    assert [0, 1, 2] == await ordinals(3, *events)


async def test_a_version_is_reached_or_refused_whatever_does_not_count() -> None:
    events = (at(1, created()), at(2, appended(1)), at(3, archived("late", version=99)))
    no_others: Any = None
    history = History(ListFeed(entries(events)), Nothing(no_others))

    state, _ = await history.as_of(ONE, AsOf())
    _, items = await history.as_of(ONE, AsOf(version=state.head.version))
    assert [0, 1] == [item.ordinal for item in items]
    with pytest.raises(InvalidRequest, match=f"has not come to version 3, it is at version {state.head.version}"):
        await history.as_of(ONE, AsOf(version=3))


async def test_a_thread_at_the_very_first_offset_is_replayed_from_there() -> None:
    no_others: Any = None
    log = ListFeed(entries([created(), appended(1)], first=0))

    _, items = await History(log, Nothing(no_others)).as_of(ONE, AsOf())
    state = await state_at(log, ONE, Position(0, 1))

    assert [0, 1] == [item.ordinal for item in items]
    assert state.head.items == 2


async def test_views_that_are_behind_vouch_for_what_they_have_folded() -> None:
    log = entries([created(), appended(1), appended(2), appended(3)])
    history = History(ListFeed(log), Knowing(folded(log[:2])))
    _, items = await history.as_of(ONE, AsOf())
    assert [0, 1, 2, 3] == [item.ordinal for item in items]

    missed = History(ListFeed([log[0], *log[2:]]), Knowing(folded(log[:2])))
    with pytest.raises(LogTruncated, match="give 1 items at version 1, and 2 at version 2 were folded"):
        await missed.as_of(ONE, AsOf())


async def test_where_the_views_lost_a_place_the_log_is_asked_whatever_is_known_of_later_ones() -> None:
    log = entries([created(), appended(1), appended(2), appended(3)])
    view = folded(log[:3])

    history = History(ListFeed(log), Knowing(view._replace(indexed=view.indexed[:1])))
    places = await history.places(ONE, slice(0, 2), lambda found: found or UNSEEN)

    assert [1, 2] == [record.offset for record in places.records]


async def test_a_frozen_thread_is_caught_up_with_no_further() -> None:
    log = entries([created(), UnreadableRecord("of the future"), appended(1)])
    frozen = ThreadView(freeze(folded(log[:1]).state, "of the future", offset=2), 3)

    assert frozen == await caught_up(ListFeed(log), ONE, frozen)


async def test_what_cannot_be_understood_is_none_of_the_past_before_it() -> None:
    no_others: Any = None
    log = ListFeed(entries([created(), appended(1), appended(2), UnreadableRecord("of the future")]))
    history = History(log, Nothing(no_others))

    _, items = await history.as_of(ONE, AsOf(version=2))
    assert [0, 1] == [item.ordinal for item in items]
    for point in (AsOf(version=3), AsOf()):
        with pytest.raises(UnreadableEvent, match="cannot be read past 0:4: of the future"):
            await history.as_of(ONE, point)


@pytest.mark.parametrize("text", ["9" * 5_000, "noon", "2026-13-01T00:00:00Z"])
def test_a_day_that_is_in_no_calendar_and_a_number_beyond_measure_are_no_points_of_the_past(text: str) -> None:
    with pytest.raises(InvalidRequest, match="neither a version nor a time") as caught:
        AsOf.parse(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["2026-05-01", "2026-05-01T12:00:00", "2026-05-01T12Z", "20260501T120000Z", "\u0663"])
def test_a_time_without_a_zone_is_no_point_of_the_past(text: str) -> None:
    """It would be another one on the next machine; a day's own name is not a time either."""
    with pytest.raises(InvalidRequest, match="neither a version nor a time"):
        AsOf.parse(text)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("12", AsOf(version=12)),
        ("1970-01-01T00:00:01Z", AsOf(micros=SECOND)),
        ("1970-01-01t02:00:01.5+02:00", AsOf(micros=SECOND * 3 // 2)),
        ("9999-12-31T23:59:59.999999Z", AsOf(micros=253_402_300_799_999_999)),
        # In UTC beyond the calendar, which ends there.
        ("9999-12-31T23:59:59-12:00", AsOf(micros=253_402_300_799_999_999)),
        ("0001-01-01T00:00:00+12:00", AsOf(micros=-62_135_596_800_000_000)),
    ],
)
def test_versions_and_times_are_points_of_the_past_to_the_microsecond(text: str, point: AsOf) -> None:
    assert point == AsOf.parse(text)


def broken_by_appends(*args: Any, **kwargs: Any) -> Step:
    if isinstance(args[1], ItemsAppended):
        raise ZeroDivisionError("no such item")
    return step(*args, **kwargs)


async def test_what_the_fold_cannot_do_is_unreadable_to_a_replay_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventstore.judging, "step", broken_by_appends)

    with pytest.raises(UnreadableEvent, match=f"thread {ONE} cannot be read past 0:2: the fold raised ZeroDivision"):
        await state_at(ListFeed(entries([created(), appended(1)])), ONE, Position(0, 2))


async def test_behind_a_delete_nothing_needs_to_be_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventstore.judging, "step", broken_by_appends)
    log = entries([created(), deleted(), UnreadableRecord("of the future"), appended(1)])

    state = await state_at(ListFeed(log), ONE, Position(0, 4))

    assert state.head.lifecycle is Lifecycle.DELETED


async def test_before_a_delete_everything_does() -> None:
    log = entries([created(), UnreadableRecord("of the future"), deleted()])

    with pytest.raises(UnreadableEvent, match="cannot be read past 0:2: of the future"):
        await state_at(ListFeed(log), ONE, Position(0, 3))


def test_a_thread_that_begins_at_the_very_first_offset_begins_there_when_it_is_frozen_too() -> None:
    state = step(UNKNOWN_THREAD, created(), offset=0).state

    assert freeze(state, "of the future", offset=7).start == 0
