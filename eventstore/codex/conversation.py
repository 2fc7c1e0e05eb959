"""Items as a conversation: who said what, for people to read.

Looks inside payloads, forgives whatever it finds there, and knows no terminal. Codex tells what a person or the agent
said twice, to the model and to its own screen; `Conversation` shows it once.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from eventstore.jsontext import MalformedJson, loads_fast

_TAGGED = re.compile(r"\s*<([a-z_]+)[ >].*</\1>\s*\Z", re.DOTALL)
"""What Codex tells the model in the user's name: surroundings, instructions, notices."""
_EXECUTED = re.compile(r"Chunk ID: .*?(?:Process exited with code (?P<code>-?\d+).*?)?\nOutput:\n", re.DOTALL)
"""What Codex writes above the output of a command."""
_REMEMBERED = 8
"""Sayings that are looked back on for the same one told twice."""
USER, AGENT, NOTE = "user", "agent", "note"


class Saying(NamedTuple):
    """What one item says."""

    who: str
    """`user`, `agent`; else what it is: `tool`, `result`, `reasoning`, `context`, `developer`, `note`."""
    text: str

    @property
    def is_speech(self) -> bool:
        """Whether a reader wants all of it; anything else may be shortened."""
        return self.who in (USER, AGENT)


class Conversation:
    """Reads a thread's items in order."""

    def __init__(self) -> None:
        self._told: deque[tuple[Saying, str]] = deque(maxlen=_REMEMBERED)
        self._noted: Saying | None = None

    def hear(self, type_: str, payload: str) -> Saying | None:
        """Return what the item says; None if nothing, or what another kind of item has said just before."""
        said = saying(type_, payload)
        if type_ == "session_meta":
            # Codex writes another one when metadata changes: it begins nothing.
            said, self._noted = None if said == self._noted else said, said
        if said is None or not said.is_speech:
            return said
        for told in self._told:
            if told[0] == said and told[1] != type_:
                self._told.remove(told)
                return None
        self._told.append((said, type_))
        return said


def saying(type_: str, payload: str) -> Saying | None:
    """Return what an item says by itself; None for what is no part of a conversation."""
    try:
        value = loads_fast(payload)
    except MalformedJson:
        return None
    if not isinstance(value, Mapping):
        return None
    match type_:
        case "session_meta":
            return Saying(NOTE, _beginning(value))
        case "response_item":
            return _response(value)
        case "event_msg":
            return _event(value)
        case "compacted":
            return Saying(NOTE, f"the conversation so far was compacted: {_text(value.get('message'))}".rstrip(": "))
        case _:
            return None


def _beginning(meta: Mapping[str, Any]) -> str:
    client = " ".join(filter(None, (_text(meta.get("originator")), _text(meta.get("cli_version")))))
    directory = _text(meta.get("cwd"))
    return (
        f"thread {_text(meta.get('id'))}"
        + (f" in {directory}" if directory else "")
        + (f", {client}" if client else "")
    )


def _response(item: Mapping[str, Any]) -> Saying | None:
    match item.get("type"):
        case "message":
            return _message(_text(item.get("role")), _content(item.get("content")))
        case "reasoning":
            text = _content(item.get("summary"))
            return Saying("reasoning", text) if text else None
        case "function_call" | "custom_tool_call" | "tool_search_call":
            name = _text(item.get("name")) or "search for tools"
            return Saying("tool", f"{name}: {_asked(item.get('arguments', item.get('input')))}")
        case "local_shell_call":
            return Saying("tool", f"shell: {_asked(item.get('action'))}")
        case "web_search_call":
            return Saying("tool", f"web search: {_asked(item.get('action'))}")
        case str(kind) if kind.endswith("_output"):
            return Saying("result", _result(item.get("output", item.get("tools"))))
        case _:
            return None


def _message(role: str, text: str) -> Saying | None:
    if not text:
        return None
    match role:
        case "assistant":
            return Saying(AGENT, text)
        case "user":
            return Saying("context" if _TAGGED.match(text) else USER, text)
        case _:
            return Saying(role or NOTE, text)


def _event(event: Mapping[str, Any]) -> Saying | None:
    match event.get("type"):
        case "user_message":
            return _message("user", _text(event.get("message")))
        case "agent_message":
            return _message("assistant", _text(event.get("message")))
        case "item_completed":
            return _completed(event.get("item"))
        case "thread_name_updated":
            return Saying(NOTE, f"named {_text(event.get('thread_name'))}")
        case "thread_rolled_back":
            return Saying(NOTE, f"the last {event.get('num_turns')} turns were rolled back")
        case "turn_aborted":
            return Saying(NOTE, "the turn was interrupted")
        case "context_compacted":
            return Saying(NOTE, "the conversation so far was compacted")
        case "error" | "stream_error":
            return Saying(NOTE, f"error: {_text(event.get('message'))}")
        case _:
            return None


def _completed(item: Any) -> Saying | None:
    """Return what a finished item of newer files says, as far as nothing else in the file says it."""
    match item:
        case {"type": "UserMessage", "content": content}:
            return _message("user", _content(content))
        case {"type": "AgentMessage", "content": content}:
            return _message("assistant", _content(content))
        case _:
            return None


def _content(parts: Any) -> str:
    """Return the text of a message's content: a text, or a list of parts."""
    if not isinstance(parts, list):
        return _text(parts)
    texts = []
    for part in parts:
        match part:
            case {"text": str(text)}:
                texts.append(text)
            case {"type": str(kind)} if "image" in kind.lower():
                texts.append("[image]")
            case _:
                pass
    return "\n".join(filter(None, texts)).strip()


def _asked(arguments: Any) -> str:
    """Return what a tool is asked to do: the command or query, if that is what its arguments hold."""
    value = _parsed(arguments)
    if isinstance(value, Mapping):
        for key in ("cmd", "command", "query", "input", "url", "path", "message"):
            if value.get(key):
                return _asked_for(value[key])
        return _compact(value)
    return _asked_for(value)


def _asked_for(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    return value if isinstance(value, str) else _compact(value)


def _result(output: Any) -> str:
    value = _parsed(output)
    match value:
        case {"output": inner} | {"content": inner} if inner is not None:
            return _result(inner)
        case list():
            return _content(value) or _compact(value)
        case str():
            return _output_of(value)
        case None:
            return ""
        case _:
            return _compact(value)


def _output_of(told: str) -> str:
    """Return what a command printed, with its exit code if it failed, without how long it took and the like."""
    header = _EXECUTED.match(told)
    if header is None:
        return told
    code = header["code"]
    output = told[header.end() :].strip()
    return f"exit {code}: {output}" if code not in (None, "0") else output or "(no output)"


def _parsed(value: Any) -> Any:
    """Return the JSON in a text that holds an object; any other value as it is."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            return loads_fast(value)
        except MalformedJson:
            return value
    return value


def _compact(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
