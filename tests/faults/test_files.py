"""The file itself: older, newer, foreign, damaged, full, locked, not writable, and its views lost or put back."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

import projections.fold
import projections.sqlite_views
from eventstore import ListThreadsParams, ThreadStore, new_thread_id
from eventstore.codec import MAGIC, codec
from eventstore.errors import (
    EventStoreError,
    LogTruncated,
    LogUnavailable,
    OutcomeUnknown,
    TopicMisconfigured,
    UnreadableEvent,
    ViewsAheadOfLog,
    ViewsUnavailable,
)
from eventstore.events import ItemsAppended
from eventstore.history import AsOf
from eventstore.ids import ThreadId
from eventstore.settings import Settings
from eventstore.sqlite import migrations
from eventstore.sqlite.file import SqliteFile
from eventstore.sqlite.log import key_of
from eventstore.wiring import Embedded, open_embedded, open_store
from tests.support.checker import objections
from tests.support.processes import Nursery
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    archive,
    history,
    page,
    patch,
    read,
    resume,
    said,
    say,
)

PROCESSES = 4
SECOND_MIGRATION = [*migrations.shipped(), "CREATE TABLE second (n INTEGER); INSERT INTO second VALUES (2)"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
async def parts(path: Path) -> AsyncIterator[Embedded]:
    async with opened(path) as parts:
        yield parts


@asynccontextmanager
async def opened(path: Path, *, within: float = 30.0) -> AsyncIterator[Embedded]:
    async with open_embedded(Settings(log=f"sqlite:{path}", actor="a test", within=within)) as parts:
        yield parts


@contextmanager
def by_hand(path: Path) -> Iterator[sqlite3.Connection]:
    """What somebody does to the file with the sqlite3 shell."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def value(path: Path, sql: str, *values: object) -> object:
    with by_hand(path) as connection:
        return connection.execute(sql, values).fetchone()[0]


async def upgraded(path: Path, upgrades: list[str]) -> Path | None:
    file = SqliteFile(path)
    await file.open(upgrades=upgrades)
    await file.close()
    return file.migrated_from


async def a_file_with_a_thread(path: Path, *texts: str) -> ThreadId:
    async with open_store(f"sqlite:{path}") as store:
        return await a_cold_thread(store, *texts)


def content(path: Path) -> bytes:
    return path.read_bytes()


def modes(path: Path) -> dict[str, int]:
    """Return the permissions of the file and of everything beside it that bears its name."""
    return {other.name: other.stat().st_mode & 0o777 for other in path.parent.glob(f"{path.name}*")}


async def unjournaled_objections(parts: Embedded) -> list[str]:
    """Judge the file by all that needs no journal: replay, fold, index and ordinals."""
    found = await objections(Path(parts.file.path), [])
    return [objection for objection in found if "nobody attempted it" not in objection]


# Formats.


async def test_an_older_file_is_copied_beside_and_upgraded(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path, "written by the older version")
    size = len(content(path))

    backup = await upgraded(path, SECOND_MIGRATION)

    assert backup == path.with_name(f"{path.name}.format-1.backup")
    assert value(path, "PRAGMA user_version") == 2
    assert value(path, "SELECT n FROM second") == 2
    assert modes(path) == {path.name: 0o600, backup.name: 0o600}
    assert value(backup, "PRAGMA user_version") == 1
    assert len(content(backup)) == size
    async with open_store(f"sqlite:{backup}") as store:
        assert ["written by the older version"] == await said(store, thread_id)


async def test_an_upgraded_file_keeps_its_threads_and_is_upgraded_once(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path, "written by the older version")
    assert await upgraded(path, SECOND_MIGRATION) is not None

    assert await upgraded(path, SECOND_MIGRATION) is None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(migrations, "shipped", lambda: SECOND_MIGRATION)
        async with open_store(f"sqlite:{path}") as store:
            assert ["written by the older version"] == await said(store, thread_id)


async def test_a_migration_that_fails_leaves_the_older_file(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path, "written by the older version")

    with pytest.raises(EventStoreError):
        await upgraded(path, [*migrations.shipped(), "CREATE TABLE second (n); INSERT INTO no_such_table VALUES (1)"])

    assert value(path, "PRAGMA user_version") == 1
    async with open_store(f"sqlite:{path}") as store:
        assert ["written by the older version"] == await said(store, thread_id)


