"""Processes killed with SIGKILL in the middle of their work, restarted on the same file, and judged.

Every kill is proved to have hit a process that was working: it had not said `over`, and had said that it had begun.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from eventstore import CreateThreadParams, ResumeThreadParams, new_thread_id
from eventstore.settings import Settings
from eventstore.sqlite import migrations
from eventstore.wiring import open_embedded, open_store
from tests.support.checker import Journal, Label, Pen, labels, objections, read_journal, spoken
from tests.support.processes import Child, Nursery, eventually
from tests.support.threads import append, said

SMALL, TEN, LARGE = (1, 200, False), (10, 200, False), (6, 200_000, False)
"""Shapes of appends: items, bytes of each, named or not. A large one takes three records."""
NAMED, NAMED_LARGE = (2, 200, True), (6, 200_000, True)

MIXES = {
    "one item": ([SMALL], 0.5),
    "ten items": ([TEN], 0.3),
    "large appends": ([LARGE, SMALL], 0.7),
    "named appends": ([NAMED, NAMED, NAMED_LARGE], 0.5),
    "everything, seldom flushed": ([SMALL, TEN, LARGE, NAMED], 0.05),
}
ROUNDS = 4


def a_random_moment(dice: random.Random, child: Child, *, after: int) -> None:
    """Let the child make at least that many notes, and then go on for up to 30 ms: nobody knows where it is then."""
    child.wait_for(
        lambda journal: len(journal.notes) >= after and journal.count("acknowledged") > 0,
        f"{after} notes, one a success",
    )
    until = time.monotonic() + dice.uniform(0, 0.03)
    while time.monotonic() < until:
        pass


def unknown_of(journals: Sequence[Journal]) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return the named appends of the last writer of which it never learned what became of them, by thread."""
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for attempt in journals[-1].attempts if journals else ():
        if attempt.append_id is not None and not attempt.acknowledged:
            found.setdefault(attempt.thread_id, []).append((attempt.append_id, attempt.texts))
    return found


@pytest.mark.parametrize("mix", MIXES)
async def test_what_a_killed_process_acknowledged_is_kept_and_the_rest_is_whole_or_absent(
    tmp_path: Path, nursery: Nursery, mix: str
) -> None:
    shapes, flush = MIXES[mix]
    seed = random.SystemRandom().randrange(1_000_000)
    dice = random.Random(seed)
    path = tmp_path / "threads.db"
    threads = [new_thread_id() for _ in range(3)]
    for number in range(ROUNDS):
        child = nursery.start(
            "append_for_ever",
            f"{mix.replace(' ', '-')}-{number}",
            url=f"sqlite:{path}",
            threads=threads,
            seed=dice.randrange(1_000_000),
            shapes=shapes,
            flush=flush,
            retry=unknown_of(nursery.journals()),
        )
        a_random_moment(dice, child, after=dice.randrange(30, 120))
        child.kill()
        found = await objections(path, nursery.journals(), unrivalled=True)
        assert not found, (f"seed {seed}, round {number}", found)

    journals = nursery.journals()
    assert all(journal.attempts for journal in journals)
    assert sum(attempt.acknowledged for journal in journals for attempt in journal.attempts) > 0, seed
    assert not all(attempt.acknowledged for journal in journals for attempt in journal.attempts), seed


async def test_named_appends_retried_after_a_kill_are_there_once(tmp_path: Path, nursery: Nursery) -> None:
    """The retries themselves: half of them had landed when their writer died, and half had not."""
    path = tmp_path / "threads.db"
    thread_id = new_thread_id()
    child = nursery.start(
        "append_for_ever",
        "killed",
        url=f"sqlite:{path}",
        threads=[thread_id],
        seed=1,
        shapes=[NAMED],
        flush=0.1,
        retry={},
    )
    child.wait_for(lambda journal: len(journal.attempts) > 50, "50 appends")
    child.kill()
    killed = child.journal

    pen = Pen(tmp_path / "retried.journal", "retried")
    retried = []
    async with open_store(f"sqlite:{path}") as store:
        before = len(await said(store, thread_id))
        await store.resume_thread(ResumeThreadParams(thread_id=thread_id))
        for attempt in [*killed.attempts, *killed.attempts]:
            texts = [Label.parse(text) for text in attempt.texts]
            retried.append(pen.attempt(thread_id, texts, attempt.append_id))
            receipt = await append(store, thread_id, *map(spoken, texts), append_id=attempt.append_id)
            assert receipt.append_id == attempt.append_id
        # One that never was made by the killed writer makes sure that retries are told from fresh ones.
        fresh = labels("fresh", 0, items=2)
        retried.append(pen.attempt(thread_id, fresh, new_thread_id()))
        assert (await append(store, thread_id, *map(spoken, fresh), append_id=new_thread_id())).appended == 2
        await store.flush_thread(thread_id)
        pen.acknowledged(*retried)
        after = len(await said(store, thread_id))
    pen.close()

    assert after == 2 * len(killed.attempts) + 2
    assert before <= 2 * len(killed.attempts)
    assert not await objections(path, [killed, read_journal(tmp_path / "retried.journal")])


async def test_a_killed_import_leaves_whole_threads_and_may_be_begun_again(tmp_path: Path, nursery: Nursery) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    dice = random.Random(seed)
    path = tmp_path / "threads.db"
    for number in range(3):
        child = nursery.start("import", f"import-{number}", url=f"sqlite:{path}", threads=1_000_000)
        a_random_moment(dice, child, after=dice.randrange(20, 60))
        child.kill()
        found = await objections(path, nursery.journals(), unrivalled=True)
        assert not found, (f"seed {seed}, round {number}", found)
    assert all(journal.count("acknowledged") for journal in nursery.journals())


