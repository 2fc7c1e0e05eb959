"""`list`, `show`, `history`: what people read and what programs read."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from eventstore import ListThreadsParams, ThreadPage
from eventstore.threads import EventSourcedThreadStore
from tests.cli.conftest import CommandLine, terminal
from tests.conftest import EXAMPLE_HOME
from tests.support.commands import ARCHIVED, NAMED, PAGINATED, rollout

FORK = "01a0a3e2-9fda-78c8-b5c0-bc92084c4ad2"
AGENT = "01a0aa61-cbaa-7ea4-b829-7d0143ebfe8e"
EXACT = "01a10aa5-c70e-7bcb-a353-6a75fc7e0742"
BASED = "01a154c9-bd77-71d7-812f-ec8a4f4ee522"


def ids(threads: list[dict[str, object]]) -> list[object]:
    return [thread["thread_id"] for thread in threads]


def test_a_list_is_a_plain_table_where_there_is_no_terminal(example: CommandLine) -> None:
    listed = example.done("list", "--limit", "2")
    header, *rows = listed.out.splitlines()
    assert header.split() == ["ID", "UPDATED", "ITEMS", "SOURCE", "NAME", "OR", "FIRST", "MESSAGE"]
    assert rows == [
        f"{PAGINATED}  2026-10-20 06:45     44  cli     Man page",
        f"{BASED}  2026-10-19 15:31     11  cli     Man page",
    ]
    assert "\x1b" not in listed.out


def test_a_list_fits_its_terminal(example: CommandLine, processes: list[subprocess.Popen[bytes]]) -> None:
    with terminal(columns=70) as (ours, theirs):
        process = example.started("list", "--limit", "4", stdin=theirs, stdout=theirs)
        processes.append(process)
        assert process.wait(timeout=30) == 0
        shown = re.sub(r"\x1b\[[\d;]*m", "", os.read(ours, 65_536).decode())
    header, first, *_, last = shown.splitlines()
    assert header.split() == ["ID", "UPDATED", "ITEMS", "SOURCE", "NAME", "OR", "FIRST", "MESSAGE"]
    assert first.split() == ["01a1539c-8e31", "2026-10-20", "06:45", "44", "cli", "Man", "page"]
    assert last.endswith("Which weather provide…")
    assert {len(line.rstrip()) <= 70 for line in shown.splitlines()} == {True}
    assert example.done("show", first.split()[0]).out.startswith(f"thread         {PAGINATED}")


def test_characters_that_take_two_cells_are_cut_no_earlier_than_others(
    example: CommandLine, processes: list[subprocess.Popen[bytes]]
) -> None:
    name = "天気予報の保存場所を決める"
    example.done("rename", NAMED, name)
    with terminal(columns=100) as (ours, theirs):
        process = example.started("list", "--search", name, stdin=theirs, stdout=theirs)
        processes.append(process)
        assert process.wait(timeout=30) == 0
        assert name in os.read(ours, 65_536).decode()


def test_a_list_says_how_to_get_the_next_page(example: CommandLine) -> None:
    said = example.done("list", "--limit", "3").err
    cursor = re.search(r"--cursor '(.+)'", said)
    assert cursor is not None
    assert said.startswith("more: eventstore ")
    rest = example.threads("--cursor", cursor[1])
    assert ids(example.threads()) == [*ids(example.threads("--limit", "3")), *ids(rest)]


def test_the_command_for_the_next_page_shows_no_secret(example: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ["--log", "kafka://ann:hunter2@broker/threads", "--views=rediss://:hunter2@redis/0"]
    monkeypatch.setattr("sys.argv", ["eventstore", *urls, "list", "--search", "a@b", "--limit", "1"])
    said = example.done("list", "--limit", "1").err
    assert said.startswith("more: eventstore --log 'kafka://…@broker/threads' '--views=rediss://…@redis/0' list ")
    assert " --search a@b --limit 1 --cursor " in said


def test_a_page_without_threads_is_the_last_one_only_where_no_other_follows(
    example: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Views in Redis may have come to the end of what they look at in one call, and not to the last thread."""

    async def nothing_so_far(self: EventSourcedThreadStore, params: ListThreadsParams) -> ThreadPage:
        return ThreadPage(items=(), next_cursor="2026-01-01T00:00:00Z")

    monkeypatch.setattr(EventSourcedThreadStore, "list_threads", nothing_so_far)
    listed = example.done("list", "--search", "rare")
    assert listed.out == ""
    assert listed.err.startswith("none among those looked at; more: eventstore ")
    assert listed.err.endswith(" --cursor 2026-01-01T00:00:00Z\n")


