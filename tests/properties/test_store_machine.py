"""The store against a plain model: several stores on the same data, any calls in any order, crashes in between.

The model knows exactly what was acknowledged. What a crash or a cancelled call leaves open is settled at once by a new
writer, after whom nothing of it can count any more: it may be there once, whole and last, or not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

import eventstore.state
from eventstore import ListThreadsParams, ThreadStore, new_thread_id
from eventstore.errors import (
    EventStoreError,
    InvalidRequest,
    ThreadExists,
    ThreadNotFound,
    WriterFenced,
    WrongExpectedVersion,
)
from eventstore.ids import ThreadId
from eventstore.threads import EventSourcedThreadStore
from tests.support import saboteurs
from tests.support.engines import MakeEngine, SqliteEngine, Through, on_a_cluster, untouched
from tests.support.faults import cancelled_at
from tests.support.threads import (
    append,
    archive,
    created,
    delete,
    history,
    page,
    patch,
    read,
    resume,
    said,
    texts,
    unarchive,
    user_message,
)

STORES = 3
THREADS = 3

Outcome = type[EventStoreError] | None


@dataclass
class Thread:
    """What a thread must look like."""

    thread_id: ThreadId = field(default_factory=new_thread_id)
    state: str = "absent"
    items: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """The appends that were named."""
    name: str | None = None
    version: int = 0
    writer: int | None = None
    """The token of the live thread that may write."""

    @property
    def is_there(self) -> bool:
        return self.state in ("active", "archived")


@dataclass
class Live:
    """What one store must know of a thread that is live in it."""

    token: int
    deferred: bool = False
    queued: list[list[str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    void: bool = False
    """Whether it said something that does not count, and has not been told yet."""
    ended: Outcome = None


def on_a_file(folder: Path) -> SqliteEngine:
    return SqliteEngine(str(folder / "threads.db"), synchronous="OFF")


class StoreMachine(RuleBasedStateMachine):
    """Draws calls, makes them, and compares outcome and state with the model's."""

    make_engine: MakeEngine = staticmethod(on_a_file)
    through: Through = staticmethod(untouched)

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = TemporaryDirectory()
        self.engine = type(self).make_engine(Path(self.folder.name))
        self.stores: list[ThreadStore] = []
        self.threads = [Thread() for _ in range(THREADS)]
        self.live: list[dict[int, Live]] = [{} for _ in range(STORES)]
        self.tokens = count()
        self.words = count()

    @initialize()
    def begin(self) -> None:
        for _ in range(STORES):
            self.stores.append(self.run(self.engine.open(through=type(self).through)))
        for number in range(THREADS - 1):
            self.create(number, number)
            self.say((number, number, True), 1)
            self.flush((number, number, True))

    def teardown(self) -> None:
        try:
            if self.stores:
                for number in range(THREADS):
                    self.compare(number % STORES, number)
                self.run(self.engine.lose_views(self.stores[0]))
                for number in range(THREADS):
                    self.compare((number + 1) % STORES, number)
        finally:
            self.run(self.engine.end())
            self.loop.close()
            self.folder.cleanup()

    # what is drawn

    a_store = st.integers(0, STORES - 1)
    a_thread = st.integers(0, THREADS - 1)
    a_writer = st.tuples(a_store, a_thread, st.sampled_from([True] * 5 + [False]))
    """A store and a thread that is live in it, mostly."""

    def found(self, writer: tuple[int, int, bool]) -> tuple[int, int]:
        store, number, live = writer
        pairs = [(store, number) for store in range(STORES) for number in self.live[store]]
        return pairs[(store * THREADS + number) % len(pairs)] if live and pairs else (store, number)

    @rule(store=a_store, number=a_thread)
    def create(self, store: int, number: int) -> None:
        known = number in self.live[store]
        self.expect(InvalidRequest if known else None, created(self.stores[store], self.id(number)))
        if not known:
            self.live[store][number] = Live(next(self.tokens), deferred=True)

    @rule(writer=a_writer, items=st.integers(1, 3))
    def say(self, writer: tuple[int, int, bool], items: int) -> None:
        store, number = self.found(writer)
        said_now = self.new_words(items)
        self.expect(self.heard(store, number, said_now), self.append_call(store, number, said_now))

    @rule(writer=a_writer, name=st.integers(1, 3))
    def say_under_a_name(self, writer: tuple[int, int, bool], name: int) -> None:
        store, number = self.found(writer)
        live, thread = self.live[store].get(number), self.threads[number]
        if live is None or (not live.deferred and live.token != thread.writer):
            return
        append_id = f"0197c1d0-0000-7000-8000-{name:012}"
        said_now = self.new_words(1)
        names = live.names if live.deferred else thread.names
        if append_id in names:
            expected = live.ended if not live.deferred else None
        else:
            expected = self.heard(store, number, said_now)
            names.add(append_id)
        self.expect(expected, self.append_call(store, number, said_now, append_id))

    @rule(writer=a_writer, calls=st.integers(2, 6))
    def say_several_things_at_once(self, writer: tuple[int, int, bool], calls: int) -> None:
        store, number = self.found(writer)
        live = self.live[store].get(number)
        if live is None or live.ended is not None:
            return
        spoken = [self.new_words(1) for _ in range(calls)]

        async def at_once() -> None:
            await asyncio.gather(*(self.append_call(store, number, said_now) for said_now in spoken))

        assert {self.heard(store, number, said_now) for said_now in spoken} == {None}
        self.expect(None, at_once())

    @rule(writer=a_writer)
    def flush(self, writer: tuple[int, int, bool]) -> None:
        store, number = self.found(writer)
        self.expect(self.flushed(store, number), self.stores[store].flush_thread(self.id(number)))

    @rule(writer=a_writer)
    def persist(self, writer: tuple[int, int, bool]) -> None:
        store, number = self.found(writer)
        expected = self.flushed(store, number, even_if_empty=True)
        self.expect(expected, self.stores[store].persist_thread(self.id(number)))

    @rule(writer=a_writer)
    def shut_down(self, writer: tuple[int, int, bool]) -> None:
        store, number = self.found(writer)
        expected = self.flushed(store, number)
        self.expect(expected, self.stores[store].shutdown_thread(self.id(number)))
        if expected is None:
            self.left(store, number)

    @rule(writer=a_writer)
    def discard(self, writer: tuple[int, int, bool]) -> None:
        store, number = self.found(writer)
        known = number in self.live[store]
        self.expect(None if known else ThreadNotFound, self.stores[store].discard_thread(self.id(number)))
        self.live[store].pop(number, None)

    @rule(store=a_store, number=a_thread, archived_too=st.booleans(), any_thread=st.integers(0, 5))
    def take_over(self, store: int, number: int, archived_too: bool, any_thread: int) -> None:
        free = [n for n, t in enumerate(self.threads) if t.is_there and n not in self.live[store]]
        if free and any_thread:
            number = free[number % len(free)]
        thread = self.threads[number]
        allowed = thread.state == "active" or (thread.state == "archived" and archived_too)
        expected = None if allowed and number not in self.live[store] else InvalidRequest
        self.expect(expected, resume(self.stores[store], thread.thread_id, include_archived=archived_too))
        if expected is None:
            thread.writer = next(self.tokens)
            self.live[store][number] = Live(thread.writer)

    @rule(store=a_store, number=a_thread, name=st.sampled_from(["a", "b", None]), off_by=st.sampled_from([None, 0, 1]))
    def rename(self, store: int, number: int, name: str | None, off_by: int | None) -> None:
        thread = self.threads[number]
        expected = None
        if number in self.live[store]:
            expected = self.flushed(store, number, even_if_empty=True)
        version = None if off_by is None else thread.version + off_by
        if expected is None:
            expected = InvalidRequest if not thread.is_there else WrongExpectedVersion if off_by else None
        self.expect(expected, patch(self.stores[store], thread.thread_id, name=name, expected_version=version))
        if expected is None:
            thread.name, thread.version = name, thread.version + 1

    @rule(store=a_store, number=a_thread)
    def put_away(self, store: int, number: int) -> None:
        self.move(store, number, "active", "archived", archive)

    @rule(store=a_store, number=a_thread)
    def take_out(self, store: int, number: int) -> None:
        self.move(store, number, "archived", "active", unarchive)

    @rule(store=a_store, number=a_thread, sure=st.integers(0, 9))
    def kill(self, store: int, number: int, sure: int) -> None:
        if sure < 9:
            return  # a deleted thread is of little use afterwards
        thread = self.threads[number]
        self.expect(None if thread.is_there else ThreadNotFound, delete(self.stores[store], thread.thread_id))
        live = self.live[store].get(number)
        if live is not None and (live.deferred or thread.is_there):
            del self.live[store][number]
        if thread.is_there:
            thread.state, thread.items, thread.version = "deleted", [], thread.version + 1

    @rule(store=a_store, gently=st.booleans())
    def end_a_process(self, store: int, gently: bool) -> None:
        self.replace_store(store, gently=gently)

    @rule(writer=a_writer, awaits=st.integers(1, 6), then=st.sampled_from(["crash", "flush", "discard"]))
    def cut_an_append_short(self, writer: tuple[int, int, bool], awaits: int, then: str) -> None:
        store, number = self.found(writer)
        live, thread = self.live[store].get(number), self.threads[number]
        if live is None or live.deferred or live.token != thread.writer or not thread.is_there:
            return
        said_now = self.new_words(2)
        cut = self.run(cancelled_at(awaits, self.append_call(store, number, said_now)))
        match then:
            case "crash":
                self.replace_store(store, gently=False)
                self.take_over_surely(store, number)
            case "flush":
                self.run(self.stores[store].flush_thread(thread.thread_id))
            case _:
                self.run(self.stores[store].discard_thread(thread.thread_id))
                del self.live[store][number]
                self.take_over_surely(store, number)
        found = self.run(said(self.stores[store], thread.thread_id))
        assert found[: len(thread.items)] == thread.items
        assert found[len(thread.items) :] in ([said_now] if then == "flush" or not cut else [[], said_now])
        if len(found) > len(thread.items):
            thread.items, thread.version = found, thread.version + 1

    @rule(writer=a_writer, awaits=st.integers(1, 8))
    def cut_a_first_flush_short_and_crash(self, writer: tuple[int, int, bool], awaits: int) -> None:
        store, number = self.found(writer)
        live, thread = self.live[store].get(number), self.threads[number]
        if live is None or not live.deferred or thread.state != "absent":
            return
        self.run(cancelled_at(awaits, self.stores[store].persist_thread(thread.thread_id)))
        self.replace_store(store, gently=False)
        # Whoever comes first has created it, and what comes later does not count.
        again = Live(next(self.tokens))
        self.run(created(self.stores[store], thread.thread_id))
        self.live[store][number] = again
        try:
            self.run(self.stores[store].persist_thread(thread.thread_id))
        except ThreadExists:
            again.ended = ThreadExists
            thread.items = [word for words in live.queued for word in words]
            thread.version, thread.writer, thread.names = 1 + len(live.queued), live.token, live.names
        else:
            thread.version, thread.writer = 1, again.token
        thread.state = "active"
        assert self.run(said(self.stores[store], thread.thread_id)) == thread.items

    @rule(store=a_store, number=a_thread)
    def look(self, store: int, number: int) -> None:
        self.compare(store, number)

    @rule(store=a_store, number=a_thread, size=st.integers(1, 4), backwards=st.booleans())
    def turn_pages(self, store: int, number: int, size: int, backwards: bool) -> None:
        thread = self.threads[number]
        if not thread.is_there:
            return
        found, cursor = [], None
        while True:
            part = self.run(
                page(
                    self.stores[store],
                    thread.thread_id,
                    page_size=size,
                    cursor=cursor,
                    sort_direction="Desc" if backwards else "Asc",
                )
            )
            found += texts(part)
            cursor = part.next_cursor
            if cursor is None:
                break
        assert found == (thread.items[::-1] if backwards else thread.items)

    @rule(store=a_store, archived=st.booleans(), size=st.integers(1, 4))
    def list_all(self, store: int, archived: bool, size: int) -> None:
        self.see_all_folded(store)
        found: list[ThreadId] = []
        cursor = None
        while True:
            asked = ListThreadsParams(archived=archived, page_size=size, cursor=cursor)
            listed = self.run(self.stores[store].list_threads(asked))
            found += [thread.thread_id for thread in listed.items]
            cursor = listed.next_cursor
            if cursor is None:
                break
        state = "archived" if archived else "active"
        assert sorted(found) == sorted(t.thread_id for t in self.threads if t.state == state and t.items)

    @invariant()
    def every_live_thread_is_known(self) -> None:
        for store, live in zip(self.stores, self.live, strict=False):
            assert f"live={len(live)}" in repr(store)

    # the model

    def heard(self, store: int, number: int, words: list[str]) -> Outcome:
        """An append is made: return what it must answer, and let the model take it in."""
        live, thread = self.live[store].get(number), self.threads[number]
        if live is None:
            return ThreadNotFound
        if live.deferred:
            live.queued.append(words)
            return None
        if live.ended is not None:
            return live.ended
        if live.token == thread.writer and thread.is_there:
            thread.items += words
            thread.version += 1
        else:
            live.void = True
        return None

    def flushed(self, store: int, number: int, *, even_if_empty: bool = False) -> Outcome:
        """A flush is made: return what it must answer, and let the model take it in."""
        live, thread = self.live[store].get(number), self.threads[number]
        if live is None:
            return ThreadNotFound
        if live.deferred:
            if not live.queued and not even_if_empty:
                return None
            self.materialised(live, thread)
        elif live.void and live.ended is None:
            live.ended = WriterFenced if thread.is_there else ThreadNotFound
        return live.ended

    def materialised(self, live: Live, thread: Thread) -> None:
        live.deferred = False
        if thread.state == "absent":
            thread.state, thread.writer, thread.names = "active", live.token, live.names
            thread.items = [word for words in live.queued for word in words]
            thread.version = 1 + len(live.queued)
        else:
            live.ended = ThreadExists if thread.is_there else ThreadNotFound

    def move(self, store: int, number: int, before: str, after: str, verb: Callable[..., Any]) -> None:
        thread = self.threads[number]
        fits = thread.state == before
        self.expect(None if fits else InvalidRequest, verb(self.stores[store], thread.thread_id))
        if fits:
            thread.state, thread.version = after, thread.version + 1

    def left(self, store: int, number: int) -> None:
        live = self.live[store].pop(number)
        if live.token == self.threads[number].writer:
            self.threads[number].writer = None

    def replace_store(self, store: int, *, gently: bool) -> None:
        end = self.engine.close if gently else self.engine.crash
        self.run(end(self.stores[store]))
        self.stores[store] = self.run(self.engine.open(through=type(self).through))
        self.live[store].clear()

    def take_over_surely(self, store: int, number: int) -> None:
        """Let a store that is no writer of the thread be its writer."""
        thread = self.threads[number]
        self.run(resume(self.stores[store], thread.thread_id))
        thread.writer = next(self.tokens)
        self.live[store][number] = Live(thread.writer)

    def see_all_folded(self, store: int) -> None:
        """Let the views the store reads have all that is logged: appends which nobody flushed may be folded later."""
        where = self.stores[store]
        assert isinstance(where, EventSourcedThreadStore)
        self.run(where.matching(self.id(0)))

    def compare(self, store: int, number: int) -> None:
        thread, where = self.threads[number], self.stores[store]
        if not thread.is_there:
            self.expect(InvalidRequest, history(where, thread.thread_id))
            self.expect(InvalidRequest, read(where, thread.thread_id))
            return
        whole = self.run(history(where, thread.thread_id))
        assert texts(whole) == thread.items
        assert [item.ordinal for item in whole.items] == list(range(len(thread.items) + 1))
        self.see_all_folded(store)
        seen = self.run(read(where, thread.thread_id))
        assert (seen.name, seen.version, seen.item_count) == (thread.name, thread.version, len(thread.items) + 1)
        assert (seen.archived_at is not None) == (thread.state == "archived")
        assert seen.preview == (thread.items[0] if thread.items else "")

    # small words

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(call)

    def expect(self, outcome: Outcome, call: Coroutine[Any, Any, object]) -> None:
        met: EventStoreError | None = None
        try:
            self.run(call)
        except EventStoreError as error:
            met = error
        assert met is None if outcome is None else isinstance(met, outcome), f"expected {outcome}, met {met!r}"

    def id(self, number: int) -> ThreadId:
        return self.threads[number].thread_id

    def new_words(self, items: int) -> list[str]:
        return [f"word {next(self.words)}" for _ in range(items)]

    def append_call(
        self, store: int, number: int, words: list[str], append_id: str | None = None
    ) -> Coroutine[Any, Any, object]:
        return append(self.stores[store], self.id(number), *map(user_message, words), append_id=append_id)


THOROUGHLY = settings(stateful_step_count=50, suppress_health_check=list(HealthCheck))
BRIEFLY = settings(THOROUGHLY, max_examples=8)
UNTIL_FOUND_OUT = settings(THOROUGHLY, phases=[Phase.generate], report_multiple_bugs=False, database=None)


class ClusterMachine(StoreMachine):
    make_engine = staticmethod(on_a_cluster)


def test_stores_on_one_file_do_what_the_model_says() -> None:
    run_state_machine_as_test(StoreMachine, settings=THOROUGHLY)


def test_stores_on_one_cluster_do_what_the_model_says() -> None:
    run_state_machine_as_test(ClusterMachine, settings=BRIEFLY)


def test_a_store_without_fencing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventstore.state, "admit", saboteurs.without_fencing)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(StoreMachine, settings=UNTIL_FOUND_OUT)


class ForgetfulMachine(StoreMachine):
    through = staticmethod(saboteurs.forgets_the_last_event)


def test_a_store_that_forgets_the_last_event_is_found_out() -> None:
    with pytest.raises((AssertionError, EventStoreError)):
        run_state_machine_as_test(ForgetfulMachine, settings=UNTIL_FOUND_OUT)
