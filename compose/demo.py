"""The store at work: an agent's threads are imported, written, read and audited, each step as one would type it.

    compose/demo [CODEX_HOME]

Works on a file of its own, made anew at every run.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from pydantic import JsonValue

from eventstore import (
    AppendThreadItemsParams,
    ListThreadsParams,
    ResumeThreadParams,
    RolloutItem,
    StoredThread,
    ThreadSortKey,
    open_store,
)
from eventstore.codex.homes import find_rollouts
from eventstore.errors import InvalidRequest
from eventstore.ids import ThreadId

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE_HOME = ROOT / "compose" / "example-home"
FILE = ROOT / "compose" / ".demo" / "threads.db"
WHAT_IT_DOES = "Show the store at work on Codex's threads, in a file of its own that is made anew at every run."
WHOSE_THREADS = "a Codex home such as ~/.codex, which is only read; an example without it"
BOLD, DIM, PLAIN = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "")


async def take_a_turn(thread_id: ThreadId) -> None:
    """Go on with a thread, as a live agent does."""
    async with open_store(f"sqlite:{FILE}", actor="demo agent") as store:
        await store.resume_thread(ResumeThreadParams(thread_id=thread_id))
        for role, text in (
            ("user", "Is all of this kept?"),
            ("assistant", "Yes: flush returned, so every reader sees it."),
        ):
            item = RolloutItem("response_item", message(role, text))
            await store.append_items(AppendThreadItemsParams(thread_id=thread_id, items=(item,)))
        await store.flush_thread(thread_id)
        await store.shutdown_thread(thread_id)


def message(role: str, text: str) -> dict[str, JsonValue]:
    """Return what a person or the agent says, as Codex writes it."""
    part = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "role": role, "content": [{"type": part, "text": text}]}


async def latest() -> StoredThread | None:
    """Return the thread that was worked on last, if there is any."""
    async with open_store(f"sqlite:{FILE}") as store:
        page = await store.list_threads(ListThreadsParams(page_size=1, sort_key=ThreadSortKey.UPDATED_AT))
        return page.items[0] if page.items else None


def main(arguments: list[str]) -> int:
    asked = argparse.ArgumentParser(prog="compose/demo", description=WHAT_IT_DOES)
    asked.add_argument("home", nargs="?", default=EXAMPLE_HOME, type=Path, metavar="CODEX_HOME", help=WHOSE_THREADS)
    home: Path = asked.parse_args(arguments).home.expanduser()
    try:
        find_rollouts([home])  # before the threads of the last run go
    except InvalidRequest as exc:
        print(f"compose/demo: {exc}", file=sys.stderr)
        return exc.exit_code
    begin_anew()
    try:
        return show_all(home)
    except subprocess.CalledProcessError as exc:
        return exc.returncode  # the command has said what is wrong


def show_all(home: Path) -> int:
    explain("Everything below is kept in one SQLite file. Any command finds it by an environment variable:")
    print(f"{BOLD}$ export EVENTSTORE_LOG={shlex.quote(f'sqlite:{shown(FILE)}')}{PLAIN}")
    for name in [name for name in os.environ if name.startswith("EVENTSTORE_")]:
        del os.environ[name]  # those of whoever tries this out are for a store of theirs
    os.environ["EVENTSTORE_LOG"] = f"sqlite:{FILE}"

    explain("Codex's threads come in as they are: named, archived, forked ones, and files with a torn line.")
    imported = run("import", shown(home), may_fail=True)
    if imported > 1:
        return imported
    explain("Lists come from views that are folded from the log; what flush acknowledged is in them.")
    run("list", "--limit", "10")
    thread = asyncio.run(latest())
    if thread is None:
        print(
            f"\n{home} holds no thread that is not archived and has something said in it; so there is no more to show."
        )
        return 0
    work_on(thread)
    say_what_next(thread.thread_id)
    return 0


def work_on(thread: StoredThread) -> None:
    short = thread.thread_id[:13]
    explain("One thread. The beginning of its id will do wherever an id is asked for.")
    run("show", short)
    explain("Now an agent goes on with it, in Python:")
    print(f"{DIM}{inspect.getsource(take_a_turn).rstrip()}{PLAIN}\n")
    print(f'{BOLD}>>> asyncio.run(take_a_turn("{thread.thread_id}")){PLAIN}')
    asyncio.run(take_a_turn(thread.thread_id))
    explain("A program in any language can do the same over a pipe; it is told what is kept:")
    said = {"type": "response_item", "payload": message("assistant", "And so says the pipe.")}
    run("append", short, given=json.dumps(said))
    explain("Items are read from the end at the cost of what is read, or all of them as the conversation they are.")
    run("history", short, "--last", "3")
    explain("Each archive is an event too, and can be taken back.")
    run("archive", short)
    run("list", "--archived", "--limit", "5")
    run("unarchive", short)
    explain("Nothing is overwritten: this is the thread as it was before the agent went on with it.")
    run("history", short, "--as-of", str(thread.version), "--last", "8")
    explain("And this is its audit trail: every event with who said it, and whether it counts.")
    run("events", short)
    explain("The views can be checked against the log at any time, and copied while others write.")
    run("verify")


def say_what_next(thread_id: str) -> None:
    short = thread_id[:13]
    print(f"\n{BOLD}That was all. The threads of this demo stay in {shown(FILE)} until it runs again.{PLAIN}")
    print("To go on with them, by hand:\n")
    print("    source .venv/bin/activate")
    print(f"    export EVENTSTORE_LOG=sqlite:{shown(FILE)}")
    print(f"    eventstore history {short}")
    print(f"    eventstore rename {short} 'Found in the demo'")
    print("    eventstore events --follow")
    print("    eventstore export --all my-codex-home")
    print("    eventstore doctor")
    print("\nYour own threads: compose/demo ~/.codex shows them; eventstore import ~/.codex keeps them, by default in")
    print("a file of your data directory. eventstore --help has the rest.")


def begin_anew() -> None:
    FILE.parent.mkdir(exist_ok=True)
    for old in FILE.parent.glob(f"{FILE.name}*"):
        old.unlink()


def explain(text: str) -> None:
    print(f"\n{DIM}# {text}{PLAIN}", flush=True)


def run(*words: str, given: str | None = None, may_fail: bool = False) -> int:
    """Show a command as it would be typed, and run it."""
    pipe = f"echo {shlex.quote(given)} | " if given is not None else ""
    print(f"{BOLD}$ {pipe}eventstore {shlex.join(words)}{PLAIN}", flush=True)
    command = [sys.executable, "-m", "eventstore.cli", *words]
    done = subprocess.run(command, cwd=ROOT, input=given, text=True, check=not may_fail)
    return done.returncode


def shown(path: Path) -> str:
    """Return the path as one would type it in the repository's root, where it lies there."""
    path = path.resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