@pytest.mark.parametrize("order", [(), ("--asc",), ("--sort", "created"), ("--sort", "created", "--asc")])
def test_pages_lead_through_all_threads(example: CommandLine, order: tuple[str, ...]) -> None:
    found: list[object] = []
    cursor: tuple[str, ...] = ()
    while True:
        page = example.done("list", "--json", "--limit", "3", *order, *cursor).json
        assert page.keys() == {"items", "next_cursor"}
        found += ids(page["items"])
        if page["next_cursor"] is None:
            break
        cursor = ("--cursor", page["next_cursor"])
    assert found == ids(example.threads(*order))
    assert len(found) == 8


def test_orders_are_each_others_reverse(example: CommandLine) -> None:
    newest = ids(example.threads("--sort", "created"))
    assert newest == ids(example.threads("--sort", "created", "--asc"))[::-1]
    assert newest == sorted(newest, key=str, reverse=True)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (("--archived",), {ARCHIVED}),
        (("--source", "mcp"), {EXACT}),
        (("--source", "mcp", "--source", "nobody"), {EXACT}),
        (("--provider", "nobody"), set()),
        (("--search", "Forecast cache"), {NAMED}),
        (("--cwd", "/nowhere"), set()),
        (("--limit", "0"), set()),
    ],
)
def test_filters_leave_what_fits(example: CommandLine, filters: tuple[str, ...], expected: set[str]) -> None:
    assert set(ids(example.threads(*filters))) == expected


def test_a_directory_is_taken_as_it_is_typed(example: CommandLine) -> None:
    assert len(example.threads("--cwd", "/home/dev/../dev/weather/")) == 8


