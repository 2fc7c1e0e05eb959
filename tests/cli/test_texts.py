"""Texts that are not UTF-8, as a shell hands them over, and what is left of the process once a command has ended."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import eventstore.wiring
from eventstore.cli import main
from eventstore.errors import LogUnavailable
from tests.cli.conftest import ROOT, CommandLine
from tests.support.commands import NAMED, REJECTED, asked, matches

NOT_UTF8 = os.fsdecode(b"a\xff")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--actor", NOT_UTF8, "list"], r"eventstore: setting 'actor' is wrong: 'a\\udcff' is not UTF-8; give another"),
        (["--views", NOT_UTF8, "list"], r"eventstore: setting 'views' is wrong: 'a\\udcff' is not UTF-8; .*"),
        (["delete", NAMED, "--yes", "--reason", NOT_UTF8], r"eventstore: reason is wrong: 'a\\udcff' is not UTF-8"),
    ],
)
def test_a_text_that_is_not_utf8_is_refused_in_a_sentence(
    example: CommandLine, words: list[str], sentence: str
) -> None:
    before = example.done("events").out
    ended = example(*words)
    assert (ended.code, ended.out, matches(sentence, ended.err)) == (REJECTED, "", True), ended
    assert example.done("events").out == before


def test_so_are_the_bytes_of_a_real_command_line(example: CommandLine) -> None:
    command = [sys.executable, "-m", "eventstore.cli", "--log", example.url, "delete", NAMED, "--yes", "--reason"]
    ended = subprocess.run([*map(os.fsencode, command), b"\xff"], cwd=ROOT, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (REJECTED, b"")
    assert ended.stderr == b"eventstore: reason is wrong: '\\udcff' is not UTF-8\n"


@pytest.mark.parametrize("url", ["sqlite:~no-such-user-here/x.db", "sqlite:a\0b.db", f"sqlite:{NOT_UTF8}.db"])
def test_a_path_that_can_name_no_file_is_refused_in_a_sentence(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log", url, "list"]) == REJECTED
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), err[:12]) == ("", 1, "eventstore: ")


def test_no_number_is_too_long_for_a_sentence(example: CommandLine) -> None:
    ended = example("history", NAMED, "--as-of", "9" * 5_000)
    assert (ended.code, ended.out) == (REJECTED, "")
    assert matches("eventstore: '.*' is neither a version nor a time; .*", ended.err)


@pytest.mark.parametrize("words", [["--help"], ["no-such-command"], ["--log", "nonsense", "list"]])
def test_the_garbage_collector_works_again_however_a_command_ended(words: list[str]) -> None:
    try:
        main(words)
        assert gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("opener", "words"),
    [
        ("open_parts", ["--log", "sqlite::memory:", "list"]),
        ("open_threads", ["--log", "grpc://127.0.0.1:9", "list"]),
        ("open_log", ["copy", "--from", "kafka://127.0.0.1:9/threads", "--to", "sqlite::memory:"]),
        ("open_parts", ["--log", "sqlite::memory:", "serve"]),
        ("open_cluster", ["--log", "kafka://127.0.0.1:9/threads", "--views", "redis://127.0.0.1:9/0", "worker"]),
    ],
)
def test_garbage_is_collected_while_a_command_works(
    monkeypatch: pytest.MonkeyPatch, opener: str, words: list[str]
) -> None:
    """However long it works: what cannot be reached for a week leaves cycles at every attempt."""
    collected = []

    @asynccontextmanager
    async def opening(*_: object) -> AsyncIterator[None]:
        collected.append((gc.isenabled(), gc.get_freeze_count() > 0))
        raise LogUnavailable("not now")
        yield

    monkeypatch.setattr(eventstore.wiring, opener, opening)
    monkeypatch.setattr("eventstore.cli.logs.begin_logging", lambda **_: None)
    try:
        main(words)
    finally:
        gc.unfreeze()
        gc.enable()
    assert [(True, True)] == collected


@pytest.mark.parametrize("option", ["--search", "--provider", "--source", "--cwd"])
def test_a_filter_that_is_not_utf8_is_refused_in_a_sentence(example: CommandLine, option: str) -> None:
    refused = example("list", option, "\udcff")

    assert (refused.code, refused.out) == (2, "")
    assert "is not UTF-8 text" in refused.err


def test_so_is_the_current_folder(example: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NOT_UTF8).mkdir()
    monkeypatch.chdir(tmp_path / NOT_UTF8)

    refused = example("list", "--cwd", ".")

    assert (refused.code, refused.out) == (2, "")
    assert "is not UTF-8 text" in refused.err


def test_a_current_folder_that_was_removed_is_said_to_be(
    example: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    for words in (["list", "--cwd", "."], ["new"], ["new", "--cwd", "x"]):
        refused = example(*words, given=asked("hello"))
        assert (refused.code, refused.out) == (2, "")
        assert (
            refused.err == "eventstore: the current folder was removed; go to another one, or give --cwd a whole path\n"
        )
    assert len(example.threads()) == 8
    example.done("new", "--cwd", "/x", given=asked("hello"))


@pytest.mark.parametrize("source", ['{"custom": 123456789012345678901234567890}', '{"custom": "\\ud800"}'])
def test_a_source_that_nobody_has_lists_nothing(example: CommandLine, source: str) -> None:
    listed = example("list", "--json", "--source", source)

    assert (listed.code, json.loads(listed.out)["items"]) == (0, [])


NAME = "Übung 💥"


@pytest.fixture
def named(example: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Threads, one of them with words beyond ASCII in all that it says, and an export in a folder named like them."""
    monkeypatch.chdir(tmp_path)
    message = {"type": "event_msg", "payload": {"type": "user_message", "message": NAME}}
    example.done("append", NAMED, given=json.dumps(message, ensure_ascii=False))
    example.done("--actor", NAME, "rename", NAMED, NAME)
    example.done("export", "--all", NAME)
    return example


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "words",
    [
        ["export", NAMED],
        ["history", NAMED, "--json"],
        ["show", NAMED, "--json"],
        ["list", "--json"],
        ["events", NAMED, "--json"],
        ["import", "--json", NAME],
    ],
    ids=lambda words: words[0],
)
def test_what_programs_read_is_utf8_whatever_the_terminal_writes(
    named: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
    processes: list[subprocess.Popen[bytes]],
    encoding: str,
    words: list[str],
) -> None:
    words = [str(Path(word).resolve()) if word == NAME else word for word in words]
    expected = named.done(*words).out
    monkeypatch.setenv("PYTHONIOENCODING", encoding)

    process = named.started(*words)
    processes.append(process)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out.decode()) == (0, expected), err
    assert NAME in expected
