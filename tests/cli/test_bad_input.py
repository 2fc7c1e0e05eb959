"""The error matrix: what is wrong with the request, the settings or the file, and what is said of it.

Each gives the exit code of its error's family and one sentence on standard error that says what to do; nothing is
printed, and nothing of the store is changed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from eventstore.cli import main
from eventstore.cli.lines import LONGEST_LINE
from eventstore.sqlite.file import SqliteFile
from tests.cli.conftest import CommandLine
from tests.support.commands import (
    ANYTHING,
    ARCHIVED,
    BROKEN,
    NAMED,
    REJECTED,
    UNAVAILABLE,
    matches,
    said,
    words_of,
)

UNKNOWN = "01a00000-0000-7000-8000-000000000000"


@pytest.mark.parametrize("command", ANYTHING)
@pytest.mark.parametrize(
    ("thread", "sentence"),
    [
        (UNKNOWN, f"eventstore: .*{UNKNOWN}.*"),
        ("not-an-id", "eventstore: invalid thread id 'not-an-id': give a UUID or the beginning of one; .*"),
        ("-", ".*"),
        (f"{NAMED}0", "eventstore: invalid thread id '.*': give a UUID"),
        ("01a0", "eventstore: 01a0 is the beginning of 01a0[-0-9a-f]+ and of 01a0[-0-9a-f]+; give more of it"),
        ("fff", "eventstore: no thread begins with fff; eventstore list shows which there are"),
    ],
)
def test_ids(example: CommandLine, command: str, thread: str, sentence: str) -> None:
    refused(example, words_of(command, thread), REJECTED, sentence, given=said("x"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["list", "--cursor", "yesterday"], "eventstore: invalid cursor: yesterday"),
        (["list", "--cursor", f"2026-01-01T00:00:00Z|{NAMED}x"], "eventstore: invalid cursor: .*"),
        (["list", "--limit", "-1"], "eventstore: .*--limit.*; see eventstore --help"),
        (["list", "--limit", "many"], "eventstore: .*--limit.*; see eventstore --help"),
        (["list", "--sort", "size"], "eventstore: .*--sort.*; see eventstore --help"),
        (["list", "--source", '{"a"'], "eventstore: the source '.*' is not JSON: .*"),
        (["list", "--source", '{"a": 1e400}'], "eventstore: the source .* has no JSON form .*; give one that has"),
        (["history", NAMED, "--last", "-1"], "eventstore: .*--last.*; see eventstore --help"),
        (["history", NAMED, "--as-of", "noon"], "eventstore: 'noon' is neither a version nor a time; give e.g. .*"),
        (["events", "--since", "here"], "eventstore: 'here' is no position; give one as eventstore events shows it.*"),
        (["events", "--since", "0:-1"], "eventstore: '0:-1' is no position; .*"),
        (["events", "--since", "1:0"], "eventstore: there is no partition 1, the last one is 0; give .*"),
        (["events", UNKNOWN], f"eventstore: thread {UNKNOWN} not found"),
        (["archive", ARCHIVED], f"eventstore: no rollout found for thread id {ARCHIVED}"),
        (["unarchive", NAMED], f"eventstore: no archived rollout found for thread id {NAMED}"),
        (["append", NAMED], "eventstore: nothing to append; give items as JSON lines on standard input"),
        (["new"], "eventstore: nothing to append; give items as JSON lines on standard input"),
        (["import", "/nowhere"], "eventstore: /nowhere does not exist; give a Codex home .*"),
        *(
            ([*words, ""], "eventstore: '' is no path; write . for the current folder")
            for words in (
                ["import"],
                ["export", "--all"],
                ["export", NAMED, "--force", "-o"],
                ["backup"],
                ["new", "--cwd"],
            )
        ),
        (["list", "--damaged", "--limit", "3"], "eventstore: --damaged lists every thread that .*; leave --limit away"),
        (["list", "--cwd", ""], "eventstore: '' is no path; write . for the current folder"),
        (["export", NAMED, "--force", "-o", "."], r"eventstore: \. is a folder; give the name of a file"),
        (["export", NAMED, "--force", "-o", "/"], "eventstore: / is a folder; give the name of a file"),
        (["import"], "eventstore: Missing argument 'PATH…'; see eventstore --help"),
        (["show"], "eventstore: Missing argument 'ID'; see eventstore --help"),
        (["shew", NAMED], "eventstore: No such command 'shew'. Did you mean 'show'.*[?] see eventstore --help"),
        (["topic", "create", "--partitions", "2147483648"], "eventstore: .*--partitions.*; see eventstore --help"),
        (["topic", "create", "--replicas", "32768"], "eventstore: .*--replicas.*; see eventstore --help"),
        (["show", NAMED, "--xml"], "eventstore: No such option.*[;?] see eventstore --help"),
    ],
)
def test_requests(example: CommandLine, words: list[str], sentence: str) -> None:
    refused(example, words, REJECTED, sentence)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"{", "eventstore: line 1 is no item, it is not a JSON object: .*"),
        (b'{"type":"event_msg","payload":{"a":NaN}}', "eventstore: line 1 is no item, .*"),
        (b'{"type":"event_msg","payload":{}} {}', "eventstore: line 1 is no item, .*"),
        (b'{"type":"event_msg","type":"x","payload":{}}', "eventstore: line 1 is no item, .*"),
        (b"\xff\xfe", "eventstore: line 1 is no item, it is not UTF-8.*"),
        (said("x" * (16 * 1024 * 1024)).encode(), r"eventstore: line 1: an item of 16,[\d,]+ bytes cannot be kept; .*"),
        (b" \n\n", "eventstore: nothing to append; .*"),
    ],
)
def test_lines(example: CommandLine, line: bytes, sentence: str) -> None:
    before = example.done("history", NAMED, "--json").out
    refused(example, ["new"], REJECTED, sentence, given=line)
    ended = example("append", NAMED, given=line)
    assert ended.code == REJECTED
    assert matches(sentence, ended.err)
    assert ended.out == ""
    # Whoever appends takes the thread over first: that is in the log, and no part of the history.
    assert example.done("history", NAMED, "--json").out == before


@pytest.mark.parametrize("words", [["append", NAMED], ["new"]])
def test_a_line_without_end_is_read_no_further_than_an_item_can_be_long(
    example: CommandLine, processes: list[subprocess.Popen[bytes]], words: list[str]
) -> None:
    process = example.started(*words)
    processes.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    beginning = said("first").encode() + b'{"type":"event_msg","payload":{"message":"'
    taken = poured(process.stdin.fileno(), beginning, most=40_000_000)
    assert LONGEST_LINE < taken < LONGEST_LINE + 4_000_000
    out, err = process.stdout.read(), process.stderr.read()
    kept = words[0] == "append"
    assert process.wait(timeout=30) == REJECTED
    assert matches(r"eventstore: line 2 goes on beyond 20,[\d,]+ bytes; .*", err.decode())
    assert (b"acknowledged 1 item" in out, b"acknowledged before it: 1 item" in err) == (kept, kept)
    assert (said_in(example) == "first") is kept
    assert len(example.threads()) == 8


def poured(pipe: int, beginning: bytes, *, most: int) -> int:
    """Write a line that does not end until nobody reads any more; return how many bytes were taken."""
    taken = os.write(pipe, beginning)
    with suppress(BrokenPipeError):
        while taken < most:
            taken += os.write(pipe, b"x" * 65_536)
    return taken


def said_in(cli: CommandLine) -> str:
    return str(json.loads(cli.done("history", NAMED, "--json", "--last", "1").out)["payload"].get("message"))


@pytest.mark.parametrize(
    ("words", "environment", "sentence"),
    [
        (["--log", "threads.db"], {}, "eventstore: 'threads.db' is not a URL of a store; give sqlite:PATH, .*"),
        (["--log", ""], {}, "eventstore: '' is not a URL of a store; give sqlite:PATH, .*"),
        (["--log", "sqlite:"], {}, "eventstore: 'sqlite:' names no file; give sqlite:PATH, .*"),
        (["--log", "sqlite:x.db?mode=ro"], {}, "eventstore: '.*' has an unknown parameter 'mode'; sqlite: takes none"),
        (["--log", "sqlite:x.db?"], {"EVENTSTORE_LGO": "y"}, "eventstore: EVENTSTORE_LGO in the environment is not .*"),
        (
            ["--log", "kafka://h:9092/t"],
            {},
            "eventstore: a log on Kafka has its views in Redis; give --views redis://.*",
        ),
        (["--log", "postgres://h/t"], {}, "eventstore: '.*' is not a URL of a store; give sqlite:PATH, .*"),
        (["--log", "sqlite:x.db", "--views", "sqlite:y.db"], {}, "eventstore: on SQLite, log and views are .*"),
        (["--log", "sqlite:x.db", "--views", "redis://h"], {}, "eventstore: on SQLite, log and views are .*"),
        (
            [],
            {"EVENTSTORE_LOG": "sqlite:x.db", "EVENTSTORE_VIEWS": "redis://h"},
            "eventstore: on SQLite, .*; leave --views and EVENTSTORE_VIEWS away, or give the same URL",
        ),
        ([], {"EVENTSTORE_LOG": "nonsense"}, "eventstore: 'nonsense' is not a URL of a store; .*"),
        ([], {"EVENTSTORE_SYNCHRONOUS": "MAYBE"}, "eventstore: setting 'synchronous' is wrong: .*"),
        ([], {"EVENTSTORE_WITHIN": "0"}, "eventstore: setting 'within' is wrong: .*"),
        ([], {"EVENTSTORE_COLOUR": "red"}, "eventstore: EVENTSTORE_COLOUR in the environment is not a setting; .*"),
    ],
)
def test_settings(
    *,
    words: list[str],
    environment: dict[str, str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main([*words, "list"]) == REJECTED
    out, err = capsys.readouterr()
    assert (out, matches(sentence, err)) == ("", True), err
    assert list(tmp_path.iterdir()) == []


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (x)")
        connection.commit()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA journal_mode = DELETE")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def torn(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:4_096] + b"\xa5" * (len(whole) - 4_096))


def no_database(path: Path) -> None:
    path.write_text("These are my notes.\n" * 500)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (foreign, "eventstore: .* is a SQLite file of another program; give a path of its own to the store"),
        (newer, "eventstore: .* was written by a newer version of eventstore .*; upgrade eventstore"),
        (truncated, "eventstore: .* is not a sound SQLite file .*; restore a backup.* or give another path"),
        (torn, "eventstore: .* is not a sound SQLite file .*; restore a backup.* or give another path"),
        (no_database, "eventstore: .* is not a sound SQLite file .*; restore a backup.* or give another path"),
    ],
)
@pytest.mark.parametrize("words", [["list"], ["show", NAMED], ["append", NAMED], ["events"], ["verify"]])
def test_files(example: CommandLine, damage: Callable[[Path], None], sentence: str, words: list[str]) -> None:
    damage(example.path)
    before = example.path.read_bytes()
    ended = example(*words, given=said("x"))
    assert (ended.code, ended.out, matches(sentence, ended.err)) == (BROKEN, "", True), ended
    assert example.path.read_bytes() == before
    sick = example("doctor")
    assert (sick.code, matches(f"wrong  {sentence[12:]}", sick.out.splitlines()[-1])) == (BROKEN, True), sick


@pytest.mark.parametrize("path", ["{}", "/proc/nobody/threads.db", "{}/threads.db/below.db", "/dev/null/x.db"])
def test_places_that_cannot_hold_a_file(example: CommandLine, path: str) -> None:
    place = example.on(Path(path.format(example.path.parent)))
    ended = place("new", given=said("x"))
    assert (ended.code, ended.out) == (UNAVAILABLE, "")
    assert matches("eventstore: .* (cannot be opened for writing .*|is no ordinary file); give another path", ended.err)


def hooked(monkeypatch: pytest.MonkeyPatch, pragma: str) -> list[str]:
    """Run a pragma on the writing connection once the file is open; return a list that says how often it was."""
    done: list[str] = []
    prepared = SqliteFile._prepared

    def _prepared(self: SqliteFile, upgrades: list[str]) -> sqlite3.Connection:
        connection = prepared(self, upgrades)
        connection.execute(pragma)
        done.append(pragma)
        return connection

    monkeypatch.setattr(SqliteFile, "_prepared", _prepared)
    return done


@pytest.mark.parametrize(
    ("pragma", "sentence"),
    [
        ("PRAGMA max_page_count = 1", "eventstore: .* cannot grow: the disk or its quota is full; free some space .*"),
        (
            "PRAGMA query_only = ON",
            "eventstore: .* cannot be opened for writing .*; check that path and permissions .*",
        ),
    ],
)
def test_disks(example: CommandLine, monkeypatch: pytest.MonkeyPatch, pragma: str, sentence: str) -> None:
    """A full disk, and one that can be read only: as SQLite meets them, for permissions do not bind root."""
    before = example.done("history", NAMED, "--json").out
    with monkeypatch.context() as patched:
        fired = hooked(patched, pragma)
        for words in (["append", NAMED], ["new"]):
            ended = example(*words, given=said("x" * 100_000))
            assert (ended.code, ended.out, matches(sentence, ended.err)) == (UNAVAILABLE, "", True), ended
        assert len(fired) == 2
    assert example.done("history", NAMED, "--json").out == before
    assert len(example.threads()) == 8
    assert example.done("verify").code == 0
    example.done("append", NAMED, given=said("there is room again"))


@pytest.mark.parametrize("limit", ["0", "1", "1000000", f"{1 << 63}", f"{10**40}"])
def test_page_sizes(example: CommandLine, limit: str) -> None:
    assert len(example.threads("--limit", limit)) == min(int(limit), 8)


def test_an_event_of_the_future_freezes_its_thread_alone(example: CommandLine) -> None:
    with closing(sqlite3.connect(example.path)) as connection:
        record = b"\xc3\x01" + b"\x07" * 8 + b"whatever comes then"
        connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", (uuid.UUID(NAMED).bytes, record))
        connection.commit()
    sentence = f"eventstore: thread {NAMED} is frozen: the record at offset 33 cannot be understood: .*; upgrade .*"
    for words in (["history", NAMED], ["append", NAMED], ["archive", NAMED], ["export", NAMED]):
        ended = example(*words, given=said("x"))
        assert (ended.code, ended.out, matches(sentence, ended.err)) == (BROKEN, "", True), ended
    assert len(example.threads()) == 8
    assert example.done("append", ARCHIVED, given=said("all others go on")).code == 0


def refused(cli: CommandLine, words: list[str], code: int, sentence: str, given: str | bytes = b"") -> None:
    before = cli.done("events").out
    ended = cli(*words, given=given)
    assert (ended.code, ended.out, matches(sentence, ended.err)) == (code, "", True), ended
    assert cli.done("events").out == before
