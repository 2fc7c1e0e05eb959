"""A name and an archived state have two homes, Codex's and this store: which of them speaks for an imported thread.

Pure. What was imported is remembered in the thread's metadata; a thread that differs from it was changed here, and what
was changed here is left alone.
"""

from __future__ import annotations

from typing import NamedTuple

from eventstore.admission import Lifecycle
from eventstore.codex.names import NameEntry
from eventstore.codex.payloads import as_text, parsed_object
from eventstore.codex.summary import Summary
from eventstore.events import Field
from eventstore.jsontext import dumps
from eventstore.state import ThreadState


class Told(NamedTuple):
    """What a home says of a thread now."""

    name: NameEntry | None = None
    """None: nothing."""
    archived: bool | None = None
    """None: nothing, for the file lies in no home."""

    def beyond(self, state: ThreadState) -> Told:
        """Return what an export of the thread says beyond the state that it was made of.

        That a thread was archived here is not a home's word, though its export says so: another home could overrule it.
        """
        return self._replace(archived=None) if self.archived is _archived(state) else self


class Known(NamedTuple):
    """What a home said of a thread when it was imported."""

    name: str | None = None
    archived: bool = False


class LineNames(NamedTuple):
    """The names that a rollout's own lines gave the thread; None where they gave none."""

    stored: str | None
    """The latest among the lines that were here already."""
    latest: str | None
    """The latest of all."""


class Takeover(NamedTuple):
    """What is to be said here so that the thread follows its home."""

    archived: bool | None = None
    """None: it stays as it is."""
    fields: tuple[Field, ...] = ()

    def in_words(self) -> list[str]:
        """Say what of it a person sees."""
        words = ["the name was taken over"] if any(field.name == "name" for field in self.fields) else []
        return words if self.archived is None else [*words, "archived" if self.archived else "unarchived"]


def takeover(told: Told, names: LineNames, *, before: ThreadState | None, after: ThreadState) -> Takeover:
    """Decide from the thread's states before and after the file's items were taken in.

    Where nothing was imported yet, the lines alone say what would have been: their latest name, and not archived.
    """
    remembered = None if before is None else _remembered(before.summary)
    known = remembered or Known(names.stored)
    renamed_here = before is not None and _name(before) != known.name
    shelved_here = before is not None and _archived(before) != known.archived
    # A home without a word on the thread's name changes nothing, nor does one that repeats a name given here, as an
    # export does; lines that rename it do.
    silent = names.latest if names.latest != names.stored else known.name
    repeated = told.name is not None and before is not None and renamed_here and told.name.name == _name(before)
    said = Known(
        silent if told.name is None or repeated else told.name.name,
        known.archived if told.archived is None else told.archived,
    )
    # Lines that came with this import may have renamed the thread: a name given here is then said again.
    wanted = _name(before) if before is not None and renamed_here else said.name
    fields = [] if wanted == _name(after) else [Field("name", None if wanted is None else dumps(wanted))]
    if said != (remembered or Known(names.latest)) or (fields and not renamed_here):
        fields.append(Field("imported", dumps(said._asdict())))
    moved = not shelved_here and said.archived != _archived(after)
    return Takeover(said.archived if moved else None, tuple(fields))


def is_import(fields: tuple[Field, ...]) -> bool:
    """Whether a patch only brought the thread in line with its home, which knows what it says."""
    return any(field.name == "imported" for field in fields)


def _remembered(summary: Summary) -> Known | None:
    value = None if summary.imported is None else parsed_object(summary.imported)
    return None if value is None else Known(as_text(value.get("name")), value.get("archived") is True)


def _name(state: ThreadState) -> str | None:
    return state.summary.name or None


def _archived(state: ThreadState) -> bool:
    return state.head.lifecycle is Lifecycle.ARCHIVED
