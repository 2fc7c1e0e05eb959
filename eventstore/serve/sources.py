"""Who started a thread, in the words of the wire and in the store's (contract §1.5, §7)."""

from __future__ import annotations

from typing import Any, Final

from eventstore.documents.fields import SessionSource
from eventstore.errors import InvalidRequest
from eventstore.ids import parse_thread_id
from eventstore.serve.messages import given
from eventstore.serve.protos import codex_thread_store_pb2 as pb

_WORDS: Final = {
    pb.SESSION_SOURCE_KIND_CLI: "cli",
    pb.SESSION_SOURCE_KIND_VSCODE: "vscode",
    pb.SESSION_SOURCE_KIND_EXEC: "exec",
    pb.SESSION_SOURCE_KIND_APP_SERVER: "mcp",
    pb.SESSION_SOURCE_KIND_UNKNOWN: "unknown",
}
_SUBAGENTS: Final = {
    pb.SESSION_SOURCE_KIND_SUB_AGENT_REVIEW: "review",
    pb.SESSION_SOURCE_KIND_SUB_AGENT_COMPACT: "compact",
    pb.SESSION_SOURCE_KIND_SUB_AGENT_MEMORY_CONSOLIDATION: "memory_consolidation",
}
_KIND_OF_WORD: Final = {word: kind for kind, word in _WORDS.items()}
_KIND_OF_SUBAGENT: Final = {word: kind for kind, word in _SUBAGENTS.items()}
_DEEPEST: Final = 2**31 - 1


def source_of(message: pb.SessionSource) -> SessionSource:
    """Return the source; a kind that is not known is `unknown`.

    Raises:
        InvalidRequest: A spawned agent's parent is missing, or no thread id.
    """
    if message.kind in _SUBAGENTS:
        return {"subagent": _SUBAGENTS[message.kind]}
    match message.kind:
        case pb.SESSION_SOURCE_KIND_CUSTOM:
            return {"custom": message.custom}
        case pb.SESSION_SOURCE_KIND_SUB_AGENT_OTHER:
            return {"subagent": {"other": message.sub_agent_other}}
        case pb.SESSION_SOURCE_KIND_SUB_AGENT_THREAD_SPAWN:
            if not message.HasField("sub_agent_parent_thread_id"):
                raise InvalidRequest("the source of a spawned agent's thread omits sub_agent_parent_thread_id")
            return {
                "subagent": {
                    "thread_spawn": {
                        "parent_thread_id": parse_thread_id(message.sub_agent_parent_thread_id),
                        "depth": message.sub_agent_depth,
                        "agent_path": given(message, "sub_agent_path"),
                        "agent_nickname": given(message, "sub_agent_nickname"),
                        "agent_role": given(message, "sub_agent_role"),
                    }
                }
            }
        case kind:
            return _WORDS.get(kind, "unknown")


def source_message(source: SessionSource) -> pb.SessionSource:
    """Return the source as a message; one which the wire has no kind for is `unknown`."""
    match source:
        case str():
            return pb.SessionSource(kind=_KIND_OF_WORD.get(source, pb.SESSION_SOURCE_KIND_UNKNOWN))
        case {"custom": str(name)}:
            return pb.SessionSource(kind=pb.SESSION_SOURCE_KIND_CUSTOM, custom=name)
        case {"subagent": str(name)} if name in _KIND_OF_SUBAGENT:
            return pb.SessionSource(kind=_KIND_OF_SUBAGENT[name])
        case {"subagent": {"other": str(name)}}:
            return pb.SessionSource(kind=pb.SESSION_SOURCE_KIND_SUB_AGENT_OTHER, sub_agent_other=name)
        case {"subagent": {"thread_spawn": {"parent_thread_id": str(parent), **spawn}}}:
            return pb.SessionSource(
                kind=pb.SESSION_SOURCE_KIND_SUB_AGENT_THREAD_SPAWN,
                sub_agent_parent_thread_id=parent,
                sub_agent_depth=_depth(spawn.get("depth")),
                sub_agent_path=_text(spawn.get("agent_path")),
                sub_agent_nickname=_text(spawn.get("agent_nickname")),
                sub_agent_role=_text(spawn.get("agent_role", spawn.get("agent_type"))),
            )
        case _:
            return pb.SessionSource(kind=pb.SESSION_SOURCE_KIND_UNKNOWN)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _depth(value: Any) -> int:
    return min(max(0, value), _DEEPEST) if isinstance(value, int) else 0
