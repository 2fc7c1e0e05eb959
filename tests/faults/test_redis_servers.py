"""Redis servers that are not as they should be: away, hung, full, read-only, forgetful, guarded, something else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from eventstore.documents.params import ListThreadsParams
from eventstore.errors import InvalidRequest, TopicMisconfigured, ViewsUnavailable
from eventstore.state import ThreadState
from projections.redis_shards import open_shards
from tests.support.partitions import PartitionedFeed, Teller
from tests.support.redis_rig import NAME, Rig, rig
from tests.support.redis_server import RedisServer, free_port, running

SECRET = "s3cr3t-of-the-test"


@pytest.fixture
def own() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@asynccontextmanager
async def served(url: str, *, within: float = 20.0) -> AsyncIterator[tuple[Rig, Teller]]:
    feed = PartitionedFeed(1)
    teller = Teller(feed)
    teller.say("hello")
    async with rig(url, feed, within=within) as made:
        await made.serve()
        yield made, teller


async def opened(url: str, *, within: float = 5.0) -> str:
    async with open_shards(url, NAME, within=within) as shards:
        return repr(shards)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:file.db",
        "redis:",
        "redis://",
        "redis://host:port",
        "redis://host:99999",
        "http://host",
        "localhost:6379",
        "",
    ],
)
async def test_what_is_no_url_of_a_redis_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="give redis://HOST:PORT"):
        await opened(url)


async def test_a_port_that_nobody_listens_on_is_named_and_the_password_is_not() -> None:
    with (
        free_port() as port,
        pytest.raises(ViewsUnavailable, match=f"redis://127.0.0.1:{port} cannot be reached") as caught,
    ):
        await opened(f"redis://user:{SECRET}@127.0.0.1:{port}")
    assert SECRET not in f"{caught.value!r}{caught.value}"


async def test_a_file_of_certificates_that_cannot_be_read_is_named(own: RedisServer) -> None:
    url = own.url.replace("redis://", f"rediss://:{SECRET}@")
    with pytest.raises(
        InvalidRequest, match=r"ssl_ca_certs=/there/is\.none of the views' URL cannot be read"
    ) as caught:
        await opened(f"{url}/0?ssl_ca_certs=/there/is.none")
    assert SECRET not in f"{caught.value!r}{caught.value}"


async def test_a_host_that_there_is_not_is_unavailable() -> None:
    with pytest.raises(ViewsUnavailable, match=r"redis://there\.is\.none\.invalid:6379"):
        await opened("redis://there.is.none.invalid")


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x15\x03\x01\x00\x02\x02\x46", b"-ERR no\r\n"]
)
async def test_what_does_not_answer_like_a_redis_is_unavailable(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(ViewsUnavailable, match=f"redis://127.0.0.1:{port}"):
            await opened(f"redis://127.0.0.1:{port}")


async def test_a_server_that_stands_still_delays_nobody_beyond_the_deadline(own: RedisServer) -> None:
    """Promise 8: "every call ends within its deadline"."""
    async with served(own.url, within=0.4) as (made, teller):
        own.hold()
        began = time.monotonic()
        assert await made.shared.get(teller.thread_id) is not None, "the log answers"
        assert time.monotonic() - began < 5
        for call in (
            made.shared.page(ListThreadsParams()),
            made.stored.snapshot(0, [teller.thread_id]),
            opened(own.url, within=0.4),
        ):
            began = time.monotonic()
            with pytest.raises(ViewsUnavailable, match=r"within 0\.4 s"):
                await call
            assert time.monotonic() - began < 5
        own.release()
        assert await made.shared.get(teller.thread_id) is not None


async def test_a_server_that_went_and_came_back_empty_is_met_with_no_wrong_answer(own: RedisServer) -> None:
    async with served(own.url, within=5.0) as (made, teller):

        async def state() -> ThreadState:
            view = await made.shared.get(teller.thread_id)
            assert view is not None
            return view.state

        before = await state()
        own.kill()
        with pytest.raises(ViewsUnavailable, match="cannot be reached"):
            await made.shared.page(ListThreadsParams())
        assert await state() == before, "the log answers"
        own.start()
        with pytest.raises(ViewsUnavailable, match="a worker has to build them"):
            await made.shared.page(ListThreadsParams())
        assert await state() == before
        await made.serve()
        assert await state() == before


async def test_connections_that_the_server_closed_are_opened_again(own: RedisServer) -> None:
    async with served(own.url) as (made, teller):
        for _ in range(3):
            await asyncio.gather(*(made.shared.get(teller.thread_id) for _ in range(10)))
            with own.client() as client:
                closed = client.client_kill_filter(_type="normal", skipme=True)
            assert closed >= 2
            assert await made.shared.get(teller.thread_id) is not None


async def test_hints_are_heard_again_after_the_subscription_broke(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projections.redis_hints._SUBSCRIBE_AGAIN_AFTER", 0.0)
    async with served(own.url) as (made, teller):
        hint = made.shared._hints.next(0)
        await asyncio.wait_for(hint, 20)
        with own.client() as client:
            assert client.client_kill_filter(_type="pubsub") == 1
        await asyncio.wait_for(made.shared._hints.next(0), 20)  # it subscribed again, which is a hint
        hint = made.shared._hints.next(0)
        teller.say("more")
        await made.fold()
        await asyncio.wait_for(hint, 20)


async def test_more_calls_than_connections_wait_for_their_turn(own: RedisServer) -> None:
    async with served(own.url) as (made, teller):
        views = await asyncio.gather(*(made.shared.get(teller.thread_id) for _ in range(500)))
        assert len(views) == 500
        assert all(views)
        with own.client() as client:
            assert client.info("clients")["connected_clients"] < 40


async def test_a_wrong_password_is_told_without_showing_it() -> None:
    with running(requirepass="right-" + SECRET) as server:
        url = server.url.removeprefix("redis://")
        with pytest.raises(ViewsUnavailable, match="check user and password") as caught:
            await opened(f"redis://:wrong-{SECRET}@{url}")
        assert SECRET not in f"{caught.value!r}{caught.value}"
        with pytest.raises(ViewsUnavailable, match=r"asks for a password|check user and password"):
            await opened(f"redis://{url}")
        assert SECRET not in await opened(f"redis://:right-{SECRET}@{url}")


@pytest.mark.parametrize("command", ["info", "evalsha"])
async def test_a_user_that_may_not_do_all_is_told_what_is_missing(own: RedisServer, command: str) -> None:
    with own.client() as client:
        client.execute_command("ACL", "SETUSER", "views", "on", f">{SECRET}", "~*", "&*", "+@all", f"-{command}")
    url = own.url.replace("redis://", f"redis://views:{SECRET}@")
    with pytest.raises(ViewsUnavailable, match=f"'{command}' command.*see its ACL") as caught:
        async with served(url):
            pass
    assert SECRET not in f"{caught.value!r}{caught.value}"


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_may_drop_views_is_refused(policy: str) -> None:
    with running(maxmemory="50mb", maxmemory_policy=policy) as server:
        with pytest.raises(TopicMisconfigured, match=f"maxmemory-policy is {policy}; set it to noeviction"):
            await opened(server.url)
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
        await opened(server.url)


async def test_a_full_server_takes_no_commit_whole_or_in_part_and_is_read_on(own: RedisServer) -> None:
    async with served(own.url) as (made, teller):
        with own.client() as client:
            client.config_set("maxmemory", "1mb")
        teller.say("more")
        mark = (await made.stored.snapshot(0, [])).mark
        with pytest.raises(ViewsUnavailable, match=r"is full \(maxmemory\)"):
            await made.fold()
        assert mark == (await made.stored.snapshot(0, [])).mark
        view = await made.shared.get(teller.thread_id)
        assert view is not None
        assert view.state.head.items == 2, "as it was folded; a history looks at the log's end itself"
        with own.client() as client:
            client.config_set("maxmemory", "0")
        await made.fold()
        assert mark.checkpoint < (await made.stored.snapshot(0, [])).mark.checkpoint


async def test_a_replica_is_neither_read_nor_written(own: RedisServer) -> None:
    """What a replica says may be old; a master that became one says so at the next call."""
    async with served(own.url) as (made, teller):
        with running() as master:
            own.follow(master)
            for call in (
                made.shared.page(ListThreadsParams()),
                made.stored.snapshot(0, [teller.thread_id]),
                made.generations.begin(0),
            ):
                with pytest.raises(ViewsUnavailable, match="is a replica"):
                    await call


async def test_a_replica_that_lagged_and_becomes_the_master_is_folded_on(own: RedisServer) -> None:
    feed = PartitionedFeed(1)
    teller = Teller(feed)
    with running() as replica:
        async with rig(own.url, feed) as made, rig(replica.url, feed, within=2.0) as after:
            await made.serve()
            teller.say("replicated")
            await made.fold()
            replica.copy(own)
            position = teller.say("lost with the master")
            await made.fold()
            await made.shared.get(teller.thread_id)
            own.kill()

            lagging = await after.stored.snapshot(0, [teller.thread_id])
            assert lagging.mark.checkpoint == position.offset
            assert lagging.states[teller.thread_id].head.items == 2
            # Nor is somebody who has seen nothing yet told what is older than what others were told.
            view = await after.shared.get(teller.thread_id)
            assert view is not None
            assert view.state.head.items == 3
            await after.generations.vouch(0)
            with pytest.raises(ViewsUnavailable, match="may have lost"):
                await after.shared.page(ListThreadsParams())
            await after.fold()
            await after.generations.vouch(0)
            assert len((await after.shared.page(ListThreadsParams())).rows) == 1
            view = await after.shared.get(teller.thread_id, span=slice(None))
            assert view is not None
            assert [(entry.offset, entry.items) for entry in view.indexed] == [(0, 1), (1, 1), (2, 1)]
