"""`new`, `append`, `rename`, `set`, `archive`, `unarchive`, `delete`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.cli import main
from eventstore.cli.lines import Incoming
from tests.cli.conftest import CommandLine, serving, terminal
from tests.conftest import EXAMPLE_HOME
from tests.support.commands import asked, said, texts

WARNING = '{"type":"event_msg","payload":{"type":"warning","message":"hot"}}'


wherever_it_is = pytest.mark.parametrize("cli", ["file", "server", "server of a cluster"], indirect=True)


@pytest.fixture
def cli(request: pytest.FixtureRequest, empty: CommandLine) -> Iterator[CommandLine]:
    """The command line on an empty store: on a file, unless the test runs wherever it is."""
    match getattr(request, "param", "file"):
        case "file":
            yield empty
        case "server":
            with serving(empty) as served:
                yield served
        case _:
            with serving(request.getfixturevalue("cluster"), "--worker") as served:
                yield served


@pytest.fixture
def thread(cli: CommandLine) -> str:
    return cli.done("new", given=asked("hello")).out.strip()


@wherever_it_is
def test_a_thread_is_made_of_lines(cli: CommandLine) -> None:
    made = cli.done("new", "--source", "exec", "--cwd", "/x", "--provider", "local", given=asked("hi") + WARNING)
    thread = cli.done("show", made.out.strip(), "--json").json
    assert (thread["source"], thread["cwd"], thread["model_provider"]) == ("exec", "/x", "local")
    assert (thread["preview"], thread["item_count"]) == ("hi", 2)
    assert made.err == "not kept, as the persistence policy says: 1 event_msg/warning\n"
    assert [listed["thread_id"] for listed in cli.threads()] == [thread["thread_id"]]


def test_whole_rollout_lines_make_a_thread_and_keep_their_text(cli: CommandLine) -> None:
    (file,) = EXAMPLE_HOME.rglob("rollout-*01a10aa5-c70e-7bcb-a353-6a75fc7e0742.jsonl")
    items = file.read_bytes().split(b"\n", 1)[1]
    thread_id = cli.done("new", given=items).out.strip()
    assert "12345678901234567890123" in cli.done("history", thread_id, "--json").out


@pytest.mark.parametrize(
    "bad", ["{", "[]", '{"type":"event_msg"}', '{"payload":{}}', '{"type":1,"payload":{}}', "\xff"]
)
def test_a_bad_line_makes_no_thread_at_all(cli: CommandLine, bad: str) -> None:
    ended = cli("new", given=(asked("hi") + bad + "\n" + said("there")).encode("latin-1"))
    assert ended.code == 2
    assert ended.err.startswith("eventstore: line 2 is no item, ")
    assert ended.out == ""
    assert cli.done("events").out == ""


@wherever_it_is
def test_appending_is_acknowledged(cli: CommandLine, thread: str) -> None:
    appended = cli.done("append", thread[:8], given=said("a", "b") + "\n" + WARNING + "\n" + WARNING + "\n")
    assert (
        appended.out
        == "acknowledged 2 items, 2 in all; not kept, as the persistence policy says: 2 event_msg/warning\n"
    )
    assert texts(cli, thread) == ["hello", "a", "b"]


@wherever_it_is
def test_many_lines_are_acknowledged_in_several_batches(cli: CommandLine, thread: str) -> None:
    appended = cli.done("append", thread, given=said(*(f"{i}" for i in range(1_200))))
    batches = appended.out.splitlines()
    assert batches[0] == "acknowledged 500 items, 500 in all"
    assert batches[-1].endswith(", 1,200 in all")
    assert texts(cli, thread) == ["hello", *(f"{i}" for i in range(1_200))]


@wherever_it_is
def test_each_line_is_acknowledged_when_the_input_pauses(
    cli: CommandLine, thread: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    """Nothing here waits for a time: the next line is typed when the last one is acknowledged."""
    process = cli.started("append", thread)
    processes.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    for number, text in enumerate(("one", "two", "three"), 1):
        process.stdin.write(said(text).encode())
        process.stdin.flush()
        assert process.stdout.readline().decode() == f"acknowledged 1 item, {number} in all\n"
        assert texts(cli, thread)[-1] == text
    process.stdin.close()
    assert process.wait(timeout=30) == 0


def test_a_line_that_comes_in_pieces_is_one_item(
    cli: CommandLine, thread: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    process = cli.started("append", thread)
    processes.append(process)
    assert process.stdin is not None
    assert process.stdout is not None
    for byte in said("é").encode():
        process.stdin.write(bytes([byte]))
        process.stdin.flush()
    assert process.stdout.readline() == b"acknowledged 1 item, 1 in all\n"
    process.stdin.write(said("no newline at the end").rstrip().encode())
    process.stdin.close()
    assert process.stdout.readline() == b"acknowledged 1 item, 2 in all\n"
    assert process.wait(timeout=30) == 0
    assert texts(cli, thread) == ["hello", "é", "no newline at the end"]


@wherever_it_is
def test_what_was_acknowledged_before_a_bad_line_stays(cli: CommandLine, thread: str) -> None:
    ended = cli("append", thread, given=said("kept") + "{\n" + said("never read"))
    assert ended.code == 2
    assert ended.out == "acknowledged 1 item, 1 in all\n"
    assert ended.err.startswith("eventstore: line 2 is no item, ")
    assert ended.err.endswith("; acknowledged before it: 1 item\n")
    assert texts(cli, thread) == ["hello", "kept"]


def test_a_line_that_is_too_large_is_named_and_those_before_it_are_kept(cli: CommandLine, thread: str) -> None:
    ended = cli("append", thread, given=said("kept", "x" * (17 * 1024 * 1024), "never read"))
    assert ended.code == 2
    assert "eventstore: line 2: an item of 17," in ended.err
    assert texts(cli, thread) == ["hello", "kept"]


@wherever_it_is
def test_a_writer_that_was_taken_over_is_told(
    cli: CommandLine, thread: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    old = cli.started("append", thread)
    processes.append(old)
    assert old.stdin is not None
    assert old.stdout is not None
    old.stdin.write(said("first").encode())
    old.stdin.flush()
    assert old.stdout.readline() == b"acknowledged 1 item, 1 in all\n"
    cli.done("append", thread, given=said("second"))
    out, err = old.communicate(said("too late").encode(), timeout=30)
    assert (old.returncode, out) == (3, b"")
    assert b"another writer took thread" in err
    assert err.endswith(b"; acknowledged before it: 1 item\n")
    assert texts(cli, thread) == ["hello", "first", "second"]


@wherever_it_is
def test_an_archived_thread_can_be_written_and_stays_archived(cli: CommandLine, thread: str) -> None:
    cli.done("archive", thread)
    cli.done("append", thread, given=said("still there"))
    cli.done("rename", thread, "old")
    assert [listed["name"] for listed in cli.threads("--archived")] == ["old"]
    assert cli.threads() == []


def test_a_byte_order_mark_is_none_of_the_first_line(cli: CommandLine, thread: str) -> None:
    marked = b"\xef\xbb\xbf" + asked("one").encode()
    cli.done("append", thread, given=marked)
    assert texts(cli, thread) == ["hello", "one"]
    assert texts(cli, cli.done("new", given=marked).out.strip()) == ["one"]
    assert cli("append", thread, given=asked("two").encode() + marked).code == 2


def test_a_name_is_given(cli: CommandLine, thread: str) -> None:
    assert cli.done("rename", thread, "  My thread ").out == f"renamed {thread} to My thread\n"
    assert cli.done("show", thread, "--json").json["name"] == "My thread"
    for blank in ("", "   "):
        ended = cli("rename", thread, blank)
        assert (ended.code, ended.err) == (2, "eventstore: Thread name cannot be empty.\n")


@wherever_it_is
def test_metadata_is_set_and_cleared(cli: CommandLine, thread: str) -> None:
    cli.done("set", thread, "model=m=1", "git.branch=b", "git.sha=abc", "reasoning_effort=low", "name=N")
    cli.done("set", thread, 'source={"custom":"mine"}', "created_at=2026-01-02T03:04:05Z", "memory_mode=disabled")
    shown = cli.done("show", thread, "--json").json
    assert (shown["model"], shown["source"], shown["memory_mode"]) == ("m=1", {"custom": "mine"}, "disabled")
    assert shown["git_info"] == {"commit_hash": "abc", "branch": "b", "repository_url": None}
    assert shown["created_at"] == "2026-01-02T03:04:05Z"
    changed = cli.done("set", thread, "reasoning_effort=", "git.branch=", "name=")
    shown = cli.done("show", thread, "--json").json
    assert (shown["reasoning_effort"], shown["name"], shown["git_info"]["branch"]) == (None, None, None)
    assert changed.out == f"changed {thread}, now at version {shown['version']}\n"


def test_a_thread_is_begun_by_an_agent_of_any_name_given_as_json(cli: CommandLine) -> None:
    made = cli.done("new", "--source", '{"custom":"mine"}', given=asked("hi"))
    assert cli.done("show", made.out.strip(), "--json").json["source"] == {"custom": "mine"}


@pytest.mark.parametrize("source", ["my-agent", "CLI", '{"x":1}', "{}", ""])
def test_a_thread_is_not_begun_by_what_cannot_be_set_as_its_source(cli: CommandLine, source: str) -> None:
    ended = cli("new", "--source", source, given=asked("hi"))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("eventstore: source cannot be ")
    assert cli.done("list", "--json").json["items"] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["colour=red"], "'colour' is no field; known are name, "),
        (["name"], "'name' is no assignment; write FIELD=VALUE, or FIELD= to clear the field"),
        (["model="], "model cannot be cleared; give it a value"),
        (["model=a", "model=b"], "model is given twice; give it once"),
        (["model=a", "created_at=soon"], "created_at cannot be 'soon': "),
        (["created_at=2026-01-01T00:00:00"], "created_at cannot be "),
        (["created_at=2026"], "created_at cannot be '2026': give a time such as 2026-05-01T12:00:00Z"),
        (["memory_mode=maybe"], "memory_mode cannot be 'maybe': Input should be 'enabled' or 'disabled'"),
        (["created_at=0001-01-01T00:00:00+14:00"], "created_at cannot be "),
        (["approval_mode=3"], "approval_mode cannot be 3: give a text or an object"),
        (["model=a", "permission_profile={}"], "permission_profile cannot be {}: give a text or an object"),
        (["source=webb"], 'source cannot be "webb": give cli, exec, mcp, unknown, vscode or an object such as '),
        (["source=[1]"], "source cannot be "),
        (['token_usage={"total_tokens":-1}'], 'token_usage cannot be {"total_tokens":-1}: give an object with counts'),
        (['token_usage={"totl":1}'], "token_usage cannot be {}: give an object with counts"),
        (["token_usage=many"], "token_usage cannot be 'many': "),
        (["model=\udcff"], "model cannot be "),
        (["rollout_path=/x"], "'rollout_path' is no field; known are name, "),
        (["project_id=x"], "'project_id' is no field; known are name, "),
        (["approval_mode=" + '{"a":' * 400 + "1" + "}" * 400], "approval_mode cannot be "),
        (["name=  "], "Thread name cannot be empty."),
    ],
)
def test_what_cannot_be_set_changes_nothing(cli: CommandLine, thread: str, words: list[str], sentence: str) -> None:
    before = cli.done("events").out
    ended = cli("set", thread, *words)
    assert ended.code == 2
    assert ended.err.startswith(f"eventstore: {sentence}")
    assert ended.err.count("\n") == 1
    assert cli.done("events").out == before


@wherever_it_is
def test_a_thread_is_archived_and_taken_back(cli: CommandLine, thread: str) -> None:
    assert cli.done("archive", thread).out == f"archived {thread}\n"
    assert cli.threads() == []
    assert cli("archive", thread).code == 2
    assert cli.done("unarchive", thread).out == f"unarchived {thread}\n"
    assert [listed["thread_id"] for listed in cli.threads()] == [thread]
    assert cli("unarchive", thread).code == 2


def test_nothing_is_deleted_unasked(cli: CommandLine, thread: str) -> None:
    ended = cli("delete", thread)
    assert ended.code == 2
    assert "give --yes" in ended.err
    assert len(cli.threads()) == 1


def test_nor_where_standard_input_is_closed(
    cli: CommandLine, thread: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["--log", cli.url, "delete", thread]) == 2
    assert capsys.readouterr().err.endswith(f"give --yes to delete {thread}\n")
    assert len(cli.threads()) == 1


@wherever_it_is
def test_a_deleted_thread_is_gone_and_its_events_are_not(cli: CommandLine, thread: str) -> None:
    assert cli.done("delete", thread, "--yes", "--reason", "a test").out == f"deleted {thread}\n"
    assert cli.threads() == []
    for words in (["show"], ["history"], ["archive"], ["export"]):
        assert cli(*words, thread).code == 2
    assert cli("append", thread, given=said("ghost")).code == 2
    assert cli("delete", thread, "--yes").code == 2
    assert cli("show", thread[:13]).err.startswith(f"eventstore: no thread begins with {thread[:13]}")
    for beginning in (thread, thread[:13], thread[:2]):
        records = cli.done("events", beginning, "--json").lines
        assert (records[-1]["kind"], records[-1]["reason"]) == ("ThreadDeleted", "a test")


@wherever_it_is
def test_the_beginning_of_an_id_is_a_deleted_threads_only_for_its_audit(cli: CommandLine, thread: str) -> None:
    other = cli.done("new", given=asked("still here")).out.strip()
    common = next(thread[:length] for length in range(36, 0, -1) if other.startswith(thread[:length]))
    cli.done("delete", thread, "--yes")
    assert cli.done("show", common, "--json").json["thread_id"] == other
    ambiguous = cli("events", common)
    assert (ambiguous.code, ambiguous.out) == (2, "")
    assert ambiguous.err.endswith("; give more of it\n")


def test_a_person_is_asked_before_a_delete(
    cli: CommandLine, thread: str, processes: list[subprocess.Popen[bytes]]
) -> None:
    for answer, code, left in ((b"n\n", 130, 1), (b"y\n", 0, 0)):
        with terminal() as (ours, theirs):
            process = cli.started("delete", thread[:8], stdin=theirs)
            processes.append(process)
            os.write(ours, answer)
            _, err = process.communicate(timeout=30)
        assert process.returncode == code
        assert b"(hello) for good?" in err
        assert len(cli.threads()) == left


@wherever_it_is
def test_who_did_it_is_in_the_events(cli: CommandLine, thread: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--actor", "ann", "--log", cli.url, "archive", thread]) == 0
    monkeypatch.setenv("EVENTSTORE_ACTOR", "bob")
    cli.done("unarchive", thread)
    assert [record["actor"] for record in cli.done("events", thread, "--json").lines[-2:]] == ["ann", "bob"]


@wherever_it_is
def test_every_acknowledgement_has_a_token_that_reads_take(cli: CommandLine, thread: str) -> None:
    made = cli.done("new", "--json", given=asked("hello")).json
    kept = cli.done("append", thread, "--json", given=said("a", "b") + WARNING + "\n").lines
    renamed = cli.done("rename", thread, "a name", "--json").json
    changed = cli.done("set", thread, "model=m", "--json").json
    archived = cli.done("archive", thread, "--json").json
    back = cli.done("unarchive", thread, "--json").json
    deleted = cli.done("delete", made["thread_id"], "--yes", "--json").json

    assert {"event_msg/warning": 1} == kept[-1]["dropped"]
    assert (2, 2) == (sum(line["acknowledged"] for line in kept), kept[-1]["in_all"])
    assert [4, 5, 7] == [done["version"] for done in (renamed, changed, back)]
    tokens = [done["token"] for done in (made, *kept, renamed, changed, archived, back, deleted)]
    assert len(tokens) == len(set(tokens))
    for token in tokens:
        assert cli.done("show", thread, "--at-least", token).out
        assert cli.done("history", thread, "--at-least", token).out
        assert [thread] == [one["thread_id"] for one in cli.threads("--at-least", token, "--exact")]
    repeated = [word for token in tokens for word in ("--at-least", token)]
    assert [thread] == [one["thread_id"] for one in cli.threads(*repeated)]


@pytest.mark.parametrize("command", ["list", "show", "history"])
def test_a_token_of_another_store_is_refused_and_so_is_what_is_none(
    cli: CommandLine, thread: str, command: str, tmp_path: Path
) -> None:
    another = cli.on(tmp_path / "another.db").done("new", "--json", given=asked("hello")).json["token"]
    for token, says in ((another, "is of the log sqlite/"), ("x", "is no consistency token")):
        ended = cli(command, *([] if command == "list" else [thread]), "--at-least", token)
        assert (2, "") == (ended.code, ended.out)
        assert says in ended.err


async def test_input_is_read_for_one_command_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading of a command that has ended goes on, and its descriptor's number may be another file's by then."""
    one, to_one = os.pipe()
    with os.fdopen(one, "rb") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        lines = Incoming().batches(lines=1, size=1)
    other, to_other = os.pipe()
    os.write(to_one, b"of the one\n")
    assert [line.text for line in await anext(lines)] == [b"of the one"]
    os.write(to_other, b"of the other\n")
    await asyncio.sleep(0.05)
    os.set_blocking(other, False)

    assert (other, os.read(other, 64)) == (one, b"of the other\n")
    for end in (to_one, to_other, other):
        os.close(end)
