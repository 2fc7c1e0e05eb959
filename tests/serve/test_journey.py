"""What people do with Codex, done by the released Codex on a server: its threads are here and nowhere else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from eventstore.codex.exporting import export_home
from eventstore.documents.params import ListThreadsParams, LoadThreadHistoryParams, ReadThreadParams
from eventstore.errors import UnknownThread
from eventstore.ids import ThreadId
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.settings import Settings
from eventstore.wiring import open_parts
from tests.serve.conftest import Served
from tests.support.codex import AppServer, CodexHome, Refused, app_server, texts
from tests.support.model import Model
from tests.support.serving import a_server
from tests.support.wire import CodexWire, item

NOBODYS = "01a0441f-212b-78f8-80f3-f0844eb9b951"
SAID_BY_THE_COMMAND = "the command said:"


async def read(codex: AppServer, thread_id: str) -> Any:
    return await codex.call("thread/read", threadId=thread_id, includeTurns=True)


async def listed(codex: AppServer, **params: Any) -> dict[str, Any]:
    page = await codex.call("thread/list", **params)
    return {thread["id"]: thread for thread in page["data"]}


async def test_a_thread_is_begun_listed_read_and_renamed(served: Served, a_model: Model) -> None:
    async with served.server() as server:
        home = CodexHome.made(served.folder / "home", model=a_model.url, setting=server.setting)
        async with app_server(home) as codex:
            thread = await codex.start()
            unused = await codex.start()
            ephemeral = await codex.start(ephemeral=True)
            await codex.say(ephemeral, "forget this")
            await codex.say(thread, "hello")
            await codex.say(thread, "run echo $((6 * 7))")
            there = await listed(codex)
            conversation = texts(await read(codex, thread))
            await codex.call("thread/name/set", threadId=thread, name="The answer")
            await codex.call("thread/metadata/update", threadId=thread, gitInfo={"sha": "abc", "branch": "main"})
            await codex.call("thread/metadata/update", threadId=thread, gitInfo={"sha": None})
            changed = (await read(codex, thread))["thread"]

    assert [thread] == list(there)
    assert "hello" == there[thread]["preview"]
    assert ["hello", "heard: hello", "run echo $((6 * 7))"] == conversation[:3]
    assert conversation[3].startswith(SAID_BY_THE_COMMAND)
    assert "42" in conversation[3]
    assert ("The answer", None, "main") == (changed["name"], changed["gitInfo"]["sha"], changed["gitInfo"]["branch"])
    assert [] == home.rollouts
    async with open_parts(served.settings) as parts:
        for absent in (unused, ephemeral):
            with pytest.raises(UnknownThread):
                await parts.store.read_thread(ReadThreadParams(thread_id=ThreadId(absent), include_archived=True))


async def test_a_thread_is_forked_archived_and_brought_back(served: Served, a_model: Model) -> None:
    async with served.server() as server:
        home = CodexHome.made(served.folder / "home", model=a_model.url, setting=server.setting)
        async with app_server(home) as codex:
            thread = await codex.start()
            await codex.say(thread, "hello")
            await codex.call("thread/name/set", threadId=thread, name="The first")
            fork = (await codex.call("thread/fork", threadId=thread))["thread"]
            await codex.say(fork["id"], "and now?")
            forked = await read(codex, fork["id"])
            await codex.call("thread/archive", threadId=thread)
            archived, active = await listed(codex, archived=True), await listed(codex)
            await codex.call("thread/unarchive", threadId=thread)
            restored = (await read(codex, thread))["thread"]
            with pytest.raises(Refused, match="not found"):
                await codex.call("thread/archive", threadId=NOBODYS)

    assert thread == fork["forkedFromId"] == forked["thread"]["forkedFromId"]
    assert ["hello", "heard: hello", "and now?", "heard: and now?"] == texts(forked)
    assert ([thread], [fork["id"]]) == (list(archived), list(active))
    assert "The first" == restored["name"]
    assert [] == home.rollouts
    async with open_parts(served.settings) as parts:
        page = await parts.store.list_threads(ListThreadsParams())
        first = (await parts.store.load_history(LoadThreadHistoryParams(thread_id=ThreadId(fork["id"])))).items[0]
    assert ("session_meta", fork["id"], thread) == (first.type, first.payload["id"], first.payload["forked_from_id"])
    assert {thread, fork["id"]} == {each.thread_id for each in page.items}


async def test_another_codex_and_another_server_go_on_with_a_thread(served: Served, a_model: Model) -> None:
    async with served.server() as server:
        home = CodexHome.made(served.folder / "home", model=a_model.url, setting=server.setting)
        async with app_server(home) as codex:
            thread = await codex.start()
            await codex.say(thread, "one")
        async with app_server(home) as codex, app_server(home) as another:
            resumed = await codex.resume(thread)
            await codex.say(thread, "two")
            other = await another.start()
            await asyncio.gather(codex.say(thread, "three"), another.say(other, "elsewhere"))
            both = await listed(another)
            # Nothing is told to the server, as when a machine loses power.
            await codex.kill()
            home.configure(model=a_model.url, setting=server.setting)
            async with app_server(home) as third:
                await third.resume(thread)
                await third.say(thread, "four")
        printed = await home.exec("say it once")
    async with served.server() as server:
        home.configure(model=a_model.url, setting=server.setting)
        async with app_server(home) as codex:
            await codex.resume(thread)
            await codex.say(thread, "five")
            last = texts(await read(codex, thread))
            executed = await listed(codex, sourceKinds=["exec"])

    assert ["one", "heard: one"] == texts(resumed)
    assert {thread, other} == set(both)
    assert [each for number in ("one", "two", "three", "four", "five") for each in (number, f"heard: {number}")] == last
    assert "heard: say it once" in printed
    assert ["say it once"] == [each["preview"] for each in executed.values()]
    assert [] == home.rollouts
    # The model is asked with all that was said before.
    assert "heard: one" in json.dumps(a_model.requests[-1]["input"])


async def test_a_second_server_carries_on_what_the_first_was_killed_in(served: Served, a_model: Model) -> None:
    async with served.server() as first:
        home = CodexHome.made(served.folder / "home", model=a_model.url, setting=first.setting)
        async with app_server(home) as codex:
            thread = await codex.start()
            await codex.say(thread, "one")
            port = first.address.rpartition(":")[2]
            await first.kill()
            async with served.server("--listen", port):
                # The same Codex goes on: it does not know that its server is another one.
                await codex.say(thread, "two")
                conversation = texts(await read(codex, thread))
                await codex.end()

    assert ["one", "heard: one", "two", "heard: two"] == conversation


async def test_an_exported_thread_is_resumed_by_a_codex_without_a_server(served: Served, a_model: Model) -> None:
    async with served.server() as server:
        home = CodexHome.made(served.folder / "home", model=a_model.url, setting=server.setting)
        async with app_server(home) as codex:
            thread = await codex.start()
            await codex.say(thread, "hello")
    async with open_parts(served.settings) as parts:
        exported = [each async for each in export_home(parts.feed, parts.views, served.folder / "alone")]
    alone = CodexHome.made(served.folder / "alone", model=a_model.url)
    async with app_server(alone) as codex:
        resumed = await codex.resume(thread)
        await codex.say(thread, "again")

    assert ["hello", "heard: hello"] == texts(resumed)
    assert [each.path for each in exported] == alone.rollouts
    assert "heard: hello" in json.dumps(a_model.requests[-1]["input"])


async def test_turns_are_rolled_back_and_compacted_and_an_agent_begins_another(tmp_path: Path, a_model: Model) -> None:
    async with a_server(Settings(log=f"sqlite:{tmp_path / 'threads.db'}"), tmp_path) as server:
        home = CodexHome.made(tmp_path / "home", model=a_model.url, setting=server.setting)
        async with app_server(home) as codex:
            thread = await codex.start()
            for text in ("one", "two", "spawn look around"):
                await codex.say(thread, text)
            await codex.told("turn/completed", lambda params: params["threadId"] != thread, since=0)
            spawned = await listed(codex, sourceKinds=["subAgentThreadSpawn"])
            own = await listed(codex)
            await codex.call("thread/rollback", threadId=thread, numTurns=2)
            kept = texts(await read(codex, thread))
            since = codex.told_so_far
            await codex.call("thread/compact/start", threadId=thread)
            await codex.told("turn/completed", lambda params: params["threadId"] == thread, since=since)
            await codex.say(thread, "go on")
        history = await CodexWire(server.address).history(thread)

    (agent,) = spawned.values()
    assert ("look around", thread) == (
        agent["preview"],
        agent["source"]["subAgent"]["thread_spawn"]["parent_thread_id"],
    )
    assert [thread] == list(own)
    assert ["one", "heard: one"] == kept
    # Nothing that was said is taken out of the history.
    kinds = [each["payload"].get("type", each["type"]) for each in history]
    assert 4 == kinds.count("user_message")
    assert kinds.index("thread_rolled_back") < kinds.index("compacted")


async def test_a_history_larger_than_codex_takes_is_resumed_from_its_last_compaction(
    tmp_path: Path, a_model: Model
) -> None:
    settings = Settings(log=f"sqlite:{tmp_path / 'threads.db'}")
    large = item("response_item", {"type": "message", "role": "assistant", "content": [said_by_it("x" * 3 * 1024**2)]})
    replacing = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "in short: hello"}]}]
    compacted = item("compacted", {"message": "in short", "replacement_history": replacing})
    async with a_server(settings, tmp_path) as server:
        home = CodexHome.made(tmp_path / "home", model=a_model.url, setting=server.setting)
        async with app_server(home) as codex:
            thread = await codex.start()
            await codex.say(thread, "hello")
        wire = CodexWire(server.address)
        await wire.call("AppendItems", pb.AppendThreadItemsRequest(thread_id=thread, items_json=[large, large]))
        async with app_server(home) as codex:
            with pytest.raises(Refused, match=f"eventstore export {thread}"):
                await codex.call("thread/resume", threadId=thread)
        await wire.call("AppendItems", pb.AppendThreadItemsRequest(thread_id=thread, items_json=[compacted]))
        async with app_server(home) as codex:
            await codex.resume(thread)
            await codex.say(thread, "go on")
        said = await wire.said(thread)

    asked = json.dumps(a_model.requests[-1]["input"])
    assert "in short: hello" in asked
    assert "xxx" not in asked
    assert ["go on", "heard: go on"] == said[-2:]


def said_by_it(text: str) -> dict[str, str]:
    return {"type": "output_text", "text": text}
