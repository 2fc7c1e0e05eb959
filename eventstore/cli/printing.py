"""What people read: tables, times, lines that fit.

On a terminal it is dressed up and cut to the terminal's width; anywhere else it is plain, whole and stable. Texts of
threads are never let through as they are: a control sequence in one would reach the terminal.
"""

from __future__ import annotations

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


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> None:
    """Print rows under headers; the last column takes the room that is left. `right` are columns of numbers."""
    if is_terminal():
        _print_rich(headers, rows, right)
        return
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    for row in (headers, *rows):
        cells = [
            cell.rjust(size) if i in right else cell.ljust(size)
            for i, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _print_rich(headers: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, expand=False)
    last = len(headers) - 1
    for i, header in enumerate(headers):
        table.add_column(
            header,
            justify="right" if i in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if i == last else None,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def print_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one a line, values lined up."""
    wide = max(_NAMES_WIDE, *(len(name) for name, _ in facts))
    for name, value in facts:
        print(f"{styled(name.ljust(wide), 'dim')}  {value}")
