"""The state machine of a thread as one table: what each verb answers in each state, and in which state that leaves it.

Contract §2.0-2.15, in its [seed] column; where an event log does better, design §4 and §7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from eventstore import (
    CreateThreadParams,
    LoadThreadHistoryParams,
    ReadItemsParams,
    ReadThreadParams,
    ThreadMetadataPatch,
    ThreadStore,
    UpdateThreadMetadataParams,
    new_thread_id,
)
from eventstore.errors import EventStoreError, InvalidRequest, ThreadExists, ThreadNotFound, UnknownThread
from eventstore.ids import ThreadId
from tests.support.threads import (
    a_cold_thread,
    a_live_thread,
    agent_message,
    an_archived_thread,
    append,
    archive,
    created,
    delete,
    read,
    resume,
    streamed,
    unarchive,
)

# `-` after a state's name: it is left as it was. `taken` is a created thread whose id a stored one has already.
TABLE = """
verb                     absent      deferred    live        live+arch   cold        archived    deleted

create                   deferred    already     already     already     taken       taken+arch  deferred
create and persist       live        already     already     already     exists      exists      not-found
resume                   no-rollout  already     already     already     live        no-rollout  no-rollout
resume archived          no-rollout  already     already     already     live        live+arch   no-rollout

append                   not-found   deferred    live        live+arch   not-found   not-found   not-found
append nothing           not-found   deferred    live        live+arch   not-found   not-found   not-found
persist                  not-found   live        live        live+arch   not-found   not-found   not-found
flush                    not-found   deferred    live        live+arch   not-found   not-found   not-found
append and flush         not-found   live        live        live+arch   not-found   not-found   not-found
shutdown                 not-found   absent      cold        archived    not-found   not-found   not-found
append and shutdown      not-found   cold        cold        archived    not-found   not-found   not-found
discard                  not-found   absent      cold        archived    not-found   not-found   not-found
append and discard       not-found   absent      cold        archived    not-found   not-found   not-found

load_history             no-rollout  no-rollout  live        live+arch   cold        no-rollout  no-rollout
load_history archived    no-rollout  no-rollout  live        live+arch   cold        archived    no-rollout
iter_history             no-rollout  no-rollout  live        live+arch   cold        no-rollout  no-rollout
read_thread              no-rollout  no-rollout  live        no-rollout  cold        no-rollout  no-rollout
read_thread archived     no-rollout  no-rollout  live        live+arch   cold        archived    no-rollout
read_items               no-rollout  no-rollout  live        no-rollout  cold        no-rollout  no-rollout
read_items archived      no-rollout  no-rollout  live        live+arch   cold        archived    no-rollout

