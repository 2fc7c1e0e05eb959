"""What Codex says and is told, between messages and the store's documents (contract §7).

Pure functions. Whatever a message holds, they return a document that the store takes, or raise `InvalidRequest`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from eventstore.documents.params import (
    BaseInstructions,
    CreateThreadParams,
    ListThreadsParams,
    ResumeThreadParams,
    SortDirection,
    ThreadEventPersistenceMode,
    ThreadPersistenceMetadata,
    ThreadSortKey,
    UpdateThreadMetadataParams,
)
from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
from eventstore.documents.threads import GitInfo, StoredThread, ThreadMemoryMode
from eventstore.errors import InvalidRequest
from eventstore.ids import ThreadId, parse_thread_id
from eventstore.jsontext import MalformedJson, dumps, loads
from eventstore.serve.messages import document, given
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.sources import source_message, source_of

LARGEST_PAGE: Final = 1_000
"""Threads in one reply, at most; whoever asks for more gets a cursor."""
ORIGINATOR: Final = "codex_remote_thread_store"
"""Who a session_meta says has made the thread: the wire does not tell it."""

_MODES: Final = {
    pb.THREAD_EVENT_PERSISTENCE_MODE_LIMITED: ThreadEventPersistenceMode.LIMITED,
    pb.THREAD_EVENT_PERSISTENCE_MODE_EXTENDED: ThreadEventPersistenceMode.EXTENDED,
}
_SORT_KEYS: Final = {
    pb.THREAD_SORT_KEY_CREATED_AT: ThreadSortKey.CREATED_AT,
    pb.THREAD_SORT_KEY_UPDATED_AT: ThreadSortKey.UPDATED_AT,
}
_DIRECTIONS: Final = {pb.SORT_DIRECTION_ASC: SortDirection.ASC, pb.SORT_DIRECTION_DESC: SortDirection.DESC}
_MEMORY_MODES: Final = {
    pb.THREAD_MEMORY_MODE_ENABLED: ThreadMemoryMode.ENABLED,
    pb.THREAD_MEMORY_MODE_DISABLED: ThreadMemoryMode.DISABLED,
}
_METADATA: Final = frozenset(ThreadPersistenceMetadata.model_fields)


def create_params(request: pb.CreateThreadRequest) -> CreateThreadParams:
    """Return what is to be created.

    Raises:
        InvalidRequest: An id, the source, a number or a JSON text is wrong.
    """
    return document(
        CreateThreadParams,
        thread_id=parse_thread_id(request.thread_id),
        forked_from_id=parse_thread_id(request.forked_from_id) if request.HasField("forked_from_id") else None,
        source=source_of(request.source),
        base_instructions=_instructions(request.base_instructions_json),
        dynamic_tools=tuple(_json("a dynamic tool", text) for text in request.dynamic_tools_json),
        event_persistence_mode=_known(_MODES, request.event_persistence_mode, "event_persistence_mode"),
        originator=ORIGINATOR,
        metadata=_metadata(request.metadata_json),
    )


def resume_params(request: pb.ResumeThreadRequest) -> ResumeThreadParams:
    """Return what is to be resumed, without the history that the caller holds: it is stored already.

    Raises:
        InvalidRequest: The id, a number or a JSON text is wrong.
    """
    return document(
        ResumeThreadParams,
        thread_id=parse_thread_id(request.thread_id),
        include_archived=request.include_archived,
        event_persistence_mode=_known(_MODES, request.event_persistence_mode, "event_persistence_mode"),
        metadata=_metadata(request.metadata_json),
    )


def list_params(request: pb.ListThreadsRequest) -> ListThreadsParams:
    """Return what is to be listed; a page has at most `LARGEST_PAGE` threads.

    Raises:
        InvalidRequest: A source or a number is wrong.
    """
    providers, directories = request.model_provider_filter, request.cwd_filter
    return document(
        ListThreadsParams,
        page_size=min(request.page_size, LARGEST_PAGE),
        cursor=given(request, "cursor"),
        sort_key=_known(_SORT_KEYS, request.sort_key, "sort_key"),
        sort_direction=_known(_DIRECTIONS, request.sort_direction, "sort_direction"),
        allowed_sources=tuple(map(source_of, request.allowed_sources)),
        model_providers=tuple(providers.values) if request.HasField("model_provider_filter") else None,
        cwd_filters=tuple(directories.values) if request.HasField("cwd_filter") else None,
        archived=request.archived,
        search_term=given(request, "search_term"),
        use_state_db_only=request.use_state_db_only,
    )


def update_params(request: pb.UpdateThreadMetadataRequest) -> UpdateThreadMetadataParams:
    """Return what is to be changed.

    Raises:
        InvalidRequest: The id or a number is wrong, or the patch is missing.
    """
    if not request.HasField("patch"):
        raise InvalidRequest("the request omits its patch")
    patch, changes = request.patch, dict[str, Any]()
    if patch.HasField("name"):
        changes["name"] = patch.name
    if patch.HasField("memory_mode"):
        changes["memory_mode"] = _known(_MEMORY_MODES, patch.memory_mode, "memory_mode")
    if patch.HasField("git_info"):
        changes["git_info"] = _git_patch(patch.git_info)
    return document(
        UpdateThreadMetadataParams,
        thread_id=parse_thread_id(request.thread_id),
        patch=ThreadMetadataPatch(**changes),
        include_archived=request.include_archived,
    )


def thread_message(thread: StoredThread, history: Iterable[str] | None = None) -> pb.StoredThread:
    """Return the thread as a message, with the JSON texts of its items if they are given."""
    return pb.StoredThread(
        thread_id=thread.thread_id,
        forked_from_id=thread.forked_from_id,
        preview=thread.preview,
        name=thread.name,
        model_provider=thread.model_provider,
        model=thread.model,
        created_at=_seconds(thread.created_at),
        updated_at=_seconds(thread.updated_at),
        archived_at=None if thread.archived_at is None else _seconds(thread.archived_at),
        cwd=thread.cwd,
        cli_version=thread.cli_version,
        source=source_message(thread.source),
        git_info=None if thread.git_info is None else _git_message(thread.git_info),
        agent_nickname=thread.agent_nickname,
        agent_role=thread.agent_role,
        agent_path=thread.agent_path,
        reasoning_effort=thread.reasoning_effort,
        first_user_message=thread.first_user_message,
        rollout_path=path_of(thread.thread_id),
        approval_mode_json=dumps(thread.approval_mode),
        sandbox_policy_json=dumps(thread.sandbox_policy),
        token_usage_json=None if thread.token_usage is None else dumps(thread.token_usage.model_dump()),
        history=None if history is None else history_message(thread.thread_id, history),
        thread_source=thread.thread_source,
    )


def history_message(thread_id: ThreadId, history: Iterable[str]) -> pb.StoredThreadHistory:
    """Return the JSON texts of a thread's items as a message."""
    return pb.StoredThreadHistory(thread_id=thread_id, items_json=history)


