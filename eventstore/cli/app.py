"""The commands and the options that stand before them.

A command that opens the store does so through `with_store`; it returns an exit code, or nothing for success.
"""

from __future__ import annotations

from typing import Annotated

import typer

from eventstore.cli import change, events, history, listing, maintain, transfer, write
from eventstore.cli.opening import Where

EXIT_CODES = (
    "Exit codes: 0 done; 1 differences were found, or a part failed; 2 the request is wrong; 3 somebody was first; "
    "4 not available now, try again; 5 written, the views lag; 6 it may have been written; "
    "7 data or installation is broken; 130 interrupted; 141 the reader of the output went away."
)

app = typer.Typer(
    name="eventstore",
    help="Keeps the threads of AI agents as events, by default in one SQLite file.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from eventstore import __version__

        print(f"eventstore {__version__}")
        raise typer.Exit


@app.callback()
def eventstore(
    context: typer.Context,
    log: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where threads are kept: sqlite:PATH. Also EVENTSTORE_LOG."),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Where views are kept; on SQLite the same file. Also EVENTSTORE_VIEWS."),
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who is named in events, for audit. Also EVENTSTORE_ACTOR."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and end.")
    ] = False,
) -> None:
    context.obj = Where(log=log, views=views, actor=actor)


_READ, _WRITE, _MOVE, _LOOK_AFTER = "Read", "Write", "Move", "Look after"

app.command("list", rich_help_panel=_READ)(listing.list_)
app.command("show", rich_help_panel=_READ)(listing.show)
app.command("history", rich_help_panel=_READ)(history.history)
app.command("events", rich_help_panel=_READ)(events.events)
app.command("new", rich_help_panel=_WRITE)(write.new)
app.command("append", rich_help_panel=_WRITE)(write.append)
app.command("rename", rich_help_panel=_WRITE)(change.rename)
app.command("set", rich_help_panel=_WRITE)(change.set_)
app.command("archive", rich_help_panel=_WRITE)(change.archive)
app.command("unarchive", rich_help_panel=_WRITE)(change.unarchive)
app.command("delete", rich_help_panel=_WRITE)(change.delete)
app.command("import", rich_help_panel=_MOVE)(transfer.import_)
app.command("export", rich_help_panel=_MOVE)(transfer.export)
app.command("backup", rich_help_panel=_MOVE)(maintain.backup)
app.command("verify", rich_help_panel=_LOOK_AFTER)(maintain.verify)
app.command("doctor", rich_help_panel=_LOOK_AFTER)(maintain.doctor)
app.command("schema", rich_help_panel=_LOOK_AFTER)(events.schema)
