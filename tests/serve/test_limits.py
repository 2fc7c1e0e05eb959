"""What a server allows itself: time, calls, bytes. Whoever exceeds it is told so clearly, and all else goes on."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from eventstore import open_store
from eventstore.errors import OutcomeUnknown, TooMany, WriterFenced
from eventstore.ids import new_thread_id
from eventstore.serve.asked import SERVICE as THREADS
from eventstore.serve.codex_service import SERVICE
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.protos import eventstore_threads_pb2 as threads_pb
from eventstore.serve.server import MIB, Limits
from eventstore.settings import Settings
from tests.support.faults import FaultyLog
from tests.support.load import until
from tests.support.serve_rig import Rig, a_rig
from tests.support.serving import a_server
from tests.support.threads import a_live_thread, created, resume, said, say, say_and_flush
from tests.support.threads_wire import ThreadsWire
from tests.support.wire import CodexWire, a_stored_thread, item, told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


async def refused(call: Any) -> tuple[grpc.StatusCode, str | None, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), told(caught.value), caught.value.details() or ""


# time


async def test_a_call_ends_at_the_servers_deadline_and_what_it_began_counts_once(either: Settings) -> None:
    log = FaultyLog()
    async with a_rig(either, limits=Limits(deadline=0.3), through=log.through) as rig:
        thread = await a_live_thread(rig.store, "begin")
        log.held = held = asyncio.Event()
        none_set = await refused(rig.codex.append(thread, "one"))
        items = [item("event_msg", {"type": "user_message", "message": "two"})]
        request = pb.AppendThreadItemsRequest(thread_id=thread, items_json=items)
        async with rig.codex.channel() as channel:
            append = channel.unary_unary(f"/{SERVICE}/AppendItems")
            longer_set = await refused(append(request.SerializeToString(), timeout=60))
        log.held = None
        held.set()
        await rig.server.codex.settled(within=60)
        await rig.store.flush_thread(thread)
        texts = await said(rig.store, thread)
        ended = rig.registry.get_sample_value(
            "eventstore_calls_total", {"method": "AppendItems", "status": "DEADLINE_EXCEEDED"}
        )

    for status, name, text in (none_set, longer_set):
        assert (grpc.StatusCode.DEADLINE_EXCEEDED, "OutcomeUnknown") == (status, name)
        assert text.startswith("a call may take 0.3 s here")
    assert ["begin", "one", "two"] == texts
    assert 2 == ended


async def test_a_stream_goes_on_beyond_the_deadline(path: Path) -> None:
    log = FaultyLog()
    async with a_rig(path, limits=Limits(deadline=0.3), through=log.through) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        async with rig.codex.channel() as channel:
            request = threads_pb.FollowEventsRequest(thread_id=thread, follow=True)
            events = ThreadsWire(channel).stream("FollowEvents", request)
            first = await anext(events)
            # A call that takes all its time shows that it has passed.
            log.held = held = asyncio.Event()
            over = await refused(rig.codex.append(thread, "more"))
            log.held = None
            held.set()
            await rig.codex.say("FlushThread", thread)
            async with asyncio.timeout(60):
                kinds = [first.kind, (await anext(events)).kind, (await anext(events)).kind]

    assert grpc.StatusCode.DEADLINE_EXCEEDED == over[0]
    assert ["ThreadCreated", "ItemsAppended", "ItemsAppended"] == kinds


# calls


async def test_only_so_many_calls_are_under_way_and_each_leaves_its_place(either: Settings) -> None:
    log = FaultyLog()
    async with a_rig(either, limits=Limits(calls=2), through=log.through) as rig:
        threads = [await a_stored_thread(rig.codex, "begin") for _ in range(2)]
        log.held = held = asyncio.Event()
        done = asyncio.ensure_future(rig.codex.append(threads[0], "more"))
        gone = asyncio.ensure_future(rig.codex.append(threads[1], "more"))
        await until(lambda: log.fired == 2, "both appends are held")
        full = await refused(rig.codex.call("ListThreads", pb.ListThreadsRequest(page_size=1)))
        async with rig.codex.channel() as channel:
            health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        gone.cancel()
        await asyncio.wait([gone])
        page = await as_soon_as_there_is_place(rig)
        log.held = None
        held.set()
        await done
        for _ in range(5):
            await as_soon_as_there_is_place(rig)
        counted = rig.registry.get_sample_value("eventstore_calls_refused_total", {"status": "RESOURCE_EXHAUSTED"})

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "TooMany") == full[:2]
    assert "2 calls are under way at this server" in full[2]
    assert health_pb2.HealthCheckResponse.SERVING == health.status
    assert 1 == len(page.threads)
    assert counted is not None
    assert counted >= 1


async def as_soon_as_there_is_place(rig: Rig) -> Any:
    """List threads; the server learns a moment later that a client has gone, or that its call has ended."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await rig.codex.call("ListThreads", pb.ListThreadsRequest(page_size=1))
            except grpc.aio.AioRpcError as exc:
                if exc.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                await asyncio.sleep(0.01)


