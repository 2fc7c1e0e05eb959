"""Consistency tokens: what one process was told of an append or a command, another one's read reflects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest

from eventstore import (
    ArchiveThreadParams,
    DeleteThreadParams,
    ListThreadsParams,
    LoadThreadHistoryParams,
    Position,
    ReadItemsParams,
    ReadThreadParams,
    StoredThread,
    ThreadStore,
    open_store,
)
from eventstore.errors import InvalidRequest
from eventstore.ids import ThreadId
from eventstore.tokens import _read, merged, token_at
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    append,
    created,
    patch,
    resume,
    say,
    texts,
    unarchive,
    user_message,
)


async def reading(store: ThreadStore, thread_id: ThreadId, token: str | None) -> StoredThread:
    return await store.read_thread(ReadThreadParams(thread_id=thread_id, include_archived=True, at_least=token))


async def listing(store: ThreadStore, token: str | None, **asked: object) -> dict[ThreadId, StoredThread]:
    params = ListThreadsParams.model_validate({"at_least": token, "page_size": 99, **asked})
    return {thread.thread_id: thread for thread in (await store.list_threads(params)).items}


async def loading(store: ThreadStore, thread_id: ThreadId, token: str | None) -> list[str]:
    return texts(await store.load_history(LoadThreadHistoryParams(thread_id=thread_id, at_least=token)))


async def paging(store: ThreadStore, thread_id: ThreadId, token: str | None) -> list[str]:
    return texts(await store.read_items(ReadItemsParams(thread_id=thread_id, at_least=token)))


async def streaming(store: ThreadStore, thread_id: ThreadId, token: str | None) -> list[str]:
    params = LoadThreadHistoryParams(thread_id=thread_id, at_least=token)
    return texts([item async for item in store.iter_history(params)])


async def test_an_append_that_nobody_flushed_is_in_what_its_token_is_given_to(
    store: ThreadStore, elsewhere: ThreadStore
) -> None:
    thread_id = await a_live_thread(store, "one")
    for number in range(2, 7):
        token = (await say(store, thread_id, f"{number}")).token

        assert token is not None
        everything = ["one", *map(str, range(2, number + 1))]
        assert number + 1 == (await reading(elsewhere, thread_id, token)).item_count
        assert everything == await loading(elsewhere, thread_id, token)
        assert everything == await paging(elsewhere, thread_id, token)
        assert everything == await streaming(elsewhere, thread_id, token)
        assert number + 1 == (await listing(elsewhere, token))[thread_id].item_count
    history = (await elsewhere.read_thread(ReadThreadParams(thread_id=thread_id, include_history=True))).history
    assert history is not None


async def test_an_exact_listing_has_what_nobody_flushed(store: ThreadStore, elsewhere: ThreadStore) -> None:
    threads = [await a_live_thread(store, "one") for _ in range(4)]
    for thread_id in threads:
        await say(store, thread_id, "two")

    found = await listing(elsewhere, None, exact=True)
    assert dict.fromkeys(threads, 3) == {thread_id: thread.item_count for thread_id, thread in found.items()}


async def test_every_acknowledgement_has_a_token(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await created(store)
    assert await store.flush_thread(thread_id) is None, "nothing is stored"
    assert (await append(store, thread_id, user_message("one"))).token is None, "it is not in the log"
    assert 2 == (await reading(elsewhere, thread_id, await store.flush_thread(thread_id))).item_count
    assert (await append(store, thread_id)).token is None, "nothing was appended"
    named = await append(store, thread_id, user_message("two"), append_id="0197c1d0-0000-7000-8000-000000000001")
    again = await append(store, thread_id, user_message("two"), append_id="0197c1d0-0000-7000-8000-000000000001")
    assert (0, True) == (again.appended, again.token is not None)
    for receipt in (named, again):
        assert 3 == (await reading(elsewhere, thread_id, receipt.token)).item_count
    persisted = await store.persist_thread(thread_id)
    assert 3 == (await reading(elsewhere, thread_id, persisted)).item_count
    await say(store, thread_id, "three")
    assert 4 == (await reading(elsewhere, thread_id, await store.shutdown_thread(thread_id))).item_count

    renamed = (await patch(store, thread_id, name="a name")).token
    assert "a name" == (await listing(elsewhere, renamed))[thread_id].name
    archived = await store.archive_thread(ArchiveThreadParams(thread_id=thread_id))
    assert [thread_id] == [*await listing(elsewhere, archived, archived=True)]
    assert [] == [*await listing(elsewhere, archived)]
    back = (await unarchive(store, thread_id)).token
    assert [thread_id] == [*await listing(elsewhere, back)]
    deleted = await store.delete_thread(DeleteThreadParams(thread_id=thread_id))
    assert [] == [*await listing(elsewhere, deleted)]
    with pytest.raises(InvalidRequest, match="no rollout found"):
        await reading(elsewhere, thread_id, deleted)
    assert None not in (renamed, archived, back, deleted, persisted)


async def test_a_repetition_after_a_resume_has_a_token_behind_what_it_repeats(
    store: ThreadStore, elsewhere: ThreadStore
) -> None:
    name = "0197c1d0-0000-7000-8000-000000000001"
    thread_id = await a_live_thread(store, "one")
    await append(store, thread_id, user_message("two"), append_id=name)
    await store.shutdown_thread(thread_id)
    await resume(elsewhere, thread_id)

    again = await append(elsewhere, thread_id, user_message("two"), append_id=name)

    assert (0, True) == (again.appended, again.token is not None)
    assert ["one", "two"] == await loading(store, thread_id, again.token)


async def test_tokens_of_many_threads_are_one(store: ThreadStore, elsewhere: ThreadStore) -> None:
    threads = [await a_live_thread(store, "one") for _ in range(6)]
    tokens = [(await say(store, thread_id, "two")).token for thread_id in threads]

    token = merged([token for token in tokens if token is not None])
    found = await listing(elsewhere, token)
    assert dict.fromkeys(threads, 3) == {thread_id: thread.item_count for thread_id, thread in found.items()}
    for thread_id in threads:
        assert 3 == (await reading(elsewhere, thread_id, token)).item_count
    assert merged([]) is None


Read: TypeAlias = Callable[[ThreadStore, ThreadId, str | None], Awaitable[object]]


async def listed(store: ThreadStore, thread_id: ThreadId, token: str | None) -> object:
    return await listing(store, token)


READS: list[Read] = [reading, loading, paging, streaming, listed]


@pytest.fixture
async def another_log() -> AsyncIterator[ThreadStore]:
    async with open_store("sqlite::memory:") as store:
        yield store


async def test_a_token_of_another_log_is_refused(store: ThreadStore, another_log: ThreadStore) -> None:
    thread_id = await a_cold_thread(store, "one")
    token = (await say(another_log, await a_live_thread(another_log), "there")).token
    for read in READS:
        assert await read(store, thread_id, None)
        with pytest.raises(InvalidRequest, match=r"is of the log sqlite/.*, and this is "):
            await read(store, thread_id, token)
    with pytest.raises(InvalidRequest, match="of two logs"):
        merged([token or "", (await say(store, await a_live_thread(store), "here")).token or ""])


@pytest.mark.parametrize("token", ["", "nonsense", "0:1", "\N{SNOWMAN}", "A" * 400, "AAAAAA==", "eyJhIjogMX0"])
async def test_what_is_no_token_is_refused(store: ThreadStore, token: str) -> None:
    thread_id = await a_cold_thread(store, "one")
    for read in READS:
        with pytest.raises(InvalidRequest, match="is no consistency token"):
            await read(store, thread_id, token)


def parts_of(token: str | None) -> tuple[str, list[tuple[int, int]]]:
    """Return the log's identity, and the last offset of each partition."""
    log, offsets = _read(token or "")
    return log, list(offsets.items())


async def test_a_token_that_names_what_the_log_does_not_hold_is_refused(store: ThreadStore) -> None:
    """Of a log that was cut, or restored from a backup; waiting for it would be in vain."""
    thread_id = await a_live_thread(store, "one")
    log, ((partition, _),) = parts_of(await store.shutdown_thread(thread_id))
    token = token_at(log, Position(partition, 10**6))
    for read in READS:
        with pytest.raises(InvalidRequest, match=r"names offset 1000000 of partition .*, and the log ends at"):
            await read(store, thread_id, token)
