"""The commands and the options that stand before them.

A command that opens the store does so through `with_store`; it returns an exit code, or nothing for success.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from eventstore.cli.opening import Where

EXIT_CODES = (
    "Exit codes: 0 done; 1 differences were found, or a part failed; 2 the request is wrong; 3 somebody was first; "
    "4 not available now, try again; 5 written, the views lag; 6 it may have been written; "
    "7 data or installation is broken; 130 interrupted; 141 the reader of the output went away."
)


def _version(wanted: bool) -> None:
    if wanted:
        from eventstore import __version__

        print(f"eventstore {__version__}")
        raise typer.Exit


def eventstore(
    context: typer.Context,
    log: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where threads are: sqlite:PATH, kafka://HOST:PORT/TOPIC or grpc://HOST:PORT. Also EVENTSTORE_LOG.",
        ),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where views are kept: redis://HOST:PORT/DB; on SQLite the same file. Also EVENTSTORE_VIEWS.",
        ),
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


_COMMANDS = {
    "list": ("listing.list_", "Read"),
    "show": ("listing.show", "Read"),
    "history": ("history.history", "Read"),
    "events": ("events.events", "Read"),
    "new": ("write.new", "Write"),
    "append": ("write.append", "Write"),
    "rename": ("change.rename", "Write"),
    "set": ("change.set_", "Write"),
    "archive": ("change.archive", "Write"),
    "unarchive": ("change.unarchive", "Write"),
    "delete": ("change.delete", "Write"),
    "import": ("transfer.import_", "Move"),
    "export": ("transfer.export", "Move"),
    "backup": ("maintain.backup", "Move"),
    "verify": ("maintain.verify", "Look after"),
    "doctor": ("doctor.doctor", "Look after"),
    "retry": ("maintain.retry", "Look after"),
    "schema": ("events.schema", "Look after"),
    "copy": ("copy.copy", "Move"),
    "serve": ("serve.serve", "Serve"),
    "rebuild": ("rebuild.rebuild", "On Kafka and Redis"),
    "worker": ("worker.worker", "On Kafka and Redis"),
    "topic": ("topic.app", "On Kafka and Redis"),
}
"""Where each command is, and under which heading the help shows it."""
_WITH_VALUE = frozenset({"--log", "--views", "--actor"})


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """Return the application, with no more commands than the one that the arguments name, if they name one.

    Each command that is there takes a millisecond of every start.
    """
    named = _command_in(arguments)
    wanted = [named] if named in _COMMANDS else [*_COMMANDS]
    app = typer.Typer(
        name="eventstore",
        help="Keeps the threads of AI agents as events, by default in one SQLite file.",
        epilog=EXIT_CODES,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(eventstore)
    for name in wanted:
        place, heading = _COMMANDS[name]
        module, _, function = place.partition(".")
        command = getattr(import_module(f"eventstore.cli.{module}"), function)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=heading)
        else:
            app.command(name, rich_help_panel=heading)(command)
    return app


def _command_in(arguments: Sequence[str]) -> str | None:
    words = iter(arguments)
    for word in words:
        if word in _WITH_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None
