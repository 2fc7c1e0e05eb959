"""Items and patches that say something about a thread, and what the views make of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from eventstore.codex.metadata import (
    EMPTY,
    Summary,
    apply_facts,
    observe,
)
from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
from eventstore.documents.threads import ThreadMemoryMode, TokenUsage
from eventstore.events import Item
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
