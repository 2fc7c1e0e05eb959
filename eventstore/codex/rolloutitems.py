"""A thread's events as the items of its rollout file (contract §1.5): imported lines as they were, JSON for JSON.

What commands said here follows as Codex's own lines, at their place in the log. Codex has lines for a thread's name,
memory mode and git info only: other metadata that was set here has none. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from eventstore.admission import Admitted
from eventstore.codex.imported import is_import
from eventstore.codex.payloads import members, parsed_object
from eventstore.codex.sessionmeta import amended_session_meta, renamed, session_meta_of
from eventstore.codex.summary import Summary
from eventstore.documents.threads import GitInfo, ThreadHistoryMode, ThreadMemoryMode
from eventstore.events import (
    Event,
    Item,
    ItemsAppended,
    MetadataPatched,
    ThreadCreated,
    WriterClosed,
    WriterOpened,
)
from eventstore.ids import ThreadId
from eventstore.state import Step

_GIT_FIELDS = frozenset({"git_sha", "git_branch", "git_origin"})
_ORDINAL = re.compile(r'\{"ordinal":(\d+)[,}]')


class Rollout:
    """A thread's events, one by one, as the items of its rollout."""

    def __init__(self, thread_id: ThreadId) -> None:
        self._thread_id = thread_id
        self._first: Item | None = None
        self._numbered = False
        self._next_ordinal = 0
        self._run: list[Item] = []

    def after(self, event: Event, done: Step) -> Iterable[Item]:
        """Return the items that the event adds: of a patch, what it said, and otherwise items of the history."""
        if not isinstance(done.verdict, Admitted):
            return ()
        items = self._items(event, done.state.summary)
        return self._with_ordinals(items) if self._numbered else items

    def _items(self, event: Event, summary: Summary) -> Iterable[Item]:
        match event:
            case ThreadCreated(session_meta=first):
                meta = session_meta_of(first)
                self._first = first
                self._numbered = meta is not None and meta.history_mode is ThreadHistoryMode.PAGINATED
                return (first,)
            case ItemsAppended(items=items, more=more):
                self._run.extend(items)
                if more:
                    return ()
                complete, self._run = self._run, []
                return complete
            case WriterOpened() | WriterClosed():
                self._run.clear()
                return ()
            case MetadataPatched() if not is_import(event.fields):
                return self._patched(event, summary)
            case _:
                return ()

    def _patched(self, event: MetadataPatched, summary: Summary) -> Iterator[Item]:
        """Yield what Codex would have written for the patch (contract §2.11)."""
        assert self._first is not None
        at = event.occurred_at // 1_000
        changed = {field.name for field in event.fields}
        if "memory_mode" in changed or changed & _GIT_FIELDS:
            mode = None if summary.memory_mode is None else ThreadMemoryMode(summary.memory_mode)
            git = _git_info(summary, self._first, changed)
            yield amended_session_meta(self._first, at_millis=at, memory_mode=mode, git=git)
        # Names of paginated threads are in the names index only; so is a name that was cleared.
        if "name" in changed and summary.name and not self._numbered:
            yield renamed(self._thread_id, summary.name, at_millis=at)

    def _with_ordinals(self, items: Iterable[Item]) -> Iterator[Item]:
        """Number what was written here as Codex numbers its paginated files; imported lines have their ordinals."""
        for item in items:
            ordinal = None if item.extras is None else _ordinal_in(item.extras)
            if ordinal is not None:
                self._next_ordinal = ordinal
            numbered = item if item.extras else item._replace(extras=f'{{"ordinal":{self._next_ordinal}}}')
            self._next_ordinal += 1
            yield numbered


def _git_info(summary: Summary, first: Item, changed: set[str]) -> GitInfo | None:
    """Return the git info that a copy of the session_meta has to bear; None where it has to bear none."""
    git = GitInfo(commit_hash=summary.git_sha, branch=summary.git_branch, repository_url=summary.git_origin)
    if git != GitInfo() or changed & _GIT_FIELDS:
        return git
    # What the first one says was cleared since, and a copy of it may not bring that back.
    return git if "git" in (parsed_object(first.payload) or {}) else None


def _ordinal_in(extras: str) -> int | None:
    found = _ORDINAL.match(extras)
    if found is not None:
        return int(found[1])
    texts = [part.text for part in members(extras) if part.key == "ordinal"]
    return int(texts[0]) if texts and texts[0].isdecimal() else None
