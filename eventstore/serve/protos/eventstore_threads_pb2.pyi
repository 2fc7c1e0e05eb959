from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Position(_message.Message):
    __slots__ = ("partition", "offset")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    partition: int
    offset: int
    def __init__(self, partition: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class Item(_message.Message):
    __slots__ = ("ordinal", "position", "at_millis", "type", "payload", "extras")
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    AT_MILLIS_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    EXTRAS_FIELD_NUMBER: _ClassVar[int]
    ordinal: int
    position: Position
    at_millis: int
    type: str
    payload: str
    extras: str
    def __init__(self, ordinal: _Optional[int] = ..., position: _Optional[_Union[Position, _Mapping]] = ..., at_millis: _Optional[int] = ..., type: _Optional[str] = ..., payload: _Optional[str] = ..., extras: _Optional[str] = ...) -> None: ...

class Items(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ...) -> None: ...

class ReadHistoryRequest(_message.Message):
    __slots__ = ("thread_id", "include_archived")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    include_archived: bool
    def __init__(self, thread_id: _Optional[str] = ..., include_archived: _Optional[bool] = ...) -> None: ...

class ReadItemsRequest(_message.Message):
    __slots__ = ("thread_id", "include_archived", "page_size", "cursor", "latest_first")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    include_archived: bool
    page_size: int
    cursor: str
    latest_first: bool
    def __init__(self, thread_id: _Optional[str] = ..., include_archived: _Optional[bool] = ..., page_size: _Optional[int] = ..., cursor: _Optional[str] = ..., latest_first: _Optional[bool] = ...) -> None: ...

class ItemPage(_message.Message):
    __slots__ = ("items", "next_cursor")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    next_cursor: str
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class FollowEventsRequest(_message.Message):
    __slots__ = ("thread_id", "since", "follow")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    since: Position
    follow: bool
    def __init__(self, thread_id: _Optional[str] = ..., since: _Optional[_Union[Position, _Mapping]] = ..., follow: _Optional[bool] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("position", "kind", "event_id", "thread_id", "occurred_at_micros", "writer_id", "writer_seq", "actor", "verdict", "why", "reason", "items")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    OCCURRED_AT_MICROS_FIELD_NUMBER: _ClassVar[int]
    WRITER_ID_FIELD_NUMBER: _ClassVar[int]
    WRITER_SEQ_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    position: Position
    kind: str
    event_id: str
    thread_id: str
    occurred_at_micros: int
    writer_id: str
    writer_seq: int
    actor: str
    verdict: str
    why: str
    reason: str
    items: int
    def __init__(self, position: _Optional[_Union[Position, _Mapping]] = ..., kind: _Optional[str] = ..., event_id: _Optional[str] = ..., thread_id: _Optional[str] = ..., occurred_at_micros: _Optional[int] = ..., writer_id: _Optional[str] = ..., writer_seq: _Optional[int] = ..., actor: _Optional[str] = ..., verdict: _Optional[str] = ..., why: _Optional[str] = ..., reason: _Optional[str] = ..., items: _Optional[int] = ...) -> None: ...

class DeleteThreadRequest(_message.Message):
    __slots__ = ("thread_id", "expected_version", "reason")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    expected_version: int
    reason: str
    def __init__(self, thread_id: _Optional[str] = ..., expected_version: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Deleted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
