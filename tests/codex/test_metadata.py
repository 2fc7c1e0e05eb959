"""Metadata as a fold: the rules of the contract's §4 and §8 E, the law of facts, patches, and what callers see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from pydantic import ValidationError

from eventstore.admission import Head
from eventstore.codex.metadata import (
    EMPTY,
    NO_FACTS,
    Facts,
    Summary,
    apply_archived,
    apply_facts,
    apply_patch,
    apply_unarchived,
    observe,
    patch_fields,
    stored_thread,
)
from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
from eventstore.documents.threads import (
    GitInfo,
    HistoryPosition,
    StoredThread,
    ThreadHistoryMode,
    ThreadMemoryMode,
    TokenUsage,
)
from eventstore.errors import InvalidRequest
from eventstore.events import Field, Item
from eventstore.ids import ThreadId

OWN = ThreadId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10")
OTHER = ThreadId("019dbb57-91c2-7e01-8a11-0a5d3f2b9c44")
STAMP, STAMP_MICROS = "2026-04-23T17:20:29.115Z", 1776964829115000
USAGE = {
    "input_tokens": 5200,
    "cached_input_tokens": 3000,
    "cache_write_input_tokens": 0,
    "output_tokens": 410,
    "reasoning_output_tokens": 120,
    "total_tokens": 5610,
}


def item(type_: str, payload: object, *, at: int = 1) -> Item:
    return Item(at, type_, json.dumps(payload))


def event(type_: str, *, at: int = 1, **fields_: object) -> Item:
    return item("event_msg", {"type": type_, **fields_}, at=at)


def meta(*, at: int = 1, **changes: object) -> Item:
    payload = {"id": OWN, "timestamp": STAMP, "cwd": "/a", "originator": "o", "cli_version": "1", "source": "cli"}
    return item("session_meta", {**payload, "model_provider": "openai", "base_instructions": None, **changes}, at=at)


def turn(**fields_: object) -> Item:
    return item("turn_context", {"cwd": "/b", "model": "m1", "approval_policy": "never", **fields_})


def said(text: object, **fields_: object) -> Item:
    return item("event_msg", {"type": "user_message", "message": text, **fields_})


def completed(*content: object, type_: str = "UserMessage") -> Item:
    return event("item_completed", thread_id=OWN, item={"type": type_, "content": list(content)})


def named(name: object, **fields_: object) -> Item:
    return item("event_msg", {"type": "thread_name_updated", "thread_id": OWN, "thread_name": name, **fields_})


def counted(usage: object) -> Item:
    return event("token_count", info={"total_token_usage": usage, "last_token_usage": None})


def configured(**settings_: object) -> Item:
    return event("thread_settings_applied", thread_id=OWN, thread_settings=settings_)


def goal(objective: object) -> Item:
    return event("thread_goal_updated", threadId=OWN, goal={"objective": objective})


def summary_of(*items: Item) -> Summary:
    return apply_facts(EMPTY, observe(OWN, items))


def shown(summary: Summary, names: Sequence[str]) -> dict[str, object]:
    """Return these fields, what is JSON text parsed."""
    values = {name: getattr(summary, name) for name in names}
    structured = {"source", "approval_mode", "sandbox_policy", "permission_profile", "token_usage", "history_base"}
    return {
        name: json.loads(value) if name in structured and value is not None else value for name, value in values.items()
    }


SPAWNED = {
    "subagent": {
        "thread_spawn": {
            "parent_thread_id": OTHER,
            "depth": 1,
            "agent_path": None,
            "agent_nickname": "Ada",
            "agent_type": "explorer",
        }
    }
}
BASE = {"thread_id": OTHER, "end_ordinal_exclusive": 30, "end_byte_offset": 44339}
TEXT, IMAGE, SOUND = {"type": "text", "text": "hi"}, {"type": "image", "image_url": "x"}, {"type": "audio"}
GIT = {"commit_hash": "c", "branch": "b", "repository_url": "u"}
MARKED = "# Context from my IDE\n## My request for Codex: do X \n"

RULES: dict[str, tuple[list[Item], dict[str, object]]] = {
    "the request follows the marker": (
        [said(MARKED)],
        {"first_user_message": "do X", "preview": "do X", "title": "do X"},
    ),
    "text is trimmed": ([said(" \n hi\t")], {"preview": "hi", "title": "hi"}),
    "the first user message counts": (
        [said("one"), said("two")],
        {"first_user_message": "one", "preview": "one", "title": "one"},
    ),
    "an image is a preview and never a title": (
        [said("", images=["x"])],
        {"first_user_message": "[Image]", "preview": "[Image]", "title": ""},
    ),
    "a local image": ([said(" ", images=None, local_images=["/x.png"])], {"preview": "[Image]", "title": ""}),
    "the title is the first text after an image": (
        [said("", images=["x"]), said("look")],
        {"first_user_message": "[Image]", "preview": "[Image]", "title": "look"},
    ),
    "a blank message says nothing": (
        [said("  ", images=[], local_images=[]), said("hi")],
        {"first_user_message": "hi", "preview": "hi"},
    ),
    "nothing after the marker is blank": ([said("x ## My request for Codex:  "), said("hi")], {"title": "hi"}),
    "response items say nothing": (
        [item("response_item", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]})],
        {"first_user_message": None, "preview": "", "title": ""},
    ),
    "a completed UserMessage is a user message": (
        [completed(TEXT)],
        {"first_user_message": "hi", "preview": "hi", "title": "hi"},
    ),
    "its texts are joined, the marker is stripped": (
        [completed({"type": "text", "text": "a ## My request "}, IMAGE, {"type": "text", "text": "for Codex: b"})],
        {"preview": "b", "title": "b"},
    ),
    "its images": ([completed(IMAGE)], {"first_user_message": "[Image]", "preview": "[Image]", "title": ""}),
    "its local images": ([completed({"type": "local_image", "path": "/x"})], {"preview": "[Image]"}),
    "its sounds": ([completed(SOUND)], {"first_user_message": "[Audio]", "preview": "[Audio]", "title": ""}),
    "an image before a sound": ([completed(SOUND, IMAGE)], {"preview": "[Image]"}),
    "other completed items say nothing": ([completed(TEXT, type_="AgentMessage")], {"preview": "", "title": ""}),
    "a name replaces the title": (
        [said("hi"), named(" saved-session ")],
        {"name": "saved-session", "title": "saved-session", "first_user_message": "hi", "preview": "hi"},
    ),
    "a name before the first message": (
        [named("saved"), said("hi")],
        {"name": "saved", "title": "saved", "first_user_message": "hi"},
    ),
    "the last name counts": ([named("one"), named("two")], {"name": "two", "title": "two"}),
    "a blank name says nothing": ([said("hi"), named(" "), named(None)], {"name": None, "title": "hi"}),
    "a foreign name says nothing": ([named("x", thread_id=OTHER)], {"name": None, "title": ""}),
    "a name without a thread id": ([event("thread_name_updated", thread_name="n")], {"name": "n"}),
    "session_meta": (
        [meta(thread_source="user", memory_mode="disabled", git=GIT)],
        {
            "created_at": STAMP_MICROS,
            "cwd": "/a",
            "cli_version": "1",
            "model_provider": "openai",
            "source": "cli",
            "thread_source": "user",
            "memory_mode": "disabled",
            "history_mode": "legacy",
            "git_sha": "c",
            "git_branch": "b",
            "git_origin": "u",
            "model": None,
            "reasoning_effort": None,
            "forked_from_id": None,
        },
    ),
    "a foreign session_meta says nothing at all": (
        [meta(), meta(id=OTHER, cwd="/x", source="exec", memory_mode="disabled", git=GIT, forked_from_id=OTHER)],
        {"cwd": "/a", "source": "cli", "memory_mode": None, "git_sha": None, "forked_from_id": None},
    ),
    "an id in capitals is the same id": ([meta(id=OWN.upper())], {"cwd": "/a"}),
    "identity": (
        [meta(forked_from_id=OTHER, parent_thread_id=OTHER, history_mode="paginated", history_base=BASE)],
        {
            "forked_from_id": OTHER,
            "parent_thread_id": OTHER,
            "history_mode": "paginated",
            "history_base": BASE,
        },
    ),
    "the first session_meta says the history mode": (
        [meta(), meta(history_mode="paginated")],
        {"history_mode": "legacy"},
    ),
    "the first session_meta says the creation": (
        [meta(), meta(timestamp="2030-01-01T00:00:00Z")],
        {"created_at": STAMP_MICROS},
    ),
    "a creation in the form of file names": (
        [meta(timestamp="2026-04-23T17-20-29")],
        {"created_at": STAMP_MICROS - 115_000},
    ),
    "no time of creation": ([meta(timestamp="yesterday", at=7)], {"created_at": 7000, "updated_at": 7000}),
    "updated when created": ([meta(at=1)], {"updated_at": STAMP_MICROS}),
    "no source": ([item("session_meta", {"id": OWN})], {"source": "vscode"}),
    "an unrecognised source": ([meta(source="toaster")], {"source": "unknown"}),
    "an unrecognised object": ([meta(source={"toaster": 1})], {"source": "unknown"}),
    "an unrecognised subagent": ([meta(source={"subagent": "toaster"})], {"source": "unknown"}),
    "a custom source": ([meta(source={"custom": "bot"})], {"source": {"custom": "bot"}}),
    "an internal source": ([meta(source={"internal": {"a": 1}})], {"source": {"internal": {"a": 1}}}),
    "another subagent": ([meta(source={"subagent": {"other": "x"}})], {"source": {"subagent": {"other": "x"}}}),
    "a spawned agent": (
        [meta(source=SPAWNED)],
        {
            "source": SPAWNED,
            "agent_nickname": "Ada",
            "agent_role": "explorer",
            "agent_path": None,
            "parent_thread_id": OTHER,
        },
    ),
    "the memory agent": (
        [meta(source={"subagent": "memory_consolidation"})],
        {"agent_nickname": "Morpheus", "agent_role": "memory builder", "agent_path": "/morpheus"},
    ),
    "the session_meta's own words on its agent count more": (
        [meta(source=SPAWNED, agent_nickname="Eve", agent_type="critic", agent_path="/eve")],
        {"agent_nickname": "Eve", "agent_role": "critic", "agent_path": "/eve"},
    ),
    "an agent that is not named any more": (
        [meta(agent_nickname="Eve", thread_source="x"), meta()],
        {"agent_nickname": None, "thread_source": None},
    ),
    "the last memory mode": (
        [meta(), meta(memory_mode="disabled"), meta(), meta(memory_mode="enabled"), meta(memory_mode="maybe")],
        {"memory_mode": "enabled"},
    ),
    "git is the whole of what it is now": (
        [meta(git=GIT), meta(git={"commit_hash": "d", "branch": "dev"}), meta()],
        {"git_sha": "d", "git_branch": "dev", "git_origin": None},
    ),
    "a part of git is cleared": (
        [meta(git=GIT), meta(git={**GIT, "branch": None})],
        {"git_sha": "c", "git_branch": None, "git_origin": "u"},
    ),
    "all of git is cleared": (
        [meta(git=GIT), meta(git={})],
        {"git_sha": None, "git_branch": None, "git_origin": None},
    ),
    "a turn does not move the thread": ([meta(), turn()], {"cwd": "/a"}),
    "a turn says where a thread without a place is": ([meta(cwd=""), turn(), turn(cwd="/c")], {"cwd": "/b"}),
    "settings move the thread": ([meta(), configured(cwd="/s"), turn()], {"cwd": "/s"}),
    "the last turn": (
        [turn(effort="high", sandbox_policy={"type": "read-only"}), turn(model="m2", approval_policy={"granular": {}})],
        {
            "model": "m2",
            "reasoning_effort": None,
            "approval_mode": {"granular": {}},
            "sandbox_policy": {"type": "read-only"},
        },
    ),
    "a turn's effort and profile": (
        [turn(effort="high", permission_profile={"type": "disabled"})],
        {"reasoning_effort": "high", "permission_profile": {"type": "disabled"}},
    ),
    "settings": (
        [
            turn(effort="high"),
            configured(
                model="m3", model_provider_id="p", approval_policy="on-failure", permission_profile="x", cwd="/s"
            ),
        ],
        {
            "model": "m3",
            "model_provider": "p",
            "reasoning_effort": None,
            "approval_mode": "on-failure",
            "permission_profile": "x",
            "cwd": "/s",
        },
    ),
    "settings set the effort": ([configured(reasoning_effort="low")], {"reasoning_effort": "low"}),
    "tokens": ([counted(USAGE), event("token_count", info=None)], {"token_usage": USAGE}),
    "the last tokens, negative ones as none": (
        [counted(USAGE), counted({"total_tokens": -5, "output_tokens": 1})],
        {"token_usage": {**dict.fromkeys(USAGE, 0), "output_tokens": 1}},
    ),
    "a goal is a preview": (
        [goal(" win "), said("hi")],
        {"preview": "win", "title": "hi", "first_user_message": "hi"},
    ),
    "a goal does not replace a preview": ([said("hi"), goal("win")], {"preview": "hi"}),
    "a blank goal": ([goal(" "), said("hi")], {"preview": "hi"}),
}


@pytest.mark.parametrize("name", RULES)
def test_the_rule(name: str) -> None:
    items, expected = RULES[name]
    assert shown(summary_of(*items), list(expected)) == expected


def test_the_latest_item_says_when_a_thread_was_updated() -> None:
    items = [meta(), event("warning", at=1_776_964_900_000), item("response_item", {}, at=1_776_964_800_000)]
    assert summary_of(*items).updated_at == 1_776_964_900_000_000
    assert apply_facts(replace(EMPTY, updated_at=10**18), observe(OWN, items)).updated_at == 10**18


def test_an_item_that_says_nothing_only_bumps_the_time() -> None:
    for nothing in (item("response_item", {"type": "message"}), item("compacted", {}), event("agent_message")):
        assert observe(OWN, [nothing]) == Facts(latest=1)


def test_a_broken_clock_stays_within_the_calendar() -> None:
    """An item's time is any 64-bit integer; views hold microseconds in 64 bits and pages show dates."""
    for at in (2**63 - 1, -(2**63)):
        summary = summary_of(meta(timestamp="", at=at))
        assert max(abs(summary.created_at), abs(summary.updated_at)) < 2**62
        assert stored_thread(OWN, summary, Head()).model_dump(mode="json")


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


