"""Looking at a store that is not there: a mistyped path is told, a fresh install is empty, and neither makes a file."""

from __future__ import annotations

import json
import pwd
from pathlib import Path
from typing import NoReturn

import pytest

from eventstore.cli import main
from tests.cli.conftest import CommandLine
from tests.conftest import EXAMPLE_HOME
from tests.support.commands import ANYTHING, NAMED, asked, said, words_of

READING = ["list", "list --json", "events", "events --follow", "verify", "verify --repair", "doctor", "export --all {}"]
OF_ONE = [*ANYTHING, "events", "show --json"]


def there(path: Path) -> list[str]:
    return sorted(found.name for found in path.rglob("*") if not found.is_dir())


@pytest.mark.parametrize("command", [*READING, "backup {}"])
def test_a_mistyped_path_is_told_and_nothing_is_made(empty: CommandLine, tmp_path: Path, command: str) -> None:
    ended = empty(*command.format(tmp_path / "out").split())
    assert ended.code == 2
    told = ended.err if command != "doctor" else ended.out
    assert f"there is no store at {empty.path}; give the path of one, or make one there with eventstore import" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", OF_ONE)
@pytest.mark.parametrize("thread", [NAMED, NAMED[:8]])
def test_so_it_is_where_a_thread_is_named(empty: CommandLine, tmp_path: Path, command: str, thread: str) -> None:
    ended = empty(*words_of(command, thread), given=said("x"))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"eventstore: there is no store at {empty.path}; ")
    assert list(tmp_path.iterdir()) == []


def test_so_it_is_where_the_environment_names_the_path(
    empty: CommandLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVENTSTORE_LOG", empty.url)
    assert main(["list"]) == 2
    assert "there is no store at" in capsys.readouterr().err
    assert not empty.path.exists()


def test_a_fresh_install_has_no_threads_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    assert capsys.readouterr() == ("", "no threads yet; eventstore import PATH and eventstore new make some\n")
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"items": [], "next_cursor": None}
    assert main(["events"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["verify"]) == 0
    assert "0 records and 0 threads compared" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert f"there is no file at {tmp_path / 'data/eventstore/threads.db'} yet; " in capsys.readouterr().out
    assert there(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", NAMED], "no rollout found for thread id"),
        (["show", NAMED[:8]], "no thread begins with"),
        (["rename", NAMED, "N"], "thread not found"),
        (["export", NAMED], "no rollout found for thread id"),
        (["events", "--follow"], "there is nothing to follow yet"),
        (["backup", "copy.db"], "there is no store at"),
    ],
)
def test_what_a_fresh_install_cannot_do_makes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), sentence in err) == ("", 1, True)
    assert there(tmp_path) == []


@pytest.mark.parametrize("words", [["list"], ["doctor"], ["import", str(EXAMPLE_HOME)]])
def test_where_nobodys_home_is_known_a_file_has_to_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """In a container, a process may run as a user whom no file knows."""

    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)

    assert main(words) == 2
    told = capsys.readouterr()
    assert told.err == (
        "eventstore: there is no home to keep a file in; give --log sqlite:PATH, or set EVENTSTORE_LOG or HOME\n"
    )


def test_the_first_command_that_keeps_something_makes_the_store(empty: CommandLine, tmp_path: Path) -> None:
    nothing = empty("import", tmp_path / "nowhere")
    assert (nothing.code, empty.path.exists()) == (2, False)
    made = empty.done("new", given=asked("hello")).out.strip()
    assert [thread["thread_id"] for thread in empty.threads()] == [made]
    other = empty.on(tmp_path / "below/other.db")
    other.done("import", EXAMPLE_HOME)
    assert len(other.threads()) == 8


def test_a_store_in_memory_is_there_and_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log", "sqlite::memory:", "list"]) == 0
    assert capsys.readouterr().err.startswith("no threads yet")


@pytest.mark.parametrize("url", ["sqlite:./:memory:", "sqlite:.//:memory:", "sqlite://:memory:"])
def test_a_file_that_is_named_like_memory_is_kept(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: CommandLine
) -> None:
    monkeypatch.chdir(tmp_path)
    made = empty.done("--log", url, "new", given=asked("hello")).out.strip()
    assert [thread["thread_id"] for thread in empty.done("--log", url, "list", "--json").json["items"]] == [made]
    assert (tmp_path / ":memory:").is_file()


def test_a_url_of_a_copy_that_is_empty_is_not_the_default_file(empty: CommandLine, tmp_path: Path) -> None:
    empty.done("new", given=asked("hello"))
    for words in (["--from", empty.url, "--to", ""], ["--from", "", "--to", empty.url]):
        ended = empty("copy", *words)
        assert (ended.code, ended.out) == (2, "")
        assert "'' is not a URL of a store" in ended.err
    assert not (tmp_path / "data").exists()


def test_an_empty_variable_is_not_set(
    empty: CommandLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LOG", "VIEWS", "ACTOR", "WITHIN", "SYNCHRONOUS"):
        monkeypatch.setenv(f"EVENTSTORE_{name}", "")
    assert main(["list"]) == 0
    assert capsys.readouterr().err.startswith("no threads yet")


def test_a_store_whose_threads_are_all_gone_is_not_a_fresh_one(empty: CommandLine) -> None:
    thread = empty.done("new", given=asked("hello")).out.strip()
    empty.done("delete", "--yes", thread)
    listed = empty.done("list")
    assert (listed.out, listed.err) == ("", "no threads\n")
    assert empty.done("list", "--json").json == {"items": [], "next_cursor": None}
