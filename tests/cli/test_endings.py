"""How a process ends when its reader goes away, when a person has had enough, and when its output has no room."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import CommandLine
from tests.cli.test_reading import NAMED
from tests.cli.test_writing import said, texts


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


def test_codes_are_those_of_the_process(example: CommandLine, processes: list[subprocess.Popen[bytes]]) -> None:
    for words, code in ((["list"], 0), (["show", "fff"], 2), (["--log", "sqlite:/dev/null/y.db", "list"], 4)):
        process = example.started(*words)
        processes.append(process)
        out, err = process.communicate(timeout=30)
        assert process.returncode == code
        assert err.count(b"\n") == (code != 0)
        assert bool(out) == (code == 0)
