"""The items of a thread: as they are appended, as they are stored, and a page of them.

Items keep their payload as JSON text; whoever looks inside parses it then.
"""

from datetime import datetime
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, field_serializer
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from eventstore.documents.fields import Document, Json, ThreadIdField
from eventstore.errors import InvalidRequest
from eventstore.events import Item
from eventstore.jsontext import MalformedJson, dumps, loads, must_be_json
from eventstore.moments import moment, rfc_3339


class Position(NamedTuple):
    """A place in the log."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class RolloutItem:
    """One item to append: a type and a payload, kept as JSON text."""

    __slots__ = ("text", "type")

    def __init__(self, type: str, payload: Json) -> None:  # noqa: A002 - the contract's name
        """Write the payload as JSON text.

        Raises:
            InvalidRequest: The payload has no JSON form, or the type is no text.
        """
        self.type = _must_be_text(type, "the type of an item")
        try:
            self.text = dumps(payload)
        except MalformedJson as exc:
            raise InvalidRequest(f"the payload of a {type!r} item has no JSON form: {exc}") from exc

    @classmethod
    def from_text(cls, type: str, text: str) -> "RolloutItem":  # noqa: A002 - the contract's name
        """Keep the payload's JSON text as it is.

        Raises:
            InvalidRequest: It is not the text of one JSON value, or it or the type is no text (bytes, for example).
        """
        _must_be_text(type, "the type of an item")
        try:
            must_be_json(_must_be_text(text, f"the payload of a {type!r} item"))
        except MalformedJson as exc:
            raise InvalidRequest(f"the payload of a {type!r} item is not JSON: {exc}") from exc
        return parsed_item(type, text)

    @property
    def payload(self) -> Any:
        """The payload, parsed exactly.

        Raises:
            InvalidRequest: Python cannot read it, as integers of more than 4,300 digits; `text` has it.
        """
        return _parsed(self.text, f"a {self.type!r} item")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RolloutItem) and (self.type, self.text) == (other.type, other.text)

    def __hash__(self) -> int:
        return hash((self.type, self.text))

    def __repr__(self) -> str:
        return f"<RolloutItem {self.type} {self.text[:60]}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.union_schema(
            [core_schema.is_instance_schema(cls), core_schema.no_info_plain_validator_function(cls._validate)],
            mode="left_to_right",
            custom_error_type="rollout_item",
            custom_error_message='an item is {"type": text, "payload": JSON value}',
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda item: {"type": item.type, "payload": item.payload}
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Describe an item to those who read JSON schemas, as web frameworks show them."""
        return {
            "type": "object",
            "properties": {"type": {"type": "string"}, "payload": {}},
            "required": ["type", "payload"],
            "additionalProperties": False,
        }

    @classmethod
    def _validate(cls, value: object) -> "RolloutItem":
        match value:
            case {"type": str(type_), "payload": payload, **rest} if not rest:
                return cls(type_, payload)
            case _:
                raise ValueError('an item is {"type": text, "payload": JSON value}')


def parsed_item(type: str, text: str) -> RolloutItem:  # noqa: A002 - the contract's name
    """Return the item of a payload's JSON text which was parsed just before: parsing it again would find no more."""
    item = RolloutItem.__new__(RolloutItem)
    item.type, item.text = type, text
    return item


def _must_be_text(value: object, what: str) -> str:
    """Return the value: what is no text would be taken here, and stop its thread where it is written."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{what} has to be a str, and is {value.__class__.__name__}: {value!r:.60}")
    return value


def _parsed(text: str, whose: str) -> Any:
    try:
        return loads(text)
    except MalformedJson as exc:
        raise InvalidRequest(f"{whose} has a payload that Python cannot read: {exc}; take its text") from exc


class StoredItem(NamedTuple):
    """One item of a thread's history. A NamedTuple: histories make tens of thousands of them."""

    ordinal: int
    """Its 0-based place in the history."""
    position: Position
    """Where its record lies in the log."""
    item: Item
    """As it was appended."""

    @property
    def type(self) -> str:
        return self.item.type

    @property
    def at(self) -> datetime:
        """When the item was written, by its writer's clock."""
        return moment(self.item.at * 1_000)

    @property
    def text(self) -> str:
        """The payload's JSON text, as it came."""
        return self.item.payload

    @property
    def extras(self) -> str | None:
        """A JSON object with the rollout line's other keys, or None."""
        return self.item.extras

    @property
    def payload(self) -> Any:
        """The payload, parsed exactly.

        Raises:
            InvalidRequest: Python cannot read it, as integers of more than 4,300 digits; `text` has it.
        """
        return _parsed(self.text, f"item {self.ordinal}")


class ItemPage(Document):
    """Items of a thread, in the order that was asked for."""

    thread_id: ThreadIdField
    items: tuple[StoredItem, ...]
    next_cursor: str | None = None
    """The `cursor` of the next page; None if the thread has no more items in this direction now."""

    @field_serializer("items")
    def _as_objects(self, items: tuple[StoredItem, ...]) -> list[dict[str, Any]]:
        # As they are, they would be tuples within tuples, and payloads texts of texts.
        return [
            {
                "ordinal": item.ordinal,
                "position": str(item.position),
                "at": rfc_3339(item.at),
                "type": item.type,
                "payload": item.payload,
            }
            for item in items
        ]


class Receipt(NamedTuple):
    """What came of an append. A NamedTuple: every append makes one."""

    append_id: str | None
    """The name of the append; None when the policy dropped every item."""
    appended: int
    """How many items were taken; 0 of a repetition."""
    dropped: tuple[str, ...] = ()
    """The types (`event_msg/warning`) of the items which the persistence policy does not keep, in order."""
    token: str | None = None
    """The consistency token of the append: a read that is given it reflects it, once it counts; None while it is not in
    the log."""
