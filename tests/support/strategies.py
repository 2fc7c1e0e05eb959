"""What may be said over a wire, as Hypothesis makes it up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from eventstore.documents.threads import GitInfo, StoredThread, TokenUsage

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
ID = st.uuids().map(str)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
SPAWN = st.fixed_dictionaries(
    {
        "parent_thread_id": ID,
        "depth": st.integers(0, 2**31 - 1),
        "agent_path": st.none() | TEXT,
        "agent_nickname": st.none() | TEXT,
        "agent_role": st.none() | TEXT,
    }
)
SOURCE = st.one_of(
    st.sampled_from(["cli", "vscode", "exec", "mcp", "unknown"]),
    st.builds(lambda name: {"custom": name}, TEXT),
    st.sampled_from(["review", "compact", "memory_consolidation"]).map(lambda kind: {"subagent": kind}),
    st.builds(lambda name: {"subagent": {"other": name}}, TEXT),
    st.builds(lambda spawn: {"subagent": {"thread_spawn": spawn}}, SPAWN),
)
MOMENT = st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - see timezones
COUNT = st.integers(0, 2**40)
THREAD = st.builds(
    StoredThread,
    thread_id=ID,
    forked_from_id=st.none() | ID,
    preview=TEXT,
    name=st.none() | TEXT,
    model_provider=TEXT,
    model=st.none() | TEXT,
    reasoning_effort=st.none() | TEXT,
    created_at=MOMENT,
    updated_at=MOMENT,
    archived_at=st.none() | MOMENT,
    cwd=TEXT,
    cli_version=TEXT,
    source=SOURCE,
    thread_source=st.none() | TEXT,
    agent_nickname=st.none() | TEXT,
    agent_role=st.none() | TEXT,
    agent_path=st.none() | TEXT,
    git_info=st.none() | st.builds(GitInfo, commit_hash=TEXT, branch=st.none() | TEXT, repository_url=st.none() | TEXT),
    approval_mode=JSON,
    sandbox_policy=JSON,
    token_usage=st.none()
    | st.builds(TokenUsage, input_tokens=COUNT, output_tokens=COUNT, total_tokens=COUNT, cached_input_tokens=COUNT),
    first_user_message=st.none() | TEXT,
    version=st.just(1),
    item_count=st.just(1),
)
