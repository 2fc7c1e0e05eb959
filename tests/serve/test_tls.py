"""A server with a certificate: whom it serves, and that a new file is taken."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import trustme
from prometheus_client import CollectorRegistry

from eventstore.errors import InvalidRequest
from eventstore.ids import new_thread_id
from eventstore.serve.codex_service import SERVICE
from eventstore.serve.protos import codex_thread_store_pb2 as pb
from eventstore.serve.server import serving
from eventstore.serve.tls import TlsFiles, credentials
from eventstore.settings import Settings
from eventstore.wiring import open_embedded
from tests.support.certificates import credentials_of, written
from tests.support.codex import CodexHome, app_server, texts
from tests.support.model import Model
from tests.support.serve_rig import ANY_PORT
from tests.support.serving import a_server, refusal


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(log=f"sqlite:{tmp_path / 'threads.db'}")


async def call(address: str, authority: trustme.CA, *, own: trustme.LeafCert | None = None) -> None:
    """Create a thread over a connection that trusts the authority, and shows a certificate if there is one."""
    shown = credentials_of(own)
    trust = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), *shown)
    async with grpc.aio.secure_channel(address, trust, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        create = channel.unary_unary(f"/{SERVICE}/CreateThread")
        await create(pb.CreateThreadRequest(thread_id=new_thread_id()).SerializeToString())


async def test_a_server_with_a_certificate_serves_those_who_trust_it(settings: Settings, tmp_path: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    files = written(tmp_path, authority)
    words = ("--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    async with a_server(settings, tmp_path, *words) as server:
        await call(server.address, authority)
        with pytest.raises(grpc.aio.AioRpcError) as mistrusted:
            await call(server.address, stranger)

    assert "https://" in server.setting
    assert grpc.StatusCode.UNAVAILABLE == mistrusted.value.code()


async def test_a_server_that_asks_for_certificates_serves_only_their_holders(
    settings: Settings, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    files = written(tmp_path, authority, client_ca=True)
    words = ("--tls-cert", str(files.certificate), "--tls-key", str(files.key), "--client-ca", str(files.client_ca))
    async with a_server(settings, tmp_path, "--listen", "0.0.0.0:0", *words) as server:
        address = server.address.replace("0.0.0.0", "127.0.0.1")
        await call(address, authority, own=authority.issue_cert("a-client"))
        for own in (None, stranger.issue_cert("a-stranger")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(address, authority, own=own)
            assert grpc.StatusCode.UNAVAILABLE == refused.value.code()


async def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(settings: Settings, tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    files = written(tmp_path, old)
    async with (
        open_embedded(settings) as parts,
        serving(parts.store, ANY_PORT, registry=CollectorRegistry(), tls=files) as server,
    ):
        await call(str(server.address), old)
        files.certificate.write_text("half of a certif")
        await call(str(server.address), old)
        written(tmp_path, new)
        await call(str(server.address), new)
        with pytest.raises(grpc.aio.AioRpcError):
            await call(str(server.address), old)


async def test_half_of_what_tls_takes_is_refused(settings: Settings, tmp_path: Path) -> None:
    files = written(tmp_path, trustme.CA())
    code, said = await refusal(settings, "--tls-cert", str(files.certificate))

    assert (2, "TLS takes --tls-cert and --tls-key") == (code, said.removeprefix("eventstore: ")[:34])
    for wrong in (TlsFiles(files.key, files.key), TlsFiles(files.certificate, tmp_path / "none")):
        with pytest.raises(InvalidRequest, match="the certificate cannot be used"):
            credentials(wrong)


async def test_the_real_codex_trusts_a_server_by_its_authority(
    settings: Settings, tmp_path: Path, a_model: Model
) -> None:
    files = written(tmp_path, trustme.CA())
    words = ("--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    async with a_server(settings, tmp_path, *words) as server:
        home = CodexHome.made(tmp_path / "home", model=a_model.url, setting=server.setting)
        home.environment["SSL_CERT_FILE"] = str(tmp_path / "ca.pem")
        async with app_server(home) as codex:
            thread = await codex.start()
            await codex.say(thread, "hello")
            read = await codex.call("thread/read", threadId=thread, includeTurns=True)

    assert ["hello", "heard: hello"] == texts(read)
