"""A port that passes every call on: what lies in between overrides the calls it is about."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from eventstore.documents.items import Position
from eventstore.documents.params import ListThreadsParams
from eventstore.events import Item
from eventstore.ids import ThreadId
from eventstore.ports import NOTHING_ASKED, Entry, EventFeed, RowPage, ThreadView, ThreadViews


class PassingViews:
    """Views that ask others (port `ThreadViews`)."""

    def __init__(self, views: ThreadViews) -> None:
        self.views = views

    async def reach(self, position: Position, thread_id: ThreadId, *, within: float) -> ThreadView | None:
        return await self.views.reach(position, thread_id, within=within)

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        return await self.views.get(thread_id, span=span, at_least=at_least)

    async def refold(self, thread_id: ThreadId, *, within: float) -> None:
        await self.views.refold(thread_id, within=within)

    async def page(
        self, query: ListThreadsParams, *, exact: bool = False, at_least: Mapping[int, int] = NOTHING_ASKED
    ) -> RowPage:
        return await self.views.page(query, exact=exact, at_least=at_least)

    async def matching(self, prefix: str, *, limit: int, deleted: bool = False) -> Sequence[ThreadId]:
        return await self.views.matching(prefix, limit=limit, deleted=deleted)

    async def thread_ids(self, *, after: ThreadId | None, limit: int) -> Sequence[ThreadId]:
        return await self.views.thread_ids(after=after, limit=limit)


class PassingFeed:
    """A feed that reads another (port `EventFeed`)."""

    def __init__(self, feed: EventFeed) -> None:
        self.feed = feed

    @property
    def identity(self) -> str:
        return self.feed.identity

    @property
    def partitions(self) -> int:
        return self.feed.partitions

    def partition_of(self, thread_id: ThreadId) -> int:
        return self.feed.partition_of(thread_id)

    async def end(self, partition: int) -> int:
        return await self.feed.end(partition)

    async def ends(self, partitions: Sequence[int]) -> Sequence[int]:
        return [await self.end(partition) for partition in partitions]

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        return await self.feed.read(partition, start=start, limit=limit)

    async def replay(self, thread_id: ThreadId, *, start: int, stop: int) -> AsyncIterator[Sequence[Entry]]:
        async for entries in self.feed.replay(thread_id, start=start, stop=stop):
            yield entries

    async def fetch(self, thread_id: ThreadId, offsets: Sequence[int]) -> Sequence[Sequence[Item]]:
        return await self.feed.fetch(thread_id, offsets)
