"""The session_meta item, a thread's first, and the items that put commands into a rollout file (contract §1.5, §2.11).

Copies of a session_meta keep the source text of all they do not change.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from eventstore.codex.observation import history_base_text, thread_id_of
from eventstore.codex.payloads import Member, joined, member, members, parsed_object
from eventstore.codex.sources import agent_of
from eventstore.documents.params import CreateThreadParams
from eventstore.documents.threads import GitInfo, HistoryPosition, ThreadHistoryMode, ThreadMemoryMode
from eventstore.events import Item
from eventstore.ids import ThreadId
from eventstore.jsontext import dumps, loads_fast
from eventstore.moments import spelled


class SessionMeta(NamedTuple):
    """What a session_meta says of a thread's identity."""

    thread_id: ThreadId
    forked_from_id: ThreadId | None
    history_mode: ThreadHistoryMode
    history_base: HistoryPosition | None


def session_meta_of(item: Item) -> SessionMeta | None:
    """Return the identity which a session_meta item bears; None for any other item, or without a thread id."""
    meta = parsed_object(item.payload) if item.type == "session_meta" else None
    thread_id = None if meta is None else thread_id_of(meta.get("id"))
    if meta is None or thread_id is None:
        return None
    paginated = meta.get("history_mode") == ThreadHistoryMode.PAGINATED
    base = history_base_text(meta.get("history_base"))
    return SessionMeta(
        thread_id,
        thread_id_of(meta.get("forked_from_id")),
        ThreadHistoryMode.PAGINATED if paginated else ThreadHistoryMode.LEGACY,
        None if base is None else HistoryPosition(**loads_fast(base)),
    )


def new_session_meta(params: CreateThreadParams, *, at_millis: int) -> Item:
    """Return the item 0 of a thread created at `at_millis`, milliseconds since the epoch.

    Raises:
        MalformedJson: The source or a tool has no JSON form (NaN, for example).
    """
    agent = agent_of(params.source)
    base, instructions = params.history_base, params.base_instructions
    disabled = params.metadata.memory_mode is ThreadMemoryMode.DISABLED
    paginated = params.history_mode is ThreadHistoryMode.PAGINATED
    payload: dict[str, Any] = {
        **_present(session_id=params.session_id),
        "id": params.thread_id,
        **_present(forked_from_id=params.forked_from_id, parent_thread_id=params.parent_thread_id),
        "timestamp": spelled(at_millis),
        "cwd": params.metadata.cwd or "",
        "originator": params.originator,
        "cli_version": params.cli_version,
        "source": params.source,
        **_present(thread_source=params.thread_source),
        **_present(agent_nickname=agent.nickname, agent_role=agent.role, agent_path=agent.path),
        "model_provider": params.metadata.model_provider,
        "base_instructions": None if instructions is None else {"text": instructions.text},
        **_present(
            dynamic_tools=params.dynamic_tools or None,
            memory_mode=ThreadMemoryMode.DISABLED.value if disabled else None,
            history_mode=ThreadHistoryMode.PAGINATED.value if paginated else None,
            history_base=None if base is None else base.model_dump(mode="json"),
        ),
    }
    return Item(at_millis, "session_meta", dumps(payload))


def renamed(thread_id: ThreadId, name: str, *, at_millis: int) -> Item:
    """Return the event which names a thread in its rollout file."""
    payload = {"type": "thread_name_updated", "thread_id": thread_id, "thread_name": name}
    return Item(at_millis, "event_msg", dumps(payload))


def amended_session_meta(
    first: Item,
    *,
    at_millis: int,
    memory_mode: ThreadMemoryMode | None = None,
    git: GitInfo | None = None,
) -> Item:
    """Return a copy of a thread's first session_meta that says the memory mode and git info it has now.

    None leaves what the first one says. `git` is the whole result of a patch: a part without a value is written as
    null, which clears it for whoever reads the file in order, and with no part at all `git` is `{}`.

    Raises:
        MalformedJson: The first item's payload is no object.
    """
    changes: dict[str, str] = {}
    if memory_mode is not None:
        changes["memory_mode"] = dumps(memory_mode.value)
    if git is not None:
        parts = git.model_dump()
        changes["git"] = dumps(parts if any(value is not None for value in parts.values()) else {})
    return Item(at_millis, "session_meta", joined(_changed(members(first.payload), changes)))


def copied_session_meta(first: Item, thread_id: ThreadId, *, forked_from_id: ThreadId) -> Item:
    """Return the item 0 of a copy of a thread; all but its ids is as in the thread's own.

    Raises:
        MalformedJson: The item's payload is no object.
    """
    parts = members(first.payload)
    changes = {"id": dumps(thread_id), "forked_from_id": dumps(forked_from_id)}
    if any(part.key == "session_id" and part.text == dumps(forked_from_id) for part in parts):
        changes["session_id"] = dumps(thread_id)
    return first._replace(payload=joined(_changed(parts, changes)))


def _changed(parts: list[Member], changes: dict[str, str]) -> list[Member]:
    left = dict(changes)
    changed = [part._replace(text=left.pop(part.key)) if part.key in left else part for part in parts]
    return changed + [member(key, text) for key, text in left.items()]


def _present(**values: object) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
