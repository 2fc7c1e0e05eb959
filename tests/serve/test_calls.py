"""What a server does with the calls that Codex makes, beyond what the store does."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from eventstore.documents.params import ReadThreadParams
from eventstore.errors import UnknownThread
from eventstore.ids import new_thread_id
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.replies import LARGEST_REPLY
from eventstore.serve.server import MIB, Limits
from tests.support.faults import FaultyLog
from tests.support.serve_rig import a_rig
from tests.support.threads import delete, resume, say_and_flush
from tests.support.wire import CodexWire, a_stored_thread, item, told


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


async def refused(call: Any) -> tuple[grpc.StatusCode, str | None]:
    """Return the status and the error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), told(caught.value)


async def test_a_thread_has_its_own_session_meta_first_and_what_the_policy_keeps(path: Path) -> None:
    parent = new_thread_id()
    async with a_rig(path) as rig:
        thread = new_thread_id()
        await rig.codex.create(thread, forked_from_id=parent)
        copied = item("session_meta", {"id": parent})
        kept, dropped = (item("event_msg", {"type": kind, "message": "m"}) for kind in ("user_message", "warning"))
        await rig.codex.call("AppendItems", pb.AppendThreadItemsRequest(thread_id=thread, items_json=[copied, kept]))
        await rig.codex.call("AppendItems", pb.AppendThreadItemsRequest(thread_id=thread, items_json=[dropped]))
        await rig.codex.say("PersistThread", thread)
        history = await rig.codex.history(thread)

    assert ["session_meta", "session_meta", "event_msg"] == [each["type"] for each in history]
    assert (thread, parent) == (history[0]["payload"]["id"], history[0]["payload"]["forked_from_id"])
    assert parent == history[1]["payload"]["id"]


async def test_overlapping_calls_of_one_thread_take_effect_as_they_arrive(path: Path) -> None:
    """The first has to take the thread up, which takes a while; those behind it wait for their turn."""
    async with a_rig(path) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        await rig.codex.say("ShutdownThread", thread)
        service = rig.server.codex
        calls = []
        for number in range(20):
            items = [item("event_msg", {"type": "user_message", "message": str(number)})]
            request = pb.AppendThreadItemsRequest(thread_id=thread, items_json=items)
            calls.append(asyncio.ensure_future(service.append(request)))
            if number % 5 == 4:
                calls.append(asyncio.ensure_future(service.persist(pb.ThreadIdRequest(thread_id=thread))))
        behind = asyncio.ensure_future(service.load_history(pb.LoadThreadHistoryRequest(thread_id=thread)))
        seen = [json.loads(text)["payload"] for text in (await behind).items_json]
        await asyncio.gather(*calls)
        said = await rig.codex.said(thread)
        kinds = await rig.kinds(thread)

    assert ["begin", *map(str, range(20))] == said
    assert [str(number) for number in range(20)] == [each["message"] for each in seen[2:]]
    assert 1 == kinds.count("WriterOpened")


async def test_a_call_that_waits_too_long_for_those_before_it_is_told_so(path: Path) -> None:
    log = FaultyLog()
    async with a_rig(path, limits=Limits(within=0.2), through=log.through) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        log.held = asyncio.Event()
        first = asyncio.ensure_future(rig.codex.append(thread, "slow"))
        await log.holding.wait()
        status = await refused(rig.codex.append(thread, "late"))
        log.held.set()
        log.held = None
        await first
        said = await rig.codex.said(thread)

    assert (grpc.StatusCode.UNAVAILABLE, "LogUnavailable") == status
    assert ["begin", "slow"] == said


async def test_what_a_client_asked_for_is_done_though_it_goes_meanwhile(path: Path) -> None:
    log = FaultyLog()
    async with a_rig(path, through=log.through) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        log.held = asyncio.Event()
        leaving = asyncio.ensure_future(rig.codex.append(thread, "once"))
        await log.holding.wait()
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        log.held.set()
        log.held = None
        await rig.codex.append(thread, "next")
        await rig.codex.say("FlushThread", thread)
        said = await rig.codex.said(thread)

    assert log.fired
    assert ["begin", "once", "next"] == said


