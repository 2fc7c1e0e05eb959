from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ThreadSortKey(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THREAD_SORT_KEY_CREATED_AT: _ClassVar[ThreadSortKey]
    THREAD_SORT_KEY_UPDATED_AT: _ClassVar[ThreadSortKey]

class SortDirection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SORT_DIRECTION_ASC: _ClassVar[SortDirection]
    SORT_DIRECTION_DESC: _ClassVar[SortDirection]

class SessionSourceKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_SOURCE_KIND_UNKNOWN: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_CLI: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_VSCODE: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_EXEC: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_APP_SERVER: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_CUSTOM: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_SUB_AGENT_REVIEW: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_SUB_AGENT_COMPACT: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_SUB_AGENT_THREAD_SPAWN: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_SUB_AGENT_MEMORY_CONSOLIDATION: _ClassVar[SessionSourceKind]
    SESSION_SOURCE_KIND_SUB_AGENT_OTHER: _ClassVar[SessionSourceKind]

class ThreadMemoryMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THREAD_MEMORY_MODE_ENABLED: _ClassVar[ThreadMemoryMode]
    THREAD_MEMORY_MODE_DISABLED: _ClassVar[ThreadMemoryMode]

class OptionalStringPatchKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPTIONAL_STRING_PATCH_KIND_UNSET: _ClassVar[OptionalStringPatchKind]
    OPTIONAL_STRING_PATCH_KIND_CLEAR: _ClassVar[OptionalStringPatchKind]
    OPTIONAL_STRING_PATCH_KIND_SET: _ClassVar[OptionalStringPatchKind]

class ThreadEventPersistenceMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    THREAD_EVENT_PERSISTENCE_MODE_LIMITED: _ClassVar[ThreadEventPersistenceMode]
    THREAD_EVENT_PERSISTENCE_MODE_EXTENDED: _ClassVar[ThreadEventPersistenceMode]
THREAD_SORT_KEY_CREATED_AT: ThreadSortKey
THREAD_SORT_KEY_UPDATED_AT: ThreadSortKey
SORT_DIRECTION_ASC: SortDirection
SORT_DIRECTION_DESC: SortDirection
SESSION_SOURCE_KIND_UNKNOWN: SessionSourceKind
SESSION_SOURCE_KIND_CLI: SessionSourceKind
SESSION_SOURCE_KIND_VSCODE: SessionSourceKind
SESSION_SOURCE_KIND_EXEC: SessionSourceKind
SESSION_SOURCE_KIND_APP_SERVER: SessionSourceKind
SESSION_SOURCE_KIND_CUSTOM: SessionSourceKind
SESSION_SOURCE_KIND_SUB_AGENT_REVIEW: SessionSourceKind
SESSION_SOURCE_KIND_SUB_AGENT_COMPACT: SessionSourceKind
SESSION_SOURCE_KIND_SUB_AGENT_THREAD_SPAWN: SessionSourceKind
SESSION_SOURCE_KIND_SUB_AGENT_MEMORY_CONSOLIDATION: SessionSourceKind
SESSION_SOURCE_KIND_SUB_AGENT_OTHER: SessionSourceKind
THREAD_MEMORY_MODE_ENABLED: ThreadMemoryMode
THREAD_MEMORY_MODE_DISABLED: ThreadMemoryMode
OPTIONAL_STRING_PATCH_KIND_UNSET: OptionalStringPatchKind
OPTIONAL_STRING_PATCH_KIND_CLEAR: OptionalStringPatchKind
OPTIONAL_STRING_PATCH_KIND_SET: OptionalStringPatchKind
THREAD_EVENT_PERSISTENCE_MODE_LIMITED: ThreadEventPersistenceMode
THREAD_EVENT_PERSISTENCE_MODE_EXTENDED: ThreadEventPersistenceMode

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ThreadIdRequest(_message.Message):
    __slots__ = ("thread_id",)
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    def __init__(self, thread_id: _Optional[str] = ...) -> None: ...

class CreateThreadRequest(_message.Message):
    __slots__ = ("thread_id", "forked_from_id", "source", "base_instructions_json", "dynamic_tools_json", "event_persistence_mode", "metadata_json")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    FORKED_FROM_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    BASE_INSTRUCTIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    DYNAMIC_TOOLS_JSON_FIELD_NUMBER: _ClassVar[int]
    EVENT_PERSISTENCE_MODE_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    forked_from_id: str
    source: SessionSource
    base_instructions_json: str
    dynamic_tools_json: _containers.RepeatedScalarFieldContainer[str]
    event_persistence_mode: ThreadEventPersistenceMode
    metadata_json: str
    def __init__(self, thread_id: _Optional[str] = ..., forked_from_id: _Optional[str] = ..., source: _Optional[_Union[SessionSource, _Mapping]] = ..., base_instructions_json: _Optional[str] = ..., dynamic_tools_json: _Optional[_Iterable[str]] = ..., event_persistence_mode: _Optional[_Union[ThreadEventPersistenceMode, str]] = ..., metadata_json: _Optional[str] = ...) -> None: ...

class ResumeThreadRequest(_message.Message):
    __slots__ = ("thread_id", "rollout_path", "history_json", "has_history", "include_archived", "event_persistence_mode", "metadata_json")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_PATH_FIELD_NUMBER: _ClassVar[int]
    HISTORY_JSON_FIELD_NUMBER: _ClassVar[int]
    HAS_HISTORY_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    EVENT_PERSISTENCE_MODE_FIELD_NUMBER: _ClassVar[int]
    METADATA_JSON_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    rollout_path: str
    history_json: _containers.RepeatedScalarFieldContainer[str]
    has_history: bool
    include_archived: bool
    event_persistence_mode: ThreadEventPersistenceMode
    metadata_json: str
    def __init__(self, thread_id: _Optional[str] = ..., rollout_path: _Optional[str] = ..., history_json: _Optional[_Iterable[str]] = ..., has_history: _Optional[bool] = ..., include_archived: _Optional[bool] = ..., event_persistence_mode: _Optional[_Union[ThreadEventPersistenceMode, str]] = ..., metadata_json: _Optional[str] = ...) -> None: ...

class AppendThreadItemsRequest(_message.Message):
    __slots__ = ("thread_id", "items_json")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_JSON_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    items_json: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, thread_id: _Optional[str] = ..., items_json: _Optional[_Iterable[str]] = ...) -> None: ...

