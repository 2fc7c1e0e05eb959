"""What the README shows runs as it stands there, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from eventstore.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
PRINTED = [
    "2 items, Why does the build fail?\n",
    "0 session_meta\n1 tool_call\n2 tool_result\n0 session_meta\n1 tool_call\n",
]


def test_there_is_python_to_run() -> None:
    assert PYTHON


@pytest.mark.parametrize(("source", "printed"), list(zip(PYTHON, PRINTED, strict=True)))
def test_a_python_block_runs_in_an_empty_folder(source: str, printed: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", source]
    done = subprocess.run(
        command, check=False, cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed


def test_every_test_that_keeps_a_promise_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`?(?:::|` · `)(\w+)", README)

    assert len(named) >= 9
    for file, test in named:
        assert re.search(rf"def {test}\b", (ROOT / file).read_text("utf-8")), f"{file} has no {test}"


def test_every_setting_is_told() -> None:
    told = set(re.findall(r"EVENTSTORE_[A-Z_]+", README))

    assert {PREFIX + name.upper() for name in Settings.model_fields} == told


@pytest.mark.parametrize("package", ["eventstore", "projections"])
def test_the_map_names_every_file_that_is_there_and_no_other(package: str) -> None:
    lines = re.findall(rf"^{package}/ .*\n((?:  .*\n)+)", README, re.MULTILINE)[0].splitlines()
    # Names stand before a gap, what they are for behind it.
    named = [name for line in lines for name in re.split(r"\s{2,}", line.strip())[0].split()]
    there = [path for path in (ROOT / package).iterdir() if not path.name.startswith(("_", "."))]

    assert sorted(named) == sorted(
        [path.stem for path in there if path.suffix == ".py"] + [f"{path.name}/" for path in there if path.is_dir()]
    )