async def a_backlog(path: Path, entries: int) -> list[Journal]:
    """Fill a file with entries which nobody has folded."""
    pen = Pen(path.with_suffix(".journal"), "backlog")
    async with open_embedded(Settings(log=f"sqlite:{path}", synchronous="OFF")) as parts:
        parts.log.on_append = lambda entries: None
        for number in range(entries // 50):
            thread_id = new_thread_id()
            await parts.store.create_thread(CreateThreadParams(thread_id=thread_id))
            attempts = []
            for append_number in range(49):
                texts = labels("backlog", 49 * number + append_number, items=3)
                attempts.append(pen.attempt(thread_id, texts))
                await append(parts.store, thread_id, *map(spoken, texts))
            await parts.store.flush_thread(thread_id)
            pen.acknowledged(*attempts)

        def unfold(connection: sqlite3.Connection) -> None:
            for table in ("thread", "summary", "item_index"):
                connection.execute(f"DELETE FROM {table}")
            connection.execute("UPDATE projection SET generation = generation + 1, checkpoint = 1")

        await parts.file.write(unfold)
    pen.close()
    return [read_journal(path.with_suffix(".journal"))]


def checkpoint(path: Path) -> int:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        return int(connection.execute("SELECT checkpoint FROM projection").fetchone()[0])
    finally:
        connection.close()


async def test_a_fold_killed_half_way_is_taken_up_where_it_ended(tmp_path: Path, nursery: Nursery) -> None:
    path = tmp_path / "threads.db"
    journals = await a_backlog(path, 5_000)
    assert checkpoint(path) == 1
    reached = []
    for number in range(3):
        before = checkpoint(path)
        child = nursery.start("fold", f"fold-{number}", url=f"sqlite:{path}")
        eventually(lambda before=before: checkpoint(path) > before, "folding", alive=child.process)  # type: ignore[misc]
        child.kill()
        reached.append(checkpoint(path))

    assert 1 < reached[0] < reached[1] < reached[2] < 5_000, reached
    assert not await objections(path, journals, unrivalled=True)


async def test_a_file_whose_making_was_killed_is_made_by_the_next_that_opens_it(
    tmp_path: Path, nursery: Nursery
) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    dice = random.Random(seed)
    unfinished = 0
    for number in range(30):
        if unfinished == 3:
            break
        child = nursery.start("open_new_files", f"open-{number}", folder=str(tmp_path))
        child.wait_for(lambda journal: journal.count("opening") > 2, "opening files")
        until = time.monotonic() + dice.uniform(0, 0.015)
        while time.monotonic() < until:
            pass
        child.kill()
        journal = child.journal
        last = Path([note["path"] for note in journal.notes if note["did"] == "opening"][-1])
        unfinished += journal.count("opened") < journal.count("opening")
        mine = [attempt for attempt in journal.attempts if attempt.texts[0].split("/")[1] == last.stem.split("-")[-1]]

        found = await objections(last, [Journal(journal.writer, mine)], unrivalled=True)
        assert not found, (f"seed {seed}, round {number}", found)
        async with open_store(f"sqlite:{last}") as store:
            thread_id = new_thread_id()
            await store.create_thread(CreateThreadParams(thread_id=thread_id))
            await append(store, thread_id, spoken(labels("after", 0, items=1)[0]))
            await store.flush_thread(thread_id)
            assert len(await said(store, thread_id)) == 1
    assert unfinished == 3, f"seed {seed}: no kill hit the making of a file"


SLOW_UPGRADE = """
CREATE TABLE ballast (n INTEGER PRIMARY KEY, text TEXT);
WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < 2000000)
INSERT INTO ballast SELECT n, 'some text that makes this migration take its time' FROM counted;
"""


async def test_a_migration_killed_half_way_leaves_the_older_file_and_is_done_again(
    tmp_path: Path, nursery: Nursery
) -> None:
    path = tmp_path / "threads.db"
    journals = await a_backlog(path, 200)
    backup = Path(f"{path}.format-{len(migrations.shipped())}.backup")
    upgrades = [*migrations.shipped(), SLOW_UPGRADE]
    wal = Path(f"{path}-wal")

    def half_way() -> bool:
        return backup.exists() and wal.exists() and wal.stat().st_size > 1_000_000

    for number in range(2):
        child = nursery.start("open_each", f"open-{number}", paths=[str(path)], upgrades=upgrades)
        child.wait_for(lambda journal: journal.count("ready") == 1, "ready")
        child.go()
        eventually(half_way, "migrating", alive=child.process)
        child.kill()
        assert not child.journal.count("opened")
        assert user_version(path) == len(upgrades) - 1
        assert private(backup)
    assert not await objections(path, journals, unrivalled=True)
    assert not await objections(backup, journals)

    light = [*migrations.shipped(), "CREATE TABLE light (n)"]
    child = nursery.start("open_each", "open-at-last", paths=[str(path)], upgrades=light)
    child.wait_for(lambda journal: journal.count("ready") == 1, "ready")
    child.go()
    assert child.join().first("opened") == {"did": "opened", "path": str(path), "backup": str(backup)}
    assert user_version(path) == len(upgrades)
    assert private(backup)


def private(path: Path) -> bool:
    return path.stat().st_mode & 0o777 == 0o600


def user_version(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()
