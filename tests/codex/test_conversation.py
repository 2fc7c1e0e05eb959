"""Who said what: items as people read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eventstore.codex.conversation import Conversation, Saying, saying
from eventstore.codex.rollout import BadLine, read_lines


def said(type_: str, payload: Any) -> tuple[str, str] | None:
    found = saying(type_, json.dumps(payload))
    return None if found is None else (found.who, found.text)


def message(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


OUTPUT = (
    "Chunk ID: 1\nWall time: 0.1 seconds\nProcess exited with code {}\nOriginal token count: 2\nOutput:\nall there\n"
)


@pytest.mark.parametrize(
    ("type_", "payload", "expected"),
    [
        ("response_item", message("user", "hi"), ("user", "hi")),
        ("response_item", message("assistant", "hello"), ("agent", "hello")),
        ("response_item", message("developer", "be brief"), ("developer", "be brief")),
        ("response_item", message("user", "<environment_context>\nx\n</environment_context>"), ("context", ...)),
        ("response_item", message("user", "<b> is a tag"), ("user", "<b> is a tag")),
        ("response_item", message("user", ""), None),
        (
            "response_item",
            {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:"}]},
            ("user", "[image]"),
        ),
        ("event_msg", {"type": "user_message", "message": "hi"}, ("user", "hi")),
        ("event_msg", {"type": "agent_message", "message": "hello"}, ("agent", "hello")),
        (
            "event_msg",
            {"type": "item_completed", "item": {"type": "UserMessage", "content": [{"type": "text", "text": "hi"}]}},
            ("user", "hi"),
        ),
        ("event_msg", {"type": "item_completed", "item": {"type": "Reasoning"}}, None),
        ("event_msg", {"type": "token_count", "info": None}, None),
        ("event_msg", {"type": "turn_aborted"}, ("note", "the turn was interrupted")),
        ("event_msg", {"type": "thread_rolled_back", "num_turns": 2}, ("note", "the last 2 turns were rolled back")),
        ("event_msg", {"type": "thread_name_updated", "thread_name": "N"}, ("note", "named N")),
        ("compacted", {"message": "short"}, ("note", "the conversation so far was compacted: short")),
        ("turn_context", {"cwd": "/"}, None),
        (
            "response_item",
            {"type": "function_call", "name": "exec_command", "arguments": '{"cmd": "ls -l"}'},
            ("tool", "exec_command: ls -l"),
        ),
        (
            "response_item",
            {"type": "function_call", "name": "shell", "arguments": '{"command": ["ls", "-l"]}'},
            ("tool", "shell: ls -l"),
        ),
        (
            "response_item",
            {"type": "function_call", "name": "plan", "arguments": '{"steps": [1]}'},
            ("tool", 'plan: {"steps": [1]}'),
        ),
        ("response_item", {"type": "function_call", "name": "f", "arguments": "{torn"}, ("tool", "f: {torn")),
        (
            "response_item",
            {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin"},
            ("tool", "apply_patch: *** Begin"),
        ),
        (
            "response_item",
            {"type": "local_shell_call", "action": {"type": "exec", "command": ["pwd"]}},
            ("tool", "shell: pwd"),
        ),
        ("response_item", {"type": "web_search_call", "action": {"query": "rain"}}, ("tool", "web search: rain")),
        ("response_item", {"type": "function_call_output", "output": OUTPUT.format(0)}, ("result", "all there")),
        (
            "response_item",
            {"type": "function_call_output", "output": OUTPUT.format(3)},
            ("result", "exit 3: all there"),
        ),
        (
            "response_item",
            {"type": "function_call_output", "output": '{"output":"ok","metadata":{}}'},
            ("result", "ok"),
        ),
        ("response_item", {"type": "function_call_output", "output": None}, ("result", "")),
        (
            "response_item",
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "thinking"}]},
            ("reasoning", "thinking"),
        ),
        ("response_item", {"type": "reasoning", "summary": [], "encrypted_content": "x"}, None),
        ("event_msg", [1, 2], None),
        ("event_msg", {"type": ["?"]}, None),
        ("response_item", {"type": "message", "role": 5, "content": {"a": 1}}, None),
        ("something_new", {"a": 1}, None),
    ],
)
def test_what_an_item_says(type_: str, payload: Any, expected: tuple[str, Any] | None) -> None:
    found = said(type_, payload)
    if expected is not None and expected[1] is ...:
        assert found is not None
        assert found[0] == expected[0]
    else:
        assert found == expected


def test_malformed_payloads_say_nothing() -> None:
    assert saying("event_msg", "{") is None


def heard(*items: tuple[str, Any]) -> list[str]:
    conversation = Conversation()
    found = [conversation.hear(type_, json.dumps(payload)) for type_, payload in items]
    return [saying.text for saying in found if saying is not None]


def test_what_is_told_twice_is_shown_once() -> None:
    item, event = ("response_item", message("user", "hi")), ("event_msg", {"type": "user_message", "message": "hi"})
    assert heard(item, event) == ["hi"]
    assert heard(event, item) == ["hi"]
    assert heard(item, event, item, event) == ["hi", "hi"]
    assert heard(event, event) == ["hi", "hi"]


def test_a_session_meta_begins_once() -> None:
    meta = ("session_meta", {"id": "t", "cwd": "/x"})
    assert heard(meta, meta, ("session_meta", {"id": "u"})) == ["thread t in /x", "thread u"]


def test_all_that_codex_writes_can_be_read(rollout_file: Path) -> None:
    conversation = Conversation()
    with rollout_file.open("rb") as lines:
        items = [item for item in read_lines(lines) if not isinstance(item, BadLine)]
    found = [conversation.hear(item.type, item.payload) for item in items]
    told = [saying for saying in found if isinstance(saying, Saying)]
    assert {saying.who for saying in told} & {"note"}
    speech = [saying for saying in told if saying.is_speech]
    assert all(saying.text for saying in speech)
