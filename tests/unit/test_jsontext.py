"""JSON as text: what comes in goes out, and what is no JSON is said to be none."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum, StrEnum
from http import HTTPStatus
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.jsontext import MalformedJson, dumps, loads, loads_fast

NOT_JSON = ["", "{", "NaN", "Infinity", "-Infinity", "[1,]", "1 2", "'a'", b"\xff", "[" * 100_000]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**18, 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert loads(dumps(value)) == value


@given(VALUES)
def test_the_text_written_is_what_any_parser_reads(value: Any) -> None:
    assert json.loads(dumps(value)) == value


@pytest.mark.parametrize("text", ["123456789012345678901234567890", '"\\ud800"', '{"b": 1, "a": 2}', "-0", "null"])
def test_a_text_is_parsed_exactly(text: str) -> None:
    assert json.dumps(loads(text)) == json.dumps(json.loads(text))


@pytest.mark.parametrize("text", ['"\\ud800"', "1e400", "[" * 500 + "]" * 500, "null"])
def test_a_fast_look_takes_whatever_an_exact_one_takes(text: str) -> None:
    assert loads_fast(text) == loads(text)


@pytest.mark.parametrize("text", NOT_JSON, ids=lambda text: repr(text[:9]))
def test_what_is_not_one_json_value_is_malformed(text: str | bytes) -> None:
    for parse in (loads, loads_fast):
        with pytest.raises(MalformedJson):
            parse(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {"a": [math.nan, None]}, {1, 2}, object(), b"bytes"])
def test_a_value_without_a_json_form_is_malformed(value: object) -> None:
    """Not a number is not null: a value is never quietly another one."""
    with pytest.raises(MalformedJson):
        dumps(value)


class Colour(Enum):
    RED = "red"
    GREAT = 10**30
    NEVER = math.nan
    ODD = date(2026, 5, 1)


class Word(StrEnum):
    YES = "yes"


class Place(NamedTuple):
    x: int = 1


class Name(str):
    pass


class Table(dict[str, int]):
    pass


@dataclass
class Point:
    x: int = 1


BESIDE = [1, None, "null", 10**30, "\ud83d", Name("x"), [[None]]]
"""Other values, which are written in other ways."""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Colour.RED, '"red"'),
        (Colour.GREAT, "1" + "0" * 30),
        (Word.YES, '"yes"'),
        (HTTPStatus.OK, "200"),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (orjson.Fragment(b'{"a":1}'), '{"a":1}'),
        (Name("x"), '"x"'),
        (Table(a=1), '{"a":1}'),
        (Place(), "[1]"),
        ((1, 2), "[1,2]"),
        ({Word.YES: 1, Name("x"): 2, 3: 4}, '{"yes":1,"x":2,"3":4}'),
        (datetime(2026, 5, 1, tzinfo=UTC), None),
        (date(2026, 5, 1), None),
        (time(12), None),
        (Point(), None),
        (Colour.NEVER, None),
        (Colour.ODD, None),
        (Decimal(1), None),
        (b"bytes", None),
        ({1, 2}, None),
        ({UUID(int=1): 1}, None),
        (math.nan, None),
    ],
)
def test_a_value_is_taken_or_refused_whatever_stands_beside_it(value: object, text: str | None) -> None:
    for other in BESIDE:
        if text is None:
            with pytest.raises(MalformedJson):
                dumps([value, other])
        else:
            assert dumps([value, other]) == f"[{text},{dumps(other)}]"


def test_a_value_within_itself_is_malformed() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(MalformedJson):
        dumps(cycle)


def test_texts_are_compact_and_readable() -> None:
    assert dumps({"a": [1, None, "é"]}) == '{"a":[1,null,"é"]}'
