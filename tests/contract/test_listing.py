"""Listing: which threads, in which order, page by page (contract §5.1-5.2, §8 G)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventstore import ListThreadsParams, RolloutItem, StoredThread, ThreadPage, ThreadStore, new_thread_id
from eventstore.errors import InvalidRequest
from eventstore.ids import ThreadId
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    append,
    archive,
    created,
    patch,
    read,
    say,
    user_message,
)

NOON = datetime(2025, 1, 3, 12, tzinfo=UTC)
KEYS = ["CreatedAt", "UpdatedAt"]
DIRECTIONS = ["Asc", "Desc"]


async def page(store: ThreadStore, **asked: Any) -> ThreadPage:
    return await store.list_threads(ListThreadsParams(**asked))


async def listed(store: ThreadStore, **asked: Any) -> list[ThreadId]:
    return ids((await page(store, **asked)).items)


async def found(store: ThreadStore, **asked: Any) -> set[ThreadId]:
    """Return what is listed where only the filters matter: threads of one millisecond stand in any order."""
    threads = await listed(store, **asked)
    assert len(threads) == len(set(threads))
    return set(threads)


def ids(threads: tuple[StoredThread, ...]) -> list[ThreadId]:
    return [thread.thread_id for thread in threads]


async def all_pages(store: ThreadStore, **asked: Any) -> list[list[ThreadId]]:
    cursor, pages = None, []
    while True:
        found = await page(store, cursor=cursor, **asked)
        pages.append(ids(found.items))
        cursor = found.next_cursor
        if cursor is None:
            return pages


async def a_thread_at(store: ThreadStore, minutes: float, *, updated: float | None = None, **given: Any) -> ThreadId:
    """Make a thread created (and updated) so many minutes after noon."""
    thread_id = await a_cold_thread(store, **given)
    later = minutes if updated is None else updated
    await patch(
        store, thread_id, created_at=NOON + timedelta(minutes=minutes), updated_at=NOON + timedelta(minutes=later)
    )
    return thread_id


async def test_both_keys_sort_in_both_directions(store: ThreadStore) -> None:
    a = await a_thread_at(store, 1, updated=9)
    b = await a_thread_at(store, 3, updated=7)
    c = await a_thread_at(store, 2, updated=8)

    assert [a, c, b] == await listed(store, sort_key="CreatedAt", sort_direction="Asc")
    assert [b, c, a] == await listed(store, sort_key="CreatedAt", sort_direction="Desc")
    assert [b, c, a] == await listed(store, sort_key="UpdatedAt", sort_direction="Asc")
    assert [a, c, b] == await listed(store, sort_key="UpdatedAt", sort_direction="Desc")
    assert [b, c, a] == await listed(store)


async def test_what_is_said_moves_a_thread_in_the_order_of_updates_only(store: ThreadStore) -> None:
    old, new = await a_live_thread(store), await a_live_thread(store)
    await patch(store, old, created_at=NOON, updated_at=NOON)
    await patch(store, new, created_at=NOON + timedelta(1), updated_at=NOON + timedelta(1))

    await append(store, old, RolloutItem("turn_context", {"model": "gpt-9"}))
    await store.flush_thread(old)

    assert [old, new] == await listed(store, sort_key="UpdatedAt", sort_direction="Desc")
    assert [new, old] == await listed(store, sort_key="CreatedAt", sort_direction="Desc")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_cursors_lose_no_ties_at_any_page_size(store: ThreadStore, key: str, direction: str) -> None:
    for minutes in (0, 1, 1, 1, 1, 1, 2):
        await a_thread_at(store, minutes)
    whole = await listed(store, sort_key=key, sort_direction=direction)
    assert 7 == len(set(whole))

    for size in range(1, 9):
        pages = await all_pages(store, sort_key=key, sort_direction=direction, page_size=size)
        assert whole == [thread for threads in pages for thread in threads]
        assert [min(size, 7 - start) for start in range(0, 7, size)] == list(map(len, pages))


async def test_descending_is_ascending_backwards_ties_included(store: ThreadStore) -> None:
    for _ in range(5):
        await a_thread_at(store, 1)

    ascending = await listed(store, sort_direction="Asc")

    assert ascending[::-1] == await listed(store, sort_direction="Desc")
    assert 5 == len(ascending)


@pytest.mark.parametrize(
    "cursor",
    ["2025-01-03T13:00:00Z", "2025-01-03T13-00-00", "2025-01-03T14:00:00.000+01:00", "2025-01-03T13:00:00.000000Z"],
)
async def test_a_bare_timestamp_is_a_cursor_strictly_beyond_it(store: ThreadStore, cursor: str) -> None:
    before, at, after = [await a_thread_at(store, minutes) for minutes in (59, 60, 61)]

    assert [before] == await listed(store, cursor=cursor, sort_direction="Desc")
    assert [after] == await listed(store, cursor=cursor, sort_direction="Asc")
    assert at in await listed(store)


@pytest.mark.parametrize(
    "cursor",
    [
        "not-a-cursor",
        "",
        "2025-01-03",
        "2025-01-03T13:00:00",
        "2025-01-03T13:00:00Z|no-uuid",
        "9" * 30,
        "|",
        "2025-13-03T13-00-00",
    ],
)
async def test_what_is_no_cursor_is_refused(store: ThreadStore, cursor: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await page(store, cursor=cursor)

    assert f"invalid cursor: {cursor}" == str(refused.value)


async def test_a_cursor_serves_the_other_direction_and_other_filters(store: ThreadStore) -> None:
    a, b, c, d = [await a_thread_at(store, minutes) for minutes in range(4)]
    cursor = (await page(store, page_size=2)).next_cursor

    assert [b, a] == await listed(store, cursor=cursor)
    assert [d] == await listed(store, cursor=cursor, sort_direction="Asc")
    assert [a] == (await listed(store, cursor=cursor, sort_direction="Desc", search_term="hello"))[1:]
    assert c not in await listed(store, cursor=cursor)


async def test_page_sizes_nothing_exact_and_huge(store: ThreadStore) -> None:
    for minutes in range(3):
        await a_thread_at(store, minutes)

    for size, expected in ((0, 0), (3, 3), (4, 3), (10**30, 3)):
        found = await page(store, page_size=size)
        assert (expected, None) == (len(found.items), found.next_cursor)


async def test_threads_created_between_two_pages_neither_shift_nor_repeat_anything(store: ThreadStore) -> None:
    threads = [await a_thread_at(store, minutes) for minutes in range(5)]
    first = await page(store, page_size=2)
    await a_thread_at(store, 10)
    await a_thread_at(store, 2.5)

    second = await page(store, page_size=99, cursor=first.next_cursor)

    assert threads[:2:-1] == ids(first.items)
    assert threads[2::-1] == [thread for thread in ids(second.items) if thread in threads]


async def test_archived_and_active_threads_are_never_in_one_listing(store: ThreadStore) -> None:
    active, archived = await a_cold_thread(store), await a_cold_thread(store)
    await archive(store, archived)

    for threads, asked in (([active], False), ([archived], True)):
        found = (await page(store, archived=asked)).items
        assert (threads, [asked]) == (ids(found), [thread.archived_at is not None for thread in found])


async def test_threads_without_a_user_message_are_readable_and_not_listed(store: ThreadStore) -> None:
    silent = await created(store)
    await say(store, silent, "only the agent")
    await append(store, silent, RolloutItem("response_item", {"type": "message", "role": "user", "content": []}))
    await store.flush_thread(silent)
    assert ("", 3) == ((await read(store, silent)).preview, (await read(store, silent)).item_count)
    assert [] == await listed(store)

    await append(store, silent, user_message("at last"))
    await store.flush_thread(silent)
    assert [silent] == await listed(store)


async def test_an_image_or_a_goal_makes_a_thread_listed(store: ThreadStore) -> None:
    pictured, aiming = await created(store), await created(store)
    await append(
        store,
        pictured,
        RolloutItem("event_msg", {"type": "user_message", "message": " ", "images": ["data:…"]}),
    )
    await append(
        store, aiming, RolloutItem("event_msg", {"type": "thread_goal_updated", "goal": {"objective": " win "}})
    )
    for thread_id in (pictured, aiming):
        await store.flush_thread(thread_id)

    previews = {thread.thread_id: thread.preview for thread in (await page(store)).items}
    assert {pictured: "[Image]", aiming: "win"} == previews


async def test_a_patch_of_the_preview_makes_a_thread_listed(store: ThreadStore) -> None:
    """What an agent of its own kind has said need not be any of Codex's events."""
    thread_id = await created(store)
    await append(store, thread_id, RolloutItem("mine", {"text": "hello"}))
    await patch(store, thread_id, name="named", first_user_message="no preview")
    assert [] == await listed(store)

    await patch(store, thread_id, preview="shown")
    assert ["shown"] == [thread.preview for thread in (await page(store)).items]


