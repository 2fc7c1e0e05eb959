"""A library user's own type checker: what the store takes is what its annotations say, with no plugin."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from eventstore.documents import params
from eventstore.documents.fields import Document
from tests.unit.test_readme import PYTHON

ROOT = Path(__file__).parents[2]

TAKEN = """
import uuid
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from eventstore import (
    AppendThreadItemsParams, ArchiveThreadParams, CreateThreadParams, DeleteThreadParams, GitInfoPatch, Json,
    ListThreadsParams, LoadThreadHistoryParams, ReadItemsParams, ReadThreadParams, ResumeThreadParams, RolloutItem,
    SortDirection, ThreadEventPersistenceMode, ThreadId, ThreadMetadataPatch, ThreadPersistenceMetadata, ThreadStore,
    UpdateThreadMetadataParams, WriterFenced, parse_position,
)


async def program(store: ThreadStore, text: str, named: uuid.UUID, anything: dict[str, Any]) -> ThreadId:
    texts: dict[str, str] = {"type": "user_message", "message": text}
    words: list[str] = ["a"]
    nested: dict[str, list[dict[str, int]]] = {"a": [{"b": 1}]}
    payloads: Sequence[Json] = (texts, words, nested, anything, text, 1, 1.5, None)
    items = [RolloutItem("event_msg", payload) for payload in payloads]
    place = ThreadPersistenceMetadata(cwd="/work")
    await store.create_thread(
        CreateThreadParams(thread_id=text, source={"custom": "mine"}, parent_thread_id=named, dynamic_tools=[texts],
                           event_persistence_mode="Extended", history_mode="legacy", metadata=place)
    )
    mode = ThreadEventPersistenceMode.LIMITED
    await store.resume_thread(ResumeThreadParams(thread_id=named, history=items, event_persistence_mode=mode))
    try:
        receipt = await store.append_items(AppendThreadItemsParams(thread_id=named, items=items, append_id=named))
        token = await store.flush_thread(text) or await store.persist_thread(named) or receipt.token
        await store.shutdown_thread(named)
    except WriterFenced:
        await store.discard_thread(text)
        token = None
    await store.load_history(LoadThreadHistoryParams(thread_id=text, at_least=token))
    thread = await store.read_thread(ReadThreadParams(thread_id=named, include_history=True))
    await store.read_items(ReadItemsParams(thread_id=text, page_size=5, sort_direction="Desc"))
    await store.list_threads(
        ListThreadsParams(sort_key="UpdatedAt", sort_direction=SortDirection.ASC, model_providers=words,
                          cwd_filters=words, allowed_sources=["cli", {"custom": "mine"}])
    )
    patch = ThreadMetadataPatch(name=None, created_at=datetime.now(UTC), git_info=GitInfoPatch(branch="main"))
    await store.update_thread_metadata(
        UpdateThreadMetadataParams(thread_id=text, patch=patch, expected_version=thread.version)
    )
    await store.archive_thread(ArchiveThreadParams(thread_id=text, reason="done"))
    await store.unarchive_thread(ArchiveThreadParams(thread_id=named))
    await store.delete_thread(DeleteThreadParams(thread_id=thread.thread_id))
    await store.retry_thread(named)
    async with aclosing(store.iter_history(LoadThreadHistoryParams(thread_id=named))) as said:
        words += [item.text async for item in said]
    async with aclosing(store.events(named, since=parse_position("0:1"), follow=True)) as events:
        words += [event.position async for event in events]
    return thread.thread_id
"""
REFUSED = [
    "AppendThreadItemsParams(thread_id=5, items=[])",
    "AppendThreadItemsParams(thread_id='', items=['text'])",
    "AppendThreadItemsParams(thread_id='', items=[], colour='red')",
    "ListThreadsParams(sort_key='Colour')",
    "RolloutItem('event_msg', {1, 2})",
    "RolloutItem(5, {})",
]


def checked(*files: Path) -> subprocess.CompletedProcess[str]:
    """Run mypy as a user does: strictly, and without this project's settings."""
    cache = ROOT / ".mypy_cache" / "of_a_user"
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", *map(str, files)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_a_users_program_and_those_of_the_readme_are_well_typed_and_mistakes_are_found(tmp_path: Path) -> None:
    good = [tmp_path / "program.py", *(tmp_path / f"readme_{number}.py" for number in range(len(PYTHON)))]
    for file, source in zip(good, [TAKEN, *PYTHON], strict=True):
        file.write_text(source, "utf-8")
    bad = tmp_path / "mistakes.py"
    bad.write_text("\n".join(["from eventstore import *", *REFUSED]), "utf-8")

    found = checked(*good, bad)

    wrong = [
        line.rpartition(": error:")[0].rpartition("/")[2] for line in found.stdout.splitlines() if "error:" in line
    ]
    assert wrong == [f"mistakes.py:{number}" for number in range(2, 2 + len(REFUSED))], found.stdout + found.stderr


def test_what_a_type_checker_is_told_of_parameters_are_their_fields() -> None:
    told: dict[str, list[str]] = {}
    for kind in ast.parse(Path(params.__file__).read_text("utf-8")).body:
        for part in ast.walk(kind):
            if isinstance(kind, ast.ClassDef) and isinstance(part, ast.FunctionDef) and part.name == "__init__":
                told[kind.name] = [argument.arg for argument in part.args.kwonlyargs]
    kinds = {name: kind for name, kind in vars(params).items() if name.endswith("Params")}

    assert kinds.keys() == told.keys()
    for name, kind in kinds.items():
        assert issubclass(kind, Document)
        assert told[name] == list(kind.model_fields), name
