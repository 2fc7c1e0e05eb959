"""Bearer tokens: who is let in by them, that a new file is taken, and that no token is ever shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from eventstore.errors import InvalidRequest
from eventstore.ids import new_thread_id
from eventstore.serve.asked import SERVICE as THREADS
from eventstore.serve.bearers import Bearers
from eventstore.serve.codex_service import SERVICE as CODEX
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.server import MIB
from eventstore.serve.statuses import NotAuthenticated
from eventstore.settings import Settings
from tests.support.bearers import ONE, THREE, TWO, filled
from tests.support.certificates import written
from tests.support.serve_rig import a_rig
from tests.support.serving import a_server, refusal
from tests.support.wire import CodexWire, told

FILE = f"""
# who may call
first  {ONE}
second {TWO}   # until May
"""


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    return filled(tmp_path / "tokens", FILE)


def shown(token: str, *, scheme: str = "Bearer ") -> list[tuple[str, str | bytes]]:
    return [("user-agent", "a test"), ("authorization", scheme + token)]


async def refused(call: Any) -> tuple[grpc.StatusCode, str | None, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), told(caught.value), caught.value.details() or ""


async def test_only_a_known_token_is_let_in_and_everybody_else_is_told_what_to_do(tmp_path: Path, tokens: Path) -> None:
    async with a_rig(tmp_path / "threads.db", tokens=tokens) as rig:
        address, thread = str(rig.server.address), new_thread_id()
        for token in (ONE, TWO):
            await CodexWire(address, token=token).create(new_thread_id())
        refusals = [await refused(CodexWire(address, token=token).create(thread)) for token in (None, THREE, "")]
        strangers = CodexWire(address)
        others = (f"{CODEX}/ListThreads", f"{THREADS}/DeleteThread", "none/Such")
        refusals += [await refused(strangers.raw(method, b"")) for method in others]
        refusals.append(await refused(strangers.raw(f"{THREADS}/FollowEvents", b"", streams=True)))
        large = pb.AppendThreadItemsRequest(thread_id=thread, items_json=["x" * 20 * MIB])
        refusals.append(await refused(strangers.call("AppendItems", large)))
        live = rig.store.is_live(thread)

    assert {(grpc.StatusCode.UNAUTHENTICATED, "NotAuthenticated")} == {each[:2] for each in refusals}
    for _, _, text in refusals:
        assert "'authorization: Bearer TOKEN'" in text
        assert THREE not in text
    assert not live


async def test_health_is_open_and_reflection_is_not(tmp_path: Path, tokens: Path) -> None:
    async with (
        a_rig(tmp_path / "threads.db", tokens=tokens) as rig,
        CodexWire(str(rig.server.address)).channel() as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        standing = (await health.Check(health_pb2.HealthCheckRequest(service=CODEX))).status
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.aio.AioRpcError) as stranger:
            [each async for each in reflection.ServerReflectionInfo(iter([asked]))]
        known = (("authorization", f"bearer {ONE}"),)
        answers = [each async for each in reflection.ServerReflectionInfo(iter([asked]), metadata=known)]

    assert health_pb2.HealthCheckResponse.SERVING == standing
    assert grpc.StatusCode.UNAUTHENTICATED == stranger.value.code()
    assert THREADS in {service.name for service in answers[0].list_services_response.service}


async def test_a_changed_file_counts_at_once_and_one_that_cannot_be_used_does_not(tmp_path: Path, tokens: Path) -> None:
    async with a_rig(tmp_path / "threads.db", tokens=tokens) as rig:
        old, new = (CodexWire(str(rig.server.address), token=token) for token in (ONE, THREE))
        await old.create(new_thread_id())
        filled(tokens, f"third {THREE}\n")
        await new.create(new_thread_id())
        gone = await refused(old.create(new_thread_id()))
        for break_it in (
            lambda: filled(tokens, f"first {ONE}\nthird"),
            lambda: filled(tokens, f"first {ONE}", mode=0o604),
            lambda: filled(tokens, "# nobody"),
            tokens.unlink,
        ):
            break_it()
            await new.create(new_thread_id())
            assert grpc.StatusCode.UNAUTHENTICATED == (await refused(old.create(new_thread_id())))[0]
        filled(tokens, f"first {ONE}")
        await old.create(new_thread_id())

    assert grpc.StatusCode.UNAUTHENTICATED == gone[0]


def test_what_is_shown_otherwise_is_no_token(tokens: Path) -> None:
    bearers = Bearers(tokens)

    assert "first" == bearers.caller(shown(ONE)) == bearers.caller(shown(ONE, scheme="BEARER "))
    for metadata in (
        [],
        shown(ONE, scheme="Basic "),
        shown(ONE, scheme=""),
        shown(ONE) + shown(ONE),
        [("authorization", ONE.encode())],
        shown("\u00fc" * 20),
        shown(ONE[:-1]),
        shown(ONE + "1"),
    ):
        with pytest.raises(NotAuthenticated):
            bearers.caller(metadata)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names nobody"),
        ("# nobody\n\n", "names nobody"),
        (f"first {ONE}\nsecond", "line 2 of .* is not NAME TOKEN"),
        (f"first name {ONE}", "line 1 of .* is not NAME TOKEN"),
        (f"na\x07me {ONE}", "line 1 of .* is not NAME TOKEN"),
        (f"first {ONE[:15]}", "fewer than 16 characters"),
        (f"first {ONE}ä", "or others than letters"),
        (f"first {ONE}\nsecond {ONE}", "line 2 of .* repeats the token"),
        (b"first " + ONE.encode() + b"\xff", "not UTF-8"),
    ],
)
def test_a_file_that_is_wrong_is_refused_without_showing_what_is_in_it(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        Bearers(filled(tmp_path / "tokens", text))

    assert ONE[:15] not in str(refused.value)


def test_a_file_that_everybody_may_read_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for mode in (0o604, 0o602, 0o644):
        with pytest.raises(InvalidRequest, match="chmod o="):
            Bearers(filled(tmp_path / "tokens", FILE, mode=mode))
    Bearers(filled(tmp_path / "tokens", FILE, mode=0o640))
    with pytest.raises(InvalidRequest, match="cannot be read"):
        Bearers(tmp_path / "none")


def test_a_name_may_have_two_tokens_and_what_is_kept_shows_none(tmp_path: Path) -> None:
    bearers = Bearers(filled(tmp_path / "tokens", f"first {ONE}\nfirst {TWO}\n"))

    assert "first" == bearers.caller(shown(ONE)) == bearers.caller(shown(TWO))
    assert ONE not in repr(vars(bearers))
    assert "2" == repr(bearers)[-2]


def test_that_a_file_cannot_be_used_is_said_once(tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = structlog.testing.CapturingLogger()
    monkeypatch.setattr("eventstore.serve.bearers.log", said)
    bearers = Bearers(tokens)
    for text in (f"first {ONE}\n{TWO}", FILE):
        filled(tokens, text)
        bearers.caller(shown(ONE))
        bearers.caller(shown(ONE))

    assert ["tokens not renewed", "tokens renewed"] == [call.args[0] for call in said.calls]
    assert ONE not in repr(said.calls)
    assert TWO not in repr(said.calls)


async def test_tokens_travel_over_tls_only_and_are_not_logged(tmp_path: Path, tokens: Path) -> None:
    settings = Settings(log=f"sqlite:{tmp_path / 'threads.db'}")
    authority = trustme.CA()
    files = written(tmp_path, authority)
    words = ("--listen", "0.0.0.0:0", "--tokens", str(tokens))
    code, told = await refusal(settings, *words)
    async with a_server(
        settings, tmp_path, *words, "--debug", "--tls-cert", str(files.certificate), "--tls-key", str(files.key)
    ) as server:
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        await CodexWire(address, token=ONE, credentials=trust).create(new_thread_id())
        stranger = await refused(CodexWire(address, token=THREE, credentials=trust).create(new_thread_id()))
        said = server.said()

    assert 2 == code
    assert "could read the tokens" in told
    assert grpc.StatusCode.UNAUTHENTICATED == stranger[0]
    assert '"actor": "first"' in said
    assert "UNAUTHENTICATED" in said
    for token in (ONE, TWO, THREE):
        assert token not in said


async def test_a_file_of_tokens_that_is_wrong_ends_the_command(tmp_path: Path, tokens: Path) -> None:
    filled(tokens, FILE, mode=0o644)
    settings = Settings(log=f"sqlite:{tmp_path / 'threads.db'}")
    code, told = await refusal(settings, "--tokens", str(tokens))

    assert (2, f"chmod o= {tokens}") == (code, told.strip()[-len(f"chmod o= {tokens}") :])