class LoadThreadHistoryRequest(_message.Message):
    __slots__ = ("thread_id", "include_archived")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    include_archived: bool
    def __init__(self, thread_id: _Optional[str] = ..., include_archived: _Optional[bool] = ...) -> None: ...

class ReadThreadRequest(_message.Message):
    __slots__ = ("thread_id", "include_archived", "include_history")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_HISTORY_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    include_archived: bool
    include_history: bool
    def __init__(self, thread_id: _Optional[str] = ..., include_archived: _Optional[bool] = ..., include_history: _Optional[bool] = ...) -> None: ...

class ListThreadsRequest(_message.Message):
    __slots__ = ("page_size", "cursor", "sort_key", "allowed_sources", "model_provider_filter", "archived", "search_term", "cwd_filter", "use_state_db_only", "sort_direction")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    SORT_KEY_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_SOURCES_FIELD_NUMBER: _ClassVar[int]
    MODEL_PROVIDER_FILTER_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    SEARCH_TERM_FIELD_NUMBER: _ClassVar[int]
    CWD_FILTER_FIELD_NUMBER: _ClassVar[int]
    USE_STATE_DB_ONLY_FIELD_NUMBER: _ClassVar[int]
    SORT_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    cursor: str
    sort_key: ThreadSortKey
    allowed_sources: _containers.RepeatedCompositeFieldContainer[SessionSource]
    model_provider_filter: ModelProviderFilter
    archived: bool
    search_term: str
    cwd_filter: CwdFilter
    use_state_db_only: bool
    sort_direction: SortDirection
    def __init__(self, page_size: _Optional[int] = ..., cursor: _Optional[str] = ..., sort_key: _Optional[_Union[ThreadSortKey, str]] = ..., allowed_sources: _Optional[_Iterable[_Union[SessionSource, _Mapping]]] = ..., model_provider_filter: _Optional[_Union[ModelProviderFilter, _Mapping]] = ..., archived: _Optional[bool] = ..., search_term: _Optional[str] = ..., cwd_filter: _Optional[_Union[CwdFilter, _Mapping]] = ..., use_state_db_only: _Optional[bool] = ..., sort_direction: _Optional[_Union[SortDirection, str]] = ...) -> None: ...

