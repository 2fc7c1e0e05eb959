"""The callers of a server: what becomes of their live threads when nothing is heard of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from eventstore.audit import audit
from eventstore.documents.params import CreateThreadParams
from eventstore.errors import InvalidRequest, ThreadNotFound, TooMany
from eventstore.ids import new_event_id, new_thread_id
from eventstore.serve.clients import Callers
from eventstore.serve.protos import eventstore_threads_pb2 as pb
from eventstore.settings import Settings
from eventstore.threads import EventSourcedThreadStore
from eventstore.wiring import open_embedded
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
