"""Opening, reading and flushing while the file is somebody else's, and what SQLite says in rare places."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from eventstore import ListThreadsParams
from eventstore.codex.privatefiles import private_file
from eventstore.errors import InvalidRequest, LogTruncated, LogUnavailable
from eventstore.ids import ThreadId
from eventstore.sqlite import migrations
from eventstore.sqlite.edge import Locked
from eventstore.sqlite.file import SqliteFile
from eventstore.sqlite.log import SqliteLog, log_end
from eventstore.wiring import open_store
from tests.support.files import a_file_with_a_thread, opened
from tests.support.tellings import appended
from tests.support.threads import a_live_thread, said, say_and_flush

T = TypeVar("T")

_HELD = 0.6
"""Seconds for which somebody else has the file."""
_GAP = 0.3
"""Seconds that the event loop may at most stand still meanwhile."""

_HOLD_THE_INDEX = """
import fcntl, sys
shm = open(sys.argv[1], "r+b", buffering=0)
for byte in (120, 122):  # the locks of whoever writes and of whoever recovers
    fcntl.lockf(shm, fcntl.LOCK_EX, 1, byte)
shm.write(bytes(96))  # no valid header: whoever reads has to recover it first
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[SqliteFile]:
    file = SqliteFile(tmp_path / "threads.db", within=10)
    await file.open()
    yield file
    await file.close()


async def longest_gap(call: Awaitable[T]) -> tuple[T, float]:
    """Return the call's answer, and how long the loop did not turn while it went on."""
    doing = asyncio.ensure_future(call)
    longest, last = 0.0, time.monotonic()
    while not doing.done():
        await asyncio.sleep(0.01)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    return doing.result(), longest


def held_by_another(path: Path) -> sqlite3.Connection:
    """Hold the file as a process does that is making it."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


async def test_the_loop_goes_on_while_another_process_makes_the_file(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "threads.db", within=10)
    other = held_by_another(tmp_path / "threads.db")
    asyncio.get_running_loop().call_later(_HELD, other.close)
    began = time.monotonic()

    _, gap = await longest_gap(file.open())

    assert time.monotonic() - began >= _HELD
    assert gap < _GAP
    await file.close()


_OPEN_AND_CLOSE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("SELECT count(*) FROM log").fetchone()[0])
connection.close()
"""


def looked_at_elsewhere(path: Path) -> int:
    """Return how many records another process finds, which closes the file again."""
    return int(subprocess.check_output([sys.executable, "-c", _OPEN_AND_CLOSE, str(path)]))


async def test_a_file_that_this_process_opens_again_is_still_held_against_others(tmp_path: Path) -> None:
    """SQLite's locks are the process's: any other open and close of the file in it would drop them, and whoever else
    closes the file then deletes the write-ahead log, with all that is acknowledged later.
    """
    path = tmp_path / "threads.db"
    async with open_store(f"sqlite:{path}") as store:
        thread_id = await a_live_thread(store, "one")
        async with open_store(f"sqlite:{path}"):
            before = looked_at_elsewhere(path)
        await say_and_flush(store, thread_id, "two")
        assert looked_at_elsewhere(path) == before + 1


_FORKED = """
import asyncio, os, sys
from eventstore import InvalidRequest, open_store

async def opens(url):
    async with open_store(url):
        pass

async def main(url, other):
    await opens(other)
    async with open_store(url):
        if child := os.fork():
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        def in_the_child():
            asyncio.run(opens(other))
            try:
                asyncio.run(opens(url))
            except InvalidRequest as exc:
                return "was open when this process was forked" in str(exc)

        asyncio._set_running_loop(None)
        os._exit(42 if in_the_child() else 1)

sys.exit(asyncio.run(main(*sys.argv[1:])))
"""


def test_a_file_that_was_open_at_a_fork_is_refused_in_the_child(tmp_path: Path) -> None:
    """SQLite believes to hold the locks of the process before; one that was closed by then is opened as any other."""
    urls = [f"sqlite:{tmp_path / name}" for name in ("open.db", "closed.db")]
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", _FORKED, *urls], check=False, timeout=60)
    assert ran.returncode == 42


_APPEND_AND_DIE = """
import asyncio, os, signal, sys
from eventstore import open_store
from tests.support.threads import a_live_thread

async def main(url):
    async with open_store(url) as store:
        print(await a_live_thread(store, "acknowledged"), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(sys.argv[1]))
"""

_CLOSE_AFTER_A_FORK = """
import asyncio, os, subprocess, sys
from eventstore import open_store
from tests.support.threads import a_live_thread

url, append_and_die = sys.argv[1:]
go_on, say = os.pipe()
with asyncio.Runner() as runner:
    opening = open_store(url)
    store = runner.run(opening.__aenter__())
    runner.run(a_live_thread(store, "before"))
    child = os.fork()
    if not child:
        os.read(go_on, 1)
        del store
        sys.exit()
    runner.run(opening.__aexit__(None, None, None))
thread = subprocess.run([sys.executable, "-c", append_and_die, url], capture_output=True, text=True).stdout
os.write(say, b"!")
ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(thread.strip(), ended)
"""


