"""`history`: a thread as a conversation for people, as rollout lines for programs."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import ThreadArgument, TokensOption, resolve, settings_of, with_store, with_threads
from eventstore.cli.printing import counted, local, one_line, print_json, shown, styled, width
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.cli.opening import Threads
    from eventstore.cli.printing import Style
    from eventstore.codex.conversation import Saying
    from eventstore.documents.items import StoredItem
    from eventstore.ids import ThreadId
    from eventstore.kafka.feed import Cost, KafkaFeed
    from eventstore.wiring import Parts

_COLOURS: dict[str, tuple[Style, ...]] = {"user": ("bold", "cyan"), "agent": ("bold", "green"), "note": ("yellow",)}


def history(
    context: typer.Context,
    thread: ThreadArgument,
    *,
    last: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Only the last items, whatever the thread's length.")
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION|TIME",
            help="As the thread was at a version, or at a time such as 2026-05-01T12:00:00Z. Items that were imported "
            "together (up to 200) are there from the time of the last of them.",
        ),
    ] = None,
    at_least: TokensOption = None,
    json: Annotated[
        bool, typer.Option("--json", help="All items as rollout lines, each with its ordinal and position.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say on standard error what was read for it (of a log on Kafka).")
    ] = False,
) -> int:
    """Print a thread's conversation."""

    async def work(store: Threads, feed: KafkaFeed | None = None) -> None:
        from eventstore.documents.params import ReadThreadParams
        from eventstore.tokens import merged

        thread_id = await resolve(store, thread)
        if feed is not None:
            feed.count_cost_anew()
        # What it prints goes to the log's end, whatever the views know: a token is only held against that.
        await store.read_thread(
            ReadThreadParams(thread_id=thread_id, include_archived=True, at_least=merged(at_least or ()))
        )
        items = _items(store, thread_id, last, as_of)
        await (_print_lines(items) if json else _print_conversation(items))
        if feed is not None:
            print(_in_words(feed.cost), file=sys.stderr)

    if not explain and as_of is None:
        return with_threads(context, work)
    if explain and not settings_of(context, threads_suffice=True).is_cluster:
        raise InvalidRequest("only of a log on Kafka is there something to explain; leave --explain away")
    return with_store(context, lambda parts: work(parts.store, _feed(parts) if explain else None))


def _feed(parts: Parts) -> KafkaFeed:
    from eventstore.wiring import Clustered

    assert isinstance(parts, Clustered)
    return parts.cluster.feed


def _in_words(cost: Cost) -> str:
    way = "by replaying the partition from its start" if cost.replays else "at the places that the views know"
    return (
        f"read {way}: {counted(cost.records, 'record')}, {cost.own:,} of them the thread's, in "
        f"{counted(cost.ranges, 'range')} by {counted(cost.requests, 'request')}, {cost.bytes:,} bytes"
    )


async def _items(store: Threads, thread_id: ThreadId, last: int | None, as_of: str | None) -> AsyncIterator[StoredItem]:
    if as_of is not None:
        for item in await _past(store, thread_id, last, as_of):
            yield item
    elif last is not None:
        for item in await _latest(store, thread_id, last):
            yield item
    else:
        from eventstore.documents.params import LoadThreadHistoryParams

        async for item in store.iter_history(LoadThreadHistoryParams(thread_id=thread_id, include_archived=True)):
            yield item


async def _past(store: Threads, thread_id: ThreadId, last: int | None, as_of: str) -> Iterable[StoredItem]:
    from eventstore.history import AsOf
    from eventstore.threads import EventSourcedThreadStore

    assert isinstance(store, EventSourcedThreadStore)
    _, items = await store.history.as_of(thread_id, AsOf.parse(as_of))
    return items if last is None else items[max(0, len(items) - last) :]


async def _latest(store: Threads, thread_id: ThreadId, last: int) -> Iterable[StoredItem]:
    from eventstore.documents.params import ReadItemsParams, SortDirection

    page = await store.read_items(
        ReadItemsParams(thread_id=thread_id, page_size=last, sort_direction=SortDirection.DESC)
    )
    return reversed(page.items)


async def _print_lines(items: AsyncIterator[StoredItem]) -> None:
    async for item in items:
        print_json(rollout_line(item))


def rollout_line(item: StoredItem) -> str:
    """Return the item's rollout line with the `ordinal` and the `position` that it has here.

    A key of that name which the line came with, and with another value, is kept as `source_ordinal`, `source_position`.
    """
    from eventstore.codex.payloads import joined, member, members
    from eventstore.codex.rollout import format_line

    own = {"ordinal": str(item.ordinal), "position": f'"{item.position}"'}
    parts = [member(key, text) for key, text in own.items()]
    for part in members(item.extras) if item.extras else ():
        if part.key not in own:
            parts.append(part)
        elif part.text != own[part.key]:
            parts.append(member(f"source_{part.key}", part.text))
    return format_line(item.item._replace(extras=joined(parts)))


async def _print_conversation(items: AsyncIterator[StoredItem]) -> None:
    from eventstore.codex.conversation import Conversation

    conversation = Conversation()
    seen, told = 0, 0
    async for item in items:
        seen += 1
        said = conversation.hear(item.type, item.text)
        if said is not None:
            told += 1
            print(_shown(item, said))
    rest = f", {seen - told:,} of them for programs: --json shows them" if seen > told else ""
    print(styled(f"({counted(seen, 'item')}{rest})", "dim"), file=sys.stderr)


def _shown(item: StoredItem, said: Saying) -> str:
    """Return speech in full under a line that says whose it is; anything else in that line, cut."""
    from eventstore.moments import moment

    beginning = f"{item.ordinal:>5}  {local(moment(item.item.at * 1_000))}  "
    who = styled(f"{one_line(said.who, 16):<9}", *_COLOURS.get(said.who, ("dim",)))
    if not said.is_speech:
        room = max(20, width() - len(beginning) - 11)
        return f"{styled(beginning, 'dim')}{who}  {one_line(said.text, room)}".rstrip()
    text = shown(said.text).strip().replace("\n", "\n       ")
    return f"{styled(beginning, 'dim')}{who.rstrip()}\n       {text}"
