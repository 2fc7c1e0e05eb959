"""Who is gone without a word is noticed by the other end, and what was held for it is given back."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from eventstore.errors import LogUnavailable
from eventstore.remote.store import open_remote
from eventstore.remote.url import RemoteUrl
from eventstore.serve import heartbeat
from eventstore.settings import Settings
from tests.support.load import until
from tests.support.relay import relay_to
from tests.support.serve_rig import Rig, a_rig
from tests.support.serving import ROOT
from tests.support.threads import a_live_thread, say_and_flush

ASK_AFTER, ANSWER_WITHIN = 0.5, 1.0
SOON = 10.0
"""Seconds in which it has to be noticed here, on a busy machine."""
SLOW = ANSWER_WITHIN / 2
"""Seconds until the first byte comes: less than a sign of life may take."""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "ASK_AFTER", ASK_AFTER)
    monkeypatch.setattr(heartbeat, "ANSWER_WITHIN", ANSWER_WITHIN)


@pytest.fixture
async def rig(either: Settings) -> AsyncIterator[Rig]:
    async with a_rig(either) as rig:
        yield rig


def under_way(rig: Rig) -> float | None:
    return rig.registry.get_sample_value("eventstore_calls_under_way")


async def test_a_follower_whose_network_is_gone_is_noticed_and_so_does_it_notice(rig: Rig) -> None:
    thread_id = await a_live_thread(rig.store)
    async with (
        relay_to(rig.server.address.port) as relay,
        open_remote(RemoteUrl(f"127.0.0.1:{relay.address}"), within=3.0) as store,
        aclosing(store.events(thread_id, follow=True)) as events,
    ):
        assert ["ThreadCreated", "ItemsAppended"] == [(await anext(events)).kind for _ in range(2)]
        # However long nothing happens, who answers stays.
        await asyncio.sleep(2 * (ASK_AFTER + ANSWER_WITHIN))
        await say_and_flush(rig.store, thread_id, "on")
        assert "ItemsAppended" == (await anext(events)).kind
        assert 1 == under_way(rig)

        relay.block()
        began = time.monotonic()
        with pytest.raises(LogUnavailable, match=f"{relay.address} does not answer"):
            await anext(events)
        await until(lambda: under_way(rig) == 0, "the server has ended the call")
        assert time.monotonic() - began < SOON


async def test_a_follower_that_is_stopped_is_noticed(rig: Rig) -> None:
    thread_id = await a_live_thread(rig.store)
    command = ("--log", f"grpc://{rig.server.address}", "events", thread_id, "--follow")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "eventstore.cli", *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert b"ThreadCreated" in await process.stdout.readline()
        assert 1 == under_way(rig)
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        await until(lambda: under_way(rig) == 0, "the server has ended the call")
        assert time.monotonic() - began < SOON
    finally:
        process.kill()
        await process.wait()


async def test_a_server_that_is_slow_to_greet_is_not_taken_for_gone(rig: Rig) -> None:
    """As one is that is far away, or on a busy machine: TLS alone takes several ways there and back."""
    thread_id = await a_live_thread(rig.store)
    async with relay_to(rig.server.address.port) as relay:
        relay.block()
        asyncio.get_running_loop().call_later(SLOW, relay.unblock)
        async with open_remote(RemoteUrl(f"127.0.0.1:{relay.address}"), within=SOON) as store:
            assert ["ThreadCreated", "ItemsAppended"] == [event.kind async for event in store.events(thread_id)]
        assert 1 == relay.passed
