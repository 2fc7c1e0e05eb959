"""A store at a server of Kafka and Redis: what the contract suite holds it to on a file, in one life of a thread."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from eventstore import ListThreadsParams, ReadThreadParams
from eventstore.errors import InvalidRequest, ThreadNotFound, WriterFenced
from tests.support.cluster import ClusterEngine
from tests.support.remote import RemoteEngine
from tests.support.threads import archive, created, delete, page, patch, read, resume, said, say, say_and_flush, texts


@pytest.fixture
async def engine() -> AsyncIterator[RemoteEngine]:
    engine = RemoteEngine(ClusterEngine())
    yield engine
    await engine.end()


async def test_a_thread_lives_its_life(engine: RemoteEngine) -> None:
    one, two = await engine.open(), await engine.open()
    thread_id = await created(one)
    await say(one, thread_id, "one")
    await one.flush_thread(thread_id)
    token = (await say(one, thread_id, "two")).token
    seen = await two.read_thread(ReadThreadParams(thread_id=thread_id, at_least=token))
    await resume(two, thread_id)
    await say_and_flush(two, thread_id, "three")
    with pytest.raises(WriterFenced):
        await say_and_flush(one, thread_id, "too late")
    await one.discard_thread(thread_id)
    await two.shutdown_thread(thread_id)
    renamed = await patch(one, thread_id, name="a name", expected_version=4)

    assert 3 == seen.item_count
    assert ["one", "two", "three"] == await said(one, thread_id) == texts(await page(two, thread_id))
    assert ("a name", 5) == (renamed.name, (await read(two, thread_id)).version)
    await archive(two, thread_id)
    assert () == (await one.list_threads(ListThreadsParams(exact=True))).items
    await delete(one, thread_id)
    with pytest.raises(InvalidRequest):
        await said(two, thread_id)
    with pytest.raises(ThreadNotFound):
        await delete(two, thread_id)
