"""A store at a server: several clients of one, a server that is away, connections that break, TLS."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from eventstore import ResumeThreadParams, new_thread_id
from eventstore.audit import audit
from eventstore.errors import InvalidRequest, LogUnavailable, OutcomeUnknown, ThreadNotFound, Unsupported, WriterFenced
from eventstore.ids import ThreadId
from eventstore.remote.connection import Connection
from eventstore.remote.store import RemoteThreadStore, open_remote
from eventstore.remote.url import RemoteUrl
from eventstore.settings import Settings
from eventstore.wiring import open_parts, open_store
from tests.support.certificates import written
from tests.support.faults import FaultyLog, OvertakenViews
from tests.support.relay import Relay, relay_to
from tests.support.serve_rig import Rig, a_rig
from tests.support.threads import a_cold_thread, a_live_thread, created, patch, resume, said, say, say_and_flush


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_rig(tmp_path / "threads.db") as rig:
        yield rig


def url_of(rig: Rig) -> RemoteUrl:
    return RemoteUrl(str(rig.server.address))


@asynccontextmanager
async def a_client(rig: Rig, *, within: float = 30.0) -> AsyncIterator[RemoteThreadStore]:
    async with open_remote(url_of(rig), actor="a client", within=within) as store:
        yield store


async def test_a_url_opens_the_store_of_a_server(rig: Rig) -> None:
    async with open_store(f"grpc://{rig.server.address}", actor="somebody") as store:
        thread_id = await a_cold_thread(store, "hello")

    assert ["hello"] == await said(rig.store, thread_id)
    assert {"somebody"} == {record.actor async for record in audit(rig.parts.feed, thread_id)}


async def test_a_thread_is_live_with_the_client_that_opened_it(rig: Rig) -> None:
    async with a_client(rig) as one, a_client(rig) as two:
        thread_id = await a_live_thread(one)

        with pytest.raises(InvalidRequest, match="already has a live local writer"):
            await resume(one, thread_id)
        with pytest.raises(ThreadNotFound):
            await say(two, thread_id, "not mine")
        await resume(two, thread_id)
        await say_and_flush(two, thread_id, "mine now")
        with pytest.raises(WriterFenced):
            await say_and_flush(one, thread_id, "too late")

        assert ["hello", "mine now"] == await said(one, thread_id)


async def test_codex_and_a_client_take_over_from_each_other(rig: Rig) -> None:
    async with a_client(rig) as store:
        thread_id = await a_live_thread(store)
        await rig.codex.append(thread_id, "by Codex")
        with pytest.raises(WriterFenced):
            await say_and_flush(store, thread_id, "too late")

        assert ["hello", "by Codex"] == await said(store, thread_id)


async def test_a_server_that_is_away_is_named_within_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(LogUnavailable, match=r"127\.0\.0\.1:1 does not answer"):
        async with open_store("grpc://127.0.0.1:1"):
            pass

    assert time.monotonic() - began < 30


async def test_a_server_that_falls_silent_delays_nobody_beyond_the_deadline(rig: Rig) -> None:
    async with (
        relay_to(rig.server.address.port) as relay,
        open_remote(RemoteUrl(f"127.0.0.1:{relay.address}"), within=3.0) as store,
    ):
        thread_id = await a_live_thread(store)
        relay.block()
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown, match=f"{relay.address}"):
            await say(store, thread_id, "two")
        with pytest.raises(LogUnavailable, match=f"{relay.address}"):
            await said(store, thread_id)
        took = time.monotonic() - began

    assert took < 12


async def test_an_append_that_is_cut_off_is_repeated_and_counts_once(tmp_path: Path) -> None:
    """The connection breaks when the append is in the log, and nobody was told."""
    log = FaultyLog()
    async with (
        a_rig(tmp_path / "cut.db", through=log.through) as rig,
        relay_to(rig.server.address.port) as relay,
        open_remote(RemoteUrl(f"127.0.0.1:{relay.address}")) as store,
    ):
        thread_id = await a_live_thread(store)
        log.held = asyncio.Event()
        saying = asyncio.ensure_future(say(store, thread_id, "once"))
        await log.holding.wait()
        await relay.cut()
        log.held.set()
        receipt = await saying
        await store.flush_thread(thread_id)

        assert (1, True) == (log.fired, relay.passed > 1)
        assert (1, ["hello", "once"]) == (receipt.appended, await said(store, thread_id))


@pytest.mark.parametrize("by", ["flush", "persist", "shutdown", "append", "patch"])
async def test_an_append_that_never_arrived_is_sent_before_what_acknowledges_it_or_lies_behind(
    rig: Rig, by: str
) -> None:
    """Whoever is told `OutcomeUnknown` may flush: what is acknowledged then is all that was appended, in order."""
    async with a_distant_client(rig) as (relay, store):
        thread_id = await a_live_thread(store)
        await cut_off_for_good(relay, store, thread_id, "two")
        assert ["hello"] == await said(rig.store, thread_id)
        await relay.lead_to(rig.server.address.port)
        await insisting(lambda: acknowledged(store, thread_id, by))

        assert ["hello", "two", *["three"] * (by == "append")] == await said(rig.store, thread_id)


async def test_while_an_append_may_not_have_arrived_nothing_is_sent_behind_it(rig: Rig) -> None:
    async with a_distant_client(rig) as (relay, store):
        thread_id, name = await a_live_thread(store), new_thread_id()
        relay.block()
        with pytest.raises(OutcomeUnknown, match=f"append {name} was cut off .*; flush the thread"):
            await say(store, thread_id, "two", append_id=name)
        with pytest.raises(
            LogUnavailable, match=f"nothing was sent .*: append {name}, which is before it, was cut off"
        ):
            await say(store, thread_id, "three")
        await relay.cut()
        await relay.lead_to(rig.server.address.port)
        await insisting(lambda: say(store, thread_id, "two", append_id=name))
        await say_and_flush(store, thread_id, "four")

        assert ["hello", "two", "four"] == await said(rig.store, thread_id)


async def test_an_append_that_never_arrived_goes_with_its_live_thread(rig: Rig) -> None:
    async with a_distant_client(rig) as (relay, store):
        thread_id = await a_live_thread(store)
        await cut_off_for_good(relay, store, thread_id, "two")
        await relay.lead_to(rig.server.address.port)
        await insisting(lambda: store.discard_thread(thread_id))
        await resume(store, thread_id)
        await say_and_flush(store, thread_id, "three")

        await cut_off_for_good(relay, store, thread_id, "four")
        await relay.lead_to(rig.server.address.port)
        await rig.store.resume_thread(ResumeThreadParams(thread_id=thread_id))
        with pytest.raises(WriterFenced):
            await insisting(lambda: store.flush_thread(thread_id))

        assert ["hello", "three"] == await said(rig.store, thread_id)


@asynccontextmanager
async def a_distant_client(rig: Rig) -> AsyncIterator[tuple[Relay, RemoteThreadStore]]:
    async with (
        relay_to(rig.server.address.port) as relay,
        open_remote(RemoteUrl(f"127.0.0.1:{relay.address}"), within=2.0) as store,
    ):
        yield relay, store


async def cut_off_for_good(relay: Relay, store: RemoteThreadStore, thread_id: ThreadId, text: str) -> None:
    """Append, and let nothing of it come to the server, nor of what follows until the relay leads there again."""
    relay.block()
    with pytest.raises(OutcomeUnknown):
        await say(store, thread_id, text)
    await relay.cut()


async def acknowledged(store: RemoteThreadStore, thread_id: ThreadId, by: str) -> None:
    match by:
        case "flush":
            await store.flush_thread(thread_id)
        case "persist":
            await store.persist_thread(thread_id)
        case "shutdown":
            await store.shutdown_thread(thread_id)
        case "append":
            await say_and_flush(store, thread_id, "three")
        case _:
            await patch(store, thread_id, name="a name")


async def test_an_append_that_is_slow_to_arrive_is_not_overtaken_and_a_flush_that_waits_holds_none_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two requests on one connection either may be the first to arrive."""
    under_way: list[str] = []
    answer = Connection._answer

    async def slow_at_first(self: Connection, method: str, *rest: Any) -> Any:
        if method == "AppendItems":
            under_way.append(method)
            for _ in range(100 * (len(under_way) == 1)):
                await asyncio.sleep(0)
                assert 1 == len(under_way)
        return await answer(self, method, *rest)

    views = OvertakenViews()
    async with a_rig(tmp_path / "threads.db", through=views.through) as rig, a_client(rig) as store:
        thread_id = await a_live_thread(store)
        under_way.clear()
        monkeypatch.setattr(Connection, "_answer", slow_at_first)
        await asyncio.gather(*(say(store, thread_id, text) for text in "abc"))
        assert 3 == len(under_way)

        waiting, go_on = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            waiting.set()
            await go_on.wait()

        views.before_reach = wait
        flushing = asyncio.create_task(store.flush_thread(thread_id))
        await waiting.wait()
        await say(store, thread_id, "d")
        assert not flushing.done()
        go_on.set()
        await flushing
        assert ["hello", *"abcd"] == await said(store, thread_id)


