"""Views that workers keep for many processes, as one of these processes reads them (port `ThreadViews`).

Readers never go back: a process remembers how far it has seen each partition folded, and a lower checkpoint is behind.
What the workers have not folded yet is read from the log where the answer depends on it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TypeAlias, TypeVar

from eventstore.admission import Lifecycle
from eventstore.documents.items import Position
from eventstore.documents.params import ListThreadsParams
from eventstore.errors import LogUnavailable, ViewsBehind, ViewsUnavailable
from eventstore.history import UNSEEN, caught_up
from eventstore.ids import ThreadId
from eventstore.ports import NOTHING_ASKED, EventFeed, RowPage, ThreadRow, ThreadView
from eventstore.state import UNKNOWN_THREAD, ThreadState, spanned
from eventstore.tokens import beyond
from projections.redis_coding import key_of, thread_of
from projections.redis_hints import Hints
from projections.redis_listing import Candidate, Checkpoints, Question, RedisListing
from projections.redis_shards import Shards, closed
from projections.redis_views import Reading, RedisViews
from projections.refold import refold
from projections.selection import Cursor, Selection, format_cursor, ids_beginning_with, parse_cursor

T = TypeVar("T")
Verify: TypeAlias = Callable[[], Awaitable[object]]

CANDIDATES = 2_000
"""Most threads that one page looks at; one that would need more ends early, with a cursor."""
_CANDIDATES_AT_A_TIME = 250
"""Threads looked at together where filters may refuse them."""
_SPARE = 8
"""How many more than its share each list is asked for then: shares are seldom even."""
_POLL_AFTER, _POLL_EVERY = 0.05, 1.0
"""Seconds until views are read again without a hint: at first, and after a while."""
_PATIENCE = 5.0
"""Seconds for which views that cannot be read are tried again by whoever waits: a master may be changing."""


class SharedViews:
    """The views of a log's partitions, for one process of many."""

    def __init__(
        self, feed: EventFeed, shards: Shards, *, partitions: int, within: float = 30.0, verify: Verify | None = None
    ) -> None:
        """Take the log and the shards; `within` is how many seconds a read may take that waits or reads the log.

        `verify` sees whether the views are of this log. It is asked once, before the first look at them.
        """
        self._feed = feed
        self._partitions = partitions
        self._within = within
        self._what_to_do = f"see whether {shards.address} answers and the workers run"
        # Less than a deadline, at which nobody would hear what is wrong.
        self._patience = min(_PATIENCE, within / 2)
        self._stored = RedisViews(shards, partition_of=feed.partition_of)
        self._listing = RedisListing(shards, partitions=partitions, partition_of=feed.partition_of)
        self._hints = Hints(shards)
        self._closed = False
        self._verify = verify
        self._seen: defaultdict[int, int] = defaultdict(int)

    def __repr__(self) -> str:
        return f"<SharedViews {self._stored!r} seen={dict(self._seen)}>"

    async def close(self) -> None:
        """Stop listening for hints; whoever waits is told."""
        self._closed = True
        await self._hints.close()

    async def reach(self, position: Position, thread_id: ThreadId, *, within: float) -> ThreadView | None:
        partition = self._feed.partition_of(thread_id)
        goal = max(position.offset + 1, self._seen[partition])
        try:
            async with asyncio.timeout(within):
                read = await self._reached(partition, thread_id, goal)
        except TimeoutError as exc:
            raise ViewsBehind(
                f"the views of partition {partition} are at {self._seen[partition]}, and did not reach {position} "
                f"within {round(within, 2):g} s; see whether its worker runs"
            ) from exc
        return None if read.state is UNKNOWN_THREAD else ThreadView(read.state, read.mark.checkpoint)

    async def get(self, thread_id: ThreadId, *, span: slice | None = None, at_least: int = 0) -> ThreadView | None:
        partition = self._feed.partition_of(thread_id)
        async with self._in_time("the log behind the views was not read"):
            try:
                async with asyncio.timeout(self._patience):
                    await self._verified()
                    read = await self._stored.thread(thread_id, start=None if span is None else span.start or 0)
            except (ViewsUnavailable, TimeoutError):
                # Lost, being built, or damaged: the log has the answer, at the price of reading the whole partition.
                view = await caught_up(self._feed, thread_id, UNSEEN)
            else:
                view = _view_of(read, span)
                behind = read.mark.checkpoint < max(at_least, self._seen[partition]) or not read.vouched
                if read.state is UNKNOWN_THREAD or behind:
                    view = await caught_up(self._feed, thread_id, view)
                self._note(partition, read.mark.checkpoint)
            if view.checkpoint < at_least:
                await self._must_hold({partition: at_least})
        return None if view.state is UNKNOWN_THREAD else view

    async def refold(self, thread_id: ThreadId, *, within: float) -> None:
        self._must_be_open()
        await self._verified()
        await refold(self._feed, self._stored, thread_id, within=within)

    async def page(
        self, query: ListThreadsParams, *, exact: bool = False, at_least: Mapping[int, int] = NOTHING_ASKED
    ) -> RowPage:
        """Return one page of threads, as of checkpoints that are no lower than any this process has seen.

        What a flush anywhere waited for is in it. `exact` has it wait until everything logged so far is folded.

        Raises:
            InvalidRequest: The cursor is none, or the log does not go as far as `at_least`.
            ViewsBehind: The views did not come as far as was asked in time.
            ViewsUnavailable: The views of a partition cannot be read, or were set back and do not come on in time.
        """
        cursor = parse_cursor(query.cursor) if query.cursor is not None else None
        if query.page_size == 0 or query.cwd_filters == ():
            return RowPage((), None)
        goals: Checkpoints = {}
        try:
            async with asyncio.timeout(self._within):
                await self._must_hold(at_least)
                goals = await self._goals(exact=exact, at_least=at_least)
                return await self._page(query, cursor, goals)
        except TimeoutError as exc:
            raise self._not_far_enough(goals) from exc

    async def matching(self, prefix: str, *, limit: int, deleted: bool = False) -> Sequence[ThreadId]:
        low, high = ids_beginning_with(prefix)
        async with self._in_time("the views did not come far enough"):
            goals = await self._goals(exact=True)
            found = await self._ids(b"[" + low, b"[" + high, limit, goals)
            if deleted and len(found) < limit:
                found = sorted((*found, *await self._ids(b"[" + low, b"[" + high, limit, goals, deleted=True)))[:limit]
            return found

    async def thread_ids(self, *, after: ThreadId | None, limit: int) -> Sequence[ThreadId]:
        low = b"-" if after is None else b"(" + key_of(after)
        async with self._in_time("the views did not come far enough"):
            # Whoever goes through all ids asks for the log's end once: what is folded by then is in every later answer.
            return await self._ids(low, b"+", limit, await self._goals(exact=after is None))

    async def _reached(self, partition: int, thread_id: ThreadId, goal: int) -> Reading:
        """Read until the checkpoint is at least the goal; not before it may be, as far as hints tell."""
        patience, attempts = _Patience(self._patience), 0
        worth_a_look = self._hints.may_be_at(partition, goal)
        while True:
            self._must_be_open()
            hint = self._hints.next(partition)
            if worth_a_look:
                attempts += 1
                try:
                    await self._verified()
                    read = await self._stored.thread(thread_id)
                except ViewsUnavailable as exc:
                    patience.bear(exc)
                else:
                    patience.renew()
                    self._note(partition, read.mark.checkpoint)
                    if read.mark.checkpoint >= goal:
                        return read
            was_hinted = await _hinted([hint], attempts)
            worth_a_look = not was_hinted or self._hints.may_be_at(partition, goal)

    async def _page(self, query: ListThreadsParams, cursor: Cursor | None, goals: Checkpoints) -> RowPage:
        selection, question = Selection.of(query), Question.of(query)
        size, left = query.page_size, CANDIDATES
        found: list[tuple[Candidate, ThreadState]] = []
        while True:
            # One more than the page takes says whether there is another page.
            limit = each = min(left, size + 1 - len(found))
            if selection.looks_inside:
                limit = min(left, max(limit, _CANDIDATES_AT_A_TIME))
                each = limit // self._partitions + _SPARE
            ask = partial(self._listing.candidates, question, cursor, limit, each=each)
            candidates, more = await self._far_enough(goals, ask)
            states = await self._far_enough(goals, partial(self._listing.states, candidates))
            for candidate in candidates:
                state = states.get(candidate[1])
                if state is not None and selection.admits(state):  # it may have changed since it was listed
                    found.append((candidate, state))
            left -= len(candidates)
            if len(found) > size:
                return _row_page(found[:size], found[size - 1][0])
            if not more:
                return _row_page(found, None)
            if left <= 0:
                return _row_page(found, candidates[-1])
            cursor = _place_of(candidates[-1])

    async def _ids(
        self, low: bytes, high: bytes, limit: int, goals: Checkpoints, *, deleted: bool = False
    ) -> Sequence[ThreadId]:
        return await self._far_enough(goals, partial(self._listing.ids, low, high, limit, deleted=deleted))

    async def _must_hold(self, checkpoints: Checkpoints) -> None:
        """Refuse checkpoints beyond the log's end, to which no views will ever come."""
        for partition, checkpoint in checkpoints.items():
            if checkpoint > self._seen[partition] and (end := await self._feed.end(partition)) < checkpoint:
                raise beyond(partition, checkpoint, end)

    def _not_far_enough(self, goals: Checkpoints) -> ViewsBehind | ViewsUnavailable:
        """Return the error for a page that the views did not come to within its time."""
        behind = {partition: goal for partition, goal in goals.items() if goal > self._seen[partition]}
        if not behind:
            return ViewsUnavailable(f"the views did not come far enough within {self._within:g} s; {self._what_to_do}")
        partition, goal = min(behind.items())
        return ViewsBehind(
            f"the views of partition {partition} are at {self._seen[partition]}, and did not come to {goal} within "
            f"{self._within:g} s; try again, and see whether its worker runs"
        )

    async def _goals(self, *, exact: bool, at_least: Mapping[int, int] = NOTHING_ASKED) -> Checkpoints:
        """Say how far each partition has to be folded."""
        goals = dict(self._seen)
        for partition, checkpoint in at_least.items():
            goals[partition] = max(checkpoint, goals.get(partition, 0))
        if exact:
            ends = await self._feed.ends(range(self._partitions))
            for partition, end in enumerate(ends):
                goals[partition] = max(end, goals.get(partition, 0))
        return goals

    async def _far_enough(self, goals: Checkpoints, ask: Callable[[], Awaitable[tuple[Checkpoints, T]]]) -> T:
        """Ask until what is answered is as of the goals."""
        patience = _Patience(self._patience)
        hints: list[asyncio.Future[None]] = []
        for attempt in count():
            self._must_be_open()
            try:
                await self._verified()
                checkpoints, answer = await ask()
            except ViewsUnavailable as exc:
                patience.bear(exc)
                await _hinted([self._hints.next(0)], attempt)
                continue
            for partition, checkpoint in checkpoints.items():
                self._note(partition, checkpoint)
            behind = [p for p, checkpoint in checkpoints.items() if checkpoint < goals.get(p, 0)]
            if not behind:
                return answer
            if hints:
                await _hinted(hints, attempt)
            hints = [self._hints.next(partition) for partition in behind]
        raise AssertionError("unreachable")

    async def _verified(self) -> None:
        if self._verify is None:
            return
        try:
            await self._verify()
        except LogUnavailable as exc:
            raise ViewsUnavailable(f"it cannot be told whether the views are of this log: {exc}") from exc
        self._verify = None

    def _must_be_open(self) -> None:
        if self._closed:
            raise closed()

    def _note(self, partition: int, checkpoint: int) -> None:
        self._seen[partition] = max(self._seen[partition], checkpoint)

    @asynccontextmanager
    async def _in_time(self, what: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._within):
                yield
        except TimeoutError as exc:
            raise ViewsUnavailable(f"{what} within {self._within:g} s; {self._what_to_do}") from exc