async def test_a_listed_thread_is_the_thread_as_read_with_its_name(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)
    await patch(store, thread_id, name="A name")

    (thread,) = (await page(store)).items

    assert "A name" == thread.name
    assert await read(store, thread_id) == thread


async def test_providers_none_and_nothing_mean_all(store: ThreadStore) -> None:
    ours, theirs = [
        await a_cold_thread(store, metadata={"model_provider": provider}) for provider in ("openai", "azure")
    ]

    assert {theirs, ours} == await found(store, model_providers=None)
    assert {theirs, ours} == await found(store, model_providers=[])
    assert {theirs} == await found(store, model_providers=["azure", "nobody"])
    assert {theirs, ours} == await found(store, model_providers=["openai", "azure", "openai"])
    assert set() == await found(store, model_providers=["AZURE"])


async def test_directories_none_means_all_nothing_means_none_and_spelling_does_not_matter(store: ThreadStore) -> None:
    here, there = [await a_cold_thread(store, metadata={"cwd": cwd}) for cwd in ("/srv/here", "/srv//there/")]

    assert {there, here} == await found(store, cwd_filters=None)
    assert set() == await found(store, cwd_filters=[])
    assert {here} == await found(store, cwd_filters=["/srv/./there/../here/"])
    assert {there} == await found(store, cwd_filters=["/srv/there", "/srv"])


