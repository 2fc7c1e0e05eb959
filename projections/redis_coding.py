"""A thread's state and offset index as bytes in Redis, and a change of them as arguments of the commit script.

Pure, and small: memory is what Redis costs. Field names are short, equal texts are kept once, defaults not at all. The
index is pairs of LEB128 numbers (offset since the record before, items); as the last byte of a number is the only one
below 128, it can be read from its end.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

import orjson

from eventstore.admission import Lifecycle
from eventstore.codex.metadata import EMPTY, NO_FACTS, Facts, Summary
from eventstore.codex.observation import TOKEN_COUNTS
from eventstore.ids import ThreadId
from eventstore.state import IndexEntry, ThreadState, head_from_json, head_to_json
from projections.ports import DamagedView, ThreadChange
from projections.selection import shelf_of

LONGEST_ENTRY = 15
"""Most bytes of an index entry: an offset below 2**63 takes nine, and no record has items for more than six."""
_HEADER = struct.Struct(">HIIII")
"""Offset of the last indexed record (six bytes, as two numbers), items, bytes of the head, bytes of the summary."""
_HEAD_FIELDS = 9
"""How many values `head_to_json` gives."""

SUMMARY_CODES = {
    "archived_at": "a",
    "forked_from_id": "f",
    "parent_thread_id": "pt",
    "preview": "p",
    "name": "n",
    "title": "t",
    "model_provider": "v",
    "model": "m",
    "reasoning_effort": "e",
    "cwd": "c",
    "cli_version": "cv",
    "source": "s",
    "thread_source": "ts",
    "agent_nickname": "an",
    "agent_role": "ar",
    "agent_path": "ap",
    "git_sha": "gs",
    "git_branch": "gb",
    "git_origin": "go",
    "approval_mode": "am",
    "sandbox_policy": "sp",
    "permission_profile": "pp",
    "first_user_message": "fm",
    "memory_mode": "mm",
    "history_mode": "hm",
    "history_base": "hb",
    "imported": "im",
}
"""The summary's fields but for those which the head carries, as they change with most appends. A code once given is
never given to another field."""
_FIELDS_BY_CODE = {code: name for name, code in SUMMARY_CODES.items()}
_CODES = tuple(SUMMARY_CODES.values())
_DEFAULTS = tuple(getattr(EMPTY, name) for name in SUMMARY_CODES)
_in_summary = attrgetter(*SUMMARY_CODES)
_USUAL = (
    b'","mm":"disabled","hm":"paginated","pp":"{\\"type\\":\\"managed\\",\\"read-only\\",\\"danger-full-access\\"}","e":"high"'
    b',"e":"low","s":"\\"exec\\"","s":"\\"vscode\\"","am":"\\"never\\"","t":0,"v":"openai","m":"gpt-5-codex","e":"medium"'
    b',"c":"/home/","cv":"0.1","s":"\\"cli\\"","gs":"","gb":"main","go":"https://github.com/","go":"git@github.com:"'
    b',"am":"\\"on-request\\"","sp":"{\\"type\\":\\"workspace-write\\",\\"writable_roots\\":[],\\"mode\\":'
    b'\\"workspace-write\\",\\"network_access\\":false,\\"exclude_tmpdir_env_var\\":false,\\"exclude_slash_tmp\\":false}"'
    b',"fm":0,"hm":"legacy"}'
)
"""What summaries mostly say, likeliest last: deflated upon it, they take a third. Changing it takes another `FOLD`."""
_WINDOW = -10
"""A raw deflate window of 1 KiB: summaries are short, and making a larger one ready takes longer than filling it."""
_deflated = zlib.compressobj(3, zlib.DEFLATED, _WINDOW, 2, zlib.Z_DEFAULT_STRATEGY, _USUAL).copy
_inflated = zlib.decompressobj(_WINDOW, _USUAL).copy
_LIKE_PREVIEW = ("t", "fm")
"""Codes of texts that mostly are the preview's; 0 says that one is."""

# What a change announces to the commit script, beside items and head; the numbers are the script's.
_SUMMARY, _INDEX, _UPDATED, _UNLISTED, _LISTED, _FOUND, _DELETED, _FROZEN, _REPLACED, _GONE = (
    1 << bit for bit in range(10)
)

_COUNTED = (Lifecycle.ACTIVE, Lifecycle.ARCHIVED, Lifecycle.DELETED)


