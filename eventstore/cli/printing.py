"""What people read: tables, times, lines that fit.

On a terminal it is dressed up and cut to the terminal's width; anywhere else it is plain, whole and stable. Texts of
threads are never let through as they are, for a control sequence in one would reach the terminal; only what programs
read is printed as it is.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from eventstore.ids import ThreadId

Style: TypeAlias = Literal["bold", "dim", "red", "green", "yellow", "cyan"]

_SGR = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_PLAIN_WIDTH = 100
"""Characters of a shortened line where there is no terminal."""
_GAP = 2
"""Spaces between two columns."""
_LAST_COLUMN = 20
"""Characters that a table's last column has at least."""
_NAMES_WIDE = 13
"""Characters of a fact's name: the longest there is."""
_SHORT_ID = 13
"""Characters of an id that hold the whole time of a version 7 UUID: mostly enough to tell two apart."""


def is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def width() -> int:
    return shutil.get_terminal_size().columns if is_terminal() else _PLAIN_WIDTH


def styled(text: str, *styles: Style) -> str:
    """Dress the text for a terminal; NO_COLOR and everything else get it plain."""
    if not styles or not is_terminal() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{';'.join(str(_SGR[style]) for style in styles)}m{text}\x1b[0m"


def shown(text: str) -> str:
    """Return the text with its lines, without anything that a terminal would obey."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def one_line(text: str, most: int | None = None) -> str:
    """Return the text in one line of at most `most` characters."""
    line = " ".join(shown(text).split())
    return line if most is None or len(line) <= most else line[: max(1, most - 1)] + "…"


def local(moment: datetime) -> str:
    """Return the moment in the reader's time zone, to the minute."""
    return f"{here(moment):%Y-%m-%d %H:%M}"


def local_seconds(moment: datetime) -> str:
    return f"{here(moment):%Y-%m-%d %H:%M:%S}"


def here(moment: datetime) -> datetime:
    try:
        return moment.astimezone()
    except (OverflowError, ValueError, OSError):
        return moment  # the first and last day of the calendar have no neighbours


def short_ids(threads: Sequence[ThreadId]) -> dict[ThreadId, str]:
    """Return beginnings that tell these threads apart; whole ids where nobody has to read them."""
    for length in (_SHORT_ID, 18, 23):
        if is_terminal() and len({thread[:length] for thread in threads}) == len(set(threads)):
            return {thread: thread[:length] for thread in threads}
    return {thread: thread for thread in threads}


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def acknowledge(sentence: str, as_json: bool, **facts: object) -> None:
    """Say at once that something is kept: in a sentence, or as an object in one line."""
    from eventstore.jsontext import dumps

    if as_json:
        print_json(dumps(facts), flush=True)
    else:
        print(sentence, flush=True)


def print_json(text: str, *, flush: bool = False) -> None:
    """Print a line or a document for programs: in UTF-8, whatever the terminal's encoding is."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and codecs.lookup(out.encoding).name != "utf-8":
        out.reconfigure(encoding="utf-8", errors="backslashreplace")
    print(text, flush=flush)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
    """Print rows under headers; the last column takes the room that is left. `right` are columns of numbers."""
    if is_terminal():
        _print_rich(headers, rows, right)
        return
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    for row in (headers, *rows):
        cells = zip(row, widths, strict=True)
        line = [cell.rjust(size) if i in right else cell.ljust(size) for i, (cell, size) in enumerate(cells)]
        print((" " * _GAP).join(line).rstrip())


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    # In cells: many characters, those of Chinese for example, take two.
    widths = [max(map(cell_len, column)) for column in zip(headers, *rows, strict=True)]
    left = max(_LAST_COLUMN, console.width - sum(size + _GAP for size in widths[:-1]))
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for i, (header, size) in enumerate(zip(headers, widths, strict=True)):
        room = min(size, left) if i == len(headers) - 1 else size
        table.add_column(header, justify="right" if i in right else "left", no_wrap=True, width=room)
    for row in rows:
        cells = [Text(cell) for cell in row]
        # Here, for a table that is too wide takes the room from the columns that fit.
        cells[-1].truncate(left, overflow="ellipsis")
        table.add_row(*cells)
    console.print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one a line, values lined up."""
    wide = max(_NAMES_WIDE, *(len(name) for name, _ in facts))
    for name, value in facts:
        print(f"{styled(name.ljust(wide), 'dim')}  {value}")
