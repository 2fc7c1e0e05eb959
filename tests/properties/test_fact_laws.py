"""The law of facts: what a history says is what its parts say, in their order, and nothing in a payload raises."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from eventstore.admission import Head
from eventstore.codex.metadata import (
    NO_FACTS,
    Facts,
    Summary,
    apply_facts,
    observe,
    stored_thread,
)
from eventstore.events import Item
from tests.support.said import (
    BASE,
    GIT,
    IMAGE,
    MARKED,
    OTHER,
    OWN,
    SOUND,
    SPAWNED,
    STAMP,
    STAMP_MICROS,
    TEXT,
    USAGE,
    completed,
    configured,
    counted,
    event,
    goal,
    item,
    meta,
    named,
    said,
    summary_of,
    turn,
)

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
READ_NAMES = """
    type id timestamp cwd cli_version model_provider memory_mode git source agent_role agent_type thread_source
    forked_from_id history_mode history_base model effort approval_policy sandbox_policy permission_profile message
    images local_images item content text info total_token_usage thread_name thread_id goal objective
    thread_settings commit_hash thread_spawn subagent
"""
READ_KEYS = READ_NAMES.split()
READ_EVENTS = [
    "user_message",
    "item_completed",
    "token_count",
    "thread_name_updated",
    "thread_goal_updated",
    "thread_settings_applied",
]
TYPES = st.sampled_from(["session_meta", "turn_context", "event_msg"])


@st.composite
def odd_items(draw: st.DrawFn) -> Item:
    """Right names, wrong types."""
    payload: Any = draw(JSON_VALUES | st.dictionaries(st.sampled_from(READ_KEYS), JSON_VALUES, max_size=6))
    if isinstance(payload, dict):
        nested = st.dictionaries(st.sampled_from(READ_KEYS), JSON_VALUES, max_size=4)
        for key in ("item", "info", "goal", "thread_settings", "git", "source"):
            if draw(st.booleans()):
                payload[key] = draw(nested)
        payload = {"type": draw(st.sampled_from(READ_EVENTS)), **payload, "id": OWN}
    return item(draw(TYPES), payload)


@given(odd_items())
@settings(max_examples=300)
def test_a_malformed_payload_never_raises_and_what_it_says_can_be_stored(odd: Item) -> None:
    summary = summary_of(meta(), odd)
    json.dumps(asdict(summary), ensure_ascii=False).encode()
    stored_thread(OWN, summary, Head()).model_dump_json()


TEXTS = st.sampled_from(["", " ", "hi", "two", MARKED])
MAYBE_TEXTS = st.none() | TEXTS
IDS = st.sampled_from([OWN, OWN, OWN, OTHER])
EFFORTS = st.sampled_from([None, "low", "high", 5])
SOURCES = st.sampled_from(["cli", "toaster", None, SPAWNED, {"subagent": "memory_consolidation"}, {"custom": "x"}])
GITS = st.sampled_from([None, {}, GIT, {"branch": "dev"}, {"branch": None}, {"branch": 5}])
TIMES = st.integers(min_value=0, max_value=5) | st.sampled_from([1_776_964_829_115, 1_776_964_829_200])

METAS = st.builds(
    meta,
    at=TIMES,
    id=IDS,
    timestamp=st.sampled_from([STAMP, "", "1970-01-01T00:00:00Z", "2020-01-01T00:00:00.000Z"]),
    cwd=TEXTS,
    source=SOURCES,
    git=GITS,
    model_provider=MAYBE_TEXTS,
    memory_mode=st.sampled_from([None, "enabled", "disabled", "x"]),
    history_mode=st.sampled_from([None, "legacy", "paginated"]),
    history_base=st.sampled_from([None, BASE]),
    forked_from_id=st.none() | IDS,
    parent_thread_id=st.none() | IDS,
    agent_nickname=MAYBE_TEXTS,
    thread_source=MAYBE_TEXTS,
)
TURNS = st.builds(turn, cwd=TEXTS, model=TEXTS, effort=EFFORTS, permission_profile=MAYBE_TEXTS)
CONFIGURED = st.builds(configured, cwd=TEXTS, model=TEXTS, model_provider_id=TEXTS, reasoning_effort=EFFORTS)
USERS = st.builds(said, TEXTS, images=st.lists(st.just("x"), max_size=1))
ITEMS = st.one_of(
    METAS,
    TURNS,
    CONFIGURED,
    USERS,
    st.builds(completed, st.sampled_from([TEXT, IMAGE, SOUND, 5])),
    st.builds(named, MAYBE_TEXTS, thread_id=st.none() | IDS),
    st.builds(goal, MAYBE_TEXTS),
    st.builds(counted, st.sampled_from([USAGE, {"total_tokens": 1}, [], None])),
    st.builds(event, st.sampled_from(["agent_message", "task_started"]), at=TIMES),
    st.builds(item, st.just("response_item"), st.just({"type": "message"}), at=TIMES),
    odd_items(),
)
HISTORIES = st.lists(ITEMS, max_size=6)
SUMMARIES = st.builds(
    Summary,
    created_at=st.sampled_from([0, 1, STAMP_MICROS]),
    updated_at=st.sampled_from([0, 1, STAMP_MICROS + 1]),
    preview=TEXTS,
    name=MAYBE_TEXTS,
    title=TEXTS,
    cwd=TEXTS,
    model=MAYBE_TEXTS,
    reasoning_effort=MAYBE_TEXTS,
    first_user_message=MAYBE_TEXTS,
    git_branch=MAYBE_TEXTS,
    history_mode=st.sampled_from([None, "legacy", "paginated"]),
    forked_from_id=st.none() | st.just(OTHER),
)


@given(HISTORIES, HISTORIES)
@settings(max_examples=500)
def test_observing_a_history_is_observing_its_parts(before: list[Item], after: list[Item]) -> None:
    assert observe(OWN, before + after) == observe(OWN, before).then(observe(OWN, after))


@given(SUMMARIES, HISTORIES, HISTORIES)
@settings(max_examples=500)
def test_applying_facts_is_applying_their_parts(summary: Summary, before: list[Item], after: list[Item]) -> None:
    first, second = observe(OWN, before), observe(OWN, after)
    assert apply_facts(apply_facts(summary, first), second) == apply_facts(summary, first.then(second))


@given(HISTORIES, HISTORIES, HISTORIES)
def test_facts_are_a_monoid(one: list[Item], two: list[Item], three: list[Item]) -> None:
    a, b, c = (observe(OWN, items) for items in (one, two, three))
    assert a.then(b).then(c) == a.then(b.then(c))
    assert a.then(NO_FACTS) == a == NO_FACTS.then(a)
    assert observe(OWN, []) == NO_FACTS


@given(SUMMARIES, HISTORIES)
def test_facts_survive_storage_and_time_never_goes_back(summary: Summary, items: list[Item]) -> None:
    facts = observe(OWN, items)
    assert Facts(**json.loads(json.dumps(asdict(facts)))) == facts
    assert apply_facts(summary, facts).updated_at >= summary.updated_at
    assert apply_facts(summary, NO_FACTS) == summary


def _first_fact_wins(earlier: Facts, later: Facts) -> Facts:
    return Facts(max(earlier.latest, later.latest), {**later.first, **earlier.first}, {**later.last, **earlier.last})


def _last_fact_wins(earlier: Facts, later: Facts) -> Facts:
    return Facts(max(earlier.latest, later.latest), {**earlier.first, **later.first}, {**earlier.last, **later.last})


def _only_the_later_time(earlier: Facts, later: Facts) -> Facts:
    return replace(earlier.then(later), latest=later.latest)


@pytest.mark.parametrize("wrong", [_first_fact_wins, _last_fact_wins, _only_the_later_time])
def test_a_wrong_combination_breaks_the_law(wrong: Any) -> None:
    """The histories tried above can tell right from wrong."""

    def breaks(case: tuple[Summary, list[Item], list[Item]]) -> bool:
        summary, before, after = case
        first, second = observe(OWN, before), observe(OWN, after)
        return apply_facts(apply_facts(summary, first), second) != apply_facts(summary, wrong(first, second))

    try:
        search = settings(max_examples=500, database=None, phases=[Phase.generate])
        find(st.tuples(SUMMARIES, HISTORIES, HISTORIES), breaks, settings=search)
    except NoSuchExample:
        pytest.fail("no history shows the difference")
