"""How a command ends: one sentence on standard error and an exit code that names the error's family.

The only place that turns errors into exits. What is not an error of the store, of the arguments or of the operating
system is a bug, and keeps its traceback.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eventstore.cli.interrupts import INTERRUPTED

if TYPE_CHECKING:
    from pydantic import ValidationError

PIPE_CLOSED = 141
"""As a shell reports a program whose reader went away."""
USAGE = 2
FAILED = 1


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; return its exit code."""
    try:
        code = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return _quietly(INTERRUPTED)
    except BrokenPipeError:
        return _quietly(PIPE_CLOSED)
    except OSError as exc:
        return _quietly(complain(f"{exc.filename or 'standard output'} cannot be used: {exc.strerror or exc}", FAILED))
    finally:
        gc.enable()
    return code


def complain(sentence: str, code: int) -> int:
    """Say on standard error what went wrong; return the code."""
    from eventstore.cli.printing import shown

    # A path that is named in it may hold what a terminal obeys.
    print(f"eventstore: {shown(sentence)}", file=sys.stderr)
    return code


def _run(arguments: Sequence[str]) -> int:
    if sys.stderr is None:
        # It was closed by whoever started this; what is printed to None goes to standard output.
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - it stays open until the process ends
    if list(arguments) == ["--version"]:
        return _say_version()
    # Importing makes many objects that stay: looking through them for garbage is a tenth of the start.
    gc.disable()
    # Plugins are looked for in the metadata of every package installed, which takes longer than the rest of pydantic.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # gRPC writes lines of its own to standard error, of what is told in a sentence or a log line anyway.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _let_any_text_through()
    from typer import Abort, TyperException

    from eventstore.cli.app import app_for
    from eventstore.errors import EventStoreError

    try:
        code = app_for(arguments)(list(arguments), prog_name="eventstore", standalone_mode=False)
    except EventStoreError as exc:
        return complain(str(exc), exc.exit_code)
    except ValueError as exc:
        from pydantic import ValidationError

        if not isinstance(exc, ValidationError):
            raise
        return complain(_wrong(exc), USAGE)
    except TyperException as exc:
        return complain(_usage(exc.format_message()), exc.exit_code) if exc.format_message() else USAGE
    except Abort:
        return INTERRUPTED
    except SystemExit as exc:
        if isinstance(exc.__context__, BrokenPipeError):
            raise exc.__context__ from None
        raise
    return code if isinstance(code, int) else 0


def _say_version() -> int:
    """Say which version this is, for which nothing heavy is imported."""
    from eventstore import __version__

    print(f"eventstore {__version__}")
    return 0


def _wrong(exc: ValidationError) -> str:
    """Return the sentence on a parameter that the store does not take."""
    first = exc.errors(include_url=False)[0]
    name = first["loc"][0] if first["loc"] else "the request"
    return f"{name} is wrong: {first['msg'].removeprefix('Value error, ')}"


def _usage(text: str) -> str:
    """Return the sentence on wrong arguments in one line, with where to look."""
    sentence = " ".join(text.split()).rstrip(".")
    return f"{sentence}{'' if sentence.endswith('?') else ';'} see eventstore --help"


def _let_any_text_through() -> None:
    """Write what the terminal's encoding lacks as an escape, instead of failing in the middle of an answer."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _quietly(code: int) -> int:
    """Let the interpreter's own last flush of a closed pipe say nothing."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
