"""Runs the contract suite on one engine in this process and prints what came of it as JSON.

python -m tests.support.subrun ENGINE [pytest's arguments]
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import pytest

from tests.support.engines import CHOSEN

CONTRACT = Path(__file__).parent.parent / "contract"


class Tally:
    """Notes the outcome of each test; what fails before or after its test counts as an error."""

    def __init__(self) -> None:
        self.outcomes: dict[str, list[str]] = {
            "collected": [], "passed": [], "failed": [], "skipped": [], "xfailed": [], "errors": [],
        }  # fmt: skip

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.outcomes["collected"] = [item.nodeid for item in session.items]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "wasxfail"):
            self.outcomes["xfailed"].append(report.nodeid)
        elif report.skipped:
            self.outcomes["skipped"].append(report.nodeid)
        elif report.when == "call":
            self.outcomes[report.outcome].append(report.nodeid)
        elif report.failed:
            self.outcomes["errors"].append(f"{report.nodeid}: {report.longreprtext[-600:]}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.outcomes["errors"].append(f"{report.nodeid}: {report.longreprtext[-600:]}")


def main(engine: str, *arguments: str) -> None:
    os.environ[CHOSEN] = engine
    tally = Tally()
    quietly = ["-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist", "--capture=sys"]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        pytest.main(
            [str(CONTRACT), f"--ignore={CONTRACT / 'test_suite_bites.py'}", *quietly, *arguments], plugins=[tally]
        )
    json.dump(tally.outcomes | {"output": output.getvalue()[-4_000:]}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
