"""A listing's filters say the same of a state as SQLite says of its row; the laws of Redis compare whole pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from eventstore.admission import Head, Lifecycle
from eventstore.codex.metadata import EMPTY
from eventstore.documents.params import ListThreadsParams
from eventstore.state import ThreadState
from projections.selection import Selection

SUMMARY = replace(
    EMPTY, preview="seen", name="a name", title="a title", model_provider="openai", source='{"b":1,"a":2}', cwd="/a//b/"
)
THREAD = ThreadState(head=Head(lifecycle=Lifecycle.ACTIVE), summary=SUMMARY, start=0)


def admits(state: ThreadState, **asked: Any) -> bool:
    return Selection.of(ListThreadsParams.model_validate(asked)).admits(state)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"model_providers": []},
        {"model_providers": ["azure", "openai"]},
        {"allowed_sources": [{"a": 2, "b": 1}]},
        {"cwd_filters": ["/x", "/a/./b"]},
        {"search_term": "name\na title\nse"},
        {"search_term": ""},
    ],
)
def test_what_fits_is_admitted(asked: dict[str, Any]) -> None:
    assert admits(THREAD, **asked)


@pytest.mark.parametrize(
    "asked",
    [
        {"archived": True},
        {"model_providers": ["azure"]},
        {"allowed_sources": ["cli"]},
        {"cwd_filters": ["/a"]},
        {"search_term": "Seen"},
    ],
)
def test_what_does_not_fit_is_not(asked: dict[str, Any]) -> None:
    assert not admits(THREAD, **asked)


def test_what_no_listing_shows_is_not_admitted() -> None:
    for state in (
        replace(THREAD, summary=replace(SUMMARY, preview="")),
        replace(THREAD, head=Head(lifecycle=Lifecycle.DELETED)),
        replace(THREAD, head=Head(lifecycle=Lifecycle.ARCHIVED)),
    ):
        assert not admits(state)