async def test_sources_are_compared_whole_objects_too(store: ThreadStore) -> None:
    spawn = {"subagent": {"thread_spawn": {"parent_thread_id": new_thread_id(), "depth": 1}}}
    sources: list[Any] = ["cli", "vscode", {"custom": "atlas"}, spawn]
    cli, vscode, atlas, spawned = [await a_cold_thread(store, source=source) for source in sources]
    turned = {"subagent": {"thread_spawn": dict(reversed(spawn["subagent"]["thread_spawn"].items()))}}

    assert {spawned, atlas, vscode, cli} == await found(store, allowed_sources=[])
    assert {cli} == await found(store, allowed_sources=["cli"])
    assert {atlas, vscode} == await found(store, allowed_sources=["vscode", {"custom": "atlas"}])
    assert {spawned} == await found(store, allowed_sources=[turned])
    assert set() == await found(store, allowed_sources=[{"custom": "Atlas"}, "exec"])
    shown = {thread.thread_id: thread.source for thread in (await page(store)).items}
    assert dict(zip((cli, vscode, atlas, spawned), sources, strict=True)) == shown


async def test_a_search_finds_names_titles_and_previews_case_sensitively(store: ThreadStore) -> None:
    named, titled, seen, other = [await a_cold_thread(store, text) for text in ("one", "two", "a Needle here", "four")]
    await patch(store, named, name="Needle thread")
    await patch(store, titled, title="The Needle")

    assert {seen, titled, named} == await found(store, search_term="Needle")
    assert set() == await found(store, search_term="needle")
    assert {other} == await found(store, search_term="four")
    assert {other, seen, titled, named} == await found(store, search_term="")
    assert set() == await found(store, search_term="%")


async def test_filters_are_joined_by_and(store: ThreadStore) -> None:
    for source in ("cli", "vscode"):
        for provider in ("openai", "azure"):
            for cwd in ("/a", "/b"):
                given: dict[str, Any] = {"source": source, "metadata": {"model_provider": provider, "cwd": cwd}}
                await a_cold_thread(store, f"{source} {provider} {cwd}", **given)

    asked = {"allowed_sources": ["cli"], "model_providers": ["azure"], "cwd_filters": ["/a", "/b"]}
    both = (await page(store, **asked)).items
    assert {"cli azure /a", "cli azure /b"} == {thread.preview for thread in both}
    assert [[thread] for thread in ids(both)] == await all_pages(store, page_size=1, **asked)
    (one,) = (await page(store, search_term="e /a", **asked)).items
    assert "cli azure /a" == one.preview


async def test_every_filter_pages_without_loss_in_both_directions(store: ThreadStore) -> None:
    for number in range(12):
        given: dict[str, Any] = {
            "source": ("cli", "vscode")[number % 2],
            "metadata": {"model_provider": ("openai", "azure")[number % 2], "cwd": ("/a", "/b", "/c")[number % 3]},
        }
        await a_thread_at(store, number // 4, **given)
    everything = set(await listed(store))

    for asked in (
        {"allowed_sources": ["cli", "vscode"]},
        {"model_providers": ["openai", "azure"]},
        {"cwd_filters": ["/a", "/b", "/c"]},
    ):
        for direction in DIRECTIONS:
            pages = await all_pages(store, page_size=5, sort_direction=direction, **asked)
            assert [5, 5, 2] == list(map(len, pages))
            assert everything == {thread for threads in pages for thread in threads}
            assert pages[0] + pages[1] + pages[2] == await listed(store, sort_direction=direction)


async def test_an_empty_store_lists_nothing_until_there_is_something(store: ThreadStore) -> None:
    assert ThreadPage(items=()) == await page(store)

    thread_id = await a_live_thread(store)
    assert [thread_id] == await listed(store)
