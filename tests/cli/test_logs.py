"""What runs for long logs for people or for programs; neither is shown more of a bug than where it is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT, terminal

SECRET = "a password, or what was said in a thread"
A_BUG = """
import sys, structlog
from eventstore.cli.logs import begin_logging

def fails(secret):
    raise KeyError("a bug")

begin_logging()
try:
    fails(sys.argv[1])
except KeyError as exc:
    structlog.get_logger("eventstore.serve").error("call failed", exc_info=exc)
"""


@pytest.mark.parametrize("for_people", [True, False])
def test_a_traceback_shows_no_variables(for_people: bool) -> None:
    with terminal(columns=200) as (ours, theirs):
        done = subprocess.run(
            [sys.executable, "-c", A_BUG, SECRET],
            cwd=ROOT,
            stderr=theirs if for_people else subprocess.PIPE,
            check=True,
        )
        logged = (os.read(ours, 65_536) if for_people else done.stderr).decode()

    assert "in fails" in logged
    assert "a bug" in logged
    assert SECRET not in logged
