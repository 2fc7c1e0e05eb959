"""What is asked of the store's own service: the store's parameters as messages, and back. Pure."""

from __future__ import annotations

from typing import Any, Final, TypeVar

from eventstore.codex.patches import patch_fields
from eventstore.documents.items import RolloutItem
from eventstore.documents.params import (
    AppendThreadItemsParams,
    ArchiveThreadParams,
    CreateThreadParams,
    DeleteThreadParams,
    ListThreadsParams,
    LoadThreadHistoryParams,
    ReadItemsParams,
    ReadThreadParams,
    ResumeThreadParams,
    SortDirection,
    ThreadEventPersistenceMode,
    ThreadSortKey,
    UpdateThreadMetadataParams,
)
from eventstore.documents.patch import ThreadMetadataPatch
from eventstore.errors import InvalidRequest
from eventstore.jsontext import MalformedJson, dumps, loads
from eventstore.serve.messages import document, given, json_object, message
from eventstore.serve.protos import eventstore_threads_pb2 as pb

C = TypeVar("C", ArchiveThreadParams, DeleteThreadParams)

SERVICE: Final[str] = pb.DESCRIPTOR.services_by_name["Threads"].full_name
LARGEST_PAGE: Final = 1_000
"""Items in one page, at most."""


def create_request(params: CreateThreadParams) -> pb.CreateThreadRequest:
    try:
        text = dumps(params.model_dump(exclude={"thread_id"}, exclude_unset=True))
    except ValueError as exc:
        raise InvalidRequest(f"thread {params.thread_id} cannot be described in JSON: {exc}") from exc
    return message(pb.CreateThreadRequest, thread_id=params.thread_id, params=text)


def create_params(asked: pb.CreateThreadRequest) -> CreateThreadParams:
    found = json_object(asked.params or "{}", "params")
    return document(CreateThreadParams, **{**found, "thread_id": asked.thread_id})


def resume_request(params: ResumeThreadParams) -> pb.ResumeThreadRequest:
    return message(
        pb.ResumeThreadRequest,
        thread_id=params.thread_id,
        include_archived=params.include_archived,
        event_persistence_mode=params.event_persistence_mode.value,
    )


def resume_params(asked: pb.ResumeThreadRequest) -> ResumeThreadParams:
    return document(
        ResumeThreadParams,
        thread_id=asked.thread_id,
        include_archived=asked.include_archived,
        event_persistence_mode=asked.event_persistence_mode or ThreadEventPersistenceMode.LIMITED,
    )


def append_request(params: AppendThreadItemsParams, *, is_fresh: bool = False) -> pb.AppendItemsRequest:
    """Return the request; `is_fresh` if the append id was made for it."""
    items = [message(pb.NewItem, type=item.type, payload=item.text) for item in params.items]
    return message(
        pb.AppendItemsRequest,
        thread_id=params.thread_id,
        items=items,
        append_id=params.append_id,
        is_fresh=is_fresh,
    )


def append_params(asked: pb.AppendItemsRequest) -> AppendThreadItemsParams:
    return document(
        AppendThreadItemsParams,
        thread_id=asked.thread_id,
        items=tuple(map(_new_item, asked.items)),
        append_id=given(asked, "append_id"),
    )


def _new_item(asked: pb.NewItem) -> RolloutItem:
    return RolloutItem.from_text(asked.type, asked.payload)


def read_request(params: ReadThreadParams) -> pb.ReadThreadRequest:
    return message(pb.ReadThreadRequest, **_look(params))


def read_params(asked: pb.ReadThreadRequest) -> ReadThreadParams:
    return document(ReadThreadParams, **_look_asked(asked))


def history_request(params: LoadThreadHistoryParams, *, whole: bool) -> pb.ReadHistoryRequest:
    return message(pb.ReadHistoryRequest, whole=whole, **_look(params))


def history_params(asked: pb.ReadHistoryRequest) -> LoadThreadHistoryParams:
    return document(LoadThreadHistoryParams, **_look_asked(asked))


def page_request(params: ReadItemsParams) -> pb.ReadItemsRequest:
    return message(
        pb.ReadItemsRequest,
        page_size=min(params.page_size, LARGEST_PAGE),
        cursor=params.cursor,
        latest_first=params.sort_direction is SortDirection.DESC,
        **_look(params),
    )