def test_times_are_local_for_people_and_utc_for_programs(example: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert "2026-10-20 15:45" in example.done("list", "--limit", "1").out
        (thread,) = example.threads("--limit", "1")
    finally:
        monkeypatch.setenv("TZ", "UTC")
        time.tzset()
    assert thread["updated_at"] == "2026-10-20T06:45:01.784000Z"


def test_show_tells_what_is_known(example: CommandLine) -> None:
    shown = example.done("show", NAMED).out
    for fact in (
        f"thread         {NAMED}",
        "name           Forecast cache on disk",
        "items          72, at version 3",
        "git branch     cache",
        "memory         disabled",
    ):
        assert fact in shown.splitlines()
    assert "tokens         23,490 (22,200 in, of which 17,300 cached;" in shown


def test_show_names_what_a_thread_comes_from(example: CommandLine) -> None:
    assert f"forked from    {NAMED}" in example.done("show", FORK).out
    assert "agent          Ada" in example.done("show", AGENT).out
    base = next(line for line in example.done("show", BASED).out.splitlines() if line.startswith("history base"))
    assert PAGINATED in base
    assert "archived       2026-" in example.done("show", ARCHIVED).out


def test_show_is_one_object_for_programs(example: CommandLine) -> None:
    shown = example.done("show", BASED, "--json").json
    assert shown["thread_id"] == BASED
    assert shown["item_count"] == 11
    assert shown["history_base"]["thread_id"] == PAGINATED
    assert "history" not in shown


def test_an_id_may_be_short(example: CommandLine) -> None:
    for short in (NAMED[:8], NAMED[:13], NAMED.replace("-", "")[:20], NAMED.upper(), NAMED.replace("-", "")):
        assert example.done("show", short, "--json").json["thread_id"] == NAMED


@pytest.mark.parametrize("thread_id", [NAMED, EXACT, PAGINATED, ARCHIVED])
def test_history_lines_are_the_imported_ones_with_ordinal_and_position(example: CommandLine, thread_id: str) -> None:
    lines = example.done("history", thread_id, "--json").lines
    assert [line["ordinal"] for line in lines] == list(range(len(lines)))
    assert all(re.fullmatch(r"0:\d+", line["position"]) for line in lines)
    kept = [{key: value for key, value in line.items() if key not in ("ordinal", "position")} for line in lines]
    assert kept == [{key: value for key, value in line.items() if key != "ordinal"} for line in rollout(thread_id)]


def test_a_source_ordinal_that_differs_is_kept_beside_ours(example: CommandLine) -> None:
    lines = example.done("history", BASED, "--json").lines
    assert [line["source_ordinal"] for line in lines] == [line["ordinal"] for line in rollout(BASED)]


def test_history_keeps_the_source_text_of_payloads(example: CommandLine) -> None:
    out = example.done("history", EXACT, "--json").out
    for text in ("12345678901234567890123", "1e400", "-0.0e-7", "\\ud83d"):
        assert text in out


def test_history_is_a_conversation_for_people(example: CommandLine) -> None:
    told = example.done("history", PAGINATED)
    said = [line for line in told.out.splitlines() if line.startswith("       ")]
    assert said == [
        "       Write a man page for weather.",
        "       `docs/weather.1` describes `now`, `week` and the cache.",
        "       Does it build?",
        "       Yes, with one warning about an empty paragraph in line 31.",
        "       Fix the warning and list the exit codes.",
        "       Done: the paragraph is gone, and EXIT STATUS lists 0, 1 and 75 (the provider is away).",
    ]
    assert "   11  2026-10-19 10:02  tool       exec_command: weather --help" in told.out
    assert told.err == "(44 items, 30 of them for programs: --json shows them)\n"
    assert all(len(line) <= 100 for line in told.out.splitlines())


def test_history_lets_nothing_through_that_a_terminal_obeys(example: CommandLine) -> None:
    item = {"type": "event_msg", "payload": {"type": "agent_message", "message": "a\x1b[2Jb\u202ec\x07\n\ud800d"}}
    example.done("append", NAMED, given=json.dumps(item))
    assert "a�[2Jb�c�\n       �d" in example.done("history", NAMED, "--last", "1").out


def test_nor_is_a_role_let_through_as_it_is(example: CommandLine) -> None:
    content = [{"type": "output_text", "text": "hello"}]
    item = {"type": "response_item", "payload": {"type": "message", "role": "a\x1b[2J\nb", "content": content}}
    example.done("append", NAMED, given=json.dumps(item))
    assert "  a�[2J b    hello\n" in example.done("history", NAMED, "--last", "1").out


def test_nor_are_the_names_of_files(empty: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "rollout-\x1b[2J.jsonl").write_text("{}\n")
    imported = empty("import", tmp_path)
    assert "/rollout-�[2J.jsonl: unreadable, it has no session_meta\n" in imported.err
    refused = empty("import", tmp_path / "\x1b[2J")
    assert "/�[2J does not exist" in refused.err
    assert "\x1b" not in imported.err + refused.err


@pytest.mark.parametrize("last", [0, 1, 3, 72, 500, 10**30])
def test_the_last_items_are_the_end_of_all(example: CommandLine, last: int) -> None:
    everything = example.done("history", NAMED, "--json").out.splitlines()
    assert example.done("history", NAMED, "--json", "--last", last).out.splitlines() == everything[-last or 72 :]


def test_the_past_is_read_by_version_and_by_time(example: CommandLine) -> None:
    version = example.done("show", NAMED, "--json").json["version"]
    before = example.done("history", NAMED, "--json").out
    example.done("append", NAMED, given='{"type":"event_msg","payload":{"type":"agent_message","message":"later"}}')
    assert example.done("history", NAMED, "--json", "--as-of", version).out == before
    assert example.done("history", NAMED, "--json", "--as-of", "2026-09-17T00:00:00Z").out == before
    assert len(example.done("history", NAMED, "--json", "--as-of", "1").lines) == 1
    assert example.done("history", NAMED, "--json", "--as-of", "2020-01-01T00:00:00Z").out == ""
    assert len(example.done("history", NAMED, "--json", "--as-of", version, "--last", 2).lines) == 2


@pytest.mark.parametrize(
    "moment", ["2026-05-01", "2026-05-01T12:00:00", "2026-05-01T12Z", "2026-W18-5", "20260501T120000Z"]
)
def test_a_time_that_is_not_whole_is_no_time(example: CommandLine, moment: str) -> None:
    ended = example("history", NAMED, "--as-of", moment)
    assert (ended.code, ended.out) == (2, "")
    assert f"'{moment}' is neither a version nor a time" in ended.err


@pytest.mark.parametrize("moment", ["2026-12-01t00:00:00z", "9999-12-31T23:59:59-12:00"])
def test_any_whole_time_is_one(example: CommandLine, moment: str) -> None:
    everything = example.done("history", NAMED, "--json").out
    assert example.done("history", NAMED, "--json", "--as-of", moment).out == everything


@pytest.mark.parametrize("beyond", ["20260501", "2026", "999"])
def test_a_version_that_a_thread_has_not_come_to_is_refused(example: CommandLine, beyond: str) -> None:
    version = example.done("show", NAMED, "--json").json["version"]
    ended = example("history", NAMED, "--as-of", beyond)
    assert (ended.code, ended.out) == (2, "")
    assert f"has not come to version {beyond}, it is at version {version}; give one up to that, or a time" in ended.err


def test_the_default_file_is_in_the_data_directory(
    example: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eventstore.cli import main

    assert main(["import", str(EXAMPLE_HOME)]) == 0
    assert (tmp_path / "data" / "eventstore" / "threads.db").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("EVENTSTORE_LOG", example.url)
    monkeypatch.setenv("EVENTSTORE_VIEWS", example.url)
    capsys.readouterr()
    assert main(["list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 8


def test_a_file_that_is_named_is_read_where_the_environment_leads_to_a_cluster(
    example: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTSTORE_LOG", "kafka://127.0.0.1:9/threads")
    monkeypatch.setenv("EVENTSTORE_VIEWS", "redis://127.0.0.1:9/0")
    assert len(example.threads()) == 8