def key_of(thread_id: ThreadId) -> bytes:
    return bytes.fromhex(thread_id.replace("-", ""))


def thread_of(key: bytes) -> ThreadId:
    return ThreadId(str(UUID(bytes=key)))


def threads_of(keys: bytes) -> list[ThreadId]:
    """Return the ids that lie one after the other."""
    return [thread_of(keys[at : at + 16]) for at in range(0, len(keys), 16)]


def changes_as_arguments(changes: Mapping[ThreadId, ThreadChange]) -> list[bytes | str | int]:
    """Return the commit script's arguments from the counts on."""
    counts = [0, 0, 0, 0]
    known: list[bytes] = []
    arguments: list[bytes | str | int] = []
    for thread_id, change in changes.items():
        key = key_of(thread_id)
        if change.before.start >= 0:
            known.append(key)
            _count(counts, change.before, -1)
        _count(counts, change.after, 1)
        _add_change(arguments, key, change)
    return [*counts, b"".join(known), *arguments]


def _count(counts: list[int], state: ThreadState, by: int) -> None:
    lifecycle = state.head.lifecycle
    if lifecycle in _COUNTED:
        counts[_COUNTED.index(lifecycle)] += by
    if lifecycle is not Lifecycle.DELETED:
        counts[3] += by * state.head.items


def _add_change(arguments: list[bytes | str | int], key: bytes, change: ThreadChange) -> None:
    before, after = change.before, change.after
    place = len(arguments)
    arguments += (key, 0, after.head.items, _head(after))
    flags = 0
    if before.start < 0 or not _same_summary(before.summary, after.summary):
        flags |= _SUMMARY
        arguments.append(_summary(after.summary))
    if change.replaces:
        flags |= _REPLACED if after.start >= 0 else _REPLACED | _GONE
    if change.indexed:
        flags |= _INDEX
        arguments += (change.indexed[0].offset, _index(change.indexed), change.indexed[-1].offset)
    if after.head.lifecycle is Lifecycle.DELETED:
        flags |= _DELETED
    flags |= _add_lists(arguments, before, after)
    if before.start < 0 and after.head.lifecycle is not Lifecycle.DELETED:
        flags |= _FOUND
    if after.frozen is not None:
        flags |= _FROZEN
        arguments.append(after.frozen)
    arguments[place + 1] = flags


def _add_lists(arguments: list[bytes | str | int], before: ThreadState, after: ThreadState) -> int:
    """Add what becomes of the thread's places in the lists; return the flags of it."""
    old, now = before.summary, after.summary
    old_shelf, shelf = shelf_of(before), shelf_of(after)
    if shelf is not None and shelf == old_shelf and old.model_provider == now.model_provider:
        if old.created_at == now.created_at:
            if old.updated_at == now.updated_at:
                return 0
            arguments += (shelf, now.model_provider, now.updated_at)
            return _UPDATED
        arguments += (shelf, now.model_provider, now.created_at, now.updated_at)
        return _LISTED
    flags = 0
    if old_shelf is not None:
        flags |= _UNLISTED
        arguments += (old_shelf, old.model_provider)
    if shelf is not None:
        flags |= _LISTED
        arguments += (shelf, now.model_provider, now.created_at, now.updated_at)
    return flags


def _head(state: ThreadState) -> bytes:
    facts = state.run_facts
    summary = state.summary
    run_facts = None if facts == NO_FACTS else [facts.latest, dict(facts.first), dict(facts.last)]
    usage = None if summary.token_usage is None else _usage(summary.token_usage)
    values = head_to_json(state.head)
    values += (state.start, summary.created_at, summary.updated_at, state.frozen, run_facts, usage)
    return orjson.dumps(values)


def _usage(text: str) -> list[int] | str:
    """Return the six counts, or the text if it is not just these in their order."""
    counts = orjson.loads(text)
    if isinstance(counts, dict) and tuple(counts) == TOKEN_COUNTS and _usage_text(counts.values()) == text:
        return list(counts.values())
    return text


def _usage_text(counts: Iterable[int]) -> str:
    return orjson.dumps(dict(zip(TOKEN_COUNTS, counts, strict=True))).decode()


def _same_summary(one: Summary, other: Summary) -> bool:
    return one is other or _in_summary(one) == _in_summary(other)