def page_params(asked: pb.ReadItemsRequest) -> ReadItemsParams:
    return document(
        ReadItemsParams,
        page_size=min(asked.page_size, LARGEST_PAGE),
        cursor=given(asked, "cursor"),
        sort_direction=SortDirection.DESC if asked.latest_first else SortDirection.ASC,
        **_look_asked(asked),
    )


def _look(params: ReadThreadParams | LoadThreadHistoryParams | ReadItemsParams) -> dict[str, Any]:
    """Return what every look at a thread asks."""
    return {name: getattr(params, name) for name in ("thread_id", "include_archived", "at_least")}


def _look_asked(asked: pb.ReadThreadRequest | pb.ReadHistoryRequest | pb.ReadItemsRequest) -> dict[str, Any]:
    return {
        "thread_id": asked.thread_id,
        "include_archived": asked.include_archived,
        "at_least": given(asked, "at_least"),
    }


def list_request(params: ListThreadsParams) -> pb.ListThreadsRequest:
    try:
        sources = [dumps(source) for source in params.allowed_sources]
    except MalformedJson as exc:
        raise InvalidRequest(f"a source has no JSON form: {exc}") from exc
    return message(
        pb.ListThreadsRequest,
        page_size=min(params.page_size, 2**31),
        cursor=params.cursor,
        by_updated=params.sort_key is ThreadSortKey.UPDATED_AT,
        ascending=params.sort_direction is SortDirection.ASC,
        allowed_sources=sources,
        model_providers=params.model_providers or (),
        cwd_filters=None if params.cwd_filters is None else pb.Texts(texts=params.cwd_filters),
        archived=params.archived,
        search_term=params.search_term,
        exact=params.exact,
        at_least=params.at_least,
    )


def list_params(asked: pb.ListThreadsRequest, *, largest: int) -> ListThreadsParams:
    try:
        sources = tuple(map(loads, asked.allowed_sources))
    except MalformedJson as exc:
        raise InvalidRequest(f"an allowed source is no JSON: {exc}") from exc
    return document(
        ListThreadsParams,
        page_size=min(asked.page_size, largest),
        cursor=given(asked, "cursor"),
        sort_key=ThreadSortKey.UPDATED_AT if asked.by_updated else ThreadSortKey.CREATED_AT,
        sort_direction=SortDirection.ASC if asked.ascending else SortDirection.DESC,
        allowed_sources=sources,
        model_providers=tuple(asked.model_providers) or None,
        cwd_filters=tuple(asked.cwd_filters.texts) if asked.HasField("cwd_filters") else None,
        archived=asked.archived,
        search_term=given(asked, "search_term"),
        exact=asked.exact,
        at_least=given(asked, "at_least"),
    )


def update_request(params: UpdateThreadMetadataParams) -> pb.UpdateThreadMetadataRequest:
    # What JSON would make something else of is refused here, in the store's own words.
    patch_fields(params.patch)
    return message(
        pb.UpdateThreadMetadataRequest,
        thread_id=params.thread_id,
        patch=dumps(params.patch.model_dump(mode="json")),
        include_archived=params.include_archived,
        expected_version=params.expected_version,
    )


def update_params(asked: pb.UpdateThreadMetadataRequest) -> UpdateThreadMetadataParams:
    return document(
        UpdateThreadMetadataParams,
        thread_id=asked.thread_id,
        patch=document(ThreadMetadataPatch, **json_object(asked.patch or "{}", "patch")),
        include_archived=asked.include_archived,
        expected_version=given(asked, "expected_version"),
    )


def change_request(params: ArchiveThreadParams | DeleteThreadParams) -> pb.ChangeThreadRequest:
    return message(
        pb.ChangeThreadRequest,
        thread_id=params.thread_id,
        expected_version=params.expected_version,
        reason=params.reason,
    )


def change_params(asked: pb.ChangeThreadRequest, kind: type[C]) -> C:
    return document(
        kind,
        thread_id=asked.thread_id,
        expected_version=given(asked, "expected_version"),
        reason=given(asked, "reason"),
    )
