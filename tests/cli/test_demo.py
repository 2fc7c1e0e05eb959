"""The demo runs, as often as one likes, and touches nothing but its own file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.conftest import ROOT
from tests.conftest import EXAMPLE_HOME

WHAT_TO_GIVE = "give a Codex home (such as ~/.codex), a folder or a rollout file"


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


def test_the_demo_looks_before_it_begins_anew(
    demo: ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert demo.main([str(EXAMPLE_HOME / "archived_sessions")]) == 0
    threads = demo.FILE.read_bytes()
    (tmp_path / "empty").mkdir()
    capfd.readouterr()

    for path, why in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "empty", "holds no rollouts")):
        assert demo.main([str(path)]) == 2
        assert capfd.readouterr() == ("", f"compose/demo: {path} {why}; {WHAT_TO_GIVE}\n")
    for words, code in ((["--help"], 0), (["one", "two"], 2), (["--bogus"], 2)):
        with pytest.raises(SystemExit) as ended:
            demo.main(words)
        assert ended.value.code == code
        assert "usage: compose/demo [-h] [CODEX_HOME]" in "".join(capfd.readouterr())

    assert demo.FILE.read_bytes() == threads


def test_a_command_of_the_demo_that_fails_ends_it_with_its_own_sentence(
    demo: ModuleType, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "begin_anew", lambda: None)
    demo.FILE.mkdir(parents=True)

    assert demo.main([]) > 1

    assert "Traceback" not in capfd.readouterr().err
