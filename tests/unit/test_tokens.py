"""Consistency tokens as texts: they come back as they were, and a mistyped one is told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.documents.items import Position
from eventstore.errors import InvalidRequest
from eventstore.tokens import checkpoints_of, merged, token_at

LOG = "kafka/5L6g3nShT-eMCtK--X86sw/threads"
positions = st.builds(Position, st.integers(0, 999), st.integers(0, 2**62))


@given(st.lists(positions, min_size=1, max_size=40))
def test_tokens_joined_name_the_latest_of_each_partition(places: list[Position]) -> None:
    token = merged(token_at(LOG, place) for place in places)

    last = {partition: max(place.offset for place in places if place.partition == partition) for partition, _ in places}
    assert {partition: offset + 1 for partition, offset in last.items()} == checkpoints_of(
        token, log=LOG, partitions=1000
    )
    assert token is not None
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(positions, st.data())
def test_a_mistyped_token_is_told(place: Position, data: st.DataObject) -> None:
    token = token_at(LOG, place)
    at = data.draw(st.integers(0, len(token) - 2))  # of the last letter only some of the bits are taken
    letter = data.draw(st.sampled_from("ABCabc012-_ ").filter(lambda letter: letter != token[at]))

    with pytest.raises(InvalidRequest, match="is no consistency token"):
        checkpoints_of(token[:at] + letter + token[at + 1 :], log=LOG, partitions=1000)


def test_a_partition_that_the_log_does_not_have_is_another_logs() -> None:
    with pytest.raises(InvalidRequest, match="is of the log"):
        checkpoints_of(token_at(LOG, Position(3, 1)), log=LOG, partitions=3)
    assert {} == checkpoints_of(None, log=LOG, partitions=3)
