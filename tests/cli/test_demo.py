"""The demo runs, as often as one likes, and touches nothing but its own file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.conftest import ROOT
from tests.conftest import EXAMPLE_HOME


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", ROOT / "compose" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FILE", tmp_path / "demo" / "threads.db")
    monkeypatch.setenv("EVENTSTORE_LOG", "kafka://127.0.0.1:9/of-the-user")
    monkeypatch.setenv("EVENTSTORE_VIEWS", "redis://127.0.0.1:9/0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return module


def test_the_demo_runs_twice(demo: ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in EXAMPLE_HOME.rglob("*.jsonl")}
    for _ in range(2):
        assert demo.main([]) == 0
        told = capfd.readouterr().out
        for done in (
            "9 files: 9 created; 305 items added, 2 bad lines left out\n",
            "Yes: flush returned, so every reader sees it.\n",
            "acknowledged 1 item, 1 in all\n",
            "archived 01a1539c-8e31-79fa-97ac-6194f0ce09d1\n",
            "unarchived 01a1539c-8e31-79fa-97ac-6194f0ce09d1\n",
            "ThreadUnarchived",
            "the views are what the log says: ",
            f"The threads of this demo stay in {tmp_path / 'demo' / 'threads.db'} until it runs again.",
        ):
            assert done in told
    assert not (tmp_path / "data").exists()
    assert before == {file: file.read_bytes() for file in EXAMPLE_HOME.rglob("*.jsonl")}


def test_the_demo_takes_another_home(demo: ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert demo.main([str(EXAMPLE_HOME / "archived_sessions")]) == 0
    assert "holds no thread that is not archived" in capfd.readouterr().out
    assert demo.main([str(tmp_path / "nowhere")]) == 1