async def test_a_newer_file_is_refused_and_left_alone(path: Path) -> None:
    await a_file_with_a_thread(path)
    await upgraded(path, SECOND_MIGRATION)
    before = content(path)

    with pytest.raises(TopicMisconfigured, match=r"newer version .*\(format 2, this one knows 1\); upgrade eventstore"):
        async with open_store(f"sqlite:{path}"):
            pass

    assert content(path) == before


async def test_another_programs_file_is_refused_and_left_alone(path: Path) -> None:
    with by_hand(path) as connection:
        connection.execute("CREATE TABLE theirs (n INTEGER)")
        connection.execute("INSERT INTO theirs VALUES (1)")
    before, beside = content(path), modes(path)

    with pytest.raises(TopicMisconfigured, match="of another program; give a path of its own"):
        async with open_store(f"sqlite:{path}"):
            pass

    assert content(path) == before
    assert modes(path) == beside


# Damage.


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)


def cut_in_the_header(path: Path) -> None:
    os.truncate(path, 50)


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database at all, whatever its name says\n" * 500)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(16_384))


def a_garbled_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(10)
        file.write(os.urandom(80))


@pytest.mark.parametrize("damage", [cut_in_half, cut_in_the_header, garbage, zeros, a_garbled_header])
async def test_a_damaged_file_is_refused_in_a_sentence(path: Path, damage: Callable[[Path], None]) -> None:
    await a_file_with_a_thread(path, *map(str, range(500)))
    damage(path)

    with pytest.raises(TopicMisconfigured, match=f"{path}.*(restore a backup|path)"):
        async with open_store(f"sqlite:{path}") as store:
            await store.list_threads(ListThreadsParams())


async def test_an_empty_file_is_a_fresh_one(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT, 0o600))

    async with open_store(f"sqlite:{path}") as store:
        thread_id = await a_live_thread(store, "hello")
        assert ["hello"] == await said(store, thread_id)


def a_folder(tmp_path: Path) -> Path:
    return tmp_path


def below_a_file(tmp_path: Path) -> Path:
    (tmp_path / "file").touch()
    return tmp_path / "file" / "threads.db"


def where_nothing_can_be(tmp_path: Path) -> Path:
    return Path("/proc/self/no/threads.db")


