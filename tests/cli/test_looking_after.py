"""`events`, `schema`, `verify`, `doctor`, `--version`, completion."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

import eventstore
from eventstore.cli import main
from eventstore.codec import codec
from eventstore.sqlite.checkup import Checkup, check
from tests.cli.conftest import ROOT, CommandLine
from tests.support.commands import NAMED, asked, said


def change(cli: CommandLine, sql: str, *values: object) -> int:
    """Change the file behind the store's back; return how many rows that met."""
    with closing(sqlite3.connect(cli.path, isolation_level=None)) as connection:
        return connection.execute(sql, values).rowcount


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--version"], ["--log", "sqlite:/nowhere/x.db", "--version"]):
        assert main(words) == 0
        assert capsys.readouterr().out == f"eventstore {eventstore.__version__}\n"


def test_the_version_and_a_list_start_without_what_they_do_not_need(example: CommandLine) -> None:
    """Starting is fast because of what is left out; so that is what is tested, not a time."""
    for words, left_out in (
        (("--version",), {"pydantic", "typer", "rich", "asyncio", "fastavro"}),
        (("list",), {"rich.table", "fastavro", "pydantic_settings", "aiokafka", "redis", "grpc"}),
    ):
        program = f"import sys; from eventstore.cli import main; main({[*words]!r}); print(*sys.modules)"
        loaded = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"EVENTSTORE_LOG": example.url, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        assert left_out.isdisjoint(loaded)
        assert "eventstore" in loaded


def test_help_names_every_command_and_the_exit_codes(empty: CommandLine) -> None:
    told = empty.done("--help").out
    commands = "list show history events new append rename set archive unarchive delete import export backup verify"
    for name in [*commands.split(), "doctor", "retry", "schema"]:
        assert re.search(rf"^│ {name} ", told, re.MULTILINE), name
        assert empty.done(name, "--help").out
    assert "130" in told
    assert not empty.path.exists()


def test_words_are_completed(example: CommandLine) -> None:
    typed = {"_EVENTSTORE_COMPLETE": "complete_bash", "COMP_WORDS": "eventstore un", "COMP_CWORD": "1"}
    command = [sys.executable, "-c", "from eventstore.cli import main; main()"]
    env = os.environ | typed | {"PYTHONPATH": str(ROOT)}
    completed = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert completed.stdout.split() == ["unarchive"]


def test_the_schema_is_the_one_on_the_wire(empty: CommandLine) -> None:
    assert json.loads(empty.done("schema").out) == json.loads(codec().schema_text)


def test_events_tell_what_counted_and_why_not(empty: CommandLine) -> None:
    thread = empty.done("new", given=asked("hello")).out.strip()
    empty.done("archive", thread)
    change(empty, "INSERT INTO log (thread, record) SELECT thread, record FROM log ORDER BY offset LIMIT 2")
    change(empty, "INSERT INTO log (thread, record) VALUES (?, ?)", UUID(thread).bytes, b"nonsense")
    records = empty.done("events", thread, "--json").lines
    assert [(record["kind"], record["verdict"]) for record in records] == [
        ("ThreadCreated", "admitted"),
        ("ItemsAppended", "admitted"),
        ("WriterClosed", "admitted"),
        ("ThreadArchived", "admitted"),
        ("ThreadCreated", "duplicate"),
        ("ItemsAppended", "duplicate"),
        ("unknown", "foreign"),
    ]
    assert records[0].keys() == {
        *("position", "kind", "event_id", "thread_id", "occurred_at", "writer_id", "writer_seq", "actor", "verdict"),
        *("why", "reason", "items"),
    }
    told = empty.done("events", thread[:8]).out.splitlines()
    assert len(told) == 7
    assert told[4].endswith("duplicate: a repetition of an event that counts")
    assert empty.done("events").out.count(thread) == 7


