"""Who did it: events bear the name of the client that asked for them, whoever else writes through the same server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import pytest
import trustme

from eventstore.actor import acting, acting_as
from eventstore.ids import new_thread_id
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.server import Limits
from eventstore.settings import Settings
from tests.support.bearers import ONE, TWO, filled
from tests.support.certificates import credentials_of, written
from tests.support.serve_rig import Rig, a_rig
from tests.support.threads import a_live_thread, archive, say_and_flush
from tests.support.wire import CodexWire

SERVER = "a test"
"""The server's own actor."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return filled(tmp_path / "tokens", f"anna {ONE}\nbert {TWO}\n")


def both(rig: Rig) -> tuple[CodexWire, CodexWire]:
    address = str(rig.server.address)
    return CodexWire(address, token=ONE), CodexWire(address, token=TWO)


async def who(rig: Rig, thread: str) -> list[tuple[str, str | None]]:
    """Return each record's kind and actor, as they lie in the log."""
    return [(record.kind, record.actor) for record in await rig.records(thread)]


async def test_each_event_bears_the_name_of_whose_call_it_was(either: Settings, tokens: Path) -> None:
    """Also what was queued by one and is stored by another one's call, and what the server does by itself."""
    async with a_rig(either, tokens=tokens) as rig:
        anna, bert = both(rig)
        thread = new_thread_id()
        await anna.create(thread)
        await bert.append(thread, "one")
        await anna.append(thread, "two")
        await bert.say("FlushThread", thread)
        await bert.append(thread, "three")
        await anna.call("ArchiveThread", pb.ArchiveThreadRequest(thread_id=thread))
        await bert.call("UnarchiveThread", pb.ArchiveThreadRequest(thread_id=thread))
        patch = pb.ThreadMetadataPatch(name="a name")
        await anna.call("UpdateThreadMetadata", pb.UpdateThreadMetadataRequest(thread_id=thread, patch=patch))
        await bert.say("ShutdownThread", thread)
        await anna.append(thread, "four")
    async with a_rig(either) as rig:
        done = await who(rig, thread)
        await rig.codex.append(thread, "five")
        await rig.codex.say("FlushThread", thread)
        since = (await who(rig, thread))[len(done) :]

    assert [
        ("ThreadCreated", "anna"),
        ("ItemsAppended", "bert"),
        ("ItemsAppended", "anna"),
        ("ItemsAppended", "bert"),
        ("ThreadArchived", "anna"),
        ("ThreadUnarchived", "bert"),
        ("MetadataPatched", "anna"),
        ("WriterClosed", "bert"),
        ("WriterOpened", "anna"),
        ("ItemsAppended", "anna"),
        ("WriterClosed", SERVER),
    ] == done
    assert [("WriterOpened", SERVER), ("ItemsAppended", SERVER)] == since


async def test_overlapping_appends_to_one_live_thread_keep_their_names(path: Path, tokens: Path) -> None:
    async with a_rig(path, tokens=tokens) as rig:
        anna, bert = both(rig)
        thread = new_thread_id()
        await anna.create(thread)
        await anna.say("PersistThread", thread)
        ones = [anna.append(thread, "one") for _ in range(20)]
        pairs = [bert.append(thread, "one", "two") for _ in range(20)]
        await asyncio.gather(*(call for two in zip(ones, pairs, strict=True) for call in two))
        await bert.say("FlushThread", thread)
        appended = [record for record in await rig.records(thread) if record.kind == "ItemsAppended"]

    assert [("anna", 1)] * 20 + [("bert", 2)] * 20 == sorted((str(each.actor), each.items) for each in appended)


async def test_what_makes_room_is_the_servers_doing(path: Path, tokens: Path) -> None:
    async with a_rig(path, tokens=tokens, limits=Limits(writers=1)) as rig:
        anna, bert = both(rig)
        thread = new_thread_id()
        await anna.create(thread)
        await anna.say("PersistThread", thread)
        await bert.create(new_thread_id())
        done = await who(rig, thread)

    assert [("ThreadCreated", "anna"), ("WriterClosed", SERVER)] == done


async def test_a_certificate_names_its_holder(either: Settings, tmp_path: Path) -> None:
    authority = trustme.CA()
    files = written(tmp_path, authority, client_ca=True)
    async with a_rig(either, tls=files) as rig:
        thread, clients = new_thread_id(), []
        for name in ("anna", "bert"):
            own = authority.issue_cert(f"{name}.example", common_name=name, organization_name="The Works")
            trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *credentials_of(own))
            clients.append(CodexWire(str(rig.server.address), credentials=trust))
        await clients[0].create(thread)
        await clients[0].say("PersistThread", thread)
        await clients[1].append(thread, "hello")
        await clients[1].say("FlushThread", thread)
        done = await who(rig, thread)

    assert ["ThreadCreated", "ItemsAppended"] == [kind for kind, _ in done]
    for (_, actor), name in zip(done, ("anna", "bert"), strict=True):
        assert {f"CN={name}", "O=The Works"} <= set(str(actor).split(","))


async def test_where_both_are_shown_the_token_names(path: Path, tmp_path: Path, tokens: Path) -> None:
    authority = trustme.CA()
    files = written(tmp_path, authority, client_ca=True)
    async with a_rig(path, tls=files, tokens=tokens) as rig:
        own = authority.issue_cert("a-client", common_name="a client")
        trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *credentials_of(own))
        thread, anna = new_thread_id(), CodexWire(str(rig.server.address), credentials=trust, token=ONE)
        await anna.create(thread)
        await anna.say("PersistThread", thread)
        done = await who(rig, thread)

    assert [("ThreadCreated", "anna")] == done


async def test_tasks_act_each_for_its_own(path: Path) -> None:
    """As a program does that embeds the store and is asked by several."""

    async def change(rig: Rig, name: str) -> str:
        with acting_as(name):
            thread = await a_live_thread(rig.store)
            with acting_as(None):
                await say_and_flush(rig.store, thread, "by itself")
            await archive(rig.store, thread)
        return thread

    async with a_rig(path) as rig:
        names = [f"client {number}" for number in range(5)]
        threads = await asyncio.gather(*(change(rig, name) for name in names))
        done = [[actor for _, actor in await who(rig, thread)] for thread in threads]

    assert [[name, name, SERVER, name] for name in names] == done
    assert acting() is None