async def test_a_request_that_does_not_come_holds_its_place_until_the_deadline(path: Path) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with a_rig(path, limits=Limits(deadline=0.3, calls=2)) as rig, rig.codex.channel() as channel:
        late = [
            await refused(channel.stream_unary(f"/{SERVICE}/AppendItems")(nothing())),
            await refused(anext(aiter(channel.stream_stream(f"/{THREADS}/ReadHistory")(nothing())))),
        ]
        none = await refused(channel.stream_unary(f"/{SERVICE}/AppendItems")(iter(())))
        for _ in range(5):
            await as_soon_as_there_is_place(rig)

    assert [grpc.StatusCode.DEADLINE_EXCEEDED] * 2 == [status for status, _, _ in late]
    assert "did not arrive within 0.3 s" in late[0][2]
    assert grpc.StatusCode.INVALID_ARGUMENT == none[0]


# bytes


async def append_bytes(codex: CodexWire, thread: str, size: float) -> None:
    """Append one item of about so many MiB."""
    payload = {"type": "message", "role": "user", "content": "x" * int(size * MIB)}
    request = pb.AppendThreadItemsRequest(thread_id=thread, items_json=[item("response_item", payload)])
    await codex.call("AppendItems", request)


async def test_a_larger_request_than_the_largest_is_refused(either: Settings) -> None:
    async with a_rig(either, limits=Limits(largest=MIB)) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        await append_bytes(rig.codex, thread, 0.9)
        too_large = await refused(append_bytes(rig.codex, thread, 1))
        await rig.codex.append(thread, "end")
        history = await rig.codex.history(thread)

    assert grpc.StatusCode.RESOURCE_EXHAUSTED == too_large[0]
    assert "larger than max" in too_large[2]
    assert ["session_meta", "event_msg", "response_item", "event_msg"] == [each["type"] for each in history]


async def test_what_is_queued_for_threads_that_are_not_stored_has_its_bound(path: Path) -> None:
    async with a_rig(path, limits=Limits(unstored=MIB)) as rig:
        stored = await a_stored_thread(rig.codex, "stored")
        threads = [new_thread_id() for _ in range(3)]
        for thread in threads:
            await rig.codex.create(thread)
        await append_bytes(rig.codex, threads[0], 0.6)
        await append_bytes(rig.codex, threads[1], 0.6)
        full = [
            await refused(append_bytes(rig.codex, threads[2], 0.6)),
            await refused(rig.codex.append(threads[0], "a word")),
            await refused(rig.codex.create(new_thread_id())),
        ]
        await append_bytes(rig.codex, stored, 0.6)
        held = rig.registry.get_sample_value("eventstore_unstored_bytes")
        await rig.codex.say("FlushThread", threads[1])
        await append_bytes(rig.codex, threads[2], 0.6)
        await rig.codex.say("DiscardThread", threads[2])
        await rig.codex.append(threads[0], "a word")
        await rig.codex.say("PersistThread", threads[0])
        said = await rig.codex.said(threads[0])
        left = rig.store.memory.unstored

    assert [(grpc.StatusCode.RESOURCE_EXHAUSTED, "TooMany")] * 3 == [each[:2] for each in full]
    assert "persist, flush or discard one" in full[0][2]
    assert held is not None
    assert 1.2 * MIB < held < 1.3 * MIB
    assert ["a word"] == said
    assert 0 == left


