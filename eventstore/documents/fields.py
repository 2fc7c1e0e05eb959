"""What documents are made of: the model they all are, and the types of fields that several of them have.

Annotations are evaluated here and in all documents, not kept as text: pydantic would compile each one at import.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
)
from pydantic_core import PydanticSerializationError

from eventstore.errors import InvalidRequest
from eventstore.ids import ThreadId, parse_thread_id
from eventstore.moments import rfc_3339


class Document(BaseModel):
    # Validators are built when they are first used: a command that needs two of them does not wait for thirty.
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, defer_build=True)

    if not TYPE_CHECKING:  # to type checkers they have the options that pydantic names

        def model_dump(self, **options: Any) -> dict[str, Any]:
            """Return the document as a dict.

            Raises:
                InvalidRequest: Python does not read all that it holds (very long numbers); of a history, each item's
                    `text` has it.
            """
            with self._told():
                return super().model_dump(**options)

        def model_dump_json(self, **options: Any) -> str:
            """Write the document as JSON text.

            Raises:
                InvalidRequest: Pydantic does not write all that it holds (half characters, values nested 255 deep, very
                    long numbers); of a history, each item's `text` has it.
            """
            with self._told():
                return super().model_dump_json(**options)

        @contextmanager
        def _told(self) -> Iterator[None]:
            try:
                yield
            except PydanticSerializationError as exc:
                raise InvalidRequest(
                    f"pydantic cannot write this {type(self).__name__}: {exc}; of a history, each item's text has it"
                ) from exc


def _thread_id(value: object) -> ThreadId:
    try:
        return parse_thread_id(str(value))
    except InvalidRequest as exc:
        raise ValueError(str(exc)) from exc


ThreadIdField: TypeAlias = Annotated[ThreadId, BeforeValidator(_thread_id)]


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can carry the text: a lone surrogate it cannot, which is how Python reads other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(value: str) -> str:
    if not is_utf8(value):
        raise ValueError(f"{value!r} is not UTF-8")
    return value


Text: TypeAlias = Annotated[str, AfterValidator(_text)]
"""A text that can be kept."""


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("in UTC it lies before the year 1 or behind the year 9999") from exc


Moment: TypeAlias = Annotated[AwareDatetime, AfterValidator(_in_utc), PlainSerializer(rfc_3339, when_used="json")]
"""A datetime in UTC; in JSON, RFC 3339."""

Version: TypeAlias = Annotated[int, Field(ge=0, lt=2**63)]
"""How often what a reader sees of a thread has changed."""

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
"""A JSON value, to type checkers: a `dict[str, str]` is one, which it is not as pydantic's `JsonValue`."""

SessionSource: TypeAlias = str | dict[str, JsonValue]
"""Who started a thread: `cli`, `vscode`, `exec`, `mcp`, `unknown`, or one of the contract's objects (§1.5)."""
