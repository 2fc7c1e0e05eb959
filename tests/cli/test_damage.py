"""Threads and views that are damaged: what a list shows of them, and what mends them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from uuid import UUID

import pytest

from eventstore.codec import MAGIC
from tests.cli.conftest import CommandLine
from tests.support.commands import NAMED
from tests.support.freezing import BEYOND, an_earlier_version


def change(cli: CommandLine, sql: str, *values: object) -> int:
    """Change the file behind the store's back; return how many rows that met."""
    with closing(sqlite3.connect(cli.path, isolation_level=None)) as connection:
        return connection.execute(sql, values).rowcount


def test_a_thread_that_cannot_be_read_on_is_listed_as_damaged(example: CommandLine) -> None:
    assert {thread["damaged"] for thread in example.threads()} == {None}
    assert example.done("show", NAMED, "--json").json["damaged"] is None
    assert "DAMAGED" not in example.done("list").out
    assert example.done("list", "--damaged").out == "no thread is damaged\n"
    record = MAGIC + b"unheard!" + b"of a newer version"
    assert change(example, "INSERT INTO log (thread, record) VALUES (?, ?)", UUID(NAMED).bytes, record) == 1

    why = {thread["thread_id"]: thread["damaged"] for thread in example.threads()}
    assert "cannot be understood" in why.pop(NAMED)
    assert len(why) == 7
    assert set(why.values()) == {None}
    rows = example.done("list").out.splitlines()
    (row,) = [row for row in rows if "DAMAGED" in row]
    assert row.startswith(NAMED)
    assert "  DAMAGED Forecast cache" in row
    told = example("show", NAMED)
    assert (7, True) == (told.code, f"eventstore retry {NAMED}" in told.err)
    (only,) = example.done("list", "--damaged", "--json").json["items"]
    assert (NAMED, True) == (only["thread_id"], "cannot be understood" in only["damaged"])
    damaged = example.done("list", "--damaged")
    assert (True, True) == (NAMED in damaged.out, "eventstore retry ID" in damaged.err)
    assert f"eventstore retry {NAMED}" in example("doctor").out
    retried = example("retry", NAMED)
    assert (7, True) == (retried.code, f"thread {NAMED} stays frozen at 0:33: " in retried.err), retried


def test_a_frozen_thread_is_folded_anew(example: CommandLine) -> None:
    items = example.done("history", NAMED, "--json").out
    with an_earlier_version():
        assert example("rename", NAMED, BEYOND).code == 7
        assert example("history", NAMED).code == 7
    assert example("show", NAMED).code == 7

    assert example.done("retry", NAMED[:13]).out.startswith(f"thread {NAMED} can be read: ")

    assert BEYOND in example.done("show", NAMED).out
    assert items == example.done("history", NAMED, "--json").out
    assert "no thread is damaged\n" == example.done("list", "--damaged").out
    assert "the views are what the log says" in example.done("verify").out
    assert example.done("retry", NAMED).out.startswith(f"thread {NAMED} can be read: ")
    assert example("retry", "00000000-0000-4000-8000-000000000000").code == 2


@pytest.mark.parametrize(
    "damage", ["UPDATE thread SET head = '[' WHERE id = ?", "UPDATE thread SET run_facts = '{' WHERE id = ?"]
)
def test_a_damaged_view_is_found_and_mended_by_the_first_command_that_meets_it(
    example: CommandLine, damage: str
) -> None:
    before = example.threads()
    shown = example.done("show", NAMED).out
    for words in (["verify", "--repair"], ["list"], ["show", NAMED]):
        assert change(example, damage, UUID(NAMED).bytes) == 1
        found = example("verify")
        told = f"thread {NAMED}: the state is sound by the log, and damaged ("
        assert (found.code, found.out.startswith(told)) == (1, True)
        assert example("doctor").code in (0, 4)

        example.done(*words)

        assert "the views are what the log says" in example.done("verify").out
        assert example.threads() == before
        assert example.done("show", NAMED).out == shown