def acknowledged_before_a_forked_process_ends(url: str) -> ThreadId:
    """Return the thread that a process, killed since, wrote meanwhile."""
    script = [sys.executable, "-W", "ignore", "-c", _CLOSE_AFTER_A_FORK, url, _APPEND_AND_DIE]
    thread_id, ended = subprocess.check_output(script, text=True, timeout=60).split()
    assert ended == "0"
    return ThreadId(thread_id)


async def test_a_forked_process_that_ends_takes_nothing_along_that_another_acknowledged(tmp_path: Path) -> None:
    """Closing there what was open at the fork would delete the write-ahead log of whoever used the file since."""
    url = f"sqlite:{tmp_path / 'threads.db'}"
    thread_id = acknowledged_before_a_forked_process_ends(url)
    async with open_store(url) as store:
        assert ["acknowledged"] == await said(store, thread_id)


async def test_opening_that_is_given_up_leaves_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[sqlite3.Connection] = []
    both = SqliteFile._both

    def watched(self: SqliteFile, upgrades: Sequence[str]) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        made.extend(both(self, upgrades))
        return made[0], made[1]

    monkeypatch.setattr(SqliteFile, "_both", watched)
    other = held_by_another(tmp_path / "threads.db")
    opening = asyncio.ensure_future(SqliteFile(tmp_path / "threads.db", within=10).open())
    await asyncio.sleep(0.05)

    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert made == []
    other.close()

    for _ in range(500):
        await asyncio.sleep(0.01)
        if all(map(is_closed, made)) and made:
            break
    assert [True, True] == list(map(is_closed, made))


def is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


