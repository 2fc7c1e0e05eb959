"""Between the store's own wire and the store: what is asked and answered arrives as it was; what is wrong is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from eventstore.documents.items import ItemPage, Position, Receipt, RolloutItem, StoredItem
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
    ThreadPersistenceMetadata,
    ThreadSortKey,
    UpdateThreadMetadataParams,
)
from eventstore.documents.patch import GitInfoPatch, ThreadMetadataPatch
from eventstore.documents.records import EventRecord
from eventstore.documents.threads import StoredThread, ThreadPage
from eventstore.errors import InvalidRequest
from eventstore.events import Item
from eventstore.ids import ThreadId, new_thread_id
from eventstore.jsontext import dumps
from eventstore.serve import answered, asked
from eventstore.serve.protos import eventstore_threads_pb2 as pb
from tests.support.strategies import ID, JSON, MOMENT, SOURCE, TEXT, THREAD

M = TypeVar("M", bound=Message)

MAYBE = st.none() | TEXT
TOKEN = st.none() | st.text(st.characters(codec="ascii"), max_size=12)
VERSION = st.none() | st.integers(0, 2**63 - 1)
ITEM = st.builds(RolloutItem, TEXT, JSON)
PATCH = st.fixed_dictionaries(
    {},
    optional={
        "name": MAYBE,
        "reasoning_effort": MAYBE,
        "title": st.text(st.characters(codec="ascii", categories=["L"]), min_size=1, max_size=8),
        "created_at": MOMENT,
        "approval_mode": st.sampled_from(["never", {"granular": 10}, None]),
        "source": st.sampled_from(["cli", {"subagent": "review"}]),
        "git_info": st.fixed_dictionaries({}, optional={"sha": MAYBE, "branch": MAYBE}).map(
            lambda fields: GitInfoPatch(**fields)
        ),
    },
).map(lambda fields: ThreadMetadataPatch(**fields))
STORED = st.builds(
    StoredItem,
    st.integers(0, 2**40),
    st.builds(Position, st.integers(0, 2**20), st.integers(0, 2**62)),
    st.builds(Item, st.integers(-(2**40), 2**40), TEXT, JSON.map(dumps), st.none() | JSON.map(dumps)),
)
RECORD = st.builds(
    EventRecord,
    position=st.builds(Position, st.integers(0, 99), st.integers(0, 2**40)).map(str),
    kind=TEXT,
    event_id=st.none() | ID,
    thread_id=st.none() | ID,
    occurred_at=st.none() | MOMENT,
    writer_id=MAYBE,
    writer_seq=st.none() | st.integers(0, 2**40),
    actor=MAYBE,
    verdict=st.sampled_from(["admitted", "duplicate", "fenced", "refused", "unreadable", "foreign"]),
    why=MAYBE,
    reason=MAYBE,
    items=st.integers(0, 500),
)


def sent(message: M) -> M:
    """Return what arrives."""
    return type(message).FromString(message.SerializeToString())


@given(
    st.builds(
        CreateThreadParams,
        thread_id=ID,
        forked_from_id=st.none() | ID,
        source=SOURCE,
        dynamic_tools=st.lists(JSON, max_size=3).map(tuple),
        event_persistence_mode=st.sampled_from(ThreadEventPersistenceMode),
        originator=TEXT,
        metadata=st.builds(ThreadPersistenceMetadata, cwd=MAYBE, model_provider=TEXT),
    )
)
def test_a_creation_arrives_as_it_was(params: CreateThreadParams) -> None:
    assert params == asked.create_params(sent(asked.create_request(params)))


@given(ID, st.booleans(), st.sampled_from(ThreadEventPersistenceMode))
def test_a_resumption_arrives_as_it_was(thread_id: str, archived: bool, mode: ThreadEventPersistenceMode) -> None:
    params = ResumeThreadParams(thread_id=ThreadId(thread_id), include_archived=archived, event_persistence_mode=mode)

    assert params == asked.resume_params(sent(asked.resume_request(params)))


@given(ID, st.lists(ITEM, max_size=4).map(tuple), st.none() | ID, st.booleans())
def test_an_append_arrives_as_it_was(
    thread_id: str, items: tuple[RolloutItem, ...], append_id: str | None, is_fresh: bool
) -> None:
    params = AppendThreadItemsParams.model_validate({"thread_id": thread_id, "items": items, "append_id": append_id})
    arrived = sent(asked.append_request(params, is_fresh=is_fresh))

    assert (params, is_fresh) == (asked.append_params(arrived), arrived.is_fresh)


@given(ID, st.booleans(), TOKEN)
def test_what_is_to_be_read_arrives_as_it_was(thread_id: str, archived: bool, token: str | None) -> None:
    named: dict[str, Any] = {"thread_id": thread_id, "include_archived": archived, "at_least": token}
    read, load = ReadThreadParams(**named), LoadThreadHistoryParams(**named)

    assert read == asked.read_params(sent(asked.read_request(read)))
    assert load == asked.history_params(sent(asked.history_request(load, whole=True)))


@given(ID, st.integers(0, 2_000), MAYBE, st.sampled_from(SortDirection), TOKEN)
def test_a_page_arrives_as_it_was_up_to_the_largest(
    thread_id: str, size: int, cursor: str | None, direction: SortDirection, token: str | None
) -> None:
    params = ReadItemsParams(
        thread_id=ThreadId(thread_id), page_size=size, cursor=cursor, sort_direction=direction, at_least=token
    )
    arrived = asked.page_params(sent(asked.page_request(params)))

    assert params.model_copy(update={"page_size": min(size, 1_000)}) == arrived


@given(
    st.builds(
        ListThreadsParams,
        page_size=st.integers(0, 2**31),
        cursor=MAYBE,
        sort_key=st.sampled_from(ThreadSortKey),
        sort_direction=st.sampled_from(SortDirection),
        allowed_sources=st.lists(SOURCE, max_size=3).map(tuple),
        model_providers=st.none() | st.lists(TEXT, min_size=1, max_size=3).map(tuple),
        cwd_filters=st.none() | st.lists(TEXT, max_size=3).map(tuple),
        archived=st.booleans(),
        search_term=MAYBE,
        exact=st.booleans(),
        at_least=TOKEN,
    )
)
def test_every_filter_of_a_list_arrives_as_it_was(params: ListThreadsParams) -> None:
    assert params == asked.list_params(sent(asked.list_request(params)), largest=2**31)


@given(ID, PATCH, st.booleans(), VERSION)
def test_a_patch_arrives_with_its_three_states(
    thread_id: str, patch: ThreadMetadataPatch, archived: bool, version: int | None
) -> None:
    params = UpdateThreadMetadataParams(
        thread_id=ThreadId(thread_id), patch=patch, include_archived=archived, expected_version=version
    )
    arrived = asked.update_params(sent(asked.update_request(params)))

    assert dict(params.patch.changes()) == dict(arrived.patch.changes())
    assert params.model_copy(update={"patch": arrived.patch}) == arrived


@given(ID, VERSION, MAYBE)
def test_a_command_arrives_as_it_was(thread_id: str, version: int | None, reason: str | None) -> None:
    named: dict[str, Any] = {"thread_id": thread_id, "expected_version": version, "reason": reason}
    change, delete = ArchiveThreadParams(**named), DeleteThreadParams(**named)

    assert change == asked.change_params(sent(asked.change_request(change)), ArchiveThreadParams)
    assert delete == asked.change_params(sent(asked.change_request(delete)), DeleteThreadParams)


@given(st.lists(THREAD, max_size=3).map(tuple), MAYBE, TOKEN)
def test_threads_come_back_as_they_were(
    threads: tuple[StoredThread, ...], cursor: str | None, token: str | None
) -> None:
    threads = tuple(thread.model_copy(update={"token": token}) for thread in threads)
    page = ThreadPage.model_construct(items=threads, next_cursor=cursor)

    assert page == answered.threads_of(sent(answered.threads_message(page)))


def test_no_thread_comes_back_as_none() -> None:
    assert answered.thread_of(sent(answered.thread_message(None))) is None


@given(st.builds(Receipt, st.none() | ID, st.integers(0, 999), st.lists(TEXT, max_size=3).map(tuple), TOKEN))
def test_a_receipt_comes_back_as_it_was(receipt: Receipt) -> None:
    assert receipt == answered.receipt_of(sent(answered.receipt_message(receipt)))


@given(ID, st.lists(STORED, max_size=3).map(tuple), MAYBE)
def test_items_come_back_as_they_were(thread_id: str, items: tuple[StoredItem, ...], cursor: str | None) -> None:
    page = ItemPage.model_construct(thread_id=ThreadId(thread_id), items=items, next_cursor=cursor)

    assert page == answered.page_of(ThreadId(thread_id), sent(answered.page_message(page)))


@given(RECORD)
def test_an_event_comes_back_as_it_was(record: EventRecord) -> None:
    assert record == answered.event_of(sent(answered.event_message(record)))


def test_a_moment_keeps_its_microseconds() -> None:
    at = datetime(2026, 11, 25, 12, 0, 0, 123_457, UTC)
    record = EventRecord(position="0:1", kind="x", event_id=None, thread_id=None, occurred_at=at, verdict="admitted")

    assert at == answered.event_of(answered.event_message(record)).occurred_at


@pytest.mark.parametrize(
    "asking",
    [
        lambda: asked.append_request(
            AppendThreadItemsParams(thread_id=new_thread_id(), items=(RolloutItem("\ud800", 1),))
        ),
        lambda: asked.page_request(ReadItemsParams(thread_id=new_thread_id(), cursor="\udcff")),
        lambda: asked.create_request(CreateThreadParams(thread_id=new_thread_id(), dynamic_tools=(float("nan"),))),
    ],
)
def test_what_cannot_be_sent_is_refused(asking: Any) -> None:
    with pytest.raises(InvalidRequest):
        asking()


@pytest.mark.parametrize(
    "reading",
    [
        lambda: asked.create_params(pb.CreateThreadRequest(thread_id=new_thread_id(), params="[]")),
        lambda: asked.create_params(pb.CreateThreadRequest(thread_id=new_thread_id(), params="{")),
        lambda: asked.create_params(pb.CreateThreadRequest(thread_id=new_thread_id(), params='{"unknown": 1}')),
        lambda: asked.create_params(pb.CreateThreadRequest(thread_id="no id")),
        lambda: asked.resume_params(pb.ResumeThreadRequest(thread_id=new_thread_id(), event_persistence_mode="x")),
        lambda: asked.append_params(
            pb.AppendItemsRequest(thread_id=new_thread_id(), items=[pb.NewItem(type="x", payload="{")])
        ),
        lambda: asked.append_params(pb.AppendItemsRequest(thread_id=new_thread_id(), append_id="x")),
        lambda: asked.update_params(pb.UpdateThreadMetadataRequest(thread_id=new_thread_id(), patch="null")),
        lambda: asked.list_params(pb.ListThreadsRequest(page_size=-1), largest=9),
        lambda: asked.list_params(pb.ListThreadsRequest(allowed_sources=["cli"]), largest=9),
    ],
)
def test_what_is_wrong_is_refused(reading: Any) -> None:
    with pytest.raises(InvalidRequest):
        reading()
