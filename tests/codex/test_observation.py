"""What items say about their thread: the rules of the contract's §4 and §8 E, and what is malformed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eventstore.admission import Head
from eventstore.codex.metadata import (
    EMPTY,
    Facts,
    apply_facts,
    observe,
    stored_thread,
)
from eventstore.documents.threads import ThreadPage
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
    shown,
    summary_of,
    turn,
)

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


@pytest.mark.parametrize("depth", [249, 250, 251, 252, 253, 254, 255, 300])
def test_settings_are_kept_as_far_as_a_page_of_threads_can_be_written_with_them(depth: int) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    summary = summary_of(
        meta(), Item(1, "turn_context", f'{{"approval_policy":{nested},"permission_profile":{nested}}}')
    )
    page = ThreadPage(items=(stored_thread(OWN, summary, Head()),))
    assert ('{"a":{"a":' in page.model_dump_json()) == (depth < 251)


def test_half_a_character_does_not_reach_the_views() -> None:
    lone = Item(1, "event_msg", r'{"type":"user_message","message":"a\ud83db \ud83d\ude00"}')
    assert summary_of(lone).preview == "a\ufffdb 😀"
