"""Several servers for the same threads: whichever of them is asked, all of it is one thread, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle

import grpc
import pytest
from prometheus_client import CollectorRegistry

from eventstore.ids import new_thread_id
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.server import Limits, serving
from eventstore.settings import Settings
from eventstore.wiring import open_parts
from tests.serve.conftest import Served
from tests.support.balancer import balanced
from tests.support.codex import CodexHome, app_server, texts
from tests.support.model import Model
from tests.support.serve_rig import ANY_PORT
from tests.support.wire import CodexWire

SERVERS = 3


@asynccontextmanager
async def servers(settings: Settings) -> AsyncIterator[list[CodexWire]]:
    """Serve the store three times over for the block; give a client of each."""
    async with AsyncExitStack() as ends:
        clients = []
        for _ in range(SERVERS):
            parts = await ends.enter_async_context(open_parts(settings))
            server = await ends.enter_async_context(
                serving(parts.store, ANY_PORT, registry=CollectorRegistry(), limits=Limits(shared=True))
            )
            clients.append(CodexWire(str(server.address)))
        yield clients


async def test_calls_that_go_round_the_servers_are_one_conversation(either: Settings) -> None:
    thread = new_thread_id()
    async with servers(either) as clients:
        turn = cycle(clients)
        await next(turn).create(thread)
        for number in range(7):
            await next(turn).append(thread, str(number))
            if number % 2:
                await next(turn).say("PersistThread", thread)
        await next(turn).say("FlushThread", thread)
        said = [await client.said(thread) for client in clients]
        await next(turn).call("ArchiveThread", pb.ArchiveThreadRequest(thread_id=thread))
        await next(turn).append(thread, "last")
        await next(turn).say("ShutdownThread", thread)
        after = await next(turn).said(thread)

    assert [[str(number) for number in range(7)]] * SERVERS == said
    assert [*map(str, range(7)), "last"] == after


async def test_overlapping_appends_over_all_servers_are_there_once_each(either: Settings) -> None:
    thread, each = new_thread_id(), 12
    async with servers(either) as clients:
        await clients[0].create(thread)

        async def client(number: int) -> list[str]:
            mine = [f"{number}.{one}" for one in range(each)]
            for text in mine:
                await clients[number % SERVERS].append(thread, text)
            return mine

        # Two clients a server: some overlap in one server, and the others over all of them.
        told = await asyncio.gather(*map(client, range(2 * SERVERS)))
        said = await clients[0].said(thread)

    assert Counter(text for mine in told for text in mine) == Counter(said)
    for number in range(2 * SERVERS):
        # Of those who waited for each answer, the order is kept.
        own = [text for text in said if text.startswith(f"{number}.")]
        assert [f"{number}.{one}" for one in range(each)] == own


async def test_a_thread_that_was_discarded_unused_is_deleted(either: Settings) -> None:
    unused, used = new_thread_id(), new_thread_id()
    async with servers(either) as (one, two, three):
        for thread in (unused, used):
            await one.create(thread)
        await two.append(used, "hello")
        await three.say("DiscardThread", unused)
        await three.say("DiscardThread", used)
        with pytest.raises(grpc.aio.AioRpcError) as gone:
            await one.append(unused, "too late")
        said = await one.said(used)

    assert grpc.StatusCode.NOT_FOUND == gone.value.code()
    assert ["hello"] == said


async def test_a_conversation_goes_on_when_one_of_its_servers_is_killed(served: Served, a_model: Model) -> None:
    async with AsyncExitStack() as ends:
        running = [await ends.enter_async_context(served.server("--shared")) for _ in range(SERVERS)]
        address = await ends.enter_async_context(balanced([server.address for server in running]))
        setting = running[0].setting.replace(running[0].address, address)
        home = CodexHome.made(served.folder / "home", model=a_model.url, setting=setting)
        codex = await ends.enter_async_context(app_server(home))
        thread = await codex.start()
        for text in ("one", "two"):
            await codex.say(thread, text)
        killing = asyncio.ensure_future(running[1].kill())
        for text in ("three", "four", "five"):
            await codex.say(thread, text)
        await killing
        conversation = texts(await codex.call("thread/read", threadId=thread, includeTurns=True))
        await codex.end()

    # Codex never repeats an append that failed, as one does that its server was killed in; it says so and goes on.
    failures = (home.folder / "app-server.log").read_text().count("failed to record rollout items")
    numbers = ("one", "two", "three", "four", "five")
    expected = [said for number in numbers for said in (number, f"heard: {number}")]
    assert [said for said in expected if said in conversation] == conversation
    assert len(expected) - len(conversation) <= failures
    assert [] == home.rollouts
