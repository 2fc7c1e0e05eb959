"""What items say about their thread (contract §4), item by item.

Items that can say nothing are never parsed; items whose payload is malformed say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from eventstore.codex.payloads import as_filled_text, as_json_text, as_text, inner_type, parsed_object
from eventstore.codex.sources import MISSING, agent_of, role_of, source_text
from eventstore.codex.summary import NO_FACTS, Facts, Scalar
from eventstore.errors import InvalidRequest
from eventstore.events import Item
from eventstore.ids import ThreadId, parse_thread_id
from eventstore.jsontext import dumps
from eventstore.moments import LAST_MILLIS, stamp_micros

REQUEST_MARKER = "## My request for Codex:"
"""Editors put what the user sees in front of it; only what follows it is the user's own text."""

TOKEN_COUNTS = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "output_tokens",
    "reasoning_output_tokens",
    "total_tokens",
)

Payload: TypeAlias = "dict[str, Any]"

_GIT_PARTS = {"commit_hash": "git_sha", "branch": "git_branch", "repository_url": "git_origin"}
_SAID_BY_USER = frozenset({"first_user_message", "preview", "title"})
_IMAGES, _SOUNDS = ("images", "local_images"), ("audio", "local_audio")
_IMAGE_ENTRIES, _SOUND_ENTRIES = frozenset({"image", "local_image"}), frozenset({"audio", "local_audio"})


class _Notes:
    """The facts of one batch while it is being read."""

    __slots__ = ("at", "first", "last", "thread_id")

    def __init__(self, thread_id: ThreadId) -> None:
        self.thread_id = thread_id
        self.first: dict[str, Scalar] = {}
        self.last: dict[str, Scalar] = {}
        self.at = 0
        """The time of the item being read, milliseconds since the epoch."""

    def offer(self, name: str, value: str | int | None) -> None:
        """Note a value that counts only while there is none."""
        if value:
            self.first.setdefault(name, value)

    def put(self, name: str, value: str | None) -> None:
        """Note a value that replaces what was there."""
        if value:
            self.last[name] = value


def observe(thread_id: ThreadId, items: Iterable[Item]) -> Facts:
    """Return what the items, in their order, say about the thread.

    `observe(a + b) == observe(a).then(observe(b))`. Nothing in a payload makes it raise.
    """
    notes = _Notes(thread_id)
    latest = 0
    for at, type_, payload, _ in items:
        latest = max(latest, at)
        read = _READERS.get(type_)
        if read is not None:
            notes.at = _shown(at)
            read(notes, payload)
    if not latest and not notes.first and not notes.last:
        return NO_FACTS
    return Facts(_shown(latest), notes.first, notes.last)


def thread_id_of(value: object) -> ThreadId | None:
    """Return the canonical thread id, or None if the value is none."""
    if not isinstance(value, str):
        return None
    try:
        return parse_thread_id(value)
    except InvalidRequest:
        return None


def history_base_text(value: object) -> str | None:
    """Return the JSON text of a HistoryPosition, or None if the value is none."""
    if not isinstance(value, dict):
        return None
    source = thread_id_of(value.get("thread_id"))
    ordinal, offset = value.get("end_ordinal_exclusive"), value.get("end_byte_offset")
    if source is None or type(ordinal) is not int or type(offset) is not int:
        return None
    return dumps({"thread_id": source, "end_ordinal_exclusive": ordinal, "end_byte_offset": offset})


def token_usage_text(value: object) -> str | None:
    """Return the JSON text of the six counts, negative ones as 0; None if the value is no TokenUsage."""
    if not isinstance(value, dict):
        return None
    counts = {name: value.get(name, 0) for name in TOKEN_COUNTS}
    if not all(type(count) is int for count in counts.values()):
        return None
    return as_json_text({name: max(0, count) for name, count in counts.items()})


def policy_text(value: object) -> str | None:
    """Return the JSON text of an approval mode or permission profile: a filled string or object, else None."""
    return as_json_text(value) if value and isinstance(value, (str, dict)) else None


def _shown(millis: int) -> int:
    """Bound a sender's clock by the calendar: views keep its microseconds as 64-bit integers."""
    return min(max(millis, 0), LAST_MILLIS)


def _read_session_meta(notes: _Notes, text: str) -> None:
    meta = parsed_object(text)
    # Forks hold the session_meta lines of their source. The seed takes memory_mode even from those, so that a fork
    # inherits it by accident; here only the thread's own lines count, for every field.
    if meta is None or thread_id_of(meta.get("id")) != notes.thread_id:
        return
    stamp = meta.get("timestamp")
    created = stamp_micros(stamp) if isinstance(stamp, str) else None
    notes.offer("created_at", notes.at * 1000 if created is None else created)
    notes.offer("forked_from_id", thread_id_of(meta.get("forked_from_id")))
    notes.offer("history_mode", "paginated" if meta.get("history_mode") == "paginated" else "legacy")
    notes.offer("history_base", history_base_text(meta.get("history_base")))
    for name in ("cwd", "cli_version", "model_provider"):
        notes.put(name, as_text(meta.get(name)))
    if meta.get("memory_mode") in ("enabled", "disabled"):
        notes.put("memory_mode", meta["memory_mode"])
    _read_source(notes, meta)
    _read_git(notes, meta.get("git"))


