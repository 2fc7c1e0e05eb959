"""Who started a thread: the SessionSource of the contract (§1.5), and the agent it names.

Whatever it does not recognise is `unknown`; nothing here raises.
"""

from __future__ import annotations

from typing import NamedTuple

from eventstore.codex.payloads import as_filled_text, as_json_text

MISSING = '"vscode"'
"""The source of a session_meta that names none, as JSON text."""
UNKNOWN = '"unknown"'

PLAIN = frozenset({"cli", "vscode", "exec", "mcp", "unknown"})
"""The sources that are a word."""
_SUBAGENTS = frozenset({"review", "compact", "memory_consolidation"})


class Agent(NamedTuple):
    """What a source says of the agent that runs the thread."""

    nickname: str | None = None
    role: str | None = None
    path: str | None = None
    parent_thread_id: object = None
    """As it was written."""


def is_source(value: object) -> bool:
    """Whether the value is a SessionSource which this version knows."""
    match value:
        case str():
            return value in PLAIN
        case {"custom": str()} | {"internal": _} | {"subagent": {"thread_spawn": dict()} | {"other": str()}}:
            return True
        case {"subagent": str(kind)}:
            return kind in _SUBAGENTS
        case _:
            return False


def source_text(value: object) -> str:
    """Return the JSON text of a SessionSource; `"unknown"` for what is none."""
    return (as_json_text(value) or UNKNOWN) if is_source(value) else UNKNOWN


def agent_of(value: object) -> Agent:
    """Return the agent which a SessionSource implies; an empty one where it implies none."""
    match value:
        case {"subagent": "memory_consolidation"}:
            return Agent("Morpheus", "memory builder", "/morpheus")
        case {"subagent": {"thread_spawn": dict(spawn)}}:
            return Agent(
                as_filled_text(spawn.get("agent_nickname")),
                role_of(spawn),
                as_filled_text(spawn.get("agent_path")),
                spawn.get("parent_thread_id"),
            )
        case _:
            return Agent()


def role_of(bearer: dict[str, object]) -> str | None:
    """Return the `agent_role` (alias `agent_type`) of an object that names an agent."""
    return as_filled_text(bearer.get("agent_role")) or as_filled_text(bearer.get("agent_type"))
