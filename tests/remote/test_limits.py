"""What a server's limits look like to a store that it keeps: the error says what to do, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from eventstore import ListThreadsParams, open_store
from eventstore.errors import AppendTooLarge, LogUnavailable, OutcomeUnknown, TooMany
from eventstore.ids import ThreadId
from eventstore.ports import ThreadView
from eventstore.remote.store import open_remote
from eventstore.remote.url import RemoteUrl
from eventstore.serve.server import MIB, Limits
from eventstore.settings import Settings
from tests.support.engines import Ports
from tests.support.faults import FaultyLog
from tests.support.load import until
from tests.support.passing import PassingViews
from tests.support.relay import relay_to
from tests.support.serve_rig import Rig, a_rig
from tests.support.serving import a_server
from tests.support.threads import a_live_thread, patch, read, said, say, say_and_flush


async def test_a_request_larger_than_the_largest_is_told_with_both_sizes(either: Settings, tmp_path: Path) -> None:
    fits, too_large = "x" * int(0.9 * MIB), "x" * MIB
    async with (
        a_server(either, tmp_path, "--largest", "1") as server,
        open_store(f"grpc://{server.address}") as store,
    ):
        thread_id = await a_live_thread(store)
        await say(store, thread_id, fits)
        with pytest.raises(AppendTooLarge, match=r"takes requests of 1,048,576 bytes, .* append fewer items at a time"):
            await say(store, thread_id, too_large)
        with pytest.raises(AppendTooLarge, match="1,048,576"):
            await patch(store, thread_id, name=too_large)
        await say_and_flush(store, thread_id, "end")

        assert ["hello", fits, "end"] == await said(store, thread_id)
        assert (await read(store, thread_id)).name is None


class HeldViews(PassingViews):
    """Views that answer no question about a thread while they are held."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.free.set()
        self.fired = 0

    def through(self, ports: Ports) -> Ports:
        self.views = ports.views
        return replace(ports, views=self)

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        self.fired += not self.free.is_set()
        await self.free.wait()
        return await super().get(thread_id, span=span, at_least=at_least)


async def test_a_call_that_takes_too_long_here_says_whether_it_may_have_had_its_effect(either: Settings) -> None:
    log, views = FaultyLog(), HeldViews()
    async with (
        a_rig(either, limits=Limits(deadline=2.0), through=lambda ports: views.through(log.through(ports))) as rig,
        open_store(f"grpc://{rig.server.address}") as store,
    ):
        thread_id = await a_live_thread(store)
        log.held = held = asyncio.Event()
        with pytest.raises(OutcomeUnknown, match=r"a call may take 2 s here, .* flush the thread if it is live"):
            await say(store, thread_id, "once")
        held.set()
        log.held = None
        views.free.clear()
        with pytest.raises(LogUnavailable, match=r"a call may take 2 s here, .* nothing was changed"):
            await read(store, thread_id)
        views.free.set()
        await store.flush_thread(thread_id)

        assert ["hello", "once"] == await said(store, thread_id)
    assert (1, 1) == (log.fired, views.fired)


@asynccontextmanager
async def a_full_server(rig: Rig, log: FaultyLog) -> AsyncIterator[None]:
    """Let another client take the server's one place for the block."""
    async with AsyncExitStack() as ends:
        other = await ends.enter_async_context(open_store(f"grpc://{rig.server.address}"))
        thread_id = await a_live_thread(other)
        log.held = held = asyncio.Event()
        log.holding.clear()
        saying = asyncio.ensure_future(say(other, thread_id, "held"))
        await log.holding.wait()
        yield
        log.held = None
        held.set()
        await saying


async def test_a_full_server_is_told_as_such(either: Settings) -> None:
    log = FaultyLog()
    async with (
        a_rig(either, limits=Limits(calls=1), through=log.through) as rig,
        open_store(f"grpc://{rig.server.address}") as store,
    ):
        thread_id = await a_live_thread(store)
        async with a_full_server(rig, log):
            for refused in (say(store, thread_id, "not now"), store.list_threads(ListThreadsParams())):
                with pytest.raises(TooMany, match=r"1 calls are under way at this server, .* try again later"):
                    await refused
        await say_and_flush(store, thread_id, "later")

        assert ["hello", "later"] == await said(store, thread_id)


async def test_an_append_that_was_cut_off_and_finds_the_server_full_is_repeated_until_there_is_place(
    tmp_path: Path,
) -> None:
    """That it is refused then says nothing of what became of it before."""
    log = FaultyLog()
    async with (
        a_rig(tmp_path / "full.db", limits=Limits(calls=1), through=log.through) as rig,
        relay_to(rig.server.address.port) as relay,
        open_remote(RemoteUrl(f"127.0.0.1:{relay.address}")) as store,
    ):
        thread_id = await a_live_thread(store)
        log.held = held = asyncio.Event()
        saying = asyncio.ensure_future(say(store, thread_id, "once"))
        await log.holding.wait()
        await relay.lead_to(1)
        log.held = None
        held.set()
        await until(lambda: rig.registry.get_sample_value("eventstore_calls_under_way") == 0, "the server has noticed")
        async with a_full_server(rig, log):
            await relay.lead_to(rig.server.address.port)
            await until(lambda: refusals(rig) > 0, "the append was refused")
        receipt = await saying
        await store.flush_thread(thread_id)

        assert (1, ["hello", "once"]) == (receipt.appended, await said(store, thread_id))


def refusals(rig: Rig) -> float:
    labels = {"status": "RESOURCE_EXHAUSTED"}
    return rig.registry.get_sample_value("eventstore_calls_refused_total", labels) or 0.0
