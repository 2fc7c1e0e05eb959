"""`events` and `schema`: the log itself, for audit and for readers that have nothing of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from eventstore.cli.opening import holds_nothing, resolve, settings_of, with_threads
from eventstore.cli.printing import local_seconds, one_line, print_json, styled
from eventstore.errors import InvalidRequest

if TYPE_CHECKING:
    from eventstore.cli.opening import Threads
    from eventstore.cli.printing import Style
    from eventstore.documents.records import EventRecord

_COLOURS: dict[str, tuple[Style, ...]] = {"admitted": ("green",), "unreadable": ("bold", "red")}


def events(
    context: typer.Context,
    thread: Annotated[
        str | None, typer.Argument(metavar="ID", help="Of this thread; of all without it.", show_default=False)
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="POSITION", help="From this position on, e.g. 0:12.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as events come; Ctrl-C ends.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
) -> int:
    """Print the events of the log: which counted, which did not and why."""

    async def work(store: Threads) -> None:
        from eventstore.audit import parse_position
        from eventstore.errors import ThreadNotFound

        begin = None if since is None else parse_position(since)
        thread_id = None if thread is None else await resolve(store, thread, deleted=True)
        came = False
        async for record in store.events(thread_id, since=begin, follow=follow):
            came = True
            if json:
                print_json(record.model_dump_json(), flush=follow)
            else:
                print(_line(record, thread_id is None), flush=follow)
        if thread_id is not None and begin is None and not came:
            raise ThreadNotFound(thread_id)

    if follow and holds_nothing(settings_of(context, threads_suffice=True)):
        raise InvalidRequest("there is nothing to follow yet; eventstore import and eventstore new make a store")
    return with_threads(context, work)


def schema() -> None:
    """Print the Avro schema of the log's records."""
    from eventstore.codec import codec

    print_json(codec().schema_text.rstrip())


def _line(record: EventRecord, with_thread: bool) -> str:
    occurred = local_seconds(record.occurred_at) if record.occurred_at is not None else "-"
    kind = f"{record.kind} ({record.items})" if record.items else record.kind
    said_by = f"{_end(record.writer_id)}/{record.writer_seq}" if record.writer_id is not None else "command"
    cells = [
        f"{record.position:>7}",
        f"{occurred:<19}",
        *([f"{record.thread_id or '-':<36}"] if with_thread else []),
        f"{kind:<22}",
        f"{said_by if record.event_id is not None else '-':<14}",
        f"{one_line(record.actor or '-', 24):<18}",
        styled(f"{record.verdict}: {one_line(record.why)}" if record.why else record.verdict, *_colour(record.verdict)),
        *([f"reason: {one_line(record.reason)}"] if record.reason else []),
    ]
    return "  ".join(cells)


def _end(writer_id: str) -> str:
    """Return the end of a writer's id: its beginning is a time, the same for all that began together."""
    return writer_id[-8:]


def _colour(verdict: str) -> tuple[Style, ...]:
    return _COLOURS.get(verdict, ("yellow",))
