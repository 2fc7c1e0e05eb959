"""Codex homes to test with: made in few words, imported, exported and compared JSON for JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eventstore.codex.exporting import Exported, export_home, export_lines
from eventstore.codex.homes import find_rollouts
from eventstore.codex.importing import Imported, Importer
from eventstore.codex.rollout import MalformedLine, parse_line
from eventstore.events import Event
from eventstore.ids import ThreadId
from eventstore.moments import spelled
from eventstore.wiring import Embedded
from tests.support.engines import Ports, Through, untouched

BEGAN = 1_776_964_831_482
"""When every home's first line is written, milliseconds since the epoch; each line is a second older than the next."""
THREAD = ThreadId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10")
OTHER = ThreadId("019dbb57-91c2-7e01-8a11-0a5d3f2b9c44")


class CodexHome:
    """A home that a test fills line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, thread_id: ThreadId = THREAD, *, archived: bool = False) -> Path:
        folder = self.path / ("archived_sessions" if archived else "sessions/2026/04/23")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"rollout-2026-04-23T17-20-31-{thread_id}.jsonl"

    def write(self, lines: Sequence[str], thread_id: ThreadId = THREAD, *, archived: bool = False) -> Path:
        """Write the thread's file anew."""
        file = self.file(thread_id, archived=archived)
        file.write_text("".join(line + "\n" for line in lines))
        return file

    def name(self, name: str, thread_id: ThreadId = THREAD) -> None:
        """Add an entry to the names index; a blank name clears."""
        self.path.mkdir(parents=True, exist_ok=True)
        entry = {"id": thread_id, "thread_name": name, "updated_at": "2026-04-23T17:25:00.000000001Z"}
        with (self.path / "session_index.jsonl").open("a") as index:
            index.write(json.dumps(entry) + "\n")

    def archive(self, thread_id: ThreadId = THREAD) -> None:
        """Move the thread's file as Codex does."""
        self.file(thread_id).rename(self.file(thread_id, archived=True))


def line(number: int, type_: str, payload: object, **others: object) -> str:
    """Return a rollout line, the `number`-th of its file by time."""
    return json.dumps({"timestamp": spelled(BEGAN + number * 1_000), **others, "type": type_, "payload": payload})


def meta(thread_id: ThreadId = THREAD, **more: object) -> str:
    said = {"id": thread_id, "timestamp": spelled(BEGAN), "cwd": "/p", "originator": "test", "cli_version": "1"}
    ordinal = {"ordinal": 0} if more.get("history_mode") == "paginated" else {}
    return line(0, "session_meta", {**said, "source": "cli", "model_provider": "openai", **more}, **ordinal)


def user(number: int, text: str = "hello") -> str:
    return line(number, "event_msg", {"type": "user_message", "message": text})


def agent(number: int, text: str | None = None) -> str:
    return line(number, "event_msg", {"type": "agent_message", "message": text or f"word {number}"})


def rename(number: int, name: str, thread_id: ThreadId = THREAD) -> str:
    return line(number, "event_msg", {"type": "thread_name_updated", "thread_id": thread_id, "thread_name": name})


def a_talk(words: int, thread_id: ThreadId = THREAD) -> list[str]:
    """Return the lines of a thread in which the user says hello and the agent so many words."""
    return [meta(thread_id), user(1), *(agent(number) for number in range(2, words + 2))]


def an_importer(parts: Embedded, through: Through = untouched) -> Importer:
    ports = through(Ports(parts.log, parts.feed, parts.views))
    return Importer(ports.log, ports.feed, ports.views, actor="an importer")


async def import_all(parts: Embedded, *paths: Path, fork: bool = False, through: Through = untouched) -> list[Imported]:
    """Import what lies at the paths."""
    importing = an_importer(parts, through).import_files(find_rollouts(paths), fork=fork)
    return [imported async for imported in importing]


async def import_one(parts: Embedded, path: Path, **given: Any) -> Imported:
    (imported,) = await import_all(parts, path, **given)
    return imported


async def export_all(parts: Embedded, directory: Path) -> list[Exported]:
    return [done async for done in export_home(parts.feed, parts.views, directory)]


async def exported(parts: Embedded, thread_id: ThreadId = THREAD) -> list[str]:
    return [text async for text in await export_lines(parts.feed, parts.views, thread_id)]


async def logged(parts: Embedded, kind: type[Event] | None = None) -> list[Any]:
    """Return the events in the log, all or those of one kind."""
    entries = await parts.feed.read(0, start=0, limit=100_000)
    return [entry.event for entry in entries if kind is None or isinstance(entry.event, kind)]


def exactly(text: str) -> Any:
    """Parse with numbers as their source text, so that they are compared digit by digit."""
    return json.loads(text, parse_int=lambda digits: ("number", digits), parse_float=lambda digits: ("number", digits))


def good_lines(file: Path) -> list[Any]:
    """Return the lines of a rollout file that are no blank or bad ones, parsed exactly."""
    found = []
    for source in file.read_bytes().splitlines():
        try:
            if parse_line(source) is not None:
                found.append(exactly(source.decode()))
        except MalformedLine:
            continue
    return found


def lines_of(lines: list[str]) -> list[object]:
    return [exactly(text) for text in lines]
