"""Appends on a real broker: positions, order, sizes, and what a stranger's client sees of them."""

from __future__ import annotations

import asyncio
import io
import json
from datetime import UTC, datetime
from importlib.resources import files
from random import Random

import fastavro
import pytest

from eventstore.documents.items import Position
from eventstore.errors import AppendTooLarge, LogUnavailable, OutcomeUnknown
from eventstore.ids import new_thread_id
from eventstore.kafka.records import LARGEST_RECORD, own_record
from eventstore.kafka.session import Session
from eventstore.ports import Entry
from tests.support.faults import cancelled_at
from tests.support.topics import NOON, Opened, a_thread, all_entries, an_append, consumed, events_of, order_of, replayed

PARTITIONS = 3


async def entries_in(engine: Opened) -> list[Entry]:
    return [entry for partition in range(PARTITIONS) for entry in await all_entries(engine.feed, partition)]


async def test_a_position_is_where_the_event_lies(engine: Opened) -> None:
    events = [an_append(new_thread_id(), 0) for _ in range(20)]
    positions = [position for event in events for position in await engine.log.append([event], within=20)]
    found = {
        entry.position: entry.event for each in range(PARTITIONS) for entry in await all_entries(engine.feed, each)
    }
    assert dict(zip(positions, events, strict=True)) == found


async def test_appends_of_one_thread_keep_the_order_in_which_they_were_made(engine: Opened) -> None:
    """Hundreds are under way together, by as many tasks; some have several events."""
    thread_id = new_thread_id()
    calls = [[an_append(thread_id, 3 * number + part) for part in range(1 + number % 3)] for number in range(400)]
    positions = await asyncio.gather(*(engine.log.append(events, within=20) for events in calls))
    events = [event for call in calls for event in call]
    found = await replayed(engine.feed, thread_id)
    assert events == [entry.event for entry in found]
    assert [position for call in positions for position in call] == [entry.position for entry in found]


async def test_a_thousand_threads_are_written_together_and_each_keeps_its_order(engine: Opened) -> None:
    threads = [new_thread_id() for _ in range(1_000)]
    events = {thread_id: [an_append(thread_id, seq) for seq in range(5)] for thread_id in threads}
    calls = [event for seq in range(5) for event in (events[thread_id][seq] for thread_id in threads)]
    positions = await asyncio.gather(*(engine.log.append([event], within=20) for event in calls))
    entries = await entries_in(engine)
    logged = {entry.position: entry.event for entry in entries}
    assert {position: event for (position,), event in zip(positions, calls, strict=True)} == logged
    assert order_of(events_of(entries)) == {each: [0, 1, 2, 3, 4] for each in threads}
    assert (engine.replaced, engine.waiting) == (0, 0)


async def test_events_of_several_threads_go_where_each_belongs(engine: Opened) -> None:
    events = [an_append(a_thread(partition, PARTITIONS), 0) for partition in (2, 0, 0, 2, 1)]
    positions = await engine.log.append(events, within=20)
    assert [position.partition for position in positions] == [2, 0, 0, 2, 1]
    assert positions == [Position(2, 0), Position(0, 0), Position(0, 1), Position(2, 1), Position(1, 0)]


async def test_nothing_to_append_is_nothing_done(engine: Opened) -> None:
    assert await engine.log.append([], within=20) == []