MALFORMED: dict[str, Item] = {
    "a list": item("session_meta", [OWN]),
    "not JSON": Item(1, "turn_context", '{"model":'),
    "too deep": Item(1, "turn_context", "[" * 5000),
    "numbers for texts": turn(model=1, cwd=2, approval_policy=3, effort=4, sandbox_policy=5, permission_profile=6),
    "a list of settings": event("thread_settings_applied", thread_settings=["m"]),
    "a message that is none": said({"text": "hi"}, images=["x"]),
    "content that is none": event("item_completed", item={"type": "UserMessage", "content": "hi"}),
    "a count that is none": counted({**USAGE, "total_tokens": "many"}),
    "a count beyond 64 bits": counted({**USAGE, "total_tokens": 10**22}),
    "no counts": counted([1]),
    "a goal that is none": goal(["win"]),
    "a name that is none": named(5),
    "a name of nobody": named("x", thread_id=5),
    "wrong parts": item(
        "session_meta",
        {"id": 5, "git": GIT, "cwd": "/x", "memory_mode": "disabled", "timestamp": STAMP},
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_says_nothing(name: str) -> None:
    before = summary_of(meta(), turn(effort="high"), said("hello"), counted(USAGE), named("n"))
    assert apply_facts(before, observe(OWN, [MALFORMED[name]])) == before


def test_wrong_parts_of_a_session_meta_say_nothing() -> None:
    before = summary_of(meta(git=GIT, memory_mode="disabled"))
    odd = meta(cwd=5, cli_version=[], model_provider=None, git=[], memory_mode=1, forked_from_id="x", history_base={})
    assert apply_facts(before, observe(OWN, [odd])) == before


def test_half_a_character_does_not_reach_the_views() -> None:
    lone = Item(1, "event_msg", r'{"type":"user_message","message":"a\ud83db \ud83d\ude00"}')
    assert summary_of(lone).preview == "a\ufffdb 😀"


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


def field(name: str, value: object) -> Field:
    return Field(name, None if value is None else json.dumps(value))


FULL_PATCH = ThreadMetadataPatch(
    name="n",
    rollout_path="/no/view/shows/it",
    preview="p",
    title="t",
    model_provider="mp",
    model="m",
    reasoning_effort="high",
    advance_recency_at=datetime(2026, 4, 23, tzinfo=UTC),
    created_at=datetime(2026, 4, 23, 17, 20, 29, 115000, UTC),
    updated_at=datetime(2026, 4, 23, 17, 20, 30, tzinfo=UTC),
    source={"custom": "x"},
    thread_source="user",
    agent_nickname="a",
    agent_role="r",
    agent_path="/p",
    cwd="/c",
    cli_version="1",
    approval_mode="never",
    permission_profile={"type": "disabled"},
    token_usage=TokenUsage(**USAGE),
    first_user_message="f",
    git_info=GitInfoPatch(sha="s", branch="b", origin_url="o"),
    memory_mode=ThreadMemoryMode.DISABLED,
    project_id="no view shows it",
)


def test_every_field_of_a_patch_is_applied_literally() -> None:
    fields_ = patch_fields(FULL_PATCH)
    summary = apply_patch(EMPTY, fields_, occurred_at=2 * STAMP_MICROS)

    assert [f.name for f in fields_][-5:] == ["git_sha", "git_branch", "git_origin", "memory_mode", "project_id"]
    assert len(fields_) == len(ThreadMetadataPatch.model_fields) + 2
    assert summary == Summary(
        name="n",
        preview="p",
        title="t",
        model_provider="mp",
        model="m",
        reasoning_effort="high",
        created_at=STAMP_MICROS,
        updated_at=STAMP_MICROS + 885_000,
        source='{"custom":"x"}',
        thread_source="user",
        agent_nickname="a",
        agent_role="r",
        agent_path="/p",
        cwd="/c",
        cli_version="1",
        approval_mode='"never"',
        permission_profile='{"type":"disabled"}',
        token_usage=json.dumps(USAGE, separators=(",", ":")),
        first_user_message="f",
        git_sha="s",
        git_branch="b",
        git_origin="o",
        memory_mode="disabled",
    )


def test_null_clears_and_absence_leaves() -> None:
    before = apply_patch(EMPTY, patch_fields(FULL_PATCH), occurred_at=1)
    patch = ThreadMetadataPatch(name=None, agent_path=None, model=None, git_info=GitInfoPatch(branch=None))

    after = apply_patch(before, patch_fields(patch), occurred_at=1)

    assert patch_fields(patch) == (Field("name", None), Field("agent_path", None), Field("git_branch", None))
    assert after == replace(before, name=None, agent_path=None, git_branch=None)


NOT_SHOWN = {"rollout_path", "advance_recency_at", "project_id"}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["cli", "enabled", STAMP]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["custom", "total_tokens", "sha", "a"]) | st.text(max_size=3), inner, max_size=2
        )
    ),
    max_leaves=4,
)


