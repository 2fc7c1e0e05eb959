"""Patches: each field literally, what is refused, and what an odd one changes, which is nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from eventstore.codex.metadata import (
    EMPTY,
    Summary,
    apply_archived,
    apply_patch,
    apply_unarchived,
    patch_fields,
)
from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
from eventstore.errors import InvalidRequest
from eventstore.events import Field
from tests.support.said import FULL_PATCH, STAMP, STAMP_MICROS, USAGE


def field(name: str, value: object) -> Field:
    return Field(name, None if value is None else json.dumps(value))


def test_every_field_of_a_patch_is_applied_literally() -> None:
    fields_ = patch_fields(FULL_PATCH)
    summary = apply_patch(EMPTY, fields_, occurred_at=2 * STAMP_MICROS)

    assert [f.name for f in fields_][-5:] == ["git_sha", "git_branch", "git_origin", "memory_mode", "project_id"]
    assert len(fields_) == len(ThreadMetadataPatch.model_fields) + 2
    assert summary == Summary(
        name="n",
        preview="p",
        title="t",
        model_provider="mp",
        model="m",
        reasoning_effort="high",
        created_at=STAMP_MICROS,
        updated_at=STAMP_MICROS + 885_000,
        source='{"custom":"x"}',
        thread_source="user",
        agent_nickname="a",
        agent_role="r",
        agent_path="/p",
        cwd="/c",
        cli_version="1",
        approval_mode='"never"',
        permission_profile='{"type":"disabled"}',
        token_usage=json.dumps(USAGE, separators=(",", ":")),
        first_user_message="f",
        git_sha="s",
        git_branch="b",
        git_origin="o",
        memory_mode="disabled",
    )


def test_null_clears_and_absence_leaves() -> None:
    before = apply_patch(EMPTY, patch_fields(FULL_PATCH), occurred_at=1)
    patch = ThreadMetadataPatch(name=None, agent_path=None, model=None, git_info=GitInfoPatch(branch=None))

    after = apply_patch(before, patch_fields(patch), occurred_at=1)

    assert patch_fields(patch) == (Field("name", None), Field("agent_path", None), Field("git_branch", None))
    assert after == replace(before, name=None, agent_path=None, git_branch=None)


NOT_SHOWN = {"rollout_path", "advance_recency_at", "project_id"}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["cli", "enabled", STAMP]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["custom", "total_tokens", "sha", "a"]) | st.text(max_size=3), inner, max_size=2
        )
    ),
    max_leaves=4,
)


@given(st.sampled_from(sorted(ThreadMetadataPatch.model_fields.keys() - NOT_SHOWN)), JSON_VALUES)
def test_what_a_patch_says_is_refused_or_shown(name: str, value: object) -> None:
    """There is no third way: a value that is taken, and changes nothing."""
    try:
        said = patch_fields(ThreadMetadataPatch.model_validate({name: value}))
    except (ValidationError, InvalidRequest):
        return
    full = apply_patch(EMPTY, patch_fields(FULL_PATCH), occurred_at=1)
    shown = [apply_patch(before, said, occurred_at=1) for before in (EMPTY, full)]
    for one in said:
        upon_nothing, upon_all = (getattr(summary, one.name) for summary in shown)
        assert upon_nothing == upon_all, f"{one} was taken, and what was there before is still shown"
        if one.name in ("source", "approval_mode", "permission_profile", "token_usage"):
            assert json.loads(upon_nothing) == json.loads(one.value or "")


@pytest.mark.parametrize("far", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_that_utc_does_not_know_is_refused(far: str) -> None:
    with pytest.raises(ValidationError, match="before the year 1 or behind the year 9999"):
        ThreadMetadataPatch.model_validate({"created_at": far})


def test_an_empty_patch_has_no_fields_and_still_moves_the_time() -> None:
    assert patch_fields(ThreadMetadataPatch(git_info=GitInfoPatch())) == ()
    assert apply_patch(EMPTY, (), occurred_at=5) == Summary(updated_at=5)
    assert apply_patch(Summary(updated_at=9), (), occurred_at=5) == Summary(updated_at=9)


@pytest.mark.parametrize(
    "odd",
    [
        field("not_invented_yet", 1),
        field("not_invented_yet", None),
        field("created_at", None),
        field("created_at", "yesterday"),
        field("created_at", 5),
        field("name", 5),
        field("cwd", None),
        field("cwd", []),
        field("memory_mode", "maybe"),
        field("memory_mode", []),
        field("token_usage", {"total_tokens": "x"}),
        field("source", 5),
        field("approval_mode", 5),
        field("imported", "x"),
        field("archived_at", 5),
        field("history_mode", "paginated"),
        Field("name", "{"),
    ],
)
def test_an_odd_field_changes_nothing(odd: Field) -> None:
    before = apply_patch(EMPTY, patch_fields(FULL_PATCH), occurred_at=1)
    assert apply_patch(before, [odd], occurred_at=1) == before


def test_a_patch_says_where_an_import_came_from() -> None:
    origin = {"name": "rollout-x.jsonl", "archived": False}
    summary = apply_patch(EMPTY, [field("imported", origin)], occurred_at=1)
    assert json.loads(summary.imported or "") == origin


def test_half_a_character_in_a_patch_does_not_reach_the_views() -> None:
    assert apply_patch(EMPTY, [field("name", "a\ud83d")], occurred_at=1).name == "a\ufffd"


def test_archiving_is_undone_by_unarchiving() -> None:
    archived = apply_archived(Summary(updated_at=5), 7)
    assert archived == Summary(updated_at=7, archived_at=7)
    assert apply_unarchived(archived, 6) == Summary(updated_at=7)