async def test_a_large_beginning_counts_as_well(path: Path) -> None:
    instructions = '{"text":"' + "x" * MIB + '"}'
    async with a_rig(path, limits=Limits(unstored=MIB)) as rig:
        thread = new_thread_id()
        await rig.codex.create(thread, base_instructions_json=instructions)
        full = await refused(rig.codex.create(new_thread_id()))
        await rig.codex.say("ShutdownThread", thread)
        await rig.codex.create(new_thread_id())

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "TooMany") == full[:2]


async def test_threads_that_were_left_are_stored_when_their_memory_is_needed(path: Path) -> None:
    async with a_rig(path, limits=Limits(unstored=MIB, idle_after=0.001)) as rig:
        left, thread = new_thread_id(), new_thread_id()
        await rig.codex.create(left)
        await append_bytes(rig.codex, left, 1)
        await asyncio.sleep(0.002)
        await rig.codex.create(thread)
        live = [rig.store.is_live(each) for each in (left, thread)]
        history = await rig.codex.history(left)

    assert [False, True] == live
    assert ["session_meta", "response_item"] == [each["type"] for each in history]


async def test_memory_of_threads_that_are_not_stored_is_given_back_however_they_end(path: Path) -> None:
    async with a_rig(path) as rig:
        threads = [new_thread_id() for _ in range(5)]
        for thread in threads:
            await rig.codex.create(thread)
            await rig.codex.append(thread, "queued")
        before = rig.store.memory.unstored
        await rig.codex.say("PersistThread", threads[0])
        await say_and_flush(rig.store, threads[0], "again")
        await rig.codex.say("FlushThread", threads[1])
        await rig.codex.say("ShutdownThread", threads[2])
        await rig.codex.say("DiscardThread", threads[3])
        one = rig.store.memory.unstored
        await rig.store.close()
        none = rig.store.memory.unstored

    assert 5 * one == before > 0
    assert 0 == none


async def test_what_clients_have_begun_is_counted_with_what_codex_has(either: Settings) -> None:
    async with (
        a_rig(either, limits=Limits(unstored=MIB)) as rig,
        open_store(f"grpc://{rig.server.address}") as one,
        open_store(f"grpc://{rig.server.address}") as two,
    ):
        of_codex, of_one, of_two = new_thread_id(), await created(one), await created(two)
        await rig.codex.create(of_codex)
        await append_bytes(rig.codex, of_codex, 0.6)
        await say(one, of_one, "x" * int(0.6 * MIB))
        for refused_by in (say(two, of_two, "a word"), created(two), say(one, of_one, "a word")):
            with pytest.raises(TooMany, match="persist, flush or discard one"):
                await refused_by
        full = await refused(rig.codex.append(of_codex, "a word"))
        await one.flush_thread(of_one)
        await say_and_flush(two, of_two, "a word")
        await two.discard_thread(of_two)
        await one.shutdown_thread(of_one)
        await rig.codex.say("DiscardThread", of_codex)
        texts, left = await said(two, of_two), rig.store.memory.unstored

    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "TooMany") == full[:2]
    assert (["a word"], 0) == (texts, left)


LARGE = "x" * int(0.6 * MIB)