def _summary(summary: Summary) -> bytes:
    rows = zip(_CODES, _in_summary(summary), _DEFAULTS, strict=True)
    kept: dict[str, str | int] = {code: value for code, value, default in rows if value != default}
    for code in _LIKE_PREVIEW:
        if kept.get(code) == summary.preview and summary.preview:
            kept[code] = 0
    deflate = _deflated()
    return deflate.compress(orjson.dumps(kept)) + deflate.flush()


class StoredThread:
    """The bytes of one thread, taken apart."""

    __slots__ = ("head", "index", "items", "key", "last", "summary")

    def __init__(self, key: bytes, stored: bytes) -> None:
        """Take the bytes apart.

        Raises:
            DamagedView: They are too short.
        """
        self.key = key
        try:
            high, low, self.items, head, summary = _HEADER.unpack_from(stored)
        except struct.error as exc:
            raise damaged(key, exc) from exc
        self.last = high << 32 | low
        start = _HEADER.size
        self.head = stored[start : start + head]
        self.summary = stored[start + head : start + head + summary]
        self.index = stored[start + head + summary :]

    def state(self) -> ThreadState:
        """Return the thread's state.

        Raises:
            DamagedView: It cannot be decoded.
        """
        try:
            values = orjson.loads(self.head)
            start, created_at, updated_at, frozen, facts, usage = values[_HEAD_FIELDS:]
            summary = _read_summary(self.summary)
            summary["token_usage"] = _usage_text(usage) if isinstance(usage, list) else usage
            return ThreadState(
                head=head_from_json(values[:_HEAD_FIELDS]),
                summary=Summary(created_at, updated_at, **summary),
                run_facts=NO_FACTS if facts is None else Facts(*facts),
                start=start,
                frozen=frozen,
            )
        except (ValueError, TypeError, LookupError, zlib.error) as exc:
            raise damaged(self.key, exc) from exc

    def entries(self, earlier: bytes, *, start: int) -> list[IndexEntry]:
        """Return the records that bear the items from ordinal `start` on; `earlier` is what the index held before.

        Raises:
            DamagedView: The index ends before it comes to that item.
        """
        return _read_index(self.key, earlier + self.index, self.last, self.items, start)


def damaged(key: bytes, exc: Exception) -> DamagedView:
    return DamagedView(f"the view of thread {thread_of(key)} is damaged ({exc}); build the views anew")


def _read_summary(stored: bytes) -> dict[str, Any]:
    kept: dict[str, Any] = orjson.loads(_inflated().decompress(stored))
    for code in _LIKE_PREVIEW:
        if kept.get(code) == 0:
            kept[code] = kept["p"]
    return {_FIELDS_BY_CODE[code]: value for code, value in kept.items()}


def _varint(number: int) -> bytes:
    if number < 128:
        return _ONE_BYTE[number]
    groups = bytearray()
    while number >= 128:
        groups.append(number & 127 | 128)
        number >>= 7
    groups.append(number)
    return bytes(groups)


_ONE_BYTE = tuple(bytes((number,)) for number in range(128))


def _index(entries: Sequence[IndexEntry]) -> bytes:
    """Return the entries as they are appended but for the first offset: only what is stored knows since where."""
    return b"".join(_varints(entries))


def _varints(entries: Sequence[IndexEntry]) -> Iterable[bytes]:
    before = entries[0].offset
    yield _varint(entries[0].items)
    for entry in entries[1:]:
        yield _varint(entry.offset - before)
        yield _varint(entry.items)
        before = entry.offset


def _read_index(key: bytes, index: bytes, last: int, items: int, start: int) -> list[IndexEntry]:
    entries: list[IndexEntry] = []
    offset, ordinal, at = last, items, len(index)
    while ordinal > start:
        if at <= 0:
            raise damaged(key, ValueError(f"its index begins at item {ordinal}"))
        count, at = _number_before(index, at)
        since, at = _number_before(index, at)
        ordinal -= count
        entries.append(IndexEntry(offset, ordinal, count))
        offset -= since
    entries.reverse()
    return entries


def _number_before(index: bytes, at: int) -> tuple[int, int]:
    """Return the number that ends before `at`, and where it begins."""
    at -= 1
    number = index[at]
    while at > 0 and index[at - 1] >= 128:
        at -= 1
        number = number << 7 | index[at] & 127
    return number, at