update                   no-thread   live        live        no-thread   cold        no-thread   no-thread
update archived          no-thread   live        live        live+arch   cold        archived    no-thread
update nothing           no-thread   no-thread   live        no-thread   cold        no-thread   no-thread
archive                  no-rollout  no-rollout  live+arch   no-rollout  archived    no-rollout  no-rollout
unarchive                no-archived no-archived no-archived live        no-archived cold        no-archived
delete                   not-found   not-found   deleted     deleted     deleted     deleted     not-found
"""

ERRORS: dict[str, tuple[type[EventStoreError], str]] = {
    "not-found": (ThreadNotFound, "thread {id} not found"),
    "already": (InvalidRequest, "thread {id} already has a live local writer"),
    "exists": (ThreadExists, "thread {id} exists already; discard it here, then resume it, or take a fresh id"),
    "no-rollout": (UnknownThread, "no rollout found for thread id {id}"),
    "no-archived": (UnknownThread, "no archived rollout found for thread id {id}"),
    "no-thread": (UnknownThread, "thread not found: {id}"),
}

Verb: TypeAlias = Callable[[ThreadStore, ThreadId], Awaitable[object]]
Arrange: TypeAlias = Callable[[ThreadStore], Awaitable[ThreadId]]


async def nowhere(store: ThreadStore) -> ThreadId:
    return new_thread_id()


async def resumed_from_the_archive(store: ThreadStore) -> ThreadId:
    thread_id = await an_archived_thread(store)
    await resume(store, thread_id)
    return thread_id


async def deleted(store: ThreadStore) -> ThreadId:
    thread_id = await a_cold_thread(store)
    await delete(store, thread_id)
    return thread_id


STATES: dict[str, Arrange] = {
    "absent": nowhere,
    "deferred": created,
    "live": a_live_thread,
    "live+arch": resumed_from_the_archive,
    "cold": a_cold_thread,
    "archived": an_archived_thread,
    "deleted": deleted,
}


async def say_something(store: ThreadStore, thread_id: ThreadId) -> None:
    await append(store, thread_id, agent_message("something"))


def then(first: Verb, second: Verb) -> Verb:
    async def both(store: ThreadStore, thread_id: ThreadId) -> None:
        await first(store, thread_id)
        await second(store, thread_id)

    return both


async def create(store: ThreadStore, thread_id: ThreadId) -> None:
    await store.create_thread(CreateThreadParams(thread_id=thread_id))


async def persist(store: ThreadStore, thread_id: ThreadId) -> None:
    await store.persist_thread(thread_id)


async def flush(store: ThreadStore, thread_id: ThreadId) -> None:
    await store.flush_thread(thread_id)


async def shutdown(store: ThreadStore, thread_id: ThreadId) -> None:
    await store.shutdown_thread(thread_id)


async def discard(store: ThreadStore, thread_id: ThreadId) -> None:
    await store.discard_thread(thread_id)


def update(*, include_archived: bool, **fields: str) -> Verb:
    async def call(store: ThreadStore, thread_id: ThreadId) -> None:
        patch = ThreadMetadataPatch.model_validate(fields)
        await store.update_thread_metadata(
            UpdateThreadMetadataParams(thread_id=thread_id, patch=patch, include_archived=include_archived)
        )

    return call


VERBS: dict[str, Verb] = {
    "create": create,
    "create and persist": then(create, persist),
    "resume": lambda store, thread_id: resume(store, thread_id, include_archived=False),
    "resume archived": lambda store, thread_id: resume(store, thread_id, include_archived=True),
    "append": say_something,
    "append nothing": append,
    "persist": persist,
    "flush": flush,
    "append and flush": then(say_something, flush),
    "shutdown": shutdown,
    "append and shutdown": then(say_something, shutdown),
    "discard": discard,
    "append and discard": then(say_something, discard),
    "load_history": lambda store, thread_id: store.load_history(LoadThreadHistoryParams(thread_id=thread_id)),
    "load_history archived": lambda store, thread_id: store.load_history(
        LoadThreadHistoryParams(thread_id=thread_id, include_archived=True)
    ),
    "iter_history": lambda store, thread_id: streamed(store.iter_history(LoadThreadHistoryParams(thread_id=thread_id))),
    "read_thread": lambda store, thread_id: store.read_thread(ReadThreadParams(thread_id=thread_id)),
    "read_thread archived": read,
    "read_items": lambda store, thread_id: store.read_items(
        ReadItemsParams(thread_id=thread_id, include_archived=False)
    ),
    "read_items archived": lambda store, thread_id: store.read_items(ReadItemsParams(thread_id=thread_id)),
    "update": update(include_archived=False, name="a name"),
    "update archived": update(include_archived=True, name="a name"),
    "update nothing": update(include_archived=False),
    "archive": archive,
    "unarchive": unarchive,
    "delete": delete,
}

ROWS = {row[:25].strip(): row[25:].split() for row in TABLE.strip().splitlines() if row}
HEADING = ROWS.pop("verb")
assert list(STATES) == HEADING
assert list(VERBS) == list(ROWS)


async def state_of(store: ThreadStore, thread_id: ThreadId) -> str:
    """Say in which state the thread is, by what changes nothing: an append of nothing and a read."""
    try:
        await append(store, thread_id)
        live = True
    except ThreadNotFound:
        live = False
    try:
        thread = await store.read_thread(ReadThreadParams(thread_id=thread_id, include_archived=True))
    except InvalidRequest:
        return "deferred" if live else "absent"
    if thread.archived_at is not None:
        return "live+arch" if live else "archived"
    return "live" if live else "cold"


async def outcome(store: ThreadStore, thread_id: ThreadId, verb: Verb) -> str:
    """Return the error's word, or the state that the verb left."""
    try:
        await verb(store, thread_id)
    except EventStoreError as error:
        known = [
            word
            for word, (kind, text) in ERRORS.items()
            if (kind, text.format(id=thread_id)) == (type(error), str(error))
        ]
        return known[0] if known else repr(error)
    return await state_of(store, thread_id)


def as_seen(cell: str) -> str:
    """Deleted looks absent, and a created thread whose id is taken looks like the stored one, but live."""
    return {"deleted": "absent", "taken": "live", "taken+arch": "live+arch"}.get(cell, cell)


@pytest.mark.parametrize("verb", ROWS)
async def test_each_verb_answers_in_each_state_as_the_table_says(store: ThreadStore, verb: str) -> None:
    expected = dict(zip(HEADING, map(as_seen, ROWS[verb]), strict=True))
    seen = {}
    for state, arrange in STATES.items():
        seen[state] = await outcome(store, await arrange(store), VERBS[verb])
    assert expected == seen
