"""Errors: a family per next move of the caller, a member per cause."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest

from eventstore import errors
from eventstore.errors import (
    Behind,
    Broken,
    Conflict,
    EventStoreError,
    Rejected,
    ThreadNotFound,
    Unavailable,
    Unknown,
)

FAMILIES: dict[type[EventStoreError], set[str]] = {
    Rejected: {"InvalidRequest", "UnknownThread", "ThreadNotFound", "AppendTooLarge", "Unsupported"},
    Conflict: {"WriterFenced", "WrongExpectedVersion", "ThreadExists"},
    Unavailable: {"LogUnavailable", "ViewsUnavailable"},
    Behind: {"ViewsBehind"},
    Unknown: {"OutcomeUnknown"},
    Broken: {"UnreadableEvent", "LogTruncated", "TopicMisconfigured", "ViewsAheadOfLog"},
}
ALL = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, EventStoreError) and error.__module__ == errors.__name__
]
MEMBERS = [error for error in ALL if error is not EventStoreError and error not in FAMILIES]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_its_members(family: type[EventStoreError]) -> None:
    found = {error.__name__ for error in MEMBERS if issubclass(error, family)}
    assert found >= FAMILIES[family]


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_belongs_to_one_family(member: type[EventStoreError]) -> None:
    """Whoever catches it knows what to do next, and only one thing."""
    assert len([family for family in FAMILIES if issubclass(member, family)]) == 1


def test_a_family_is_a_family_and_nothing_else() -> None:
    assert {family.__base__ for family in FAMILIES} == {EventStoreError}


def test_the_command_line_ends_differently_for_each_family() -> None:
    codes = [family.exit_code for family in FAMILIES]
    assert len({0, 1, *codes}) == 2 + len(FAMILIES)
    assert EventStoreError.exit_code == 1


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_ends_the_command_line_as_its_family_does(member: type[EventStoreError]) -> None:
    (family,) = (family for family in FAMILIES if issubclass(member, family))
    assert member.exit_code == family.exit_code


@pytest.mark.parametrize("error", ALL)
def test_an_error_says_what_it_means_and_what_to_do(error: type[EventStoreError]) -> None:
    assert error.__doc__ is not None
    assert error.__doc__.strip().endswith(".")
    assert "__doc__" in vars(error)


def test_a_thread_that_is_not_found_is_named_in_the_words_of_the_contract() -> None:
    error = ThreadNotFound("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10")
    assert str(error) == "thread 019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10 not found"
    assert error.thread_id == "019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10"


@pytest.mark.parametrize("member", MEMBERS)
def test_an_error_is_the_same_in_another_process(member: type[EventStoreError]) -> None:
    """A pool of processes hands errors over as bytes."""
    error = member("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10")
    error.add_note("seen by a worker")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(again), str(again), vars(again)) == (member, str(error), vars(error))


@pytest.mark.parametrize("member", [member for member in MEMBERS if member is not ThreadNotFound])
def test_an_error_says_the_message_and_nothing_else(member: type[EventStoreError]) -> None:
    """The wire carries the message; the contract's prefixes are the client's (§7)."""
    assert str(member("thread not found: 7")) == "thread not found: 7"
