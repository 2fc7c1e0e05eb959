"""`eventstore serve` as people run it: where it listens, what it prints and tells, and how it is refused."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import urllib.request
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from eventstore import LoadThreadHistoryParams, open_store
from eventstore.errors import InvalidRequest
from eventstore.ids import new_thread_id
from eventstore.serve.address import Address
from eventstore.serve.codex_service import SERVICE
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.server import MIB
from eventstore.settings import Settings
from eventstore.wiring import open_embedded
from tests.support.serving import a_server, refusal
from tests.support.threads import a_cold_thread, said
from tests.support.wire import CodexWire, told


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(log=f"sqlite:{tmp_path / 'threads.db'}")


async def test_it_says_what_codex_has_to_be_told_and_how_well_it_is(settings: Settings, tmp_path: Path) -> None:
    async with a_server(settings, tmp_path, "--monitor", "0", "--debug") as server:
        thread, codex = new_thread_id(), CodexWire(server.address)
        await codex.create(thread)
        await codex.append(thread, "hello")
        await codex.say("FlushThread", thread)
        with pytest.raises(grpc.aio.AioRpcError):
            await codex.say("FlushThread", "no id")
        async with grpc.aio.insecure_channel(server.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            standings = [
                (await health.Check(health_pb2.HealthCheckRequest(service=name))).status for name in ("", SERVICE)
            ]
            reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            answers = [each async for each in reflection.ServerReflectionInfo(iter([asked]))]
        lines = [json.loads(line) for line in server.said().splitlines()]
        port = next(line["port"] for line in lines if line["event"] == "monitored")
        metrics = await asyncio.to_thread(fetched, f"http://127.0.0.1:{port}/metrics")
        ready = await asyncio.to_thread(fetched, f"http://127.0.0.1:{port}/readyz")

    assert f'experimental_thread_store = {{ type = "remote", endpoint = "http://{server.address}" }}' == server.setting
    assert [health_pb2.HealthCheckResponse.SERVING] * 2 == standings
    assert SERVICE in {service.name for service in answers[0].list_services_response.service}
    calls = [line for line in lines if line["event"] == "call"]
    assert [
        ("CreateThread", "OK"),
        ("AppendItems", "OK"),
        ("FlushThread", "OK"),
        ("FlushThread", "INVALID_ARGUMENT"),
    ] == [(call["method"], call["status"]) for call in calls]
    assert thread == calls[0]["thread"]
    assert 'eventstore_calls_total{method="FlushThread",status="OK"} 1.0' in metrics
    assert 'eventstore_call_seconds_count{method="FlushThread",status="INVALID_ARGUMENT"} 1.0' in metrics
    assert "eventstore_live_writers 1.0" in metrics
    assert "ok\n" == ready


@pytest.mark.parametrize("told_by", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_whoever_tells_it_to_end_has_all_that_it_took_stored(
    settings: Settings, tmp_path: Path, told_by: signal.Signals
) -> None:
    async with a_server(settings, tmp_path) as server:
        thread, codex = new_thread_id(), CodexWire(server.address)
        await codex.create(thread)
        await codex.append(thread, "not flushed")
        await server.end(told_by)
    async with open_embedded(settings) as embedded:
        assert ["not flushed"] == await said(embedded.store, thread)


async def test_it_ends_in_good_order_though_a_stream_is_not_read(settings: Settings, tmp_path: Path) -> None:
    async with open_embedded(settings) as embedded:
        thread = await a_cold_thread(embedded.store, *["x" * MIB] * 32)
    async with a_server(settings, tmp_path) as server, open_store(f"grpc://{server.address}") as store:
        history = store.iter_history(LoadThreadHistoryParams(thread_id=thread))
        await anext(history)
        await server.end()


async def test_a_client_that_goes_before_it_has_all_is_no_error_of_the_server(
    settings: Settings, tmp_path: Path
) -> None:
    async with open_embedded(settings) as embedded:
        thread = await a_cold_thread(embedded.store, *["x" * MIB] * 32)
    async with a_server(settings, tmp_path, "--debug") as server:
        for _ in range(9):
            async with open_store(f"grpc://{server.address}") as store:
                await anext(store.iter_history(LoadThreadHistoryParams(thread_id=thread)))
    lines = [json.loads(line) for line in server.said().splitlines()]

    assert 9 == len(
        [line for line in lines if (line.get("method"), line.get("status")) == ("ReadHistory", "CANCELLED")]
    )
    assert [] == [line for line in lines if line["level"] == "error"]


def fetched(url: str) -> str:
    with urllib.request.urlopen(url) as answer:
        return str(answer.read().decode())


async def test_it_listens_where_others_can_call_only_if_told_so(settings: Settings, tmp_path: Path) -> None:
    code, said = await refusal(settings, "--listen", "0.0.0.0:0")

    assert 2 == code
    assert "--unprotected" in said
    async with a_server(settings, tmp_path, "--listen", "0.0.0.0:0", "--unprotected") as server:
        await CodexWire(server.address.replace("0.0.0.0", "127.0.0.1")).create(new_thread_id())


async def test_two_servers_do_not_share_a_port(settings: Settings, tmp_path: Path) -> None:
    async with a_server(settings, tmp_path) as server:
        code, said = await refusal(settings, "--listen", server.address)

    assert 2 == code
    assert f"{server.address} cannot be listened at" in said


async def test_an_embedded_store_has_no_worker(settings: Settings) -> None:
    assert (2, "eventstore: an embedded store keeps its views itself; leave --worker away\n") == await refusal(
        settings, "--worker"
    )


@pytest.mark.parametrize("text", ["", "host:", ":80", "127.0.0.1:65536", "127.0.0.1:x", "x", "9" * 5_000, "٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no address"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "address", "is_local"),
    [
        ("7433", "127.0.0.1:7433", True),
        ("localhost:1", "localhost:1", True),
        ("127.1.2.3:1", "127.1.2.3:1", True),
        ("[::1]:1", "[::1]:1", True),
        ("0.0.0.0:1", "0.0.0.0:1", False),
        ("[::]:1", "[::]:1", False),
        ("example.org:1", "example.org:1", False),
    ],
)
def test_addresses(text: str, address: str, is_local: bool) -> None:
    parsed = Address.parse(text)

    assert (address, is_local) == (str(parsed), parsed.is_local)


async def test_while_the_file_cannot_be_written_calls_say_so_and_work_again_later(
    settings: Settings, tmp_path: Path
) -> None:
    async with a_server(settings.model_copy(update={"within": 0.5}), tmp_path) as server:
        thread, codex = new_thread_id(), CodexWire(server.address)
        await codex.create(thread)
        await codex.append(thread, "one")
        await codex.say("FlushThread", thread)
        other = sqlite3.connect(settings.sqlite.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(grpc.aio.AioRpcError) as archive:
            await codex.call("ArchiveThread", pb.ArchiveThreadRequest(thread_id=thread))
        with pytest.raises(grpc.aio.AioRpcError) as append:
            await codex.append(thread, "two")
        other.execute("ROLLBACK")
        other.close()
        await codex.say("FlushThread", thread)
        await codex.append(thread, "three")
        said = await codex.said(thread)

    assert archive.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert (grpc.StatusCode.DEADLINE_EXCEEDED, "OutcomeUnknown") == (append.value.code(), told(append.value))
    assert ["one", "two", "three"] == said