async def test_a_record_of_the_largest_size_is_written_and_a_larger_one_refused(engine: Opened) -> None:
    """Random text: what cannot be compressed has to fit as well."""
    thread_id = new_thread_id()
    frame = own_record(an_append(thread_id, 0, ""), partitions=PARTITIONS, source=f"eventstore/{engine.url.topic}").size
    text = Random(7).randbytes(LARGEST_RECORD // 2 + 1).hex()
    fits = an_append(thread_id, 0, text[: LARGEST_RECORD - frame - 6])
    above = an_append(thread_id, 1, text[: LARGEST_RECORD - frame + 1])
    end = await engine.feed.end(engine.feed.partition_of(thread_id))

    with pytest.raises(AppendTooLarge, match="16,773,120"):
        await engine.log.append([an_append(thread_id, 0), above], within=20)
    assert end == await engine.feed.end(engine.feed.partition_of(thread_id))

    (position,) = await engine.log.append([fits], within=20)
    ((items,)) = await engine.feed.fetch(thread_id, [position.offset])
    assert items == list(fits.items)
    assert engine.replaced == 0


async def test_many_large_records_are_written_together(engine: Opened) -> None:
    """More than the brokers would take in one request."""
    text = "large " * 1_000_000
    events = [an_append(new_thread_id(), 0, text + str(number)) for number in range(20)]
    await asyncio.gather(*(engine.log.append([event], within=60) for event in events))
    assert sorted(event.event_id for event in events) == sorted(
        event.event_id for event in events_of(await entries_in(engine))
    )
    assert engine.replaced == 0


async def test_an_ordinary_consumer_reads_it_with_nothing_of_ours(engine: Opened) -> None:
    """Key, time, CloudEvents headers, and an Avro body after ten bytes, by the schema file alone."""
    thread_id = new_thread_id()
    event = an_append(thread_id, 4, '{"type":"user_message","message":"Warum?"}')
    (position,) = await engine.log.append([event], within=20)
    (record,) = await consumed(engine.url)

    assert (record.partition, record.offset, record.key) == (*position, thread_id.encode())
    assert (record.timestamp, record.timestamp_type) == (NOON // 1_000, 0)
    schema = fastavro.parse_schema(json.loads(files("eventstore.schemas").joinpath("event-1.avsc").read_text("utf-8")))
    headers = dict(record.headers)
    fingerprint = headers.pop("avro_fingerprint")
    assert record.value[:10] == b"\xc3\x01" + fingerprint
    assert {name: value.decode() for name, value in headers.items()} == {
        "ce_specversion": "1.0",
        "ce_id": event.event_id,
        "ce_type": "ItemsAppended",
        "ce_source": f"eventstore/{engine.url.topic}",
        "ce_subject": thread_id,
        "ce_time": "2025-01-03T12:00:00.000004Z",
        "content-type": "application/avro",
    }
    body = fastavro.schemaless_reader(io.BytesIO(record.value[10:]), schema, None)
    assert isinstance(body, dict)
    assert (body["kind"], body["thread_id"], body["writer_seq"]) == ("ItemsAppended", thread_id, 4)
    assert body["occurred_at"] == datetime(2025, 1, 3, 12, 0, 0, 4, tzinfo=UTC)
    assert [item["payload"] for item in body["items"]] == [event.items[0].payload]


async def test_an_append_cut_short_at_any_await_leaves_nothing_behind(engine: Opened) -> None:
    """It is logged once or not at all, and what comes after it is logged after it."""
    thread_id = new_thread_id()
    number, cut, went_on = 0, [], []
    while True:
        number += 1
        cut.append(an_append(thread_id, 2 * number))
        was_cut = await cancelled_at(number, engine.log.append([cut[-1]], within=20))
        went_on.append(an_append(thread_id, 2 * number + 1))
        await engine.log.append([went_on[-1]], within=20)
        if not was_cut:
            break
    assert number > 1
    found = [entry.event for entry in await replayed(engine.feed, thread_id)]
    assert went_on == [event for event in found if event in went_on]
    assert [event for event in (e for pair in zip(cut, went_on, strict=True) for e in pair) if event in found] == found
    assert cut[-1] in found
    assert (engine.waiting, engine.under_way, engine.replaced) == (0, 0, 0)


async def test_cancelled_appends_among_others_take_nothing_from_them(engine: Opened) -> None:
    thread_id = new_thread_id()
    events = [an_append(thread_id, seq) for seq in range(300)]
    calls = [asyncio.ensure_future(engine.log.append([event], within=20)) for event in events]
    await asyncio.sleep(0)
    for call in calls[::3]:
        call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(end, asyncio.CancelledError) for end in ended) == 100
    found = [entry.event for entry in await replayed(engine.feed, thread_id)]
    kept = [event for event in events if event in found]
    assert kept == found
    assert set(found) >= {event for number, event in enumerate(events) if number % 3}
    assert (engine.waiting, engine.under_way, engine.replaced) == (0, 0, 0)


async def test_a_closed_log_writes_nothing_and_says_so(engine: Opened) -> None:
    await engine.log.close(within=5)
    with pytest.raises(LogUnavailable, match="closed"):
        await engine.log.append([an_append(new_thread_id(), 0)], within=20)
    await engine.log.close(within=5)


async def test_closing_writes_what_was_handed_over(engine: Opened) -> None:
    events = [an_append(new_thread_id(), 0) for _ in range(200)]
    calls = [asyncio.ensure_future(engine.log.append([event], within=20)) for event in events]
    await asyncio.sleep(0)
    await engine.log.close(within=20)
    await asyncio.gather(*calls)
    assert len(await entries_in(engine)) == 200


async def test_closing_at_once_says_what_is_not_known(engine: Opened) -> None:
    calls = [asyncio.ensure_future(engine.log.append([an_append(new_thread_id(), 0)], within=20)) for _ in range(200)]
    await asyncio.sleep(0)
    await engine.log.close(within=0)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(end, list | OutcomeUnknown | LogUnavailable) for end in ended)
    assert any(isinstance(end, OutcomeUnknown | LogUnavailable) for end in ended)


