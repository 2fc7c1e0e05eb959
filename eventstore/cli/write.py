"""`new` and `append`: items from standard input enter a thread, as a live agent's do."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import AcknowledgedOption, ThreadArgument, absolute, given_path, resolve, with_threads
from eventstore.cli.printing import acknowledge, counted, one_line

if TYPE_CHECKING:
    from eventstore.cli.lines import Line
    from eventstore.cli.opening import Threads
    from eventstore.documents.items import RolloutItem
    from eventstore.errors import EventStoreError
    from eventstore.ids import ThreadId

_LINES_AT_ONCE = 500
_BYTES_AT_ONCE = 4 * 1024 * 1024
"""The most that is acknowledged together: a person who pipes a long file sees it going on."""


def new(
    context: typer.Context,
    source: Annotated[
        str, typer.Option(metavar="S", help="Who starts the thread: cli, exec, mcp, vscode, or the JSON of an object.")
    ] = "cli",
    cwd: Annotated[
        Path | None,
        typer.Option(metavar="D", help="The thread's directory.", show_default="this one", parser=given_path),
    ] = None,
    provider: Annotated[str, typer.Option(metavar="P", help="The model provider.")] = "openai",
    json: AcknowledgedOption = False,
) -> int:
    """Make a thread of the items on standard input, and print its id. All of it is stored, or nothing."""

    async def work(store: Threads) -> None:
        from eventstore import __version__
        from eventstore.cli.assignments import patch_of
        from eventstore.cli.lines import Incoming, item_of, nothing_came, tell_a_typist
        from eventstore.documents.params import CreateThreadParams, ThreadPersistenceMetadata
        from eventstore.ids import new_thread_id

        starter = patch_of([f"source={source}"]).source
        assert starter is not None, "an assignment of nothing is refused"
        tell_a_typist()
        batches = [
            [(line, item_of(line)) for line in lines]
            async for lines in Incoming().batches(lines=_LINES_AT_ONCE, size=_BYTES_AT_ONCE)
        ]
        if not batches:
            raise nothing_came()
        thread_id = new_thread_id()
        place = ThreadPersistenceMetadata(cwd=absolute(cwd or Path()), model_provider=provider)
        await store.create_thread(
            CreateThreadParams(thread_id=thread_id, source=starter, cli_version=__version__, metadata=place)
        )
        dropped: Counter[str] = Counter()
        try:
            for batch in batches:
                dropped += await _append(store, thread_id, batch)
        except _RefusedLineError as exc:
            raise exc.error from exc
        await store.persist_thread(thread_id)
        token = await store.shutdown_thread(thread_id)
        if dropped:
            print(_named(dropped), file=sys.stderr)
        acknowledge(thread_id, json, thread_id=thread_id, token=token)

    return with_threads(context, work, makes_it=True)


def append(context: typer.Context, thread: ThreadArgument, json: AcknowledgedOption = False) -> int:
    """Append the items on standard input as they come, as a live writer; say of each batch that it is kept.

    Whoever writes the thread elsewhere is taken over from, and told so. An archived thread stays archived.
    """

    async def work(store: Threads) -> None:
        from eventstore.cli.lines import Incoming, nothing_came, tell_a_typist
        from eventstore.documents.params import ReadThreadParams, ResumeThreadParams

        thread_id = await resolve(store, thread)
        await store.read_thread(ReadThreadParams(thread_id=thread_id, include_archived=True))
        tell_a_typist()
        kept, came = 0, False
        async for lines in Incoming().batches(lines=_LINES_AT_ONCE, size=_BYTES_AT_ONCE):
            if not came:
                # Not before there is something to say: resuming takes the thread from whoever writes it.
                await store.resume_thread(ResumeThreadParams(thread_id=thread_id, include_archived=True))
                came = True
            kept = await _keep(store, thread_id, lines, kept, json)
        if not came:
            raise nothing_came()
        await store.shutdown_thread(thread_id)

    return with_threads(context, work)


async def _keep(store: Threads, thread_id: ThreadId, lines: Sequence[Line], before: int, as_json: bool) -> int:
    """Append and acknowledge the lines up to the first bad one; return how many items were kept in all."""
    from eventstore.errors import Behind, EventStoreError

    good, error = _readable(lines)
    try:
        dropped = await _append(store, thread_id, good) if good else Counter[str]()
    except _RefusedLineError as exc:
        good, dropped, error = good[: exc.place], exc.dropped, exc.error
    kept = len(good) - dropped.total()
    if good:
        try:
            token = await store.flush_thread(thread_id)
        except Behind as exc:
            # Whoever pipes a long file has to know where to go on, or to begin again.
            exc.args = (f"{exc}; kept so far: {counted(before + kept, 'item')}",)
            raise
        except EventStoreError as exc:
            exc.args = (f"{exc}; acknowledged before it: {counted(before, 'item')}",)
            raise
        told = f"acknowledged {counted(kept, 'item')}, {before + kept:,} in all"
        acknowledge(
            f"{told}; {_named(dropped)}" if dropped else told,
            as_json,
            thread_id=thread_id,
            acknowledged=kept,
            in_all=before + kept,
            dropped=dict(dropped),
            token=token,
        )
    if error is not None:
        await store.shutdown_thread(thread_id)
        raise type(error)(f"{error}; acknowledged before it: {counted(before + kept, 'item')}") from error
    return before + kept


class _RefusedLineError(Exception):
    """A line that can never be kept; those before it were appended."""

    def __init__(self, place: int, dropped: Counter[str], error: EventStoreError) -> None:
        super().__init__(str(error))
        self.place = place
        self.dropped = dropped
        self.error = error


async def _append(store: Threads, thread_id: ThreadId, items: Sequence[tuple[Line, RolloutItem]]) -> Counter[str]:
    """Append the items; return how many of which type the policy dropped."""
    from eventstore.documents.params import AppendThreadItemsParams
    from eventstore.errors import AppendTooLarge, OutcomeUnknown

    def params(these: Iterable[RolloutItem]) -> AppendThreadItemsParams:
        return AppendThreadItemsParams(thread_id=thread_id, items=tuple(these))

    try:
        receipt = await store.append_items(params(item for _, item in items))
        return Counter(receipt.dropped)
    except OutcomeUnknown:
        # The items are queued. This process ends when it fails, so what comes of them is asked now.
        await store.flush_thread(thread_id)
        return await _dropped_of(store, thread_id, items)
    except AppendTooLarge:
        dropped: Counter[str] = Counter()
        for place, (line, item) in enumerate(items):
            try:
                dropped.update((await store.append_items(params([item]))).dropped)
            except AppendTooLarge as exc:
                error = AppendTooLarge(f"line {line.number}: {exc}")
                raise _RefusedLineError(place, dropped, error) from exc
        return dropped


async def _dropped_of(store: Threads, thread_id: ThreadId, items: Sequence[tuple[Line, RolloutItem]]) -> Counter[str]:
    """Return what the policy drops of the items, where no receipt says so."""
    from eventstore.codex.policy import persisted
    from eventstore.documents.params import ReadThreadParams, ThreadEventPersistenceMode

    thread = await store.read_thread(ReadThreadParams(thread_id=thread_id, include_archived=True))
    _, dropped = persisted(
        tuple(item for _, item in items),
        history_mode=thread.history_mode,
        event_mode=ThreadEventPersistenceMode.LIMITED,
    )
    return Counter(dropped)


def _readable(lines: Sequence[Line]) -> tuple[list[tuple[Line, RolloutItem]], EventStoreError | None]:
    """Return the items of the lines up to the first that is none, and what is wrong with that one."""
    from eventstore.cli.lines import item_of
    from eventstore.errors import AppendTooLarge, InvalidRequest

    good: list[tuple[Line, RolloutItem]] = []
    for line in lines:
        try:
            good.append((line, item_of(line)))
        except (InvalidRequest, AppendTooLarge) as exc:
            return good, exc
    return good, None


def _named(dropped: Counter[str]) -> str:
    kinds = ", ".join(f"{number:,} {one_line(kind)}" for kind, number in sorted(dropped.items()))
    return f"not kept, as the persistence policy says: {kinds}"
