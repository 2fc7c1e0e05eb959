"""`import`, `export`, `backup`: threads come in, go out and are copied."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from eventstore.sqlite import migrations
from tests.cli.conftest import CommandLine
from tests.conftest import EXAMPLE_HOME
from tests.support.commands import ARCHIVED, NAMED, PAGINATED, asked, rollout, said, texts

TORN = "01a0fe78-3b4f-7f18-aad5-0dfb3d83ec09"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A Codex home of its own, to be changed."""
    return Path(shutil.copytree(EXAMPLE_HOME, tmp_path / "home"))


def the_rollout(home: Path, thread_id: str) -> Path:
    (file,) = home.rglob(f"rollout-*{thread_id}.jsonl")
    return file


def test_a_home_is_imported_once(empty: CommandLine, home: Path) -> None:
    first = empty.done("import", home)
    assert first.out == "9 files: 9 created; 305 items added, 2 bad lines left out\n"
    bad = first.err.splitlines()
    assert len(bad) == 2
    assert all(line.startswith(f"{the_rollout(home, TORN)}:") and ": left out, it is not " in line for line in bad)
    again = empty.done("import", home)
    assert again.out == "9 files: 9 unchanged; 0 items added, 2 bad lines left out\n"
    assert [thread["thread_id"] for thread in empty.threads("--archived")] == [ARCHIVED]


def test_each_file_is_an_object_for_programs(empty: CommandLine, home: Path) -> None:
    files = empty.done("import", "--json", home).lines
    assert {file["outcome"] for file in files} == {"created"}
    assert sum(file["added"] for file in files) == 305
    torn = next(file for file in files if file["thread_id"] == TORN)
    assert [bad["line"] for bad in torn["bad_lines"]] == [11, 19]


def test_growth_is_added_and_a_difference_is_reported(empty: CommandLine, home: Path) -> None:
    empty.done("import", home)
    file = the_rollout(home, NAMED)
    with file.open("a") as lines:
        lines.write(json.dumps(rollout(NAMED)[-1]) + "\n")
    assert empty.done("import", file).out == "1 file: 1 grown; 1 item added\n"
    empty.done("append", NAMED, given=said("from here"))
    with file.open("a") as lines:
        lines.write(json.dumps(rollout(NAMED)[-1]) + "\n")
    before = empty.done("history", NAMED, "--json").out
    diverged = empty("import", file)
    assert (diverged.code, diverged.out) == (1, "1 file: 1 diverged; 0 items added\n")
    assert f"{file}: diverged (thread {NAMED})" in diverged.err
    assert empty.done("history", NAMED, "--json").out == before
    assert "1 forked" in empty.done("import", "--fork", file).out
    assert len([thread for thread in empty.threads() if thread["forked_from_id"] == NAMED]) == 2


def test_a_deleted_thread_is_not_imported_again(empty: CommandLine, home: Path) -> None:
    empty.done("import", home)
    empty.done("delete", "--yes", NAMED)
    again = empty.done("import", the_rollout(home, NAMED))
    assert again.out.startswith("1 file: 1 deleted; 0 items added")
    assert NAMED in again.err


@pytest.mark.parametrize("content", [b"", b"not a rollout\n"])
def test_a_file_that_is_no_rollout_fails_alone(empty: CommandLine, home: Path, content: bytes) -> None:
    the_rollout(home, NAMED).write_bytes(content)
    imported = empty("import", home)
    assert imported.code == 1
    assert "8 created" in imported.out
    assert "1 unreadable" in imported.out
    assert len(empty.threads()) == 7


