"""Names: canonical where they enter, fresh ones in order of time."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.errors import InvalidRequest
from eventstore.ids import new_event_id, new_thread_id, new_writer_id, parse_thread_id

CANONICAL = "019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10"


@pytest.mark.parametrize(
    "text", [CANONICAL, CANONICAL.upper(), CANONICAL.replace("-", ""), f"urn:uuid:{CANONICAL}", f"URN:UUID:{CANONICAL}"]
)
def test_a_uuid_in_any_usual_form_is_one_thread_id(text: str) -> None:
    assert parse_thread_id(text) == CANONICAL


@given(st.uuids())
def test_a_uuid_of_any_version_parses(uuid: UUID) -> None:
    assert parse_thread_id(str(uuid)) == str(uuid) == parse_thread_id(uuid)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not-a-uuid",
        CANONICAL[:-1],
        CANONICAL + "0",
        f" {CANONICAL}",
        f"{CANONICAL}\n",
        CANONICAL.replace("-", "_"),
        CANONICAL[:-1] + "\u0661",
        CANONICAL[:-1] + "g",
        "0-19dbb4e0f0a7c339a562f4f3b7f1f10",
        "019dbb4e_0f0a7c339a562f4f3b7f1f10",
        "None",
    ],
)
def test_what_is_not_a_uuid_is_an_invalid_request(text: str) -> None:
    with pytest.raises(InvalidRequest, match="give a UUID"):
        parse_thread_id(text)


@given(st.text(max_size=40))
def test_any_text_either_parses_or_is_an_invalid_request(text: str) -> None:
    with suppress(InvalidRequest):
        assert str(UUID(parse_thread_id(text))) == parse_thread_id(text)


@pytest.mark.parametrize("fresh", [new_thread_id, new_event_id, new_writer_id])
def test_a_fresh_name_is_a_version_7_uuid_of_now(fresh: object) -> None:
    assert callable(fresh)
    before = time.time_ns() // 1_000_000
    uuid = UUID(fresh())
    after = time.time_ns() // 1_000_000

    assert (uuid.version, uuid.variant) == (7, "specified in RFC 4122")
    assert before <= uuid.int >> 80 <= after


def test_a_fresh_name_is_in_canonical_form() -> None:
    name = new_thread_id()
    assert parse_thread_id(name) == name


def test_fresh_names_differ() -> None:
    assert len({new_event_id() for _ in range(10_000)}) == 10_000


def test_a_forked_process_makes_names_of_its_own() -> None:
    def noises() -> list[str]:
        return [new_event_id()[-16:] for _ in range(5)]

    new_event_id()  # so that there is something that both could use
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(noises()).encode())
        os._exit(0)
    own = noises()
    os.waitpid(child, 0)

    theirs = os.read(reading, 4096).decode().split()
    os.close(reading)
    os.close(writing)
    assert (len(own), len(theirs)) == (5, 5)
    assert not set(own) & set(theirs)