async def test_what_becomes_of_a_call_whose_client_has_gone_is_no_failure_of_the_server(path: Path) -> None:
    log, unheard = FaultyLog(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with a_rig(path, limits=Limits(within=0.2), through=log.through) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        log.held = asyncio.Event()
        first = asyncio.ensure_future(rig.codex.append(thread, "slow"))
        await log.holding.wait()
        leaving = asyncio.ensure_future(rig.server.codex.persist(pb.ThreadIdRequest(thread_id=thread)))
        await asyncio.sleep(0)
        leaving.cancel()
        # Its turn comes too late.
        changes = rig.server.codex._changing
        await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        assert 1 == len(changes)
        assert leaving.cancelled()
        del leaving
        log.held.set()
        log.held = None
        await first
        gc.collect()

    assert [] == unheard


async def test_a_stored_thread_is_taken_up_after_a_restart_and_an_unknown_one_is_not(path: Path) -> None:
    async with a_rig(path) as rig:
        threads = [await a_stored_thread(rig.codex, "before") for _ in range(4)]
        queued = new_thread_id()
        await rig.codex.create(queued)
        await rig.codex.append(queued, "queued")
        unused = new_thread_id()
        await rig.codex.create(unused)
    async with a_rig(path) as rig:
        kinds = [await rig.kinds(thread) for thread in threads]
        await rig.codex.append(threads[0], "after")
        for thread, method in zip(threads[1:], ("PersistThread", "FlushThread", "ShutdownThread"), strict=True):
            await rig.codex.say(method, thread)
        await rig.codex.say("DiscardThread", threads[3])
        said = await rig.codex.said(threads[0])
        refusals = {
            method: await refused(rig.codex.say(method, unused))
            for method in ("PersistThread", "FlushThread", "ShutdownThread", "DiscardThread", "ReadThread")
        }
        refusals["AppendItems"] = await refused(rig.codex.append(unused, "lost"))
        kept = await rig.codex.said(queued)

    assert [["ThreadCreated", "ItemsAppended", "WriterClosed"]] * 4 == kinds
    assert ["before", "after"] == said
    assert ["queued"] == kept
    assert {grpc.StatusCode.NOT_FOUND} == {status for status, _ in refusals.values()}, refusals


async def test_a_thread_is_resumed_while_its_old_client_still_holds_it(path: Path) -> None:
    async with a_rig(path) as rig:
        thread = await a_stored_thread(rig.codex, "one")
        await rig.codex.append(thread, "two")
        held = [json.dumps(each) for each in await rig.codex.history(thread)]
        await rig.codex.call(
            "ResumeThread", pb.ResumeThreadRequest(thread_id=thread, has_history=True, history_json=held)
        )
        await rig.codex.append(thread, "three")
        said = await rig.codex.said(thread)
        kinds = await rig.kinds(thread)
        again = await refused(rig.codex.create(thread))

    assert ["one", "two", "three"] == said
    assert "WriterOpened" not in kinds
    assert (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest") == again


async def test_whose_thread_was_taken_over_elsewhere_is_told_until_it_resumes(path: Path) -> None:
    async with a_rig(path) as rig, a_rig(path) as other:
        thread = await a_stored_thread(rig.codex, "one")
        await resume(other.store, thread)
        await say_and_flush(other.store, thread, "two")
        await rig.codex.append(thread, "void")
        statuses = [
            await refused(rig.codex.say("FlushThread", thread)),
            await refused(rig.codex.append(thread, "void")),
        ]
        await rig.codex.call("ResumeThread", pb.ResumeThreadRequest(thread_id=thread))
        await rig.codex.append(thread, "three")
        await rig.codex.say("FlushThread", thread)
        said = await rig.codex.said(thread)

    assert [(grpc.StatusCode.ABORTED, "WriterFenced")] * 2 == statuses
    assert ["one", "two", "three"] == said


async def test_only_so_many_threads_are_live_and_those_that_rest_make_room(path: Path) -> None:
    async with a_rig(path, limits=Limits(writers=2)) as rig:
        stored = [await a_stored_thread(rig.codex, "hello") for _ in range(3)]
        kinds = await rig.kinds(stored[0])
        live = len(rig.server.writers)
        await rig.codex.append(stored[0], "again")
        unstored = [new_thread_id() for _ in range(2)]
        for thread in unstored:
            await rig.codex.create(thread)
        full = await refused(rig.codex.create(new_thread_id()))
        await rig.codex.say("DiscardThread", unstored[0])
        await rig.codex.append(stored[0], "and again")
        said = await rig.codex.said(stored[0])

    assert "WriterClosed" == kinds[-1]
    assert 2 == live
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "TooMany") == full
    assert ["hello", "again", "and again"] == said


async def test_a_thread_that_nobody_uses_is_closed_and_taken_up_again(path: Path) -> None:
    async with a_rig(path, limits=Limits(idle_after=0.001)) as rig:
        thread, unstored = await a_stored_thread(rig.codex, "hello"), new_thread_id()
        await rig.codex.create(unstored)
        await asyncio.sleep(0.002)
        await rig.server.writers.close_idle()
        live = len(rig.server.writers)
        kinds = await rig.kinds(thread)
        await rig.codex.append(thread, "again")
        await rig.codex.say("PersistThread", unstored)
        said = await rig.codex.said(thread)

    assert 1 == live
    assert "WriterClosed" == kinds[-1]
    assert ["hello", "again"] == said


async def test_a_server_that_is_told_to_end_finishes_its_calls_and_refuses_others(path: Path) -> None:
    log = FaultyLog()
    async with a_rig(path, through=log.through) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        log.held = asyncio.Event()
        under_way = asyncio.ensure_future(rig.codex.append(thread, "last"))
        await log.holding.wait()
        asyncio.get_running_loop().call_later(0.1, log.held.set)
        log.held, codex = None, rig.codex
    await under_way
    after = await refused(codex.append(thread, "too late"))
    async with a_rig(path) as rig:
        said, kinds = await rig.codex.said(thread), await rig.kinds(thread)

    assert log.fired
    assert grpc.StatusCode.UNAVAILABLE == after[0]
    assert ["begin", "last"] == said
    assert "WriterClosed" == kinds[-1]


async def test_a_server_whose_log_does_not_answer_ends_in_the_time_that_it_has(path: Path) -> None:
    log = FaultyLog()
    async with a_rig(path, limits=Limits(end_within=4.0), through=log.through) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        log.held = asyncio.Event()
        append = asyncio.ensure_future(rig.codex.append(thread, "slow"))
        await log.holding.wait()
        told_at = time.monotonic()
    assert 4.0 <= time.monotonic() - told_at < 5.5
    assert grpc.StatusCode.UNAVAILABLE == (await refused(append))[0]


async def test_a_deleted_thread_is_not_found(path: Path) -> None:
    async with a_rig(path) as rig:
        thread = await a_stored_thread(rig.codex, "hello")
        await delete(rig.store, thread)
        append = await refused(rig.codex.append(thread, "more"))
        read = await refused(rig.codex.call("ReadThread", pb.ReadThreadRequest(thread_id=thread)))
        with pytest.raises(UnknownThread):
            await rig.store.read_thread(ReadThreadParams(thread_id=thread))

    assert grpc.StatusCode.NOT_FOUND == append[0] == read[0]


# large threads


def big(kind: str, megabytes: float, **more: Any) -> str:
    return item(kind, {"type": "message", "role": "user", "content": "x" * int(megabytes * 1024 * 1024), **more})


async def append_items(codex: CodexWire, thread: str, *items: str) -> None:
    await codex.call("AppendItems", pb.AppendThreadItemsRequest(thread_id=thread, items_json=items))


async def test_of_a_large_history_codex_gets_what_it_needs_to_go_on(path: Path) -> None:
    compacted = item("compacted", {"message": "summary", "replacement_history": []})
    async with a_rig(path) as rig:
        thread = await a_stored_thread(rig.codex, "begin")
        await append_items(rig.codex, thread, big("response_item", 3))
        whole = await rig.codex.history(thread)
        await append_items(rig.codex, thread, item("compacted", {"message": "no history in it"}))
        await append_items(rig.codex, thread, big("response_item", 2))
        too_large = await refused(rig.codex.history(thread))
        await append_items(rig.codex, thread, compacted, big("response_item", 1), compacted, big("response_item", 1))
        await rig.codex.append(thread, "end")
        rest = await rig.codex.history(thread)
        read = await rig.codex.call("ReadThread", pb.ReadThreadRequest(thread_id=thread, include_history=True))
        await append_items(rig.codex, thread, big("response_item", 4))
        again = await refused(rig.codex.history(thread))

    assert ["session_meta", "event_msg", "response_item"] == [each["type"] for each in whole]
    assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "ReplyTooLarge") == too_large == again
    assert ["session_meta", "compacted", "response_item", "event_msg"] == [each["type"] for each in rest]
    assert thread == rest[0]["payload"]["id"]
    assert 4 == len(read.thread.history.items_json)


