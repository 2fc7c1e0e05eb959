"""What the file is when it is opened: older, newer, foreign, damaged, not there, and made by several at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from eventstore import ListThreadsParams
from eventstore.errors import (
    EventStoreError,
    LogUnavailable,
    TopicMisconfigured,
)
from eventstore.sqlite import migrations
from eventstore.sqlite.file import SqliteFile
from eventstore.wiring import open_store
from tests.support.files import a_file_with_a_thread, by_hand, value
from tests.support.processes import Nursery
from tests.support.threads import (
    a_live_thread,
    said,
)

PROCESSES = 4
SECOND_MIGRATION = [*migrations.shipped(), "CREATE TABLE second (n INTEGER); INSERT INTO second VALUES (2)"]


async def upgraded(path: Path, upgrades: list[str]) -> Path | None:
    file = SqliteFile(path)
    await file.open(upgrades=upgrades)
    await file.close()
    return file.migrated_from


def content(path: Path) -> bytes:
    return path.read_bytes()


def modes(path: Path) -> dict[str, int]:
    """Return the permissions of the file and of everything beside it that bears its name."""
    return {other.name: other.stat().st_mode & 0o777 for other in path.parent.glob(f"{path.name}*")}


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