class ModelProviderFilter(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class CwdFilter(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class ListThreadsResponse(_message.Message):
    __slots__ = ("threads", "next_cursor")
    THREADS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    threads: _containers.RepeatedCompositeFieldContainer[StoredThread]
    next_cursor: str
    def __init__(self, threads: _Optional[_Iterable[_Union[StoredThread, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class StoredThreadResponse(_message.Message):
    __slots__ = ("thread",)
    THREAD_FIELD_NUMBER: _ClassVar[int]
    thread: StoredThread
    def __init__(self, thread: _Optional[_Union[StoredThread, _Mapping]] = ...) -> None: ...

class StoredThreadHistory(_message.Message):
    __slots__ = ("thread_id", "items_json")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    ITEMS_JSON_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    items_json: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, thread_id: _Optional[str] = ..., items_json: _Optional[_Iterable[str]] = ...) -> None: ...

class StoredThread(_message.Message):
    __slots__ = ("thread_id", "forked_from_id", "preview", "name", "model_provider", "model", "created_at", "updated_at", "archived_at", "cwd", "cli_version", "source", "git_info", "agent_nickname", "agent_role", "agent_path", "reasoning_effort", "first_user_message", "rollout_path", "approval_mode_json", "sandbox_policy_json", "token_usage_json", "history", "thread_source")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    FORKED_FROM_ID_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    ARCHIVED_AT_FIELD_NUMBER: _ClassVar[int]
    CWD_FIELD_NUMBER: _ClassVar[int]
    CLI_VERSION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    GIT_INFO_FIELD_NUMBER: _ClassVar[int]
    AGENT_NICKNAME_FIELD_NUMBER: _ClassVar[int]
    AGENT_ROLE_FIELD_NUMBER: _ClassVar[int]
    AGENT_PATH_FIELD_NUMBER: _ClassVar[int]
    REASONING_EFFORT_FIELD_NUMBER: _ClassVar[int]
    FIRST_USER_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_PATH_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_MODE_JSON_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_POLICY_JSON_FIELD_NUMBER: _ClassVar[int]
    TOKEN_USAGE_JSON_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    THREAD_SOURCE_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    forked_from_id: str
    preview: str
    name: str
    model_provider: str
    model: str
    created_at: int
    updated_at: int
    archived_at: int
    cwd: str
    cli_version: str
    source: SessionSource
    git_info: GitInfo
    agent_nickname: str
    agent_role: str
    agent_path: str
    reasoning_effort: str
    first_user_message: str
    rollout_path: str
    approval_mode_json: str
    sandbox_policy_json: str
    token_usage_json: str
    history: StoredThreadHistory
    thread_source: str
    def __init__(self, thread_id: _Optional[str] = ..., forked_from_id: _Optional[str] = ..., preview: _Optional[str] = ..., name: _Optional[str] = ..., model_provider: _Optional[str] = ..., model: _Optional[str] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ..., archived_at: _Optional[int] = ..., cwd: _Optional[str] = ..., cli_version: _Optional[str] = ..., source: _Optional[_Union[SessionSource, _Mapping]] = ..., git_info: _Optional[_Union[GitInfo, _Mapping]] = ..., agent_nickname: _Optional[str] = ..., agent_role: _Optional[str] = ..., agent_path: _Optional[str] = ..., reasoning_effort: _Optional[str] = ..., first_user_message: _Optional[str] = ..., rollout_path: _Optional[str] = ..., approval_mode_json: _Optional[str] = ..., sandbox_policy_json: _Optional[str] = ..., token_usage_json: _Optional[str] = ..., history: _Optional[_Union[StoredThreadHistory, _Mapping]] = ..., thread_source: _Optional[str] = ...) -> None: ...

class SessionSource(_message.Message):
    __slots__ = ("kind", "custom", "sub_agent_parent_thread_id", "sub_agent_depth", "sub_agent_other", "sub_agent_path", "sub_agent_nickname", "sub_agent_role")
    KIND_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    SUB_AGENT_PARENT_THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    SUB_AGENT_DEPTH_FIELD_NUMBER: _ClassVar[int]
    SUB_AGENT_OTHER_FIELD_NUMBER: _ClassVar[int]
    SUB_AGENT_PATH_FIELD_NUMBER: _ClassVar[int]
    SUB_AGENT_NICKNAME_FIELD_NUMBER: _ClassVar[int]
    SUB_AGENT_ROLE_FIELD_NUMBER: _ClassVar[int]
    kind: SessionSourceKind
    custom: str
    sub_agent_parent_thread_id: str
    sub_agent_depth: int
    sub_agent_other: str
    sub_agent_path: str
    sub_agent_nickname: str
    sub_agent_role: str
    def __init__(self, kind: _Optional[_Union[SessionSourceKind, str]] = ..., custom: _Optional[str] = ..., sub_agent_parent_thread_id: _Optional[str] = ..., sub_agent_depth: _Optional[int] = ..., sub_agent_other: _Optional[str] = ..., sub_agent_path: _Optional[str] = ..., sub_agent_nickname: _Optional[str] = ..., sub_agent_role: _Optional[str] = ...) -> None: ...

class GitInfo(_message.Message):
    __slots__ = ("sha", "branch", "origin_url")
    SHA_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_URL_FIELD_NUMBER: _ClassVar[int]
    sha: str
    branch: str
    origin_url: str
    def __init__(self, sha: _Optional[str] = ..., branch: _Optional[str] = ..., origin_url: _Optional[str] = ...) -> None: ...

class UpdateThreadMetadataRequest(_message.Message):
    __slots__ = ("thread_id", "patch", "include_archived")
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    PATCH_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    patch: ThreadMetadataPatch
    include_archived: bool
    def __init__(self, thread_id: _Optional[str] = ..., patch: _Optional[_Union[ThreadMetadataPatch, _Mapping]] = ..., include_archived: _Optional[bool] = ...) -> None: ...

class ThreadMetadataPatch(_message.Message):
    __slots__ = ("name", "memory_mode", "git_info")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MODE_FIELD_NUMBER: _ClassVar[int]
    GIT_INFO_FIELD_NUMBER: _ClassVar[int]
    name: str
    memory_mode: ThreadMemoryMode
    git_info: GitInfoPatch
    def __init__(self, name: _Optional[str] = ..., memory_mode: _Optional[_Union[ThreadMemoryMode, str]] = ..., git_info: _Optional[_Union[GitInfoPatch, _Mapping]] = ...) -> None: ...

class GitInfoPatch(_message.Message):
    __slots__ = ("sha", "branch", "origin_url")
    SHA_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_URL_FIELD_NUMBER: _ClassVar[int]
    sha: OptionalStringPatch
    branch: OptionalStringPatch
    origin_url: OptionalStringPatch
    def __init__(self, sha: _Optional[_Union[OptionalStringPatch, _Mapping]] = ..., branch: _Optional[_Union[OptionalStringPatch, _Mapping]] = ..., origin_url: _Optional[_Union[OptionalStringPatch, _Mapping]] = ...) -> None: ...

class OptionalStringPatch(_message.Message):
    __slots__ = ("kind", "value")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    kind: OptionalStringPatchKind
    value: str
    def __init__(self, kind: _Optional[_Union[OptionalStringPatchKind, str]] = ..., value: _Optional[str] = ...) -> None: ...

class ArchiveThreadRequest(_message.Message):
    __slots__ = ("thread_id",)
    THREAD_ID_FIELD_NUMBER: _ClassVar[int]
    thread_id: str
    def __init__(self, thread_id: _Optional[str] = ...) -> None: ...
