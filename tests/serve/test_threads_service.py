"""The store's own service: streams of histories and events, pages and deletion, for clients that are no Codex."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from eventstore.audit import audit
from eventstore.documents.params import LoadThreadHistoryParams
from eventstore.ids import ThreadId, new_thread_id
from eventstore.serve.protos import eventstore_threads_pb2 as pb
from tests.support.serve_rig import Rig, a_rig
from tests.support.threads import a_live_thread, append, archive, say_and_flush, user_message
from tests.support.threads_wire import ThreadsWire
from tests.support.wire import told

MANY = 3_000


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_rig(tmp_path / "threads.db") as made:
        yield made


@pytest.fixture
async def threads(rig: Rig) -> AsyncIterator[ThreadsWire]:
    async with grpc.aio.insecure_channel(str(rig.server.address)) as channel:
        yield ThreadsWire(channel)


async def refused(call: Any) -> tuple[grpc.StatusCode, str | None]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), told(caught.value)


async def test_a_history_is_streamed_whole_with_ordinals_and_positions(rig: Rig, threads: ThreadsWire) -> None:
    thread = await a_live_thread(rig.store, "first")
    for _ in range(3):
        await append(rig.store, thread, *[user_message(str(number)) for number in range(MANY // 3)])
    await rig.store.flush_thread(thread)
    streamed = await threads.history(thread)
    stored = (await rig.store.load_history(LoadThreadHistoryParams(thread_id=thread))).items

    assert MANY < len(streamed)
    assert [(item.ordinal, *item.position, item.item.at, item.type, item.text, item.extras) for item in stored] == [
        (
            item.ordinal,
            item.position.partition,
            item.position.offset,
            item.at_millis,
            item.type,
            item.payload,
            item.extras if item.HasField("extras") else None,
        )
        for item in streamed
    ]


async def test_an_archived_history_is_streamed_only_if_it_is_asked_for(rig: Rig, threads: ThreadsWire) -> None:
    thread = await a_live_thread(rig.store, "hello")
    await rig.store.shutdown_thread(thread)
    await archive(rig.store, thread)

    assert (grpc.StatusCode.NOT_FOUND, "UnknownThread") == await refused(threads.history(thread))
    assert 2 == len(await threads.history(thread, include_archived=True))


@pytest.mark.parametrize("latest_first", [False, True])
async def test_pages_from_either_end_make_the_whole(rig: Rig, threads: ThreadsWire, latest_first: bool) -> None:
    thread = await a_live_thread(rig.store, *map(str, range(10)))
    seen: list[int] = []
    cursor: str | None = None
    while True:
        request = pb.ReadItemsRequest(thread_id=thread, page_size=4, cursor=cursor, latest_first=latest_first)
        page = await threads.call("ReadItems", request)
        seen.extend(item.ordinal for item in page.items)
        if not page.HasField("next_cursor"):
            break
        cursor = page.next_cursor

    assert [*range(11)] == (seen[::-1] if latest_first else seen)


async def test_whoever_follows_sees_each_event_with_its_verdict_as_it_comes(rig: Rig, threads: ThreadsWire) -> None:
    thread = await a_live_thread(rig.store, "one")
    followed = threads.stream("FollowEvents", pb.FollowEventsRequest(thread_id=thread, follow=True))
    first = [await anext(followed) for _ in range(2)]
    await a_live_thread(rig.store, "of another thread")
    later = asyncio.ensure_future(anext(followed))
    await say_and_flush(rig.store, thread, "two")
    third = await later
    recorded = [record async for record in audit(rig.parts.feed, ThreadId(thread))]

    assert ["ThreadCreated", "ItemsAppended"] == [event.kind for event in first]
    assert [record.event_id for record in recorded] == [event.event_id for event in (*first, third)]
    assert ("admitted", "a test", 1) == (third.verdict, third.actor, third.items)
    assert round(recorded[2].occurred_at.timestamp() * 1e6) == third.occurred_at_micros  # type: ignore[union-attr]


async def test_the_whole_log_is_read_from_a_position(rig: Rig, threads: ThreadsWire) -> None:
    for text in ("one", "two"):
        await a_live_thread(rig.store, text)
    whole = [event async for event in threads.stream("FollowEvents", pb.FollowEventsRequest())]
    rest = pb.FollowEventsRequest(since=whole[2].position)

    assert 4 == len(whole)
    assert whole[2:] == [event async for event in threads.stream("FollowEvents", rest)]


async def test_a_server_that_ends_tells_those_who_follow(tmp_path: Path) -> None:
    async with a_rig(tmp_path / "ending.db") as rig, grpc.aio.insecure_channel(str(rig.server.address)) as channel:
        await a_live_thread(rig.store, "one")
        followed = ThreadsWire(channel).stream("FollowEvents", pb.FollowEventsRequest(follow=True))
        for _ in range(2):
            await anext(followed)
        ended = asyncio.ensure_future(refused(anext(followed)))
        await asyncio.sleep(0)
        rig.server.threads.end()
        status = await ended

    assert (grpc.StatusCode.UNAVAILABLE, "LogUnavailable") == status


async def test_a_thread_is_deleted_at_the_version_that_was_seen(rig: Rig, threads: ThreadsWire) -> None:
    thread = await a_live_thread(rig.store, "hello")
    stale = pb.ChangeThreadRequest(thread_id=thread, expected_version=1)
    right = pb.ChangeThreadRequest(thread_id=thread, expected_version=2, reason="asked for")

    assert (grpc.StatusCode.FAILED_PRECONDITION, "WrongExpectedVersion") == await refused(
        threads.call("DeleteThread", stale)
    )
    await threads.call("DeleteThread", right)
    assert (grpc.StatusCode.NOT_FOUND, "ThreadNotFound") == await refused(threads.call("DeleteThread", right))
    assert "asked for" == [record async for record in audit(rig.parts.feed, ThreadId(thread))][-1].reason


@pytest.mark.parametrize(
    "request_",
    [
        pb.FollowEventsRequest(thread_id="no id"),
        pb.FollowEventsRequest(since=pb.Position(partition=1)),
        pb.FollowEventsRequest(since=pb.Position(partition=-1)),
        pb.FollowEventsRequest(since=pb.Position(offset=-1)),
    ],
)
async def test_what_cannot_be_followed_is_refused(threads: ThreadsWire, request_: pb.FollowEventsRequest) -> None:
    assert (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest") == await refused(
        anext(threads.stream("FollowEvents", request_))
    )


async def test_a_wrong_page_is_refused(rig: Rig, threads: ThreadsWire) -> None:
    thread = await a_live_thread(rig.store, "hello")
    for request in (
        pb.ReadItemsRequest(thread_id=thread, page_size=1, cursor="x"),
        pb.ReadItemsRequest(thread_id="x", page_size=1),
    ):
        assert (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest") == await refused(threads.call("ReadItems", request))
    unknown = pb.ReadItemsRequest(thread_id=new_thread_id(), page_size=1)
    assert (grpc.StatusCode.NOT_FOUND, "UnknownThread") == await refused(threads.call("ReadItems", unknown))


@pytest.mark.parametrize("prefix", ["", "no id", "0" * 33])
async def test_what_begins_no_id_is_not_looked_for(threads: ThreadsWire, prefix: str) -> None:
    request = pb.FindThreadsRequest(prefix=prefix)

    assert (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest") == await refused(threads.call("FindThreads", request))


async def test_a_whole_id_is_found_by_its_digits(rig: Rig, threads: ThreadsWire) -> None:
    thread = await a_live_thread(rig.store, "hello")
    found = await threads.call("FindThreads", pb.FindThreadsRequest(prefix=thread.replace("-", "")))

    assert [thread] == list(found.thread_ids)