async def test_a_thread_whose_opening_was_cut_off_can_be_opened_again(tmp_path: Path) -> None:
    """The server has it live by then, for its answer alone was lost."""
    log = FaultyLog()
    async with (
        a_rig(tmp_path / "cut.db", through=log.through) as rig,
        relay_to(rig.server.address.port) as relay,
        open_remote(RemoteUrl(f"127.0.0.1:{relay.address}"), within=2.0) as store,
    ):
        thread_id = await a_cold_thread(store, "one")
        log.held = held = asyncio.Event()
        resuming = asyncio.ensure_future(resume(store, thread_id))
        await log.holding.wait()
        relay.block()
        log.held = None
        held.set()
        with pytest.raises(OutcomeUnknown):
            await resuming
        assert 1.0 == rig.registry.get_sample_value("eventstore_live_writers")
        await relay.lead_to(rig.server.address.port)
        await insisting(lambda: resume(store, thread_id))
        await say_and_flush(store, thread_id, "two")
        with pytest.raises(InvalidRequest, match="already has a live local writer"):
            await resume(store, thread_id)

        assert ["one", "two"] == await said(store, thread_id)


async def test_a_thread_that_a_cancelled_call_opened_is_closed_however_late_the_answer_comes(tmp_path: Path) -> None:
    log = FaultyLog()
    async with a_rig(tmp_path / "threads.db", through=log.through) as rig, a_client(rig) as store:
        thread_id = await a_cold_thread(store)
        store._changes._turns.within = 0.0  # whoever waits for a turn has given up before the answer comes
        log.held = held = asyncio.Event()
        resuming = asyncio.ensure_future(resume(store, thread_id))
        await log.holding.wait()
        resuming.cancel()
        await asyncio.wait([resuming])
        log.held = None
        held.set()
        await store._changes.settled(within=30)
        await resume(store, thread_id)

    assert (True, 1) == (resuming.cancelled(), log.fired)