@contextmanager
def index_held(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD_THE_INDEX, f"{path}-shm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    try:
        yield process
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait()


async def test_a_quick_job_is_answered_in_the_turn_that_runs_it(file: SqliteFile) -> None:
    job = asyncio.ensure_future(file.writing.run(lambda connection: "done", within=5))
    await asyncio.sleep(0)  # hands the job over
    await asyncio.sleep(0)
    assert job.done()
    assert await job == "done"


async def test_the_loop_goes_on_while_a_reader_waits(file: SqliteFile) -> None:
    began = time.monotonic()
    with index_held(Path(file.path)) as process:
        assert process.stdin is not None
        asyncio.get_running_loop().call_later(_HELD, process.stdin.close)

        (count,), gap = await longest_gap(file.read(lambda c: c.execute("SELECT count(*) FROM log").fetchone()))

    assert time.monotonic() - began >= _HELD
    assert count == 0
    assert gap < _GAP


async def test_a_reader_that_waited_in_vain_is_told(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "threads.db", within=0.3)
    await file.open()
    with index_held(tmp_path / "threads.db"), pytest.raises(LogUnavailable, match="try again"):
        await file.read(lambda c: c.execute("SELECT count(*) FROM log").fetchone())
    assert await file.read(lambda c: c.execute("SELECT count(*) FROM log").fetchone()) == (0,)
    await file.close()


async def test_a_lock_that_is_met_between_two_appends_repeats_none_that_was_committed(tmp_path: Path) -> None:
    file, met = SqliteFile(tmp_path / "threads.db"), 0
    log = SqliteLog(file)
    await log.open()

    def locked_at_first(connection: sqlite3.Connection) -> int:
        nonlocal met
        met += 1
        if met == 1:
            raise Locked("ordered by the test")
        return log_end(connection)

    (first,), end_between, (second,) = await asyncio.gather(
        log.append([appended(0)], within=5),
        file.writing.run(locked_at_first, within=5),
        log.append([appended(1)], within=5),
    )

    assert (met, first.offset, end_between, second.offset) == (2, 1, 2, 2)
    await file.close()


async def test_a_durability_that_cannot_be_set_is_told_as_ours(file: SqliteFile) -> None:
    def inside_another(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        try:
            with file.transaction(connection, durable=True):
                raise AssertionError("not reached")
        finally:
            connection.execute("ROLLBACK")

    with pytest.raises(LogUnavailable, match=r"threads\.db cannot be used now .*[Ss]afety level"):
        await file.writing.run(inside_another, within=1)


async def test_every_commit_of_the_log_is_fsynced_and_those_of_the_views_are_not(tmp_path: Path) -> None:
    """Promise 1, durable: a killed process loses nothing that the system has taken; a machine would."""
    statements: list[str] = []
    async with opened(tmp_path / "threads.db") as parts:
        await parts.file.writing.run(lambda connection: connection.set_trace_callback(statements.append), within=5)
        thread_id = await a_live_thread(parts.store)
        for text in ("one", "two", "three"):
            await parts.store.list_threads(ListThreadsParams())  # writes the views
            await say_and_flush(parts.store, thread_id, text)
        await parts.store.list_threads(ListThreadsParams())

    in_force, commits, logs = "unknown", [], False
    for statement in statements:
        in_force = statement.removeprefix("PRAGMA synchronous = ") if "synchronous" in statement else in_force
        logs = statement.startswith("INSERT INTO log") or (logs and not statement.startswith("BEGIN"))
        if statement == "COMMIT":
            commits.append(("log" if logs else "views", in_force))
    assert [("log", "FULL"), ("views", "NORMAL")] * 4 == commits


async def test_a_read_that_fails_says_why_though_its_transaction_is_gone(file: SqliteFile) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        raise KeyError("the work's own")

    with pytest.raises(KeyError, match="the work's own"):
        await file.read(fails)
    assert await file.read(lambda c: c.execute("SELECT count(*) FROM log").fetchone()) == (0,)


async def test_an_older_file_that_cannot_be_copied_is_not_migrated(file: SqliteFile, tmp_path: Path) -> None:
    (tmp_path / "threads.db.format-1.backup").mkdir()

    with pytest.raises(LogUnavailable, match=r"format-1\.backup cannot be written"):
        await SqliteFile(file.path).open(upgrades=[*migrations.shipped(), "CREATE TABLE second (n INTEGER)"])

    (version,) = await file.read(lambda c: c.execute("PRAGMA user_version").fetchone())
    assert version == 1


async def test_an_append_of_nothing_writes_nothing(file: SqliteFile) -> None:
    assert await SqliteLog(file).append([], within=1) == []


async def test_what_is_no_ordinary_file_is_neither_opened_nor_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(LogUnavailable, match="no ordinary file"):
        async with open_store(f"sqlite:{pipe}"):
            pass
    with pytest.raises(InvalidRequest, match="no ordinary file"), private_file(pipe, overwrite=True):
        pass
    assert pipe.is_fifo()


@pytest.mark.parametrize("url", [Path("threads.db"), b"sqlite:threads.db", 1])
async def test_what_is_no_text_is_no_url(url: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"setting 'log' is wrong: .* is no text; a file is named sqlite:PATH"):
        async with open_store(url):
            pass


async def test_a_link_to_no_file_yet_makes_it_and_one_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "threads.db")
    (tmp_path / "circle.db").symlink_to(tmp_path / "circle.db")

    async with open_store(f"sqlite:{tmp_path / 'link.db'}"):
        assert (tmp_path / "threads.db").stat().st_mode & 0o777 == 0o600
    with pytest.raises(LogUnavailable, match="no ordinary file"):
        async with open_store(f"sqlite:{tmp_path / 'circle.db'}"):
            pass


async def test_a_file_that_has_two_names_is_refused_under_either(tmp_path: Path) -> None:
    """SQLite names its write-ahead log after the file: what is acknowledged under one name would ruin it."""
    path, other = tmp_path / "threads.db", tmp_path / "other.db"
    thread_id = await a_file_with_a_thread(path, "hello")
    os.link(path, other)

    for name in (path, other):
        with pytest.raises(LogUnavailable, match=r"has another name too \(a hard link\).*remove the other name"):
            async with open_store(f"sqlite:{name}"):
                pass
    other.unlink()
    async with open_store(f"sqlite:{path}") as store:
        assert ["hello"] == await said(store, thread_id)


async def test_a_file_that_is_mounted_without_its_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that is given the file alone would have the write-ahead log for itself, and lose it at its end."""
    (tmp_path / "a folder").mkdir()
    path, mounts = tmp_path / "a folder" / "threads.db", tmp_path / "mountinfo"
    where = str(path).replace(" ", r"\040")
    mounts.write_text(f"36 35 98:0 / / rw - ext4 /dev/vda rw\n65 44 98:0 /host.db {where} rw - ext4 /dev/vda rw\n")
    path.touch()
    monkeypatch.setattr("eventstore.sqlite.place._MOUNTS", mounts)

    with pytest.raises(LogUnavailable, match=r"mounted without its folder.*mount the folder"):
        async with open_store(f"sqlite:{path}"):
            pass
    mounts.unlink()
    async with open_store(f"sqlite:{path}"):
        pass


async def test_a_record_missing_in_the_middle_is_found_by_whoever_folds_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with open_store(f"sqlite:{path}") as store:
        await a_live_thread(store, "one", "two")
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM log WHERE offset = 1")
        connection.execute("UPDATE projection SET fold = 'of another version'")
    connection.close()

    async with open_store(f"sqlite:{path}") as store:
        with pytest.raises(LogTruncated, match="offset 1 is missing"):
            await store.list_threads(ListThreadsParams())


def test_a_program_without_asyncio_runs_each_call_in_one_runner(tmp_path: Path) -> None:
    """Nothing of the store depends on the task that opened it, nor on a loop that turns between two calls."""
    with asyncio.Runner() as runner:
        opening = open_store(f"sqlite:{tmp_path / 'threads.db'}")
        store = runner.run(opening.__aenter__())
        thread_id = runner.run(a_live_thread(store, "one"))
        runner.run(say_and_flush(store, thread_id, "two"))
        assert ["one", "two"] == runner.run(said(store, thread_id))
        runner.run(opening.__aexit__(None, None, None))