class Answers:
    """Stands in the way of a session's batches, and answers some of them as a broker would that met them before."""

    def __init__(self, engine: Opened, times: int) -> None:
        session = engine.log._producer._session
        assert session is not None
        self._add = session._accumulator.add_batch
        self._left = times
        self.fired = 0
        session._accumulator.add_batch = self.add_batch

    async def add_batch(self, *args: object, **settings: object) -> asyncio.Future[object]:
        acknowledged = await self._add(*args, **settings)
        if not self._left:
            return acknowledged
        self._left -= 1
        self.fired += 1
        real = await acknowledged
        wrong: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        wrong.set_result(real._replace(offset=-1))
        return wrong


async def test_a_repetition_whose_place_the_broker_forgot_gets_no_wrong_position(engine: Opened) -> None:
    """`DuplicateSequenceNumber` bears offsets from -1 on, and no promise that replicas have it: it is not believed."""
    thread_id = new_thread_id()
    answers = Answers(engine, 1)
    events = [an_append(thread_id, seq) for seq in range(5)]
    positions = [
        position
        for call in await asyncio.gather(*(engine.log.append([event], within=20) for event in events))
        for position in call
    ]
    assert (answers.fired, engine.replaced) == (1, 1)
    entries = await replayed(engine.feed, thread_id)
    lies_at = {entry.position: entry.event for entry in entries}
    assert events == [lies_at[position] for position in positions]
    assert order_of(events_of(entries)) == {thread_id: [0, 1, 2, 3, 4]}


async def test_what_is_written_again_comes_before_what_is_new(engine: Opened) -> None:
    """A session fails with a batch under way; appends that are made meanwhile wait for their turn."""
    thread_id = new_thread_id()
    events = [an_append(thread_id, seq) for seq in range(50)]
    calls = []
    for event in events:
        calls.append(asyncio.ensure_future(engine.log.append([event], within=20)))
        await asyncio.sleep(0)
        if event.writer_seq % 10 == 5:
            engine.lose_its_session()
            await asyncio.sleep(0.01)
    await asyncio.gather(*calls)
    assert engine.replaced >= 1
    logged = events_of(await replayed(engine.feed, thread_id))
    assert order_of(logged) == {thread_id: list(range(50))}


async def test_a_session_that_fails_to_start_for_whatever_reason_is_started_again(
    engine: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka lets a KeyError or an AssertionError through where things vanish."""
    thread_id = new_thread_id()
    failing, start = 2, Session.start

    async def may_fail(session: Session, *, partitions: int) -> None:
        nonlocal failing
        if failing:
            failing -= 1
            raise KeyError("a node that vanished")
        await start(session, partitions=partitions)

    await engine.log.append([an_append(thread_id, 0)], within=20)
    monkeypatch.setattr(Session, "start", may_fail)
    engine.lose_its_session()
    await engine.log.append([an_append(thread_id, 1)], within=20)

    assert (failing, order_of(events_of(await replayed(engine.feed, thread_id)))) == (0, {thread_id: [0, 1]})


async def test_an_append_that_no_session_could_be_started_for_says_why(
    engine: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(session: Session, *, partitions: int) -> None:
        raise KeyError("a node that vanished")

    monkeypatch.setattr(Session, "start", fails)
    engine.lose_its_session()
    with pytest.raises(LogUnavailable, match=r"KeyError\('a node that vanished'\)"):
        await engine.log.append([an_append(new_thread_id(), 0)], within=0.5)


async def test_it_is_asked_again_whether_the_topic_is_there_after_asking_failed(
    engine: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    again = asyncio.Event()

    async def ask() -> bool:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise KeyError("a node that vanished")
        again.set()
        return True

    monkeypatch.setattr(engine.log._producer, "_topic_is_there", ask)
    monkeypatch.setattr(Session, "quiet_for", 2.0)
    async with asyncio.timeout(60):
        await again.wait()
    assert asked >= 2


async def test_a_record_names_the_trace_it_was_written_in(engine: Opened) -> None:
    """A consumer of the topic goes on with the trace of whoever appended (W3C Trace Context)."""
    from opentelemetry import trace

    span = trace.NonRecordingSpan(
        trace.SpanContext(
            0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False, trace_flags=trace.TraceFlags(1)
        )
    )
    thread_id = a_thread(0, PARTITIONS)
    await engine.log.append([an_append(thread_id, 0)], within=20)
    with trace.use_span(span):
        traced = [engine.log.append([an_append(thread_id, seq) for seq in (1, 2)], within=20)]
        await asyncio.gather(*traced)
    await engine.log.append([an_append(thread_id, 3)], within=20)

    found = [dict(record.headers).get("traceparent") for record in await consumed(engine.url)]
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert [None, parent, parent, None] == found