def test_events_since_a_position_are_the_end_of_all(example: CommandLine) -> None:
    everything = example.done("events").out.splitlines()
    for since in ("0:20", "20"):
        assert example.done("events", "--since", since).out.splitlines() == everything[19:]
    assert example.done("events", "--since", "0:999").out == ""
    of_one = example.done("events", NAMED, "--json").lines
    assert example.done("events", NAMED, "--json", "--since", of_one[1]["position"]).lines == of_one[1:]


def test_events_are_followed_until_ctrl_c(example: CommandLine, processes: list[subprocess.Popen[bytes]]) -> None:
    last = int(example.done("events", "--json").lines[-1]["position"].split(":")[1])
    process = example.started("events", NAMED, "--follow", "--json", "--since", f"0:{last + 1}")
    processes.append(process)
    assert process.stdout is not None
    for text in ("one", "two"):
        example.done("append", NAMED, given=said(text))
        kinds = [json.loads(process.stdout.readline())["kind"] for _ in range(3)]
        assert kinds == ["WriterOpened", "ItemsAppended", "WriterClosed"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")


def test_views_that_are_right_are_verified(example: CommandLine) -> None:
    assert example.done("verify").out == "the views are what the log says: 32 records and 9 threads compared\n"


def test_a_difference_is_told_and_repaired(example: CommandLine) -> None:
    assert change(example, "UPDATE thread SET updated_at = 7 WHERE id = ?", UUID(NAMED).bytes) == 1
    found = example("verify")
    assert found.code == 1
    assert found.out.startswith(f"thread {NAMED}: summary.updated_at is ")
    assert found.out.endswith(" by the log, and 7 in the views\n")
    assert example("verify").code == 1
    assert example.done("verify", "--repair").out.splitlines()[-1].startswith("the views are what the log says: ")
    assert example.done("verify").code == 0


def test_a_healthy_store_is_said_to_be_so(example: CommandLine) -> None:
    told = example.done("doctor").out
    for fact in (
        f"eventstore     {eventstore.__version__}, Python ",
        f"log and views  {example.url}\n",
        "mode 0600, format 1",
        "durability     journal wal, synchronous FULL\n",
        "soundness      ok\n",
        "records        32\n",
        "threads        8 active, 1 archived, 0 deleted\n",
        "items          305\n",
        "up to date\n",
        "frozen         none\n",
    ):
        assert fact in told
    assert told.endswith("all is well\n")


def test_a_store_that_others_write_while_it_is_looked_at_is_healthy(
    example: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []

    def checked_while_others_write(path: Path) -> Checkup:
        checkup = check(path)
        with example.started("rename", NAMED, "meanwhile", heeding=False) as other:
            other.communicate()
        ended.append(other.returncode)
        return checkup

    monkeypatch.setattr("eventstore.sqlite.checkup.check", checked_while_others_write)
    told = example.done("doctor").out

    assert [0] == ended
    assert "records        32\n" in told
    assert told.endswith("all is well\n")


def test_what_is_wrong_is_told_with_what_to_do(example: CommandLine) -> None:
    example.path.chmod(0o644)
    told = example.done("doctor").out
    assert f"note  others can read the conversations in it: chmod 600 {example.path}" in told
    example.path.chmod(0o600)
    record = codec().schema_text.encode()
    change(
        example, "INSERT INTO log (thread, record) VALUES (?, ?)", UUID(NAMED).bytes, b"\xc3\x01" + bytes(8) + record
    )
    assert "1 record behind" in example.done("doctor").out
    example.done("list")
    sick = example("doctor")
    assert sick.code == 7
    assert "frozen         1 thread\n" in sick.out
    assert f"wrong  thread {NAMED} is frozen, the record at offset 33 cannot be understood: schema " in sick.out
    assert example("history", NAMED).code == 7
    assert example.done("events", NAMED, "--json").lines[-1]["verdict"] == "unreadable"


def test_views_beyond_the_log_are_broken(example: CommandLine) -> None:
    change(example, "UPDATE projection SET checkpoint = 1000")
    sick = example("doctor")
    assert sick.code == 7
    assert "records were taken out of it; restore a backup" in sick.out
    assert example("verify").code == 7