@given(st.sampled_from(sorted(ThreadMetadataPatch.model_fields.keys() - NOT_SHOWN)), JSON_VALUES)
def test_what_a_patch_says_is_refused_or_shown(name: str, value: object) -> None:
    """There is no third way: a value that is taken, and changes nothing."""
    try:
        said = patch_fields(ThreadMetadataPatch.model_validate({name: value}))
    except (ValidationError, InvalidRequest):
        return
    full = apply_patch(EMPTY, patch_fields(FULL_PATCH), occurred_at=1)
    shown = [apply_patch(before, said, occurred_at=1) for before in (EMPTY, full)]
    for one in said:
        upon_nothing, upon_all = (getattr(summary, one.name) for summary in shown)
        assert upon_nothing == upon_all, f"{one} was taken, and what was there before is still shown"
        if one.name in ("source", "approval_mode", "permission_profile", "token_usage"):
            assert json.loads(upon_nothing) == json.loads(one.value or "")


@pytest.mark.parametrize("far", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_does_not_know_is_refused(far: str) -> None:
    with pytest.raises(ValidationError, match="before the year 1 or behind the year 9999"):
        ThreadMetadataPatch.model_validate({"created_at": far})


def test_an_empty_patch_has_no_fields_and_still_moves_the_time() -> None:
    assert patch_fields(ThreadMetadataPatch(git_info=GitInfoPatch())) == ()
    assert apply_patch(EMPTY, (), occurred_at=5) == Summary(updated_at=5)
    assert apply_patch(Summary(updated_at=9), (), occurred_at=5) == Summary(updated_at=9)


@pytest.mark.parametrize(
    "odd",
    [
        field("not_invented_yet", 1),
        field("not_invented_yet", None),
        field("created_at", None),
        field("created_at", "yesterday"),
        field("created_at", 5),
        field("name", 5),
        field("cwd", None),
        field("cwd", []),
        field("memory_mode", "maybe"),
        field("memory_mode", []),
        field("token_usage", {"total_tokens": "x"}),
        field("source", 5),
        field("approval_mode", 5),
        field("imported", "x"),
        field("archived_at", 5),
        field("history_mode", "paginated"),
        Field("name", "{"),
    ],
)
def test_an_odd_field_changes_nothing(odd: Field) -> None:
    before = apply_patch(EMPTY, patch_fields(FULL_PATCH), occurred_at=1)
    assert apply_patch(before, [odd], occurred_at=1) == before


def test_a_patch_says_where_an_import_came_from() -> None:
    origin = {"name": "rollout-x.jsonl", "archived": False}
    summary = apply_patch(EMPTY, [field("imported", origin)], occurred_at=1)
    assert json.loads(summary.imported or "") == origin


def test_half_a_character_in_a_patch_does_not_reach_the_views() -> None:
    assert apply_patch(EMPTY, [field("name", "a\ud83d")], occurred_at=1).name == "a\ufffd"


def test_archiving_is_undone_by_unarchiving() -> None:
    archived = apply_archived(Summary(updated_at=5), 7)
    assert archived == Summary(updated_at=7, archived_at=7)
    assert apply_unarchived(archived, 6) == Summary(updated_at=7)


HEAD = Head(version=3, items=4)
FULL_SUMMARY = replace(
    apply_patch(EMPTY, patch_fields(FULL_PATCH), occurred_at=1),
    archived_at=STAMP_MICROS,
    forked_from_id=OTHER,
    parent_thread_id=OTHER,
    sandbox_policy='{"type":"danger-full-access"}',
    history_mode="paginated",
    history_base=json.dumps(BASE),
    imported='{"name":"x"}',
)


def test_callers_see_the_whole_summary() -> None:
    """The thread is the very one that validation would make, and JSON comes out as the contract's."""
    created = datetime(2026, 4, 23, 17, 20, 29, 115000, UTC)
    expected = StoredThread(
        thread_id=OWN,
        forked_from_id=OTHER,
        parent_thread_id=OTHER,
        preview="p",
        name="n",
        model_provider="mp",
        model="m",
        reasoning_effort="high",
        created_at=created,
        updated_at=datetime(2026, 4, 23, 17, 20, 30, tzinfo=UTC),
        archived_at=created,
        cwd="/c",
        cli_version="1",
        source={"custom": "x"},
        thread_source="user",
        agent_nickname="a",
        agent_role="r",
        agent_path="/p",
        git_info=GitInfo(commit_hash="s", branch="b", repository_url="o"),
        approval_mode="never",
        sandbox_policy={"type": "danger-full-access"},
        permission_profile={"type": "disabled"},
        token_usage=TokenUsage(**USAGE),
        first_user_message="f",
        memory_mode=ThreadMemoryMode.DISABLED,
        history_mode=ThreadHistoryMode.PAGINATED,
        history_base=HistoryPosition(thread_id=OTHER, end_ordinal_exclusive=30, end_byte_offset=44339),
        version=3,
        item_count=4,
    )

    thread = stored_thread(OWN, FULL_SUMMARY, HEAD)

    assert thread.model_dump() == expected.model_dump()
    assert thread.model_dump(mode="json") == expected.model_dump(mode="json")
    assert thread.model_dump_json() == expected.model_dump_json()
    assert repr(thread) == repr(expected)
    assert thread.model_dump(mode="json")["created_at"] == "2026-04-23T17:20:29.115000Z"
    assert StoredThread.model_validate_json(thread.model_dump_json()).model_dump() == expected.model_dump()
    assert thread.model_copy(update={"rollout_path": "/x"}).rollout_path == "/x"


def test_callers_see_the_contracts_defaults() -> None:
    thread = stored_thread(OWN, replace(EMPTY, name=""), Head())

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = StoredThread(thread_id=OWN, created_at=epoch, updated_at=epoch, version=0, item_count=0)
    assert thread.model_dump() == expected.model_dump()
    assert (thread.approval_mode, thread.sandbox_policy) == ("on-request", {"type": "read-only"})
    assert thread.git_info is None


def test_git_is_shown_when_any_part_is_there() -> None:
    for summary in (Summary(git_sha="x"), Summary(git_branch="x"), Summary(git_origin="x")):
        assert stored_thread(OWN, summary, Head()).git_info is not None


def test_every_field_of_the_thread_is_filled() -> None:
    """A field added to StoredThread would be missing from a thread built without validation."""
    assert set(vars(stored_thread(OWN, FULL_SUMMARY, HEAD))) == set(StoredThread.model_fields)


def test_a_summary_holds_json_scalars_only() -> None:
    for value in asdict(FULL_SUMMARY).values():
        assert value is None or isinstance(value, (str, int))
    assert Summary(**json.loads(json.dumps(asdict(FULL_SUMMARY)))) == FULL_SUMMARY
    assert {f.name for f in fields(Summary)} >= set(RULES["session_meta"][1])


@pytest.mark.parametrize("far", [2**62, 2**63 - 1, -(2**62), -(2**63)])
def test_no_clock_leads_a_summary_beyond_the_calendar(far: int) -> None:
    last = datetime.max.replace(tzinfo=UTC)
    end = last if far > 0 else datetime.min.replace(tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    patched = apply_patch(EMPTY, (), far)
    archived, unarchived = apply_archived(EMPTY, far), apply_unarchived(EMPTY, far)

    assert archived.archived_at == (end - epoch) // timedelta(microseconds=1)
    for summary in (patched, archived, unarchived):
        assert summary.updated_at == max(0, archived.archived_at or 0)
    assert stored_thread(OWN, archived, Head()).archived_at == end


@pytest.mark.parametrize(
    ("text", "end"),
    [("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00"), ("9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999")],
)
def test_a_zone_does_not_carry_a_time_beyond_the_calendar(text: str, end: str) -> None:
    patched = apply_patch(EMPTY, (Field("created_at", json.dumps(text)),), 1)
    micros = (datetime.fromisoformat(end) - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001
    assert patched.created_at == micros


def test_a_damaged_thread_says_why() -> None:
    assert stored_thread(OWN, FULL_SUMMARY, HEAD).damaged is None
    assert stored_thread(OWN, FULL_SUMMARY, HEAD).model_dump()["damaged"] is None
    assert stored_thread(OWN, FULL_SUMMARY, HEAD, damaged="why").damaged == "why"
