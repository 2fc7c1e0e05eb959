"""How a process ends when its reader goes away, when a person has had enough, and when its output has no room."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.support.commands import NAMED, said, texts


@pytest.mark.parametrize("words", [["history", NAMED, "--json"], ["events"], ["list"], ["export", NAMED], ["--help"]])
def test_a_reader_that_goes_away_is_not_complained_about(
    example: CommandLine, processes: list[subprocess.Popen[bytes]], words: list[str]
) -> None:
    process = example.started(*words)
    processes.append(process)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait(timeout=30) == 141


@pytest.mark.parametrize("words", [["list"], ["history", NAMED, "--json"]])
def test_output_that_finds_no_room_is_an_error(
    example: CommandLine, processes: list[subprocess.Popen[bytes]], words: list[str]
) -> None:
    with Path("/dev/full").open("wb") as full:
        process = example.started(*words, stdout=full)
        processes.append(process)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == b"eventstore: standard output cannot be used: No space left on device\n"


ASKED_FOR_THE_VERSION = "import sys; from eventstore.cli import main; sys.argv[1:] = ['--version']; sys.exit(main())"


def test_so_it_is_where_only_the_version_is_asked_for(
    empty: CommandLine, processes: list[subprocess.Popen[bytes]]
) -> None:
    with Path("/dev/full").open("wb") as full:
        process = empty.started(program=ASKED_FOR_THE_VERSION, stdout=full)
        processes.append(process)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == b"eventstore: standard output cannot be used: No space left on device\n"


CLOSED = (
    "import os, sys; os.close(2); os.execv(sys.executable, [sys.executable, '-m', 'eventstore.cli', *sys.argv[1:]])"
)


@pytest.mark.parametrize(("words", "code"), [(["show", "fff"], 2), (["list", "--limit", "0"], 0)])
def test_what_is_said_to_people_is_not_in_the_output_where_they_do_not_listen(
    example: CommandLine, processes: list[subprocess.Popen[bytes]], words: list[str], code: int
) -> None:
    process = example.started(*words, program=CLOSED)
    processes.append(process)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, b"")


def test_ctrl_c_ends_a_writer_quietly_and_keeps_what_was_acknowledged(
    example: CommandLine, processes: list[subprocess.Popen[bytes]]
) -> None:
    process = example.started("append", NAMED)
    processes.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(said("kept").encode())
    process.stdin.flush()
    assert process.stdout.readline() == b"acknowledged 1 item, 1 in all\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert texts(example, NAMED)[-1] == "kept"
    example.done("append", NAMED, given=said("goes on"))


INTERRUPTED_AT = """
import atexit, os, sys
moment, *sys.argv[1:] = sys.argv[1:]
def interrupt(*_):
    moment_came.append(1)
    os.kill(os.getpid(), 2)
moment_came = []
def happens(event, about):
    if not moment_came and moment in (event, f"{event} {about[0]}" if about else event):
        interrupt()
sys.addaudithook(happens)
if moment == "the end":
    atexit.register(interrupt)
from eventstore.cli import main
sys.exit(main())
"""
"""A command that gets Ctrl-C at a moment of its own: when a module is imported, when a file is opened, at the end."""

MOMENTS = [
    "import signal",
    "import eventstore.cli.ending",
    "import typer",
    "import eventstore.cli.opening",
    "import eventstore.documents",
    "import eventstore.settings",
    "import pydantic",
    "import asyncio",
    "import eventstore.wiring",
    "import orjson",
    "import socket",
    "sqlite3.connect",
    "the end",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_is_quiet_from_the_first_import_to_the_end(
    example: CommandLine, processes: list[subprocess.Popen[bytes]], moment: str
) -> None:
    process = example.started("list", program=INTERRUPTED_AT, before=[moment])
    processes.append(process)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, b"")
    assert bool(out) == (moment == "the end")


def test_a_job_in_the_background_does_not_hear_ctrl_c(
    example: CommandLine, processes: list[subprocess.Popen[bytes]]
) -> None:
    """A shell has Ctrl-C ignored for it, and for all that it starts."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = example.started("list", program=INTERRUPTED_AT, before=["import typer"], heeding=False)
    finally:
        signal.signal(signal.SIGINT, before)
    processes.append(process)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, bool(out), err) == (0, True, b"")


def test_codes_are_those_of_the_process(example: CommandLine, processes: list[subprocess.Popen[bytes]]) -> None:
    for words, code in ((["list"], 0), (["show", "fff"], 2), (["--log", "sqlite:/dev/null/y.db", "list"], 4)):
        process = example.started(*words)
        processes.append(process)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code, err
        assert err.count(b"\n") == (code != 0)
        assert bool(out) == (code == 0)
