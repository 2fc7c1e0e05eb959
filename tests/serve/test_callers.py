"""The callers of a server: what becomes of their live threads when nothing is heard of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from eventstore.audit import audit
from eventstore.documents.params import CreateThreadParams
from eventstore.errors import InvalidRequest, ThreadNotFound, TooMany
from eventstore.ids import ThreadId, new_event_id, new_thread_id
from eventstore.serve.callers import Callers
from eventstore.serve.protos import eventstore_threads_pb2 as pb
from eventstore.serve.server import Limits
from eventstore.settings import Settings
from eventstore.threads import EventSourcedThreadStore
from eventstore.wiring import open_embedded
from tests.support.serve_rig import a_rig
from tests.support.threads import a_live_thread, said, say


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EventSourcedThreadStore]:
    async with open_embedded(Settings(log=f"sqlite:{tmp_path / 'threads.db'}", actor="a test")) as parts:
        yield parts.store


def callers_of(store: EventSourcedThreadStore, *, writers: int = 10, idle_after: float = 0.0) -> Callers:
    return Callers(store, within=30.0, writers=writers, idle_after=idle_after)


def a_caller(**more: str) -> pb.Caller:
    return pb.Caller(id=new_event_id(), **more)


async def test_the_threads_of_a_caller_that_vanished_are_stored_and_closed(store: EventSourcedThreadStore) -> None:
    callers, caller = callers_of(store), a_caller()
    async with callers.calling(caller) as own:
        thread_id = await a_live_thread(own)
        await say(own, thread_id, "last words")
        await callers.end_idle()
        assert 1 == callers.live, "a call of it is under way"
    await callers.end_idle()

    assert 0 == callers.live
    assert ["hello", "last words"] == await said(store, thread_id)
    assert "WriterClosed" == [record.kind async for record in audit(store.feed, thread_id)][-1]
    async with callers.calling(caller) as own:
        with pytest.raises(ThreadNotFound):
            await say(own, thread_id, "who am I")


async def test_a_caller_that_rests_for_a_while_is_remembered(store: EventSourcedThreadStore) -> None:
    callers, caller = callers_of(store, idle_after=3_600.0), a_caller()
    async with callers.calling(caller) as own:
        thread_id = await a_live_thread(own)
    await callers.end_idle()

    async with callers.calling(caller) as own:
        await say(own, thread_id, "on")


async def test_a_caller_that_calls_again_while_it_is_forgotten_keeps_what_it_made_live(
    store: EventSourcedThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers, caller = callers_of(store), a_caller()
    async with callers.calling(caller) as own:
        await a_live_thread(own)
    async with forgetting(callers, monkeypatch), callers.calling(caller) as own:
        made_live = await a_live_thread(own)
    async with callers.calling(caller) as own:
        await say(own, made_live, "on")
        await own.flush_thread(made_live)

    assert ["hello", "on"] == await said(store, made_live)


async def test_a_call_that_lasts_longer_than_its_caller_is_being_forgotten_has_its_store(
    store: EventSourcedThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers, caller = callers_of(store), a_caller()
    async with callers.calling(caller) as own:
        await a_live_thread(own)
    async with AsyncExitStack() as call:
        async with forgetting(callers, monkeypatch):
            own = await call.enter_async_context(callers.calling(caller))

        assert ["hello"] == await said(store, await a_live_thread(own))


async def test_a_caller_that_ends_while_it_is_forgotten_keeps_nobody_else_from_it(
    store: EventSourcedThreadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers, caller, other = callers_of(store), a_caller(), a_caller()
    for each in (caller, other):
        async with callers.calling(each) as own:
            await a_live_thread(own)
    async with forgetting(callers, monkeypatch):
        await callers.end(caller)

    assert 0 == callers.live


@asynccontextmanager
async def forgetting(callers: Callers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Have idle callers ended around the block, which runs when the first of their threads has just been closed."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    shutdown = EventSourcedThreadStore.shutdown_thread

    async def held(store: EventSourcedThreadStore, thread_id: ThreadId) -> str | None:
        token = await shutdown(store, thread_id)
        begun.set()
        await go_on.wait()
        return token

    with monkeypatch.context() as patched:
        patched.setattr(EventSourcedThreadStore, "shutdown_thread", held)
        ending = asyncio.create_task(callers.end_idle())
        await begun.wait()
        yield
        go_on.set()
        await ending


async def test_a_server_goes_on_closing_idle_threads_after_it_failed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, again = [RuntimeError("a bug")], asyncio.Event()

    async def end_idle(_: Callers) -> None:
        if failures:
            raise failures.pop()
        again.set()

    monkeypatch.setattr(Callers, "end_idle", end_idle)
    async with a_rig(tmp_path / "threads.db", limits=Limits(idle_after=0.01)), asyncio.timeout(60):
        await again.wait()

    assert not failures


async def test_all_threads_are_stored_when_the_server_ends(store: EventSourcedThreadStore) -> None:
    callers, threads = callers_of(store), []
    for _ in range(3):
        async with callers.calling(a_caller()) as own:
            threads.append(await a_live_thread(own))
            await say(own, threads[-1], "not flushed")
    await callers.end_all(within=30.0)

    assert 0 == callers.live
    for thread_id in threads:
        assert ["hello", "not flushed"] == await said(store, thread_id)


async def test_no_more_threads_are_opened_than_may_be_live(store: EventSourcedThreadStore) -> None:
    callers = callers_of(store, writers=2)
    for _ in range(2):
        thread_id = new_thread_id()
        async with callers.opening(a_caller()) as own:
            await own.create_thread(CreateThreadParams(thread_id=thread_id))

    with pytest.raises(TooMany):
        async with callers.opening(a_caller()):
            pass


@pytest.mark.parametrize("caller", [pb.Caller(), pb.Caller(id="me"), a_caller(actor="x" * 1_001)])
async def test_who_is_not_named_as_callers_are_is_refused(store: EventSourcedThreadStore, caller: pb.Caller) -> None:
    with pytest.raises(InvalidRequest):
        async with callers_of(store).calling(caller):
            pass
