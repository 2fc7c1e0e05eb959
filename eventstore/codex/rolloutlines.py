"""One rollout file while it is read: its items one by one, and what was wrong with its lines.

A rollout begins with its session_meta, which names the thread; what stands before it is reported and left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

from eventstore.codex.homes import RolloutFile
from eventstore.codex.imported import LineNames
from eventstore.codex.metadata import observe
from eventstore.codex.payloads import inner_type
from eventstore.codex.rollout import BadLine, MalformedLine, parse_line, read_lines
from eventstore.codex.rolloutfiles import parse_rollout_name
from eventstore.codex.sessionmeta import SessionMeta, session_meta_of
from eventstore.errors import AppendTooLarge
from eventstore.events import Item
from eventstore.ids import ThreadId
from eventstore.splitting import LARGEST_ITEM, size_of


class NoRollout(Exception):
    """The file cannot be imported as a rollout; the text says why."""


class RolloutLines:
    """The items of a rollout from its session_meta on."""

    def __init__(self, source: Iterable[bytes], file_name: str) -> None:
        """Read up to the session_meta.

        Raises:
            NoRollout: There is none, or it names no thread, or another one than the damaged file's name.
        """
        self.bad_lines: list[BadLine] = []
        self.number = 0
        """Of the line read last, 1-based."""
        self.taken = 0
        """How many items were given out."""
        self.at = 0
        """The time of the item given out last, milliseconds since the epoch."""
        self._names: list[tuple[int, str]] = []
        self._parsed = self._good(read_lines(self._counted(source)))
        first, self.meta = self._begin(file_name)
        self.items = self._given_out(chain((first,), self._parsed))

    @property
    def thread_id(self) -> ThreadId:
        return self.meta.thread_id

    def names(self, known: int) -> LineNames:
        """Return the names which the items given out gave the thread; the first `known` of them were here before."""
        there = [name for taken, name in self._names if taken <= known]
        return LineNames(there[-1] if there else None, self._names[-1][1] if self._names else None)

    def _counted(self, source: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines up to the file's end as it is when it is reached.

        A line without a line break is the last one: whoever writes the file may be about to complete it, and what is
        read after that begins in the middle of this very line.
        """
        try:
            for line in source:
                self.number += 1
                yield line
                if not line.endswith(b"\n"):
                    return
        except OSError as exc:
            raise NoRollout(f"line {self.number + 1} cannot be read: {exc.strerror}") from exc

    def _good(self, lines: Iterable[Item | BadLine]) -> Iterator[Item]:
        for line in lines:
            if isinstance(line, BadLine):
                self.bad_lines.append(line)
            else:
                yield line

    def _begin(self, file_name: str) -> tuple[Item, SessionMeta]:
        for item in self._parsed:
            if item.type != "session_meta":
                self.bad_lines.append(BadLine(self.number, "it stands before the session_meta"))
                continue
            meta = session_meta_of(item)
            if meta is None:
                raise NoRollout(f"its session_meta (line {self.number}) has no thread id")
            named = parse_rollout_name(file_name)
            if self.bad_lines and named is not None and named.thread_id != meta.thread_id:
                # A fork holds its source's session_meta behind its own: with its own torn, it is not its source.
                raise NoRollout(f"its own session_meta is damaged; line {self.number} is thread {meta.thread_id}'s")
            return item, meta
        raise NoRollout("it has no session_meta" if self.bad_lines else "empty session file")

    def _given_out(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            self.taken += 1
            self.at = item.at
            if item.type == "event_msg" and inner_type(item.payload) == "thread_name_updated":
                name = observe(self.thread_id, (item,)).last.get("name")
                if isinstance(name, str):
                    self._names.append((self.taken, name))
            yield item


@contextmanager
def opened(file: RolloutFile) -> Iterator[RolloutLines]:
    """Open a rollout file to read it once.

    Raises:
        NoRollout: It is empty, compressed, cannot be read, or is something else.
        AppendTooLarge: It has a line that cannot be kept.
    """
    if file.is_compressed:
        raise NoRollout("it is compressed; unpack it first: zstd -d")
    try:
        source = file.path.open("rb")
    except OSError as exc:
        raise NoRollout(f"it cannot be read: {exc.strerror}") from exc
    with source:
        if file.size > LARGEST_ITEM:
            _refuse_too_large(source)
            source.seek(0)
        yield RolloutLines(source, file.path.name)


def _refuse_too_large(source: Iterable[bytes]) -> None:
    """Look for lines too large to keep before anything is written, so that no thread is left half imported."""
    for number, line in enumerate(source, 1):
        if len(line) <= LARGEST_ITEM // 2:
            continue
        try:
            item = parse_line(line)
        except MalformedLine:
            continue
        if item is not None and size_of(item) > LARGEST_ITEM:
            raise AppendTooLarge(f"line {number} of {len(line):,} bytes cannot be kept; the most is {LARGEST_ITEM:,}")