def _read_source(notes: _Notes, meta: Payload) -> None:
    source = meta.get("source")
    agent = agent_of(source)
    notes.put("source", MISSING if source is None else source_text(source))
    notes.offer("parent_thread_id", thread_id_of(meta.get("parent_thread_id")) or thread_id_of(agent.parent_thread_id))
    # None clears: each of the thread's own session_metas says all there is to say of its agent.
    notes.last["thread_source"] = as_filled_text(meta.get("thread_source"))
    notes.last["agent_nickname"] = as_filled_text(meta.get("agent_nickname")) or agent.nickname
    notes.last["agent_role"] = role_of(meta) or agent.role
    notes.last["agent_path"] = as_filled_text(meta.get("agent_path")) or agent.path


def _read_git(notes: _Notes, git: object) -> None:
    """Take all three parts: Codex writes the whole result of an update and leaves out what was cleared (§2.11)."""
    if isinstance(git, dict):
        for part, name in _GIT_PARTS.items():
            notes.last[name] = as_filled_text(git.get(part))


def _read_turn_context(notes: _Notes, text: str) -> None:
    turn = parsed_object(text)
    if turn is None:
        return
    notes.offer("cwd", as_text(turn.get("cwd")))
    sandbox = turn.get("sandbox_policy")
    notes.put("sandbox_policy", policy_text(sandbox) if isinstance(sandbox, dict) else None)
    _read_turn_settings(notes, turn, effort=turn.get("effort"))


def _read_turn_settings(notes: _Notes, settings: Payload, *, effort: object) -> None:
    notes.put("model", as_text(settings.get("model")))
    notes.put("approval_mode", policy_text(settings.get("approval_policy")))
    notes.put("permission_profile", policy_text(settings.get("permission_profile")))
    if effort is None or isinstance(effort, str):
        notes.last["reasoning_effort"] = as_filled_text(effort)


def _read_event(notes: _Notes, text: str) -> None:
    read = _EVENTS.get(inner_type(text) or "")
    if read is None or not _may_matter(notes, read, text):
        return
    payload = parsed_object(text)
    if payload is not None:
        read(notes, payload)


def _may_matter(notes: _Notes, read: _EventReader, text: str) -> bool:
    """Spare parsing what cannot say anything more: user text after the first, outputs of tools."""
    if read is _read_user_message:
        return not notes.first.keys() >= _SAID_BY_USER
    if read is _read_completed_item:
        return not notes.first.keys() >= _SAID_BY_USER and '"UserMessage"' in text
    return True


def _read_user_message(notes: _Notes, event: Payload) -> None:
    placeholder = "[Image]" if _any_of(event, _IMAGES) else "[Audio]" if _any_of(event, _SOUNDS) else None
    _hear(notes, event.get("message"), placeholder)


def _any_of(event: Payload, names: tuple[str, ...]) -> bool:
    return any(isinstance(event.get(name), list) and event[name] for name in names)


def _read_completed_item(notes: _Notes, event: Payload) -> None:
    item = event.get("item")
    if not isinstance(item, dict) or item.get("type") != "UserMessage" or not isinstance(item.get("content"), list):
        return
    entries = [entry for entry in item["content"] if isinstance(entry, dict)]
    kinds = {kind for entry in entries if isinstance(kind := entry.get("type"), str)}
    words = [as_text(entry.get("text")) or "" for entry in entries if entry.get("type") == "text"]
    placeholder = "[Image]" if kinds & _IMAGE_ENTRIES else "[Audio]" if kinds & _SOUND_ENTRIES else None
    _hear(notes, "".join(words), placeholder)


def _hear(notes: _Notes, words: object, placeholder: str | None) -> None:
    spoken = as_text(words)
    if spoken is None:
        return
    _, marker, request = spoken.partition(REQUEST_MARKER)
    said = (request if marker else spoken).strip()
    notes.offer("first_user_message", said or placeholder)
    notes.offer("preview", said or placeholder)
    notes.offer("title", said)


def _read_token_count(notes: _Notes, event: Payload) -> None:
    info = event.get("info")
    if isinstance(info, dict):
        notes.put("token_usage", token_usage_text(info.get("total_token_usage")))


def _read_name(notes: _Notes, event: Payload) -> None:
    named, name = event.get("thread_id"), as_text(event.get("thread_name"))
    if name is not None and (named is None or thread_id_of(named) == notes.thread_id):
        notes.put("name", name.strip())
        notes.put("title", name.strip())


def _read_goal(notes: _Notes, event: Payload) -> None:
    goal = event.get("goal")
    if isinstance(goal, dict):
        notes.offer("preview", (as_text(goal.get("objective")) or "").strip())


def _read_settings(notes: _Notes, event: Payload) -> None:
    settings = event.get("thread_settings")
    if isinstance(settings, dict):
        notes.put("cwd", as_text(settings.get("cwd")))
        notes.put("model_provider", as_text(settings.get("model_provider_id")))
        _read_turn_settings(notes, settings, effort=settings.get("reasoning_effort"))


_EventReader: TypeAlias = Callable[[_Notes, Payload], None]

_READERS: dict[str, Callable[[_Notes, str], None]] = {
    "session_meta": _read_session_meta,
    "turn_context": _read_turn_context,
    "event_msg": _read_event,
}
_EVENTS: dict[str, _EventReader] = {
    "user_message": _read_user_message,
    "item_completed": _read_completed_item,
    "token_count": _read_token_count,
    "thread_name_updated": _read_name,
    "thread_goal_updated": _read_goal,
    "thread_settings_applied": _read_settings,
}
