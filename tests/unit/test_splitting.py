"""How many bytes an append takes, and where it is cut into records."""

from __future__ import annotations

import pytest

from eventstore import splitting
from eventstore.errors import AppendTooLarge
from eventstore.events import Item
from eventstore.splitting import must_fit, size_of, split

OVERHEAD = 32


def of_size(size: int) -> Item:
    return Item(0, "x", "p" * (size - OVERHEAD - 1))


@pytest.mark.parametrize(
    ("item", "size"),
    [
        (Item(0, "ab", "cde"), OVERHEAD + 5),
        (Item(0, "ab", "cde", "fg"), OVERHEAD + 7),
        (Item(0, "ä", "€"), OVERHEAD + 2 + 3),
        (Item(0, "ab", "cde", "ö"), OVERHEAD + 5 + 2),
        (Item(0, "ä", "cde", None), OVERHEAD + 2 + 3),
    ],
)
def test_every_text_is_measured_in_the_bytes_it_takes(item: Item, size: int) -> None:
    assert size_of(item) == size
    assert split([item]) == [([item], size)]


def test_a_record_is_filled_to_the_last_byte_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "RECORD_PAYLOAD", 100)
    half, more, whole = of_size(50), of_size(51), of_size(150)

    assert split([half, half, half]) == [([half, half], 100), ([half], 50)]
    assert split([half, more, half]) == [([half], 50), ([more], 51), ([half], 50)]
    assert split([whole, half]) == [([whole], 150), ([half], 50)], "a larger item has a record of its own"
    assert split([]) == [([], 0)]


def test_an_item_may_be_as_large_as_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "LARGEST_ITEM", 100)
    largest = of_size(100)

    assert split([largest]) == [([largest], 100)]
    with pytest.raises(AppendTooLarge, match="an item of 101 bytes cannot be kept; the most is 100"):
        split([of_size(101)])


def test_a_text_may_take_as_many_bytes_as_the_largest_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "LARGEST_ITEM", 4)
    for fits in ("four", "ää", "\ud83d" * 4):
        must_fit(fits)
    for too_long in ("fives", "äää", "\ud83d" * 5):
        with pytest.raises(AppendTooLarge, match="cannot be kept; the most is 4 bytes"):
            must_fit(too_long)
