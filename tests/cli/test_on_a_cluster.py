"""The command line on Kafka and Redis, as processes: what it does there, and what it says when it is not to be had."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from pathlib import Path

import pytest

from eventstore.settings import Settings
from tests.cli.conftest import Ended
from tests.conftest import EXAMPLE_HOME
from tests.support.cluster import a_log, a_worker, joined

ROOT = Path(__file__).parent.parent.parent
NOBODY = "127.0.0.1:9"
"""A port at which nothing answers."""
HELLO = '{"type":"event_msg","payload":{"type":"user_message","message":"hello"}}\n'


async def ran(*words: str, log: str = "", views: str = "", given: str = "", **environment: str) -> Ended:
    """Run a command as a process of its own, with `given` on standard input."""
    named = {"EVENTSTORE_LOG": log, "EVENTSTORE_VIEWS": views, **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "eventstore.cli",
        *words,
        env={**os.environ, "PYTHONPATH": str(ROOT), **{name: value for name, value in named.items() if value}},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given.encode())
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def done(settings: Settings, *words: str, given: str = "") -> str:
    ended = await ran(*words, log=settings.log, views=settings.views, given=given)
    assert ended.code == 0, ended
    return ended.out


async def test_a_home_is_imported_looked_at_and_copied_to_a_file_and_back(tmp_path: Path) -> None:
    async with a_log(partitions=2) as settings, a_worker(settings):
        await done(settings, "import", str(EXAMPLE_HOME))
        listed = json.loads(await done(settings, "list", "--json", "--limit", "99"))["items"]
        thread = listed[0]["thread_id"]
        explained = await ran("history", thread[:13], "--explain", log=settings.log, views=settings.views)
        events = await done(settings, "events", "--json")
        await done(settings, "rename", thread, "renamed here")
        rebuilt = await done(settings, "rebuild", "--verify")
        shown = await done(settings, "show", thread)
        verified = await done(settings, "verify")
        doctor = await done(settings, "doctor")
        copied = await ran("copy", "--from", settings.log, "--to", f"sqlite:{tmp_path / 'copy.db'}", "--verify")
        there = await ran("list", "--json", "--limit", "99", log=f"sqlite:{tmp_path / 'copy.db'}")

    assert len(listed) == 8
    assert re.search(r"read at the places that the views know: [\d,]+ records?, [\d,]+ of them", explained.err)
    assert {"admitted"} == {json.loads(line)["verdict"] for line in events.splitlines()}
    assert "2 partitions rebuilt" in rebuilt
    assert "renamed here" in shown
    assert "the views are what the log says" in verified
    assert re.search(r"frozen +none", doctor)
    assert (0, True) == (copied.code, copied.out.endswith("every thread is the same in both\n")), copied
    names = {thread["thread_id"]: thread["name"] for thread in json.loads(there.out)["items"]}
    assert names == {one["thread_id"]: one["name"] for one in listed} | {thread: "renamed here"}


async def test_a_token_of_one_process_is_waited_for_by_another_and_no_longer_than_it_may() -> None:
    async with a_log(partitions=2) as settings:
        async with a_worker(settings):
            thread = json.loads(await done(settings, "new", "--json", given=HELLO))["thread_id"]
            renamed = json.loads(await done(settings, "rename", thread, "renamed", "--json"))
            listed = json.loads(await done(settings, "list", "--json", "--at-least", renamed["token"]))["items"]
            exact = json.loads(await done(settings, "list", "--json", "--exact"))["items"]
        # Nobody folds any more: what is said now counts, and a listing would wait for it in vain.
        told = await ran("rename", thread, "later", log=settings.log, views=settings.views, EVENTSTORE_WITHIN="5")
        behind = await ran("list", "--exact", log=settings.log, views=settings.views, EVENTSTORE_WITHIN="3")
        shown = await done(settings, "show", thread, "--at-least", renamed["token"])

    assert ["renamed"] == [one["name"] for one in listed]
    assert listed == exact
    assert (5, True) == (told.code, "counts" in told.err), told
    assert (5, True) == (behind.code, "did not come to" in behind.err), behind
    assert "renamed" in shown


async def test_what_counts_though_nobody_folds_it_is_not_to_be_appended_again() -> None:
    async with a_log(partitions=1) as settings:
        where = {"log": settings.log, "views": settings.views, "EVENTSTORE_WITHIN": "4"}
        made = await ran("new", given=HELLO, **where)
        thread = re.findall("thread ([-0-9a-f]{36}) is written up to", made.err)[0]
        appended = await ran("append", thread, given=HELLO * 2, **where)
        history = await ran("history", thread, "--json", **where)

    assert (5, 5) == (made.code, appended.code), (made, appended)
    assert "counts: do not repeat it; " in appended.err
    assert appended.err.endswith("; kept so far: 2 items\n"), appended
    assert 4 == len(history.lines)


async def test_a_topic_is_made_checked_and_described() -> None:
    kafka = await joined().kafka()
    log = f"kafka://{kafka.bootstrap}/made-by-hand-{time.time_ns()}"

    missing = await ran("topic", "verify", log=log)
    made = await ran("topic", "create", "--replicas", "1", "--partitions", "3", log=log)
    again = await ran("topic", "create", "--replicas", "1", log=log)
    sound = await ran("topic", "verify", log=log)
    described = await ran("topic", "describe", log=log)

    assert (7, True) == (missing.code, "eventstore topic create" in missing.err)
    assert (0, True) == (made.code, "3 partitions" in made.out), made
    assert (2, True) == (again.code, "already" in again.err)
    assert (0, True) == (sound.code, sound.out.startswith("note"))
    assert re.search(r"retention.ms +-1\n", described.out)


@pytest.mark.parametrize(
    ("words", "log", "views", "code", "says"),
    [
        ("list", f"kafka://{NOBODY}/threads", "redis://127.0.0.1:9/0", 4, NOBODY),
        ("topic verify", f"kafka://{NOBODY}/threads", "", 4, NOBODY),
        ("list", f"kafka://{NOBODY}/threads", "", 2, "EVENTSTORE_VIEWS"),
        ("list", "kafka:///threads", "redis://127.0.0.1:9/0", 2, "kafka://HOST:PORT/TOPIC"),
        ("list", f"kafka://{NOBODY}/threads?colour=red", "redis://127.0.0.1:9/0", 2, "colour"),
        ("worker", "sqlite:here.db", "", 2, "needs no worker"),
        ("worker --monitor x", f"kafka://{NOBODY}/threads", "redis://127.0.0.1:9/0", 2, "no address"),
        ("topic verify", "sqlite:here.db", "", 2, "only a log on Kafka"),
        ("rebuild", "sqlite:here.db", "", 2, "verify --repair"),
        ("backup there.db", f"kafka://{NOBODY}/threads", "redis://127.0.0.1:9/0", 2, "eventstore"),
        ("copy --from sqlite:a.db --to sqlite:a.db", "", "", 2, "the same log"),
        ("history x --explain", "sqlite:here.db", "", 2, "only of a log on Kafka"),
    ],
)
async def test_what_cannot_be_had_is_said_in_a_sentence(words: str, log: str, views: str, code: int, says: str) -> None:
    ended = await ran(*words.split(), log=log, views=views)

    assert (code, "") == (ended.code, ended.out), ended
    assert says in ended.err
    assert (True, 1) == (ended.err.startswith("eventstore: "), ended.err.count("\n")), ended


async def test_no_secret_is_in_any_text() -> None:
    secret = "hunter2"
    ended = await ran("list", log=f"kafka://user:{secret}@{NOBODY}/threads", views=f"redis://:{secret}@127.0.0.1:9/0")
    other = await ran("list", log=f"kafka://{NOBODY}/t?sasl=PLAIN", views="redis://x", EVENTSTORE_KAFKA_PASSWORD=secret)

    assert (4, 2) == (ended.code, other.code)
    assert secret not in ended.err + ended.out + other.err + other.out
