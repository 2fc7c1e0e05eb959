"""Messages, their fields, and documents made of what came in one: shared by both services' conversions. Pure."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import Message
from pydantic import ValidationError

from eventstore.documents.fields import Document
from eventstore.errors import InvalidRequest
from eventstore.jsontext import MalformedJson, loads

D = TypeVar("D", bound=Document)
M = TypeVar("M", bound=Message)

_WHAT_NO_WIRE_TAKES = (UnicodeEncodeError, ValueError, OverflowError, TypeError)
"""What protobuf raises at a value that its field has no room for."""


def message(kind: type[M], **values: Any) -> M:
    """Make a message; None is absent.

    Raises:
        InvalidRequest: A value cannot be sent: no UTF-8, or beyond 64 bits.
    """
    try:
        return kind(**values)
    except _WHAT_NO_WIRE_TAKES as exc:
        raise InvalidRequest(f"the request cannot be sent: {exc}") from exc


def given(asked: Message, field: str) -> Any:
    """Return the field's value; None if it is absent."""
    return getattr(asked, field) if asked.HasField(field) else None


def json_object(text: str, name: str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InvalidRequest: It is none.
    """
    try:
        found = loads(text)
    except MalformedJson as exc:
        raise InvalidRequest(f"{name} is no JSON: {exc}") from exc
    if not isinstance(found, dict):
        raise InvalidRequest(f"{name} is no JSON object")
    return found


def document(model: type[D], /, **values: Any) -> D:
    """Make a document of values that a client has sent.

    Raises:
        InvalidRequest: One of them is wrong.
    """
    try:
        return model(**values)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "the request"
        raise InvalidRequest(f"{name} is wrong: {first['msg'].removeprefix('Value error, ')}") from exc
