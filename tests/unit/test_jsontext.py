"""JSON as text: what comes in goes out, and what is no JSON is said to be none."""

from __future__ import annotations

import json
import math
from typing import Any

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


def test_a_value_within_itself_is_malformed() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(MalformedJson):
        dumps(cycle)


def test_texts_are_compact_and_readable() -> None:
    assert dumps({"a": [1, None, "é"]}) == '{"a":[1,null,"é"]}'