def path_of(thread_id: ThreadId) -> str:
    """Return what stands for the path of the thread's file: Codex takes a thread without one for broken."""
    return f"/eventstore/{thread_id}"


def page_message(threads: Iterable[StoredThread], next_cursor: str | None) -> pb.ListThreadsResponse:
    return pb.ListThreadsResponse(threads=map(thread_message, threads), next_cursor=next_cursor)


def _git_patch(message: pb.GitInfoPatch) -> GitInfoPatch:
    changes: dict[str, str | None] = {}
    for name in ("sha", "branch", "origin_url"):
        part: pb.OptionalStringPatch = getattr(message, name)
        match part.kind:
            case pb.OPTIONAL_STRING_PATCH_KIND_UNSET:
                continue
            case pb.OPTIONAL_STRING_PATCH_KIND_CLEAR:
                changes[name] = None
            case pb.OPTIONAL_STRING_PATCH_KIND_SET if part.HasField("value"):
                changes[name] = part.value
            case kind:
                raise InvalidRequest(f"the patch of {name} is wrong: kind {kind}, value {part.value!r}")
    return GitInfoPatch(**changes)


def _git_message(git: GitInfo) -> pb.GitInfo:
    return pb.GitInfo(sha=git.commit_hash, branch=git.branch, origin_url=git.repository_url)


def _instructions(text: str) -> BaseInstructions | None:
    match _json("base_instructions", text) if text else None:
        case None:
            return None
        case {"text": str(instructions)}:
            return BaseInstructions(text=instructions)
        case _:
            raise InvalidRequest('base_instructions_json is not the JSON of an object {"text": text}')


def _metadata(text: str) -> ThreadPersistenceMetadata:
    match _json("metadata", text) if text else None:
        case None:
            return ThreadPersistenceMetadata()
        case dict() as known:
            present = {name: value for name, value in known.items() if name in _METADATA and value is not None}
            return document(ThreadPersistenceMetadata, **present)
        case _:
            raise InvalidRequest("metadata_json is not the JSON of an object")


def _json(what: str, text: str) -> Any:
    try:
        return loads(text)
    except MalformedJson as exc:
        raise InvalidRequest(f"{what} is not JSON: {exc}") from exc


def _known(values: dict[Any, Any], number: int, field: str) -> Any:
    try:
        return values[number]
    except KeyError:
        raise InvalidRequest(f"{field} has no value {number}") from None


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp() // 1)
