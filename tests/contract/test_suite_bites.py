"""The suite is tested too: a store that does nothing fails all of it, and each broken store fails some of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.support.saboteurs import SABOTEURS

ROOT = Path(__file__).parent.parent.parent

FOUND_OUT_BY = {
    "forgets-the-last-event": "survives_the_process",
    "last-writer-wins": "fenced_writer_is_told_and_adds_nothing",
    "applies-twice": "answers_lost_many_times_over_double_nothing",
    "reorders": "sequential_appends_stand_in_call_order",
    "checkpoints-before-views": "flush_cut_short_by_the_death_of_its_process",
    "reports-refused-as-done": "fenced_writer_is_told_and_adds_nothing",
}
"""The promise which each broken store breaks; the selection is small so that it is this one that finds it out."""

Outcomes: TypeAlias = dict[str, list[str]]


def outcomes_on(engine: str, *arguments: str) -> Outcomes:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.subrun", engine, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: Outcomes = json.loads(ran.stdout)
    return found


def test_a_store_that_does_nothing_fails_every_test() -> None:
    found = outcomes_on("does-nothing")

    assert [] == found["passed"]
    assert [] == found["skipped"] + found["xfailed"]
    assert [] == found["errors"]
    assert len(found["collected"]) > 150
    assert found["collected"] == found["failed"]


@pytest.mark.parametrize("saboteur", [name for name in SABOTEURS if name != "does-nothing"])
def test_every_broken_store_is_found_out(saboteur: str) -> None:
    found = outcomes_on(saboteur, "-x", "-k", FOUND_OUT_BY[saboteur])

    assert [] == found["errors"] + found["skipped"] + found["xfailed"]
    assert 1 == len(found["failed"]), found["output"]


def test_what_finds_the_broken_stores_out_passes_on_a_sound_one() -> None:
    found = outcomes_on("sqlite-file", "-k", " or ".join(FOUND_OUT_BY.values()))

    assert found["collected"] == found["passed"], found["output"]
    assert len(found["collected"]) >= len(set(FOUND_OUT_BY.values()))