@pytest.mark.parametrize("place", [a_folder, below_a_file, where_nothing_can_be])
async def test_a_path_that_cannot_be_a_file_is_refused_in_a_sentence(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    path = place(tmp_path)

    with pytest.raises(LogUnavailable, match=f"{path}.*give another path"):
        async with open_store(f"sqlite:{path}"):
            pass


async def test_nobody_else_may_read_the_file_or_what_lies_beside_it(path: Path) -> None:
    before = os.umask(0)
    try:
        path = path.parent / "made" / path.name
        async with open_store(f"sqlite:{path}") as store:
            await a_live_thread(store)
            assert modes(path) == {path.name: 0o600, f"{path.name}-wal": 0o600, f"{path.name}-shm": 0o600}
        assert path.parent.stat().st_mode & 0o777 == 0o700
        backup = await upgraded(path, SECOND_MIGRATION)
        assert backup is not None
        assert modes(path) == {path.name: 0o600, backup.name: 0o600}
    finally:
        os.umask(before)


# Several at once.


async def test_processes_that_open_a_new_file_at_the_same_time_make_it_once(tmp_path: Path, nursery: Nursery) -> None:
    paths = [str(tmp_path / f"new-{number}.db") for number in range(40)]
    for number in range(PROCESSES):
        nursery.start("open_each", f"w{number}", paths=paths, upgrades=None)
    for _ in paths:
        nursery.all_go()
    journals = nursery.join()

    assert [journal.count("opened") for journal in journals] == [len(paths)] * PROCESSES
    assert {note["backup"] for journal in journals for note in journal.notes if note["did"] == "opened"} == {None}
    for path in map(Path, paths):
        assert value(path, "SELECT count(*) FROM log_identity") == 1
        assert modes(path) == {path.name: 0o600}


async def test_processes_that_upgrade_a_file_at_the_same_time_do_it_once(tmp_path: Path, nursery: Nursery) -> None:
    paths = [tmp_path / f"old-{number}.db" for number in range(20)]
    threads = {path: await a_file_with_a_thread(path) for path in paths}
    for number in range(PROCESSES):
        nursery.start("open_each", f"w{number}", paths=[str(path) for path in paths], upgrades=SECOND_MIGRATION)
    for _ in paths:
        nursery.all_go()
    journals = nursery.join()

    assert [journal.count("opened") for journal in journals] == [len(paths)] * PROCESSES
    for path in paths:
        notes = [note for journal in journals for note in journal.notes if note.get("path") == str(path)]
        backups = Counter(note["backup"] for note in notes if note["did"] == "opened")
        assert backups == {None: PROCESSES - 1, f"{path}.format-1.backup": 1}
        assert value(path, "SELECT count(*) FROM second") == 1
        assert modes(path) == {path.name: 0o600, f"{path.name}.format-1.backup": 0o600}
        async with open_store(f"sqlite:{path}.format-1.backup") as store:
            assert ["hello"] == await said(store, threads[path])


# Full, not writable, locked.


async def limit_pages(parts: Embedded, *, spare: int | None) -> None:
    """Let the file grow by that many pages and no more; None: as it likes."""

    def limit(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {4_294_967_294 if spare is None else pages + spare}")

    await parts.file.writing.run(limit, within=5)


async def test_on_a_full_disk_nothing_is_lost_and_with_room_again_everything_is_there_once(parts: Embedded) -> None:
    store = parts.store
    thread_id = await a_live_thread(store, "before")
    await limit_pages(parts, spare=2)
    texts = [f"{number}: {'x' * 20_000}" for number in range(5)]

    refused = 0
    for text in texts:
        with pytest.raises(OutcomeUnknown, match="full") as caught:
            await say(store, thread_id, text)
        assert isinstance(caught.value.__cause__, LogUnavailable)
        refused += 1
    for _ in range(2):
        with pytest.raises(LogUnavailable, match="free some space"):
            await store.flush_thread(thread_id)
        refused += 1
    assert ["before"] == await said(store, thread_id)
    assert refused == 7

    await limit_pages(parts, spare=None)
    await store.flush_thread(thread_id)
    assert ["before", *texts] == await said(store, thread_id)
    assert not await unjournaled_objections(parts)


async def test_on_a_full_disk_one_large_append_does_not_keep_a_small_one_of_another_thread_out(parts: Embedded) -> None:
    """They share a commit; the small one can be made again, and then it fits."""
    store = parts.store
    large, small = await a_live_thread(store), await a_live_thread(store)
    await limit_pages(parts, spare=4)

    with pytest.raises(OutcomeUnknown):
        await say(store, large, "x" * 100_000)
    await say(store, small, "small")

    assert ["hello", "small"] == await said(store, small)


async def test_with_no_room_for_the_views_what_is_logged_is_read_later(parts: Embedded) -> None:
    """The log took the append, and the fold of it found the disk full."""
    store = parts.store
    thread_id = await a_live_thread(store, "before")
    texts: list[str] = []

    async def until_it_is_full() -> None:
        for number in range(2_000):
            texts.append(f"{number}")
            await say(store, thread_id, texts[-1])
            await store.flush_thread(thread_id)

    await limit_pages(parts, spare=0)
    with pytest.raises(EventStoreError, match="full"):
        await until_it_is_full()

    await limit_pages(parts, spare=None)
    await store.flush_thread(thread_id)
    assert ["before", *texts] == await said(store, thread_id)


async def test_a_flush_needs_no_views_and_whoever_reads_brings_them_up(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, fired = parts.store, Counter[str]()
    thread_id = await a_live_thread(store, "before")

    async def refuse(*given: object, **named: object) -> bool:
        fired["commits"] += 1
        raise ViewsUnavailable("ordered by the test")

    with monkeypatch.context() as patched:
        patched.setattr(projections.sqlite_views.SqliteViews, "commit", refuse)
        await say(store, thread_id, "logged")
        await store.flush_thread(thread_id)
        assert 0 == fired["commits"]
        assert 3 == (await read(store, thread_id)).item_count
        with pytest.raises(ViewsUnavailable, match="ordered by the test"):
            await store.list_threads(ListThreadsParams())
        assert ["before", "logged"] == await said(store, thread_id)
        assert fired["commits"] >= 2

    async with open_store(f"sqlite:{parts.file.path}") as elsewhere:
        assert ["before", "logged"] == await said(elsewhere, thread_id)
    assert value(Path(parts.file.path), "SELECT checkpoint FROM projection") == await parts.feed.end(0)


async def query_only(parts: Embedded, on: bool) -> None:
    await parts.file.writing.run(lambda connection: connection.execute(f"PRAGMA query_only = {on}"), within=5)


async def test_a_file_that_cannot_be_written_is_read_and_refuses_in_a_sentence(parts: Embedded) -> None:
    store = parts.store
    thread_id = await a_live_thread(store, "before")
    await query_only(parts, True)

    with pytest.raises(OutcomeUnknown, match="permissions") as caught:
        await say(store, thread_id, "during")
    assert isinstance(caught.value.__cause__, LogUnavailable)
    with pytest.raises(LogUnavailable, match=f"{parts.file.path} cannot be opened for writing"):
        await store.flush_thread(thread_id)
    with pytest.raises(LogUnavailable):
        await archive(store, thread_id)
    assert ["before"] == await said(store, thread_id)

    await query_only(parts, False)
    await store.flush_thread(thread_id)
    assert ["before", "during"] == await said(store, thread_id)
    assert (await read(store, thread_id)).archived_at is None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that holds the write lock and does not let it go."""
    with by_hand(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    other = path.with_suffix(".other")
    other.touch()
    other.replace(path)


@pytest.mark.parametrize("lose", [removed, replaced])
async def test_nothing_is_acknowledged_into_a_file_that_is_not_there_any_more(
    path: Path, lose: Callable[[Path], None]
) -> None:
    """SQLite goes on writing to what it opened, which is gone with the last process that has it open."""
    async with open_store(f"sqlite:{path}") as store:
        thread_id = await a_live_thread(store, "kept")
        lose(path)

        with pytest.raises(OutcomeUnknown, match="removed or replaced"):
            await say(store, thread_id, "lost")
        with pytest.raises(LogUnavailable, match=f"^{path} was removed or replaced .*; open the store again$"):
            await store.flush_thread(thread_id)
        with pytest.raises(LogUnavailable, match="removed or replaced"):
            await patch(store, thread_id, name="lost")


async def test_a_file_is_found_again_from_another_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    async with open_store(f"sqlite:{path.name}") as store:
        monkeypatch.chdir("/")
        thread_id = await a_live_thread(store, "kept")

        assert ["kept"] == await said(store, thread_id)


@pytest.mark.parametrize("turn", range(3))
async def test_a_lock_that_is_held_too_long_is_an_answer_and_nothing_is_written(path: Path, turn: int) -> None:
    async with opened(path, within=0.2) as parts:
        store = parts.store
        thread_id = await a_live_thread(store, "before")
        other = await a_live_thread(store, "other")
        end = await parts.feed.end(0)
        with locked(path):
            with pytest.raises(OutcomeUnknown, match="written by another process") as caught:
                await say(store, thread_id, "during")
            assert isinstance(caught.value.__cause__, LogUnavailable)
            with pytest.raises(LogUnavailable, match=f"{path} is being written by another process"):
                await store.flush_thread(thread_id)
            with pytest.raises(LogUnavailable, match=f"{path} is being written by another process"):
                await archive(store, other)
            assert ["before"] == await said(store, thread_id)
            assert await parts.feed.end(0) == end

        await store.flush_thread(thread_id)
        assert ["before", "during"] == await said(store, thread_id)
        assert (await read(store, other)).archived_at is None


async def test_a_file_that_another_program_keeps_to_itself_is_an_answer(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path)
    with by_hand(path) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LogUnavailable, match=f"{path} is being written by another process"):
            async with opened(path, within=0.2):
                pass

    async with opened(path) as parts:
        assert ["hello"] == await said(parts.store, thread_id)


async def test_a_lock_that_is_let_go_in_time_is_not_noticed(path: Path) -> None:
    async with opened(path, within=30) as parts:
        thread_id = await a_live_thread(parts.store, "before")
        with by_hand(path) as connection:
            connection.execute("BEGIN IMMEDIATE")
            said_it = asyncio.create_task(say(parts.store, thread_id, "during"))
            for _ in range(50):
                await asyncio.sleep(0)
            assert not said_it.done()
            connection.execute("COMMIT")
            await said_it
        await parts.store.flush_thread(thread_id)
        assert ["before", "during"] == await said(parts.store, thread_id)


# Records.


def garbled(record: bytes) -> bytes:
    """Ours by its framing, with a body that is cut short."""
    return record[:-7]


def of_a_later_schema(record: bytes) -> bytes:
    return MAGIC + b"unknown!" + record[10:]


def of_a_later_kind(record: bytes) -> bytes:
    return record.replace(b"ItemsAppended", b"ItemsRewarded")


def of_a_later_rule(record: bytes) -> bytes:
    # Zigzag: rule 1 is written 0x02, rule 2 would be 0x04.
    return record.replace(b"ItemsAppended\x02", b"ItemsAppended\x04")


UNREADABLE = [garbled, of_a_later_schema, of_a_later_kind, of_a_later_rule]


@asynccontextmanager
async def a_store_with_a_bad_record(
    path: Path, bad: Callable[[bytes], bytes]
) -> AsyncIterator[tuple[ThreadStore, ThreadId, ThreadId]]:
    """Open a store on a file of two threads, one of which has a record, not folded yet, that was changed by hand."""
    async with open_store(f"sqlite:{path}") as store:
        sound, harmed = await a_cold_thread(store, "sound"), await a_cold_thread(store, "harmed")
        await resume(store, harmed)
        await say(store, harmed, "the record that goes bad")
        await store.flush_thread(harmed)
    with by_hand(path) as connection:
        offset, record = connection.execute("SELECT max(offset), record FROM log").fetchone()
        assert bad(record) != record
        connection.execute("UPDATE log SET record = ? WHERE offset = ?", (bad(record), offset))
        unfold(connection)
    async with open_store(f"sqlite:{path}") as store:
        yield store, sound, harmed


def unfold(connection: sqlite3.Connection) -> None:
    for table in ("thread", "summary", "item_index"):
        connection.execute(f"DELETE FROM {table}")
    connection.execute("UPDATE projection SET generation = generation + 1, checkpoint = 1")


@pytest.mark.parametrize("bad", UNREADABLE)
async def test_a_record_that_cannot_be_understood_freezes_its_thread_and_no_other(
    path: Path, bad: Callable[[bytes], bytes]
) -> None:
    async with a_store_with_a_bad_record(path, bad) as (store, sound, harmed):
        refusals = 0
        for refused in (
            lambda: history(store, harmed),
            lambda: read(store, harmed),
            lambda: page(store, harmed),
            lambda: resume(store, harmed),
            lambda: archive(store, harmed),
            lambda: patch(store, harmed, name="a name"),
        ):
            with pytest.raises(UnreadableEvent, match=harmed):
                await refused()
            refusals += 1
        assert refusals == 6

        await resume(store, sound)
        await say(store, sound, "goes on")
        await store.flush_thread(sound)
        assert ["sound", "goes on"] == await said(store, sound)
        assert sound in [thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items]
    assert value(path, "SELECT count(*) FROM thread WHERE frozen IS NOT NULL") == 1
    assert "cannot be understood" in str(value(path, "SELECT frozen FROM thread WHERE frozen IS NOT NULL"))


async def test_a_live_thread_that_freezes_says_so_at_its_flush(parts: Embedded) -> None:
    """A newer version writes to a thread which this one has live."""
    store = parts.store
    thread_id, other = await a_live_thread(store), await a_live_thread(store)
    row = key_of(thread_id), MAGIC + b"unknown!" + b"body"
    await parts.file.write(lambda connection: connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row))

    await say(store, thread_id, "after")
    with pytest.raises(UnreadableEvent, match=f"{thread_id}.*unknown to|{thread_id}.*not known to"):
        await store.flush_thread(thread_id)

    await say(store, other, "goes on")
    await store.flush_thread(other)
    assert ["hello", "goes on"] == await said(store, other)


async def test_a_folded_record_that_goes_bad_is_never_a_short_history(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path, "hello")
    with by_hand(path) as connection:
        assert connection.execute("UPDATE log SET record = x'00' WHERE offset = 2").rowcount == 1

    async with open_store(f"sqlite:{path}") as store:
        with pytest.raises(UnreadableEvent, match="restore a backup"):
            await history(store, thread_id)


async def test_a_folded_record_that_is_gone_is_never_a_short_history(path: Path) -> None:
    thread_id = await a_file_with_a_thread(path, "hello")
    with by_hand(path) as connection:
        assert connection.execute("DELETE FROM log WHERE offset = 2").rowcount == 1

    async with open_store(f"sqlite:{path}") as store:
        with pytest.raises(LogTruncated, match="restore a backup"):
            await history(store, thread_id)


FOREIGN: dict[str, Callable[[bytes, bytes], tuple[object, object]]] = {
    "not our framing": lambda key, record: (key, b"not our framing"),
    "an empty record": lambda key, record: (key, b""),
    "a text": lambda key, record: (key, "a text"),
    "a number": lambda key, record: (key, 7),
    "another thread's record": lambda key, record: (bytes(16), record),
    "a key of five bytes": lambda key, record: (b"five.", record),
    "a key that is text": lambda key, record: ("sixteen letters.", record),
    "a key that is a number": lambda key, record: (5, record),
    "no key": lambda key, record: (b"", b""),
}


async def test_a_log_that_was_cut_short_under_its_views_is_refused(path: Path) -> None:
    async with opened(path) as parts:
        await a_live_thread(parts.store, "one", "two")
    with by_hand(path) as connection:
        cut = connection.execute("DELETE FROM log WHERE offset = (SELECT max(offset) FROM log)").rowcount

    assert cut == 1
    with pytest.raises(ViewsAheadOfLog, match=r"records were taken out of it; restore a backup$"):
        async with opened(path):
            pass


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_a_record_that_is_not_ours_harms_nobody(parts: Embedded, foreign: str) -> None:
    store = parts.store
    thread_id = await a_live_thread(store, "before")

    def insert(connection: sqlite3.Connection) -> None:
        (record,) = connection.execute("SELECT record FROM log WHERE offset = 1").fetchone()
        row = FOREIGN[foreign](key_of(thread_id), record)
        connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row)

    await parts.file.write(insert)
    end = await parts.feed.end(0)
    await say(store, thread_id, "after")
    await store.flush_thread(thread_id)

    assert await parts.feed.end(0) == end + 1
    assert ["before", "after"] == await said(store, thread_id)
    assert [thread_id] == [thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items]
    _, as_of = await store.history.as_of(thread_id, AsOf(version=100))
    assert len(as_of) == 3
    await say(store, thread_id, "named", append_id=new_thread_id())
    await store.flush_thread(thread_id)
    assert ["before", "after", "named"] == await said(store, thread_id)


async def test_an_event_under_anothers_key_is_nobodys(parts: Embedded) -> None:
    """Its body names one thread and its key another: neither takes it, in whatever way its history is read."""
    store = parts.store
    one, two = await a_live_thread(store, "one"), await a_live_thread(store, "two")
    entries = await parts.feed.read(0, start=1, limit=10)
    (event,) = [e.event for e in entries if e.thread_id == one and isinstance(e.event, ItemsAppended)]
    row = key_of(two), codec().encode(event)
    await parts.file.write(lambda connection: connection.execute("INSERT INTO log (thread, record) VALUES (?, ?)", row))

    for thread_id, text in ((one, "one"), (two, "two")):
        assert [text] == await said(store, thread_id)
        _, as_of = await store.history.as_of(thread_id, AsOf(version=100))
        assert len(as_of) == 2


# Views.


def dropped(connection: sqlite3.Connection) -> None:
    for table in ("projection", "thread", "summary", "item_index"):
        connection.execute(f"DROP TABLE {table}")


def one_dropped(connection: sqlite3.Connection) -> None:
    connection.execute("DROP TABLE item_index")


def emptied(connection: sqlite3.Connection) -> None:
    for table in ("projection", "thread", "summary", "item_index"):
        connection.execute(f"DELETE FROM {table}")


Use = Callable[[ThreadStore, ThreadId, ThreadId], Awaitable[None]]

LOSSES = [dropped, one_dropped, emptied, unfold]


async def used(store: ThreadStore, live: ThreadId, cold: ThreadId) -> None:
    """Use a store whose views were lost in all the ways that read them."""
    assert ["cold"] == await said(store, cold)
    assert {live, cold} == {thread.thread_id for thread in (await store.list_threads(ListThreadsParams())).items}
    assert (await read(store, cold)).thread_id == cold
    await say(store, live, "after the loss")
    await store.flush_thread(live)
    assert ["live", "after the loss"] == await said(store, live)
    await archive(store, cold)
    assert (await read(store, cold)).archived_at is not None


async def flushed(store: ThreadStore, live: ThreadId, cold: ThreadId) -> None:
    """Flush first of all."""
    await say(store, live, "after the loss")
    await store.flush_thread(live)
    assert ["live", "after the loss"] == await said(store, live)
    assert ["cold"] == await said(store, cold)


@pytest.mark.parametrize("loss", LOSSES)
async def test_views_that_were_lost_are_made_again_when_the_file_is_opened(
    path: Path, loss: Callable[[sqlite3.Connection], None]
) -> None:
    async with open_store(f"sqlite:{path}") as store:
        live, cold = await a_cold_thread(store, "live"), await a_cold_thread(store, "cold")
    with by_hand(path) as connection:
        loss(connection)

    async with open_store(f"sqlite:{path}") as store:
        await resume(store, live)
        await used(store, live, cold)
    async with opened(path) as parts:
        assert not await unjournaled_objections(parts)


@pytest.mark.parametrize("use", [used, flushed])
@pytest.mark.parametrize("loss", LOSSES)
async def test_views_that_are_lost_under_an_open_store_are_made_again_at_the_next_read(
    parts: Embedded, loss: Callable[[sqlite3.Connection], None], use: Use
) -> None:
    store = parts.store
    live, cold = await a_live_thread(store, "live"), await a_cold_thread(store, "cold")
    with by_hand(Path(parts.file.path)) as connection:
        loss(connection)

    await use(store, live, cold)
    assert not await unjournaled_objections(parts)


@pytest.mark.parametrize("use", [used, flushed])
async def test_views_that_are_put_back_to_an_older_copy_are_brought_up_again(parts: Embedded, use: Use) -> None:
    store = parts.store
    tables = ("projection", "thread", "summary", "item_index")
    with by_hand(Path(parts.file.path)) as connection:
        before = await a_cold_thread(store, "before the copy")
        await store.list_threads(ListThreadsParams())
        for table in tables:
            connection.execute(f"CREATE TEMP TABLE old_{table} AS SELECT * FROM {table}")
        await archive(store, before)
        live, cold = await a_live_thread(store, "live"), await a_cold_thread(store, "cold")
        connection.execute("BEGIN IMMEDIATE")
        for table in tables:
            connection.execute(f"DELETE FROM {table}")
            assert connection.execute(f"INSERT INTO {table} SELECT * FROM old_{table}").rowcount >= 1
        connection.execute("COMMIT")

    await use(store, live, cold)
    assert (await read(store, before)).archived_at is not None
    assert not await unjournaled_objections(parts)


async def test_views_of_another_fold_are_made_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thread_id = await a_file_with_a_thread(path, "hello")
    with by_hand(path) as connection:
        connection.execute("UPDATE summary SET summary = json_set(summary, '$.preview', 'as an older fold had it')")
    async with open_store(f"sqlite:{path}") as store:
        assert (await read(store, thread_id)).preview == "as an older fold had it"

    for fold, generation in ((2, 2), (1, 3)):
        monkeypatch.setattr(projections.fold, "FOLD", fold)
        monkeypatch.setattr(projections.fold, "FOLD", fold)
        async with open_store(f"sqlite:{path}") as store:
            assert (await read(store, thread_id)).preview == "hello"
        assert str(value(path, "SELECT fold FROM projection")).startswith(f"{fold}/")
        assert value(path, "SELECT generation FROM projection") == generation


async def test_a_store_whose_views_another_fold_took_over_says_so_and_spoils_nothing(
    parts: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two versions at work on one file, one would otherwise write its views into the other's."""
    store, path = parts.store, Path(parts.file.path)
    thread_id = await a_live_thread(store, "before")
    with monkeypatch.context() as patched:
        patched.setattr(projections.fold, "FOLD", 2)
        async with open_store(f"sqlite:{path}") as newer:
            assert ["before"] == await said(newer, thread_id)

    await say(store, thread_id, "it is logged")
    await store.flush_thread(thread_id)
    with pytest.raises(ViewsUnavailable, match="another version"):
        await store.list_threads(ListThreadsParams())
    assert ["before", "it is logged"] == await said(store, thread_id)
    assert str(value(path, "SELECT fold FROM projection")).startswith("2/")
    with monkeypatch.context() as patched:
        patched.setattr(projections.fold, "FOLD", 2)
        assert not await unjournaled_objections(parts)
        async with open_store(f"sqlite:{path}") as newer:
            assert ["before", "it is logged"] == await said(newer, thread_id)