async def test_appends_that_the_log_does_not_answer_for_have_their_bound(either: Settings) -> None:
    """All live threads together keep no more of them, whoever's they are; nothing that was kept is lost."""
    log = FaultyLog()
    async with (
        a_rig(either, limits=Limits(unverified=MIB, within=1.0), within=1.0, through=log.through) as rig,
        open_store(f"grpc://{rig.server.address}") as store,
    ):
        of_codex = [await a_stored_thread(rig.codex, "begin") for _ in range(2)]
        of_client = await a_live_thread(store)
        log.held = asyncio.Event()
        unknown = await refused(append_bytes(rig.codex, of_codex[0], 0.6))
        with pytest.raises(OutcomeUnknown):
            await say(store, of_client, LARGE)
        full = [await refused(rig.codex.append(each, "a word")) for each in of_codex]
        with pytest.raises(TooMany, match="the log has not answered"):
            await say(store, of_client, "a word")
        kept = rig.registry.get_sample_value("eventstore_unverified_bytes")
        log.held.set()
        log.held = None
        await rig.codex.append(of_codex[1], "a word")
        await say_and_flush(store, of_client, "end")
        await rig.codex.say("FlushThread", of_codex[0])
        await rig.codex.say("FlushThread", of_codex[1])
        items = [len(await rig.codex.history(each)) for each in of_codex]
        texts, left = await said(store, of_client), rig.store.memory.unverified

    assert grpc.StatusCode.DEADLINE_EXCEEDED == unknown[0]
    assert [(grpc.StatusCode.RESOURCE_EXHAUSTED, "TooMany")] * 2 == [each[:2] for each in full]
    assert kept is not None
    assert MIB < kept < 1.3 * MIB
    assert ([3, 3], ["hello", LARGE, "end"], 0) == (items, texts, left)


async def test_while_the_log_answers_room_is_made_for_appends_that_nobody_flushes(either: Settings) -> None:
    async with a_rig(either, limits=Limits(unverified=MIB)) as rig, open_store(f"grpc://{rig.server.address}") as store:
        threads, kept = [await a_live_thread(store) for _ in range(6)], []
        for thread in threads:
            await say(store, thread, LARGE)
            kept.append(rig.store.memory.unverified)
        await asyncio.gather(*(say(store, thread, LARGE) for thread in threads for _ in range(3)))
        for thread in threads:
            await store.shutdown_thread(thread)
        texts = [await said(store, thread) for thread in threads]
        left = rig.store.memory.unverified

    assert all(0.5 * MIB < each < 1.7 * MIB for each in kept)
    assert [["hello", *[LARGE] * 4]] * 6 == texts
    assert 0 == left


async def test_what_a_writer_kept_is_given_back_however_it_ends(path: Path) -> None:
    async with a_rig(path) as rig:
        beside = rig.store.beside(actor=None, within=30.0, durable=False)
        fenced, discarded, closed = [await a_live_thread(rig.store) for _ in range(3)]
        for thread in (fenced, discarded, closed):
            await say(rig.store, thread, LARGE)
        await resume(beside, fenced)
        await say(rig.store, fenced, LARGE)
        kept = [rig.store.memory.unverified]
        with pytest.raises(WriterFenced):
            await rig.store.flush_thread(fenced)
        kept.append(rig.store.memory.unverified)
        await rig.store.discard_thread(discarded)
        kept.append(rig.store.memory.unverified)
        await rig.store.close()
        kept.append(rig.store.memory.unverified)

    assert [4, 2, 1, 0] == [round(each / len(LARGE)) for each in kept]
    assert 0 == kept[-1]


# the command


async def test_the_command_takes_the_limits(tmp_path: Path) -> None:
    settings = Settings(log=f"sqlite:{tmp_path / 'threads.db'}", within=600)
    words = ("--deadline", "2", "--largest", "1", "--calls", "3")
    async with a_server(settings, tmp_path, *words) as server:
        codex, begun = CodexWire(server.address), time.monotonic()
        thread = await a_stored_thread(codex, "begin")
        too_large = await refused(append_bytes(codex, thread, 1))
        other = sqlite3.connect(settings.sqlite.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        archive = pb.ArchiveThreadRequest(thread_id=thread)
        held = [
            refused(codex.append(thread, "held")),
            *(refused(codex.call("ArchiveThread", archive)) for _ in range(9)),
        ]
        over = {status for status, _, _ in await asyncio.gather(*held)}
        other.execute("ROLLBACK")
        other.close()
        await codex.say("FlushThread", thread)
        said = await codex.said(thread)
        took = time.monotonic() - begun

    assert grpc.StatusCode.RESOURCE_EXHAUSTED == too_large[0]
    assert over <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in over
    assert "begin" == said[0]
    assert took < settings.within / 2
