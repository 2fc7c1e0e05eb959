"""The command line on a store that a server keeps: what needs the threads alone works, the rest says what to give."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.cli.conftest import AtAServer, CommandLine, OnACluster, serving
from tests.conftest import EXAMPLE_HOME


@pytest.fixture(params=["file", "cluster"])
def direct(request: pytest.FixtureRequest, empty: CommandLine) -> CommandLine:
    """The command line on the very store that is served, on either engine."""
    found: CommandLine = empty if request.param == "file" else request.getfixturevalue("cluster")
    return found


@pytest.fixture
def served(direct: CommandLine) -> Iterator[AtAServer]:
    """The command line at a server of the threads of the example home."""
    with serving(direct, *["--worker"] if isinstance(direct, OnACluster) else []) as at:
        direct.done("import", EXAMPLE_HOME)
        yield at


ITEM = json.dumps({"type": "event_msg", "payload": {"type": "user_message", "message": "hello there"}})


def test_reading_shows_what_the_store_itself_shows(served: AtAServer, direct: CommandLine) -> None:
    thread = direct.threads()[0]["thread_id"]
    for words in (
        ("list", "--json"),
        ("list", "--archived"),
        ("list", "--limit", 2, "--sort", "created", "--asc"),
        ("show", thread, "--json"),
        ("show", thread[:18]),
        ("history", thread),
        ("history", thread, "--json", "--last", 3),
        ("events", thread, "--json"),
        ("events", "--since", "0:5"),
    ):
        assert direct.done(*words).out == served.done(*words).out, words


def test_a_thread_lives_its_life_at_a_server(served: AtAServer, direct: CommandLine) -> None:
    made = served.done("new", "--json", given=ITEM).json
    thread = made["thread_id"]
    served.done("append", thread, given=ITEM.replace("hello there", "hello again"))
    served.done("rename", thread, "a name")
    told = served.done("set", thread, "model=gpt-5", "--json").json
    assert "a name" == served.done("show", thread, "--json", "--at-least", told["token"]).json["name"]
    served.done("archive", thread)
    served.done("unarchive", thread)
    shown = direct.done("show", thread, "--json").json
    served.done("delete", thread, "--yes", "--reason", "a test")

    assert ("gpt-5", 3) == (shown["model"], shown["item_count"])
    assert 2 == served("show", thread).code
    assert "reason: a test" in direct.done("events", thread).out.splitlines()[-1]


def test_a_wrong_request_is_told_as_the_store_itself_tells_it(served: AtAServer, direct: CommandLine) -> None:
    thread = direct.threads()[0]["thread_id"]
    for words in (
        ("show", "00000000-0000-7000-8000-000000000000"),
        ("show", "ffff"),
        ("unarchive", thread),
        ("list", "--cursor", "x"),
        ("events", "00000000-0000-7000-8000-000000000000"),
    ):
        here, there = direct(*words), served(*words)
        assert (here.code, here.err) == (there.code, there.err), words
        assert here.code == 2


@pytest.mark.parametrize(
    "words",
    [
        ("verify",),
        ("doctor",),
        ("backup", "copy.db"),
        ("rebuild",),
        ("worker",),
        ("topic", "describe"),
        ("export", "0199"),
        ("import", "."),
        ("list", "--damaged"),
        ("history", "0199", "--as-of", "0:9"),
        ("serve",),
        ("copy", "--from", "grpc://127.0.0.1:1", "--to", "sqlite:other.db"),
    ],
)
def test_what_needs_the_log_says_so(served_nowhere: AtAServer, words: tuple[str, ...]) -> None:
    ended = served_nowhere(*words)

    assert 2 == ended.code
    assert "needs the log itself" in ended.err
    assert "give the --log that it serves" in ended.err


@pytest.fixture
def served_nowhere(empty: CommandLine) -> AtAServer:
    return empty.at("127.0.0.1:1")


def test_a_server_that_is_away_is_named(served_nowhere: AtAServer) -> None:
    ended = served_nowhere("list")

    assert 4 == ended.code
    assert "the server at 127.0.0.1:1 does not answer" in ended.err


def test_views_are_the_servers(served_nowhere: AtAServer) -> None:
    ended = served_nowhere("--views", "redis://127.0.0.1/0", "list")

    assert 2 == ended.code
    assert "leave --views" in ended.err


def test_nothing_but_the_sentence_is_said_where_nobody_speaks_tls(
    served_nowhere: AtAServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    processes: list[subprocess.Popen[bytes]],
) -> None:
    """gRPC writes its own lines to standard error unless it is told not to."""
    monkeypatch.delenv("GRPC_VERBOSITY")
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    (tmp_path / "none.pem").write_text("no certificate")
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
        answering = threading.Thread(target=answer_in_the_clear, args=(plain,), daemon=True)
        answering.start()
        for ca, code in (("ca.pem", 4), ("none.pem", 2)):
            process = served_nowhere.started("--log", f"grpcs://127.0.0.1:{port}?ca={tmp_path / ca}", "list")
            processes.append(process)
            out, err = process.communicate(timeout=60)

            assert (process.returncode, out, err.count(b"\n")) == (code, b"", 1), err
            assert err.startswith(b"eventstore: ")
        plain.shutdown(socket.SHUT_RDWR)
        answering.join()


def answer_in_the_clear(listening: socket.socket) -> None:
    """Answer whoever connects with what is no TLS, until the socket is closed."""
    with suppress(OSError):
        while True:
            connected, _ = listening.accept()
            with connected:
                connected.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
