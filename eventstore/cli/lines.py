"""Items from standard input, as they come: JSON lines, each `{"type": …, "payload": …}` or a whole rollout line.
A byte-order mark before the first one is none of its text.

A thread of its own reads, so that the store stays alive while nobody types; it reads no further ahead than a few
chunks. It is never waited for: the process may end while a read is going on.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from eventstore.errors import AppendTooLarge, InvalidRequest
from eventstore.splitting import LARGEST_ITEM

if TYPE_CHECKING:
    from eventstore.documents.items import RolloutItem

_CHUNK = 64 * 1024
"""Bytes asked for at once: what a pipe holds."""
_CHUNKS_AHEAD = 16
LONGEST_LINE = LARGEST_ITEM + 4 * 1024 * 1024
"""Bytes of a line: an item, and generous room for what stands around it. Of a longer one no more is read."""


class Line(NamedTuple):
    """One line of the input that is not blank."""

    number: int
    """1-based."""
    text: bytes
    too_long: bool = False
    """It goes on beyond what can be kept: nothing of it is here, and nothing behind it was read."""


class Incoming:
    """The lines of standard input."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._chunks: queue.Queue[bytes | OSError] = queue.Queue(_CHUNKS_AHEAD)
        self._arrived = asyncio.Event()
        self._file = _input_file()
        self._rest = bytearray()
        self._number = 0
        threading.Thread(target=self._read, name="eventstore-input", daemon=True).start()

    async def batches(self, *, lines: int, size: int) -> AsyncIterator[list[Line]]:
        """Yield what has come since the last time, at most so many lines and about so many bytes at once."""
        waiting: list[Line] = []
        filled, open_ = 0, True
        while open_:
            for line in await self._next_lines():
                if line is None:
                    open_ = False
                    break
                waiting.append(line)
                filled += len(line.text)
                if len(waiting) >= lines or filled >= size:
                    yield waiting
                    waiting, filled = [], 0
            if waiting and (self._chunks.empty() or not open_):
                yield waiting
                waiting, filled = [], 0

    async def _next_lines(self) -> Sequence[Line | None]:
        """Wait for the next chunk; return the lines that it ends, and None behind the last line of all.

        A line that is too long is the last one: nothing behind it is read.
        """
        chunk = await self._next_chunk()
        if not chunk:
            last = self._counted(bytes(self._rest))
            return [*last, None]
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = bytes(self._rest) + whole[0]
            self._rest.clear()
        self._rest += rest
        lines = [line for text in whole for line in self._counted(text)]
        if len(self._rest) > LONGEST_LINE:
            self._rest.clear()
            return [*lines, Line(self._number + 1, b"", too_long=True), None]
        return lines

    def _counted(self, text: bytes) -> list[Line]:
        if not self._number:
            text = text.removeprefix(BOM_UTF8)
        self._number += 1
        return [Line(self._number, text)] if text.strip() else []

    async def _next_chunk(self) -> bytes:
        while True:
            self._arrived.clear()
            with suppress(queue.Empty):
                chunk = self._chunks.get_nowait()
                if isinstance(chunk, OSError):
                    raise InvalidRequest(f"standard input cannot be read: {chunk.strerror}") from chunk
                return chunk
            await self._arrived.wait()

    def _read(self) -> None:
        chunk: bytes | OSError = b"-"
        while chunk and not isinstance(chunk, OSError):
            try:
                # Not through sys.stdin: its lock would be held by this thread when the interpreter ends.
                chunk = os.read(self._file, _CHUNK)
            except OSError as exc:
                chunk = exc
            self._chunks.put(chunk)
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._arrived.set)
        os.close(self._file)


def item_of(line: Line) -> RolloutItem:
    """Return the item that the line is; its payload keeps the text it came in.

    Raises:
        InvalidRequest: The line is none, named by its number.
        AppendTooLarge: It is longer than any item that can be kept.
    """
    from eventstore.codex.rollout import MalformedLine, parse_line
    from eventstore.documents.items import parsed_item

    if line.too_long:
        raise AppendTooLarge(
            f"line {line.number} goes on beyond {LONGEST_LINE:,} bytes; the most that an item may have is "
            f"{LARGEST_ITEM:,}; shorten it, or end each item with a line break"
        )
    try:
        item = parse_line(line.text)
    except MalformedLine as exc:
        raise InvalidRequest(f'line {line.number} is no item, {exc}; write {{"type": …, "payload": …}}') from exc
    assert item is not None, "blank lines are not handed out"
    return parsed_item(item.type, item.payload)


def nothing_came() -> InvalidRequest:
    return InvalidRequest("nothing to append; give items as JSON lines on standard input")


def tell_a_typist() -> None:
    """Say what is waited for when a person may be typing."""
    if sys.stdin is not None and sys.stdin.isatty():
        print('items as JSON lines {"type": …, "payload": …}; Ctrl-D ends', file=sys.stderr)


def _input_file() -> int:
    """Return a descriptor of its own: the reading may outlast the command, and then its number be another file's."""
    if sys.stdin is None:
        raise nothing_came()
    return os.dup(sys.stdin.fileno())
