"""Metadata: what items imply and what patches say (contract §1.4, §2.11, §4)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue

from eventstore import (
    ReadThreadParams,
    RolloutItem,
    ThreadMetadataPatch,
    ThreadStore,
    UpdateThreadMetadataParams,
    new_thread_id,
)
from eventstore.documents.patch import GitInfoPatch
from eventstore.documents.threads import GitInfo, ThreadMemoryMode, TokenUsage
from eventstore.errors import AppendTooLarge, InvalidRequest, Unsupported, WrongExpectedVersion
from tests.support.engines import Engine
from tests.support.faults import FaultyLog, OvertakenViews
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    an_archived_thread,
    append,
    created,
    delete,
    patch,
    read,
    say,
    user_message,
)


async def test_items_imply_metadata(store: ThreadStore) -> None:
    thread_id = await created(
        store, source="vscode", cli_version="1.2.3", metadata={"cwd": "/work", "model_provider": "azure"}
    )
    usage: dict[str, JsonValue] = {"input_tokens": 5, "total_tokens": 7}
    await append(
        store,
        thread_id,
        RolloutItem("turn_context", {"model": "gpt-9", "effort": "high", "approval_policy": "never"}),
        user_message("context\n## My request for Codex:\n do X "),
        user_message("and Y"),
        RolloutItem("event_msg", {"type": "token_count", "info": {"total_token_usage": usage}}),
    )
    await store.flush_thread(thread_id)

    thread = await read(store, thread_id)
    assert ("do X", "do X", None) == (thread.preview, thread.first_user_message, thread.name)
    assert ("vscode", "1.2.3", "/work", "azure") == (
        thread.source,
        thread.cli_version,
        thread.cwd,
        thread.model_provider,
    )
    assert ("gpt-9", "high", "never") == (thread.model, thread.reasoning_effort, thread.approval_mode)
    assert TokenUsage(input_tokens=5, total_tokens=7) == thread.token_usage


async def test_history_comes_with_the_thread_only_when_asked_for(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)

    with_history = await store.read_thread(ReadThreadParams(thread_id=thread_id, include_history=True))

    assert with_history.history is not None
    assert ["session_meta", "event_msg"] == [item.type for item in with_history.history.items]
    assert (await read(store, thread_id)).history is None


async def test_a_combined_patch_is_applied_whole_and_returned(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)

    answered = await patch(
        store,
        thread_id,
        name="A sharper name",
        memory_mode=ThreadMemoryMode.DISABLED,
        git_info=GitInfoPatch(sha="abc", branch="main"),
        updated_at=datetime(2025, 1, 3, 13, tzinfo=UTC),
    )

    assert ("A sharper name", ThreadMemoryMode.DISABLED) == (answered.name, answered.memory_mode)
    assert GitInfo(commit_hash="abc", branch="main") == answered.git_info
    assert datetime(2025, 1, 3, 13, tzinfo=UTC) == answered.updated_at
    assert 3 == answered.version
    assert answered.model_copy(update={"token": None}) == await read(store, thread_id)


async def test_git_fields_are_kept_cleared_or_set_one_by_one(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)
    await patch(store, thread_id, git_info=GitInfoPatch(sha="x", branch="b", origin_url="o"))

    await patch(store, thread_id, git_info=GitInfoPatch(branch="main", origin_url=None))
    assert GitInfo(commit_hash="x", branch="main") == (await read(store, thread_id)).git_info

    await patch(store, thread_id, git_info=GitInfoPatch(sha=None, branch=None, origin_url=None))
    assert (await read(store, thread_id)).git_info is None


async def test_a_name_is_cleared_by_null_and_kept_by_silence(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)
    await patch(store, thread_id, name="named")
    await patch(store, thread_id, model="gpt-9")
    assert "named" == (await read(store, thread_id)).name

    await patch(store, thread_id, name=None)
    assert (await read(store, thread_id)).name is None


async def test_an_empty_patch_is_a_read(store: ThreadStore) -> None:
    thread_id, unstored = await a_cold_thread(store), await created(store)

    assert await read(store, thread_id) == await patch(store, thread_id)
    assert 2 == (await read(store, thread_id)).version
    with pytest.raises(InvalidRequest, match=f"^thread not found: {unstored}$"):
        await patch(store, unstored)
    with pytest.raises(InvalidRequest, match="no rollout found"):
        await read(store, unstored)


async def test_a_patch_of_a_live_thread_that_was_deleted_elsewhere_finds_none(
    store: ThreadStore, elsewhere: ThreadStore
) -> None:
    """Contract §2.11: not as flush says it, for callers match on the text."""
    thread_id = await a_live_thread(store)
    await delete(elsewhere, thread_id)
    await say(store, thread_id, "too late")

    with pytest.raises(InvalidRequest, match=f"^thread not found: {thread_id}$"):
        await patch(store, thread_id, name="too late")


async def test_a_patch_materialises_a_created_thread_with_what_is_queued(store: ThreadStore) -> None:
    thread_id = await created(store)
    await append(store, thread_id, user_message("queued"))

    answered = await patch(store, thread_id, name="early")

    assert ("early", "queued", 2) == (answered.name, answered.preview, answered.item_count)


async def test_an_archived_thread_stays_archived_when_patched(store: ThreadStore) -> None:
    thread_id = await an_archived_thread(store)
    named = UpdateThreadMetadataParams(thread_id=thread_id, patch=ThreadMetadataPatch(name="no"))
    with pytest.raises(InvalidRequest, match=f"^thread not found: {thread_id}$"):
        await store.update_thread_metadata(named)

    answered = await patch(store, thread_id, name="yes")

    assert ("yes", True) == (answered.name, answered.archived_at is not None)


async def test_a_patch_at_the_expected_version_applies_and_at_another_it_does_not(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)
    seen = (await read(store, thread_id)).version

    await patch(store, thread_id, name="first", expected_version=seen)
    with pytest.raises(WrongExpectedVersion, match=f"thread {thread_id} is at version {seen + 1}, not {seen}"):
        await patch(store, thread_id, name="second", expected_version=seen)
    with pytest.raises(WrongExpectedVersion, match=f"thread {thread_id} is at version {seen + 1}, not {seen}"):
        await patch(store, thread_id, expected_version=seen)  # though it would change nothing

    assert "first" == (await read(store, thread_id)).name


async def test_of_those_who_saw_the_same_version_exactly_one_wins(store: ThreadStore, elsewhere: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)
    seen = (await read(store, thread_id)).version

    async def contend(number: int) -> str:
        answered = await patch((store, elsewhere)[number % 2], thread_id, name=f"{number}", expected_version=seen)
        assert answered.name is not None
        return answered.name

    outcomes = await asyncio.gather(*map(contend, range(10)), return_exceptions=True)

    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert 9 == sum(isinstance(outcome, WrongExpectedVersion) for outcome in outcomes)
    assert (winner, seen + 1) == ((thread := await read(store, thread_id)).name, thread.version)


async def test_a_hundred_patches_at_a_time_count_once_each(store: ThreadStore) -> None:
    thread_id = await a_cold_thread(store)

    await asyncio.gather(*(patch(store, thread_id, name=str(number)) for number in range(100)))

    assert 102 == (await read(store, thread_id)).version


async def test_a_patch_that_many_others_followed_before_its_verdict_was_read_counts_once(
    engine: Engine, elsewhere: ThreadStore
) -> None:
    views = OvertakenViews()
    slow = await engine.open(through=views.through)
    thread_id = await a_cold_thread(elsewhere)

    async def seventy_others() -> None:
        for number in range(70):
            await patch(elsewhere, thread_id, name=str(number))

    views.before_reach = seventy_others
    await patch(slow, thread_id, model="gpt-9", expected_version=2)

    thread = await read(elsewhere, thread_id)
    assert (1, "gpt-9", "69", 73) == (views.fired, thread.model, thread.name, thread.version)


async def test_a_patch_that_came_too_late_is_told_so_though_many_others_followed(
    engine: Engine, elsewhere: ThreadStore
) -> None:
    log, views = FaultyLog(), OvertakenViews()
    slow = await engine.open(through=lambda ports: views.through(log.through(ports)))
    thread_id = await a_cold_thread(elsewhere)

    async def seventy_others() -> None:
        for number in range(70):
            await patch(elsewhere, thread_id, name=str(number))

    log.before_append = lambda: patch(elsewhere, thread_id, name="first")
    views.before_reach = seventy_others
    with pytest.raises(WrongExpectedVersion, match="not 2; read it again"):
        await patch(slow, thread_id, model="gpt-9", expected_version=2)

    thread = await read(elsewhere, thread_id)
    assert (1, None, "69", 73) == (views.fired, thread.model, thread.name, thread.version)


async def test_a_command_whose_answer_was_lost_is_sent_again_and_counts_once(engine: Engine) -> None:
    log = FaultyLog()
    store = await engine.open(through=log.through)
    thread_id = await a_cold_thread(store)
    version = (await read(store, thread_id)).version
    log.lose_answers(2)

    await patch(store, thread_id, name="there")

    thread = await read(store, thread_id)
    assert (2, "there", version + 1) == (log.fired, thread.name, thread.version)


@pytest.mark.parametrize("value", [float("nan"), {"limit": float("inf")}])
async def test_what_json_cannot_hold_is_refused_before_anything_is_queued(store: ThreadStore, value: Any) -> None:
    thread_id = await a_cold_thread(store)

    with pytest.raises(InvalidRequest, match="JSON"):
        await patch(store, thread_id, approval_mode=value)
    with pytest.raises(InvalidRequest, match="JSON"):
        await created(store, source={"custom": value})

    assert (await read(store, thread_id)).version == 2


@pytest.mark.parametrize("source", ["my-agent", "CLI", "", {"x": 1}, {}, {"custom": 3}, {"subagent": "webb"}])
async def test_a_thread_is_not_begun_by_a_source_that_no_patch_may_set(store: ThreadStore, source: Any) -> None:
    """It would be kept as `unknown`."""
    thread_id = new_thread_id()

    with pytest.raises(InvalidRequest, match=r"source cannot be .*: give cli, exec, .* or an object such as"):
        await created(store, thread_id, source=source)
    await created(store, thread_id, source={"custom": "mine"})
    await store.persist_thread(thread_id)

    assert {"custom": "mine"} == (await read(store, thread_id)).source


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"approval_mode": 3}, "approval_mode cannot be 3: give a text or an object"),
        ({"approval_mode": ""}, 'approval_mode cannot be "": give a text or an object'),
        ({"permission_profile": []}, r"permission_profile cannot be \[\]: give a text or an object"),
        ({"permission_profile": {"root": "\ud800"}}, "permission_profile cannot be .*: give a text or an object"),
        ({"source": "webb"}, 'source cannot be "webb": give cli, exec, mcp, unknown, vscode or an object'),
        ({"source": {"custom": 3}}, "source cannot be .*: give cli, exec, "),
        ({"token_usage": {"total_tokens": 1 << 64}}, "token_usage cannot be .*: give an object with counts from 0 to"),
        ({"token_usage": {"total_tokens": -1}}, 'token_usage cannot be {"total_tokens":-1}: give an object'),
        ({"token_usage": {"totl_tokens": 5}}, "token_usage cannot be {}: give an object .* total_tokens"),
        ({"name": "half \ud83d"}, "name cannot be .*: give a text that UTF-8 can carry"),
        ({"git_info": {"branch": "half \ud83d"}}, "git_branch cannot be .*: give a text that UTF-8 can carry"),
    ],
)
async def test_a_value_that_would_change_nothing_is_refused_before_anything_is_stored(
    store: ThreadStore, fields: dict[str, Any], sentence: str
) -> None:
    unstored = await created(store)
    thread_id = await a_cold_thread(store)

    for patched in (thread_id, unstored):
        with pytest.raises(InvalidRequest, match=f"^{sentence}"):
            await patch(store, patched, **{"name": "all or nothing", **fields})

    assert ((await read(store, thread_id)).version, (await read(store, thread_id)).name) == (2, None)
    with pytest.raises(InvalidRequest, match="no rollout found"):
        await read(store, unstored)


async def test_a_project_is_not_promised(store: ThreadStore) -> None:
    """Contract §2.11: a store that keeps none says so."""
    thread_id = await a_cold_thread(store)

    with pytest.raises(Unsupported, match="projects"):
        await patch(store, thread_id, project_id="p1")

    assert (await read(store, thread_id)).version == 2


async def test_what_no_record_can_hold_is_refused_before_anything_is_queued(store: ThreadStore) -> None:
    thread_id, unstored = await a_cold_thread(store), await created(store)

    for patched in (thread_id, unstored):
        with pytest.raises(AppendTooLarge):
            await patch(store, patched, name="x" * 17_000_000)
    with pytest.raises(AppendTooLarge):
        await created(store, base_instructions={"text": "x" * 17_000_000})

    assert (await read(store, thread_id)).version == 2
    with pytest.raises(InvalidRequest, match="no rollout found"):
        await read(store, unstored)


async def test_a_thread_is_as_old_as_its_creation(store: ThreadStore) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    thread_id = await a_live_thread(store)

    assert before <= (await read(store, thread_id)).created_at <= datetime.now(UTC)


async def test_updated_at_moves_with_what_is_said_and_created_at_stays(store: ThreadStore) -> None:
    thread_id = await a_live_thread(store)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    before = await patch(store, thread_id, created_at=long_ago, updated_at=long_ago)
    assert (long_ago, long_ago) == (before.created_at, before.updated_at)

    await say(store, thread_id, "more")
    await store.flush_thread(thread_id)

    after = await read(store, thread_id)
    assert after.created_at == long_ago < after.updated_at