def test_what_comes_through_a_pipe_is_refused(
    empty: CommandLine, home: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    process = empty.started("import", "/dev/stdin")
    processes.append(process)
    _, err = process.communicate(the_rollout(home, NAMED).read_bytes(), timeout=30)

    assert process.returncode == 2
    assert err.decode().startswith("eventstore: /dev/stdin is no ordinary file, and an import may read one twice; ")
    assert not empty.path.exists()


BOUND_BY_PERMISSIONS = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, for those who run as root
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-m", "eventstore.cli", *sys.argv[1:]])
"""


def test_a_folder_that_cannot_be_looked_into_is_told(
    empty: CommandLine, home: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    closed = home / "archived_sessions"
    closed.chmod(0)
    process = empty.started("import", home, program=BOUND_BY_PERMISSIONS)
    processes.append(process)
    out, err = process.communicate(timeout=30)
    closed.chmod(0o700)

    assert (process.returncode, out.decode().startswith("9 files: 1 unreadable, 8 created; ")) == (1, True), err
    assert f"{closed}: unreadable, it cannot be read: Permission denied\n" in err.decode()
    assert "9 files: 1 created, 8 unchanged; " in empty.done("import", home).out


def test_a_thread_is_exported_as_it_came(example: CommandLine, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in example.done("export", PAGINATED).out.splitlines()]
    assert lines == rollout(PAGINATED)
    target = tmp_path / "out" / "x.jsonl"
    assert example.done("export", PAGINATED[:13], "-o", target).out == f"exported {PAGINATED} to {target} (44 lines)\n"
    assert target.stat().st_mode & 0o777 == 0o600
    written = target.read_bytes()
    refused = example("export", NAMED, "-o", target)
    assert refused.code == 2
    assert "--force" in refused.err
    assert target.read_bytes() == written
    example.done("export", NAMED, "-o", target, "--force")
    assert target.read_bytes() != written


def test_all_threads_are_exported_as_a_home(example: CommandLine, tmp_path: Path) -> None:
    home = tmp_path / "exported"
    assert example.done("export", "--all", home).out == f"exported 9 threads to {home} (305 lines)\n"
    assert len(list((home / "sessions").rglob("*.jsonl"))) == 8
    assert len(list((home / "archived_sessions").glob("*.jsonl"))) == 1
    assert home.stat().st_mode & 0o777 == 0o700
    listed = [(thread["thread_id"], thread["name"], thread["item_count"]) for thread in example.threads()]
    anew = example.on(tmp_path / "again.db")
    anew.done("import", home)
    again = [(thread["thread_id"], thread["name"], thread["item_count"]) for thread in anew.threads()]
    assert sorted(again) == sorted(listed)


def test_what_codex_has_no_line_for_is_named(example: CommandLine, tmp_path: Path) -> None:
    assert example.done("export", NAMED).err == ""
    example.done("set", NAMED, "model=m", "created_at=2001-01-01T00:00:00Z")
    told = "set here and not exported, for Codex's files cannot say it: created_at, model\n"
    for words in ([NAMED], [NAMED, "-o", tmp_path / "x.jsonl"], ["--all", tmp_path / "home"]):
        assert example.done("export", *words).err == told


@pytest.mark.parametrize("words", [[], [NAMED, "--all", "x"], ["--all", "x", "-o", "y"], ["--all", "x", "--force"]])
def test_an_export_is_of_one_thread_or_of_all(example: CommandLine, words: list[str]) -> None:
    assert example("export", *words).code == 2
    assert not Path("x").exists()


def test_an_export_does_not_replace_the_store(example: CommandLine) -> None:
    before = example.path.read_bytes()
    refused = example("export", NAMED, "-o", example.path, "--force")
    assert (refused.code, refused.err) == (
        2,
        f"eventstore: {example.path} is the store itself; give another name\n",
    )
    assert example.path.read_bytes()[: len(before)] == before


def test_a_backup_opens_as_a_store(example: CommandLine, tmp_path: Path) -> None:
    target = tmp_path / "a copy.db"
    copied = example.done("backup", target)
    assert f"copied {example.path} to {target}" in copied.out
    assert copied.out.endswith(f"; read it with eventstore --log 'sqlite:{target}' list\n")
    assert target.stat().st_mode & 0o777 == 0o600
    listed = example.done("list").out
    example.done("delete", "--yes", NAMED)
    copy = example.on(target)
    assert copy.done("list").out == listed
    assert copy.done("verify").code == 0


def test_where_a_file_of_an_older_format_was_copied_to_is_told(
    example: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrades = [*migrations.shipped(), "CREATE TABLE second (n INTEGER)"]
    monkeypatch.setattr(migrations, "shipped", lambda: upgrades)
    told = f"{example.path} is of the newest format now; as it was: {example.path}.format-1.backup\n"
    assert [example("list").err, example("list").err] == [told, ""]


def test_a_backup_replaces_nothing(example: CommandLine, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    refused = example("backup", target)
    assert (refused.code, target.read_text()) == (2, "precious")
    assert refused.err == f"eventstore: {target} is there already; give the name of a new file\n"
    assert example("backup", tmp_path / "no" / "such" / "folder.db").code == 2
    assert example("backup", example.path).code == 2
    assert sorted(file.name for file in tmp_path.iterdir() if "part" in file.name) == []


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_a_backup_is_not_put_beside_what_a_killed_store_left(example: CommandLine, tmp_path: Path, ending: str) -> None:
    """SQLite would replay that upon the copy, and its threads would be gone."""
    target, left = tmp_path / "copy.db", tmp_path / f"copy.db{ending}"
    left.write_bytes(b"left")
    refused = example("backup", target)
    assert (refused.code, left.read_bytes(), target.exists()) == (2, b"left", False)
    assert refused.err.startswith(f"eventstore: {left} is left of a file that was at {target}, ")


SHORT_OF_ROOM = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
os.execv(sys.executable, [sys.executable, "-m", "eventstore.cli", *sys.argv[1:]])
"""


def test_a_backup_that_finds_no_room_names_the_file_that_has_none(
    example: CommandLine, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    target = tmp_path / "folder" / "copy.db"
    target.parent.mkdir()
    process = example.started("backup", target, program=SHORT_OF_ROOM)
    processes.append(process)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (4, b"")
    assert err.decode() == f"eventstore: {target} cannot be used now (disk I/O error); try again\n"
    assert list(target.parent.iterdir()) == []


def test_a_backup_of_nothing_makes_nothing(empty: CommandLine, tmp_path: Path) -> None:
    assert empty("backup", tmp_path / "copy.db").code == 2
    assert not empty.path.exists()
    assert not (tmp_path / "copy.db").exists()


def test_a_backup_taken_while_a_writer_appends_is_one_moment_of_it(
    empty: CommandLine, tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """The writer goes on all the time; each copy holds everything that was acknowledged before it was begun."""
    thread = empty.done("new", given=asked("hello")).out.strip()
    writer = empty.started("append", thread)
    processes.append(writer)
    total = 0
    for number in range(5):
        total += 50
        write(writer, total - 50, total)
        wait_until_acknowledged(writer, total)
        # These are appended while the copy is made.
        write(writer, total, total + 50)
        copy = tmp_path / f"copy-{number}.db"
        empty.done("backup", copy)
        there = texts(empty.on(copy), thread)
        assert there == ["hello", *(f"{i}" for i in range(len(there) - 1))]
        assert total <= len(there) - 1 <= total + 50
        total += 50
        wait_until_acknowledged(writer, total)
    assert writer.stdin is not None
    writer.stdin.close()
    assert writer.wait(timeout=30) == 0


def write(writer: subprocess.Popen[bytes], first: int, end: int) -> None:
    assert writer.stdin is not None
    writer.stdin.write(said(*(f"{i}" for i in range(first, end))).encode())
    writer.stdin.flush()


def wait_until_acknowledged(writer: subprocess.Popen[bytes], total: int) -> None:
    assert writer.stdout is not None
    while not writer.stdout.readline().decode().endswith(f", {total:,} in all\n"):
        assert writer.poll() is None


def test_a_copy_is_compared_with_what_it_is_of(example: CommandLine, tmp_path: Path) -> None:
    copy = example.on(tmp_path / "copy.db")
    words = ("copy", "--from", example.url, "--to", copy.url, "--verify")
    assert example.done(*words).out.endswith("every thread is the same in both\n")

    copy.done("new", given=asked("hello"))
    assert "every thread of the source is the same in the target, which has 1 more" in example.done(*words).out

    changed = example.threads()[0]["thread_id"]
    copy.done("rename", changed, "there only")
    differs = example(*words)
    assert differs.code == 1
    assert differs.out.splitlines()[1].startswith(f"thread {changed} is not the same in both: ")
    assert 0 == example(*words[:-1]).code, "nothing of the source stays behind"

    copy.done("append", changed, given=asked("there"))
    example.done("append", changed, given=asked("here"))
    behind = example(*words[:-1])
    assert (1, 2) == (behind.code, len(behind.out.splitlines()))
    assert behind.out.splitlines()[1].startswith(f"thread {changed} went on in the target in another way")