async def test_the_error_of_a_call_whose_caller_has_gone_is_nobodys(rig: Rig) -> None:
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    async with a_distant_client(rig) as (relay, store):
        thread_id = await a_live_thread(store)
        store._changes._turns.within = 0.0
        relay.block()
        flushing = asyncio.ensure_future(store.flush_thread(thread_id))
        await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.wait([flushing])
        await store._changes.settled(within=30)
        del flushing  # with the call that it waited for
        gc.collect()
        with pytest.raises(LogUnavailable):
            await said(store, thread_id)  # the flush had no answer either

    assert [] == unhandled


async def test_a_server_that_came_back_knows_no_live_thread(tmp_path: Path) -> None:
    async with relay_to(1) as relay:
        async with a_rig(tmp_path / "threads.db") as rig:
            await relay.lead_to(rig.server.address.port)
            opened = open_remote(RemoteUrl(f"127.0.0.1:{relay.address}"))
            store = await opened.__aenter__()
            thread_id = await a_live_thread(store)
        async with a_rig(tmp_path / "threads.db") as rig:
            await relay.lead_to(rig.server.address.port)
            with pytest.raises(ThreadNotFound):
                await insisting(lambda: store.flush_thread(thread_id))
            await resume(store, thread_id)
            await say_and_flush(store, thread_id, "on")

            assert ["hello", "on"] == await said(store, thread_id)
            await opened.__aexit__(None, None, None)


async def insisting(call: Callable[[], Awaitable[object]]) -> None:
    """Make the call once the server can be reached again."""
    async with asyncio.timeout(60):
        while True:
            try:
                await call()
                return
            except (LogUnavailable, OutcomeUnknown):
                await asyncio.sleep(0.1)


async def test_a_server_with_a_certificate_is_spoken_to_over_tls_and_names_who_shows_one(
    either: Settings, tmp_path: Path
) -> None:
    authority = trustme.CA()
    files = written(tmp_path, authority, client_ca=True)
    own = authority.issue_cert("client", common_name="an-agent")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    async with a_rig(either, tls=files) as rig:
        shown = f"grpcs://{rig.server.address}?ca={tmp_path / 'ca.pem'}&cert={tmp_path / 'own.pem'}"
        async with open_store(shown, actor="whoever it says it is") as store:
            thread_id = await a_cold_thread(store, "secret")
        for without in (f"grpcs://{rig.server.address}?ca={tmp_path / 'ca.pem'}", f"grpc://{rig.server.address}"):
            with pytest.raises(LogUnavailable):
                async with open_store(without):
                    pass

        assert ["secret"] == await said(rig.store, thread_id)
        (actor,) = {str(record.actor) for record in await rig.records(thread_id)}
    assert "CN=an-agent" in actor.split(",")


async def test_a_closed_store_leaves_no_live_thread_at_the_server(rig: Rig) -> None:
    async with a_client(rig) as store:
        await created(store)
        await a_live_thread(store)
        assert 2.0 == rig.registry.get_sample_value("eventstore_live_writers")
    assert 0.0 == rig.registry.get_sample_value("eventstore_live_writers")


async def test_what_the_log_alone_can_do_is_refused(rig: Rig) -> None:
    with pytest.raises(Unsupported, match="give the --log that it serves"):
        async with open_parts(Settings(log=f"grpc://{rig.server.address}")):
            pass