async def test_a_request_may_have_64_mib_and_not_more(path: Path) -> None:
    async with a_rig(path, within=60.0) as rig:
        thread = new_thread_id()
        await rig.codex.create(thread)
        await append_items(rig.codex, thread, *[big("response_item", 15.5) for _ in range(4)])
        await rig.codex.say("PersistThread", thread)
        too_large = await refused(append_items(rig.codex, thread, *[big("response_item", 16.5) for _ in range(4)]))
        one_item = await refused(append_items(rig.codex, thread, big("response_item", 17)))
        thread_read = await rig.codex.call("ReadThread", pb.ReadThreadRequest(thread_id=thread))

    assert Limits().largest == 64 * MIB
    assert grpc.StatusCode.RESOURCE_EXHAUSTED == too_large[0]
    assert (grpc.StatusCode.INVALID_ARGUMENT, "AppendTooLarge") == one_item
    assert thread == thread_read.thread.thread_id


async def test_a_page_of_long_texts_fits_into_a_reply(path: Path) -> None:
    async with a_rig(path) as rig:
        for _ in range(3):
            await a_stored_thread(rig.codex, "long " * 440_000)
        short = await a_stored_thread(rig.codex, "short")
        page = await rig.codex.call("ListThreads", pb.ListThreadsRequest(page_size=10))
        one = await rig.codex.call("ReadThread", pb.ReadThreadRequest(thread_id=page.threads[0].thread_id))

    assert page.ByteSize() <= LARGEST_REPLY
    assert 4 == len(page.threads)
    assert {"short"} == {each.preview for each in page.threads if each.thread_id == short}
    assert len(one.thread.preview) < 440_000
