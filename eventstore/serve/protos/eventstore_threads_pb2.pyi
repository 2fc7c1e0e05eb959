from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Caller(_message.Message):
    __slots__ = ("id", "within", "actor", "durable")
    ID_FIELD_NUMBER: _ClassVar[int]
    WITHIN_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    id: str
    within: float
    actor: str
    durable: bool
    def __init__(self, id: _Optional[str] = ..., within: _Optional[float] = ..., actor: _Optional[str] = ..., durable: _Optional[bool] = ...) -> None: ...

class DescribeRequest(_message.Message):
    __slots__ = ("caller",)
    CALLER_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class Description(_message.Message):
    __slots__ = ("log", "partitions")
    LOG_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    log: str
    partitions: int
    def __init__(self, log: _Optional[str] = ..., partitions: _Optional[int] = ...) -> None: ...

class EndCallerRequest(_message.Message):
    __slots__ = ("caller",)
    CALLER_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class CreateThreadRequest(_message.Message):
    __slots__ = ("thread_id", "params", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    params: str
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., params: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class ResumeThreadRequest(_message.Message):
    __slots__ = ("thread_id", "include_archived", "event_persistence_mode", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    EVENT_PERSISTENCE_MODE_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    include_archived: bool
    event_persistence_mode: str
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., include_archived: _Optional[bool] = ..., event_persistence_mode: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class LiveThreadRequest(_message.Message):
    __slots__ = ("thread_id", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class NewItem(_message.Message):
    __slots__ = ("type", "payload")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    type: str
    payload: str
    def __init__(self, type: _Optional[str] = ..., payload: _Optional[str] = ...) -> None: ...

class AppendItemsRequest(_message.Message):
    __slots__ = ("thread_id", "items", "append_id", "is_fresh", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    APPEND_ID_FIELD_NUMBER: _ClassVar[int]
    IS_FRESH_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    items: _containers.RepeatedCompositeFieldContainer[NewItem]
    append_id: str
    is_fresh: bool
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., items: _Optional[_Iterable[_Union[NewItem, _Mapping]]] = ..., append_id: _Optional[str] = ..., is_fresh: _Optional[bool] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("append_id", "appended", "dropped", "token")
    APPEND_ID_FIELD_NUMBER: _ClassVar[int]
    APPENDED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    append_id: str
    appended: int
    dropped: _containers.RepeatedScalarFieldContainer[str]
    token: str
    def __init__(self, append_id: _Optional[str] = ..., appended: _Optional[int] = ..., dropped: _Optional[_Iterable[str]] = ..., token: _Optional[str] = ...) -> None: ...

class ReadThreadRequest(_message.Message):
    __slots__ = ("thread_id", "include_archived", "at_least", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    include_archived: bool
    at_least: str
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., include_archived: _Optional[bool] = ..., at_least: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class Thread(_message.Message):
    __slots__ = ("document", "token")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    document: str
    token: str
    def __init__(self, document: _Optional[str] = ..., token: _Optional[str] = ...) -> None: ...

class Texts(_message.Message):
    __slots__ = ("texts",)
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, texts: _Optional[_Iterable[str]] = ...) -> None: ...

class ListThreadsRequest(_message.Message):
    __slots__ = ("page_size", "cursor", "by_updated", "ascending", "allowed_sources", "model_providers", "cwd_filters", "archived", "search_term", "exact", "at_least", "caller")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    BY_UPDATED_FIELD_NUMBER: _ClassVar[int]
    ASCENDING_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_SOURCES_FIELD_NUMBER: _ClassVar[int]
    MODEL_PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    CWD_FILTERS_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    SEARCH_TERM_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    cursor: str
    by_updated: bool
    ascending: bool
    allowed_sources: _containers.RepeatedScalarFieldContainer[str]
    model_providers: _containers.RepeatedScalarFieldContainer[str]
    cwd_filters: Texts
    archived: bool
    search_term: str
    exact: bool
    at_least: str
    caller: Caller
    def __init__(self, page_size: _Optional[int] = ..., cursor: _Optional[str] = ..., by_updated: _Optional[bool] = ..., ascending: _Optional[bool] = ..., allowed_sources: _Optional[_Iterable[str]] = ..., model_providers: _Optional[_Iterable[str]] = ..., cwd_filters: _Optional[_Union[Texts, _Mapping]] = ..., archived: _Optional[bool] = ..., search_term: _Optional[str] = ..., exact: _Optional[bool] = ..., at_least: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class ThreadPage(_message.Message):
    __slots__ = ("threads", "next_cursor")
    THREADS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    threads: _containers.RepeatedCompositeFieldContainer[Thread]
    next_cursor: str
    def __init__(self, threads: _Optional[_Iterable[_Union[Thread, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class FindThreadsRequest(_message.Message):
    __slots__ = ("prefix", "deleted", "caller")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    DELETED_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    deleted: bool
    caller: Caller
    def __init__(self, prefix: _Optional[str] = ..., deleted: _Optional[bool] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class Found(_message.Message):
    __slots__ = ("thread_ids",)
    THREAD_IDS_FIELD_NUMBER: _ClassVar[int]
    thread_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, thread_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class UpdateThreadMetadataRequest(_message.Message):
    __slots__ = ("thread_id", "patch", "include_archived", "expected_version", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    patch: str
    include_archived: bool
    expected_version: int
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., patch: _Optional[str] = ..., include_archived: _Optional[bool] = ..., expected_version: _Optional[int] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class ChangeThreadRequest(_message.Message):
    __slots__ = ("thread_id", "expected_version", "reason", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    expected_version: int
    reason: str
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., expected_version: _Optional[int] = ..., reason: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class RetryThreadRequest(_message.Message):
    __slots__ = ("thread_id", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("thread_id", "include_archived", "whole", "at_least", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    include_archived: bool
    whole: bool
    at_least: str
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., include_archived: _Optional[bool] = ..., whole: _Optional[bool] = ..., at_least: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class ReadItemsRequest(_message.Message):
    __slots__ = ("thread_id", "include_archived", "page_size", "cursor", "latest_first", "at_least", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIRST_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    include_archived: bool
    page_size: int
    cursor: str
    latest_first: bool
    at_least: str
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., include_archived: _Optional[bool] = ..., page_size: _Optional[int] = ..., cursor: _Optional[str] = ..., latest_first: _Optional[bool] = ..., at_least: _Optional[str] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

class ItemPage(_message.Message):
    __slots__ = ("items", "next_cursor")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    next_cursor: str
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class FollowEventsRequest(_message.Message):
    __slots__ = ("thread_id", "since", "follow", "caller")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    since: Position
    follow: bool
    caller: Caller
    def __init__(self, thread_id: _Optional[str] = ..., since: _Optional[_Union[Position, _Mapping]] = ..., follow: _Optional[bool] = ..., caller: _Optional[_Union[Caller, _Mapping]] = ...) -> None: ...

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