class _Patience:
    """Bears that views cannot be read, for a while: they are being built, or a master is changing."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def bear(self, exc: ViewsUnavailable) -> None:
        """Take the error in; raise it once it has gone on for too long."""
        now = asyncio.get_running_loop().time()
        self._since = self._since or now
        if now - self._since > self._seconds:
            raise exc

    def renew(self) -> None:
        self._since = None


async def _hinted(hints: Iterable[asyncio.Future[None]], attempt: int) -> bool:
    """Wait for one of the hints, or until it is time to look without one; say whether there was one."""
    pause = min(_POLL_EVERY, _POLL_AFTER * 1.5 ** min(attempt, 20))
    done, _ = await asyncio.wait(hints, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


def _row_page(found: Sequence[tuple[Candidate, ThreadState]], last: Candidate | None) -> RowPage:
    """Return the rows; the next page begins behind the last candidate."""
    rows = [ThreadRow(thread_of(key), state) for (_, key), state in found]
    return RowPage(rows, None if last is None else format_cursor(int(last[0]), last[1]))


def _place_of(candidate: Candidate) -> Cursor:
    """Return the candidate's place: made from the score, which is what lists are ordered by."""
    score, key = candidate
    return Cursor(int(score), key)


def _view_of(read: Reading, span: slice | None) -> ThreadView:
    if span is None or read.state.head.lifecycle is Lifecycle.DELETED:
        return ThreadView(read.state, read.mark.checkpoint)
    start, stop = spanned(span, read.state.head.items)
    entries = [entry for entry in read.entries if entry.ordinal < stop and entry.ordinal + entry.items > start]
    return ThreadView(read.state, read.mark.checkpoint, entries)
