"""Scripts that are forgotten, answers that are lost, calls that are cancelled, keys that are gone or damaged."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
import redis
from redis.asyncio.connection import AbstractConnection

from projections.fold import fold
from projections.ports import DamagedView
from projections.projector import Projector
from projections.redis_shards import script
from tests.support.faults import cancelled_at
from tests.support.partitions import PartitionedFeed, Teller
from tests.support.redis_rig import PARTITIONS, READS, Rig, contents
from tests.support.redis_server import RedisServer


async def test_scripts_that_redis_forgot_are_sent_again(made: Rig, server: RedisServer, feed: PartitionedFeed) -> None:
    teller = Teller(feed)
    await made.serve()
    for read in READS.values():
        teller.say("more")
        with server.client() as client:
            client.script_flush()
        await made.fold()
        with server.client() as client:
            client.script_flush()
        await read(made, teller.thread_id)
        view = await made.shared.get(teller.thread_id)
        assert view is not None
        assert view.checkpoint == teller.position.offset + 1


async def test_a_commit_whose_answer_was_lost_is_recognised(
    made: Rig, server: RedisServer, feed: PartitionedFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is sent again, finds another mark, and the projector goes on from there: nothing is there twice."""
    tellers = [Teller(feed) for _ in range(20)]
    await made.serve()
    for teller in tellers:
        teller.say("one", "two")
    lost = LostAnswers(monkeypatch, script("commit", writes=True).digest)
    await made.fold(batch=3)
    assert lost.fired == PARTITIONS

    folded = contents(server)
    monkeypatch.undo()
    with server.client() as client:
        client.flushall()
    await made.serve()
    assert folded == contents(server)


class LostAnswers:
    """Lets a connection break after every third commit was carried out, before its answer is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
        self.fired = 0
        self._digest = digest.encode()
        sent: set[int] = set()
        calls = count()
        send, read = AbstractConnection.send_packed_command, AbstractConnection.read_response

        async def watched_send(connection: AbstractConnection, command: Any, check_health: bool = True) -> None:
            data = command if isinstance(command, bytes) else b"".join(command)
            if self._digest in data and next(calls) % 3 == 0 and self.fired < PARTITIONS:
                sent.add(id(connection))
            await send(connection, command, check_health)

        async def broken_read(connection: AbstractConnection, *given: Any, **named: Any) -> Any:
            answer = await read(connection, *given, **named)
            if id(connection) in sent:
                sent.discard(id(connection))
                self.fired += 1
                await connection.disconnect(nowait=True)
                raise redis.ConnectionError("ordered by the test")
            return answer

        monkeypatch.setattr(AbstractConnection, "send_packed_command", watched_send)
        monkeypatch.setattr(AbstractConnection, "read_response", broken_read)


async def test_a_step_cancelled_anywhere_leaves_nothing_half_done(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    tellers = [Teller(feed) for _ in range(6)]
    await made.serve()
    for number in range(12):
        for teller in tellers:
            teller.say(f"{number}")
    projectors = [Projector(feed, made.stored, partition=partition, batch=2) for partition in range(PARTITIONS)]
    cut = 0
    for projector in projectors:
        for place in count(1):
            if not await cancelled_at(place, projector.catch_up(10_000)):
                break
            cut += 1
    assert cut > 3 * PARTITIONS
    for partition, projector in enumerate(projectors):
        assert await projector.catch_up(10_000) == await feed.end(partition)

    folded = contents(server)
    with server.client() as client:
        client.flushall()
    await made.serve()
    assert folded == contents(server)


async def test_reads_cancelled_anywhere_give_nobody_anothers_answer(made: Rig, feed: PartitionedFeed) -> None:
    tellers = [Teller(feed) for _ in range(6)]
    for number, teller in enumerate(tellers):
        teller.say(*(f"{n}" for n in range(number)))
    await made.serve()
    for teller in tellers:
        for place in count(1):
            if not await cancelled_at(place, made.shared.get(teller.thread_id)):
                break
            views = await asyncio.gather(*(made.shared.get(teller.thread_id) for teller in tellers))
            assert list(range(1, 7)) == [view.state.head.items for view in views if view is not None]
        assert place > 1


async def test_a_thread_taken_out_of_redis_is_noticed_before_anything_is_written(
    made: Rig, server: RedisServer, feed: PartitionedFeed
) -> None:
    teller = Teller(feed)
    partition = feed.partition_of(teller.thread_id)
    await made.serve()
    snapshot = await made.stored.snapshot(partition, [teller.thread_id])
    with server.client() as client:
        (key,) = client.scan_iter(match=made.shards.key(partition) + "*t*")
        client.delete(key)
    before = contents(server)
    teller.say("hello")
    entries = await feed.read(partition, start=1, limit=9)

    with pytest.raises(DamagedView):
        await made.stored.commit(partition, snapshot.mark, 2, fold(snapshot.states, entries).changes)
    assert before == contents(server)


@pytest.mark.parametrize("stored", [b"", b"short", b"\0" * 17 + b"\5[1,2]"])
async def test_a_thread_that_cannot_be_decoded_is_said_to_be_damaged(
    made: Rig, server: RedisServer, feed: PartitionedFeed, stored: bytes
) -> None:
    teller = Teller(feed)
    await made.serve()
    with server.client() as client:
        (key,) = client.scan_iter(match=made.shards.key(feed.partition_of(teller.thread_id)) + "*t*")
        client.set(key, stored)

    with pytest.raises(DamagedView, match=f"{teller.thread_id} is damaged"):
        await made.stored.snapshot(feed.partition_of(teller.thread_id), [teller.thread_id])
    view = await made.shared.get(teller.thread_id)
    assert view is not None, "the log answers"
    assert view.state.head.items == 1
    assert [teller.thread_id] == list(await made.shared.thread_ids(after=None, limit=9))
