"""Pages of threads from the views in Redis: every partition gives its candidates, the winners' states come after.

One round trip to each shard for ids and sort values, one for states; no state is read that no page may show. Filters
that have no lists of their own are applied to the candidates, of which a call looks at so many and no more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from typing import NamedTuple, TypeAlias

from eventstore.documents.params import ListThreadsParams, SortDirection, ThreadSortKey
from eventstore.ids import ThreadId
from eventstore.state import ThreadState
from projections.fold import fold_in_force
from projections.redis_coding import StoredThread, thread_of, threads_of
from projections.redis_shards import Argument, Reply, Shards, script
from projections.selection import ACTIVE_SHELF, ARCHIVED_SHELF, Cursor

_CANDIDATE = struct.Struct(">d16s")
_LISTS = {ThreadSortKey.CREATED_AT: "c", ThreadSortKey.UPDATED_AT: "u"}


Checkpoints: TypeAlias = Mapping[int, int]
"""How far each partition that answered is folded."""


Candidate: TypeAlias = "tuple[float, bytes]"
"""Sort value and binary id of a thread that a list holds; candidates compare as they are listed, ties by their ids."""


class Candidates(NamedTuple):
    """Some candidates, in the order of the list."""

    those: Sequence[Candidate]
    more: bool
    """Whether there may be others behind them."""


@dataclass(frozen=True, slots=True)
class Question:
    """A listing's question, as partitions are asked it."""

    kind: str
    descending: bool
    providers: tuple[str, ...]
    """Whose lists are asked for; empty: all."""

    @classmethod
    def of(cls, query: ListThreadsParams) -> Question:
        shelf = ARCHIVED_SHELF if query.archived else ACTIVE_SHELF
        return cls(
            kind=f"{_LISTS[query.sort_key]}{shelf}",
            descending=query.sort_direction is SortDirection.DESC,
            providers=tuple(dict.fromkeys(query.model_providers or ())),
        )

    def arguments(self, cursor: Cursor | None, limit: int) -> list[Argument]:
        score = "" if cursor is None else cursor.micros
        key = b"" if cursor is None or cursor.thread is None else cursor.thread
        return [fold_in_force(), self.kind, int(self.descending), limit, score, key, *self.providers]


class RedisListing:
    """Reads pages and ids over all partitions."""

    def __init__(self, shards: Shards, *, partitions: int, partition_of: Callable[[ThreadId], int]) -> None:
        self._shards = shards
        self._partition_of = partition_of
        self._partitions = range(partitions)

    async def candidates(
        self, question: Question, cursor: Cursor | None, limit: int, *, each: int
    ) -> tuple[Checkpoints, Candidates]:
        """Return the first candidates behind the cursor, at most `limit`; every list is asked for `each` of them.

        There may be fewer though there are more, but not if `each` is `limit`.

        Raises:
            ViewsUnavailable: A partition cannot be read.
        """
        arguments = question.arguments(cursor, each)
        replies = await self._shards.run_all(script("page"), dict.fromkeys(self._partitions, arguments))
        found: list[Candidate] = []
        ends: list[Candidate] = []
        for _, _, packed, packed_ends in replies.values():
            found += _CANDIDATE.iter_unpack(packed)
            ends += _CANDIDATE.iter_unpack(packed_ends)
        # What a list holds behind the last that it gave stands behind that one: up to the first such end all are known.
        if ends and question.descending:
            end = max(ends)
            found = [candidate for candidate in found if candidate >= end]
        elif ends:
            end = min(ends)
            found = [candidate for candidate in found if candidate <= end]
        first = nlargest if question.descending else nsmallest
        return _checkpoints(replies), Candidates(first(limit, found), more=bool(ends) or len(found) > limit)

    async def states(self, candidates: Sequence[Candidate]) -> tuple[Checkpoints, dict[bytes, ThreadState]]:
        """Return how far their partitions are folded, and the states of those candidates that are there still.

        Raises:
            ViewsUnavailable: A partition cannot be read.
            DamagedView: A state cannot be decoded.
        """
        keys: dict[int, list[bytes]] = {}
        for _, key in candidates:
            keys.setdefault(self._partition_of(thread_of(key)), []).append(key)
        calls: dict[int, Sequence[Argument]] = {
            partition: ["", fold_in_force(), *asked] for partition, asked in keys.items()
        }
        replies = await self._shards.run_all(script("snapshot"), calls)
        states = {
            key: StoredThread(key, stored).state()
            for partition, asked in keys.items()
            for key, stored in zip(asked, replies[partition][3:], strict=True)
            if stored is not None
        }
        return _checkpoints(replies), states

    async def ids(self, low: bytes, high: bytes, limit: int, *, deleted: bool) -> tuple[Checkpoints, list[ThreadId]]:
        """Return the first ids between two bounds, as ZRANGE BYLEX takes them, of deleted threads or of all others.

        Raises:
            ViewsUnavailable: A partition cannot be read.
        """
        arguments: list[Argument] = ["", fold_in_force(), "d" if deleted else "i", low, high, limit]
        replies = await self._shards.run_all(script("ids"), dict.fromkeys(self._partitions, arguments))
        found = sorted(thread for _, _, keys in replies.values() for thread in threads_of(keys))
        return _checkpoints(replies), found[:limit]


def _checkpoints(replies: Mapping[int, Reply]) -> Checkpoints:
    return {partition: reply[1] for partition, reply in replies.items()}
