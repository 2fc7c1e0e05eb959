"""What the store's own service answers: the store's results as messages, and back. Pure."""

from __future__ import annotations

from eventstore.audit import parse_position
from eventstore.documents.items import ItemPage, Position, Receipt, StoredItem
from eventstore.documents.records import EventRecord
from eventstore.documents.threads import StoredThread, ThreadPage
from eventstore.events import Item
from eventstore.ids import ThreadId
from eventstore.jsontext import dumps
from eventstore.moments import micros_of, moment
from eventstore.serve.messages import document, given, json_object
from eventstore.serve.protos import eventstore_threads_pb2 as pb


def thread_message(thread: StoredThread | None) -> pb.Thread:
    """Return the thread, without its history, as a message; no thread is an empty one."""
    if thread is None:
        return pb.Thread()
    return pb.Thread(document=dumps(thread.model_dump(mode="json", exclude={"history"})), token=thread.token)


def thread_of(message: pb.Thread) -> StoredThread | None:
    """Return the thread.

    Raises:
        InvalidRequest: What is said of it is none.
    """
    if not message.HasField("document"):
        return None
    found = json_object(message.document, "the thread")
    return document(StoredThread, **found, token=given(message, "token"))


def threads_message(page: ThreadPage) -> pb.ThreadPage:
    return pb.ThreadPage(threads=map(thread_message, page.items), next_cursor=page.next_cursor)


def threads_of(message: pb.ThreadPage) -> ThreadPage:
    threads = tuple(thread for each in message.threads if (thread := thread_of(each)) is not None)
    return ThreadPage.model_construct(items=threads, next_cursor=given(message, "next_cursor"))


def receipt_message(receipt: Receipt) -> pb.Receipt:
    return pb.Receipt(
        append_id=receipt.append_id, appended=receipt.appended, dropped=receipt.dropped, token=receipt.token
    )


def receipt_of(message: pb.Receipt) -> Receipt:
    return Receipt(given(message, "append_id"), message.appended, tuple(message.dropped), given(message, "token"))


def item_message(item: StoredItem) -> pb.Item:
    return pb.Item(
        ordinal=item.ordinal,
        position=pb.Position(partition=item.position.partition, offset=item.position.offset),
        at_millis=item.item.at,
        type=item.type,
        payload=item.text,
        extras=item.extras,
    )


def item_of(message: pb.Item) -> StoredItem:
    return StoredItem(
        message.ordinal,
        Position(message.position.partition, message.position.offset),
        Item(message.at_millis, message.type, message.payload, given(message, "extras")),
    )


def page_message(page: ItemPage) -> pb.ItemPage:
    return pb.ItemPage(items=map(item_message, page.items), next_cursor=page.next_cursor)


def page_of(thread_id: ThreadId, message: pb.ItemPage) -> ItemPage:
    items = tuple(map(item_of, message.items))
    return ItemPage.model_construct(thread_id=thread_id, items=items, next_cursor=given(message, "next_cursor"))


def event_message(record: EventRecord) -> pb.Event:
    position = parse_position(record.position)
    return pb.Event(
        position=pb.Position(partition=position.partition, offset=position.offset),
        kind=record.kind,
        event_id=record.event_id,
        thread_id=record.thread_id,
        occurred_at_micros=None if record.occurred_at is None else micros_of(record.occurred_at),
        writer_id=record.writer_id,
        writer_seq=record.writer_seq,
        actor=record.actor,
        verdict=record.verdict,
        why=record.why,
        reason=record.reason,
        items=record.items,
    )


def event_of(message: pb.Event) -> EventRecord:
    """Return the record.

    Raises:
        InvalidRequest: What is said of it is none.
    """
    micros = given(message, "occurred_at_micros")
    return document(
        EventRecord,
        position=f"{message.position.partition}:{message.position.offset}",
        kind=message.kind,
        event_id=given(message, "event_id"),
        thread_id=given(message, "thread_id"),
        occurred_at=None if micros is None else moment(micros),
        writer_id=given(message, "writer_id"),
        writer_seq=given(message, "writer_seq"),
        actor=given(message, "actor"),
        verdict=message.verdict,
        why=given(message, "why"),
        reason=given(message, "reason"),
        items=message.items,
    )
