"""The URLs of servers."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from eventstore.errors import InvalidRequest
from eventstore.remote.url import RemoteUrl
from eventstore.settings import Settings


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("grpc://127.0.0.1:9", RemoteUrl("127.0.0.1:9")),
        ("grpc://store", RemoteUrl("store:7433")),
        ("grpc://[::1]:9/", RemoteUrl("[::1]:9")),
        ("grpcs://store:9", RemoteUrl("store:9", tls=True)),
        ("grpcs://store?ca=a&cert=b&key=c", RemoteUrl("store:7433", tls=True, ca="a", cert="b", key="c")),
    ],
)
def test_a_url_says_where_the_server_is(url: str, expected: RemoteUrl) -> None:
    assert expected == RemoteUrl.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "grpc:store",
        "grpc://",
        "grpc://:9",
        "grpc://store:0",
        "grpc://store:x",
        "grpc://store:99999",
        "grpc://[::1",
        "grpc://a b:9",
        "grpc://store/threads",
        "grpc://user:secret@store",
        "grpc://store#x",
        "grpc://store?ca=a",
        "grpcs://store?ca=",
        "grpcs://store?ca=a&ca=b",
        "grpcs://store?key=a",
        "grpcs://store?other=a",
        "http://store",
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        RemoteUrl.parse(url)
    assert "secret" not in str(told.value)


def test_files_of_certificates_that_are_none_are_told(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    own, foreign = authority.issue_cert("client"), other.issue_cert("client")
    ca, cert, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    (tmp_path / "empty.pem").touch()
    (tmp_path / "garbage.pem").write_text("no certificate")
    authority.cert_pem.write_to_path(ca)
    own.cert_chain_pems[0].write_to_path(cert)
    foreign.private_key_pem.write_to_path(key)
    for wrong in (f"ca={tmp_path}/none.pem", f"ca={tmp_path}/empty.pem", f"ca={tmp_path}/garbage.pem", f"cert={cert}"):
        with pytest.raises(InvalidRequest, match="cannot be used"):
            RemoteUrl.parse(f"grpcs://store?{wrong}").trust()
    with pytest.raises(InvalidRequest, match="cannot be used"):
        RemoteUrl.parse(f"grpcs://store?cert={cert}&key={key}").trust()

    own.private_key_pem.write_to_path(key)
    trusted = RemoteUrl.parse(f"grpcs://store?ca={ca}&cert={cert}&key={key}").trust()
    assert [file.read_bytes() for file in (ca, cert, key)] == [
        trusted[name] for name in ("root_certificates", "certificate_chain", "private_key")
    ]
    assert set(RemoteUrl.parse("grpcs://store").trust().values()) == {None}


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("grpc://127.0.0.1:9", True),
        ("grpc://[::1]", True),
        ("grpc://localhost", True),
        ("grpcs://store", True),
        ("grpc://store", False),
        ("grpc://10.0.0.1", False),
        ("grpc://[fe80::1]", False),
    ],
)
def test_a_token_travels_where_nobody_else_reads_it_and_nowhere_else(url: str, kept: bool) -> None:
    settings = Settings(log=url, server_token="a-secret-of-somebody")
    if kept:
        assert settings.remote == RemoteUrl.parse(url)
    else:
        with pytest.raises(InvalidRequest, match="grpcs://") as told:
            _ = settings.remote
        assert "a-secret" not in str(told.value) + repr(settings)


@pytest.mark.parametrize("token", ["a-secret-of-somebody\n", "a-secret of somebody", "a-secret-of-sömebody", "\0" * 16])
def test_a_token_that_no_call_can_show_is_told(token: str) -> None:
    with pytest.raises(InvalidRequest, match=r"EVENTSTORE_SERVER_TOKEN is no token: .*; set it to") as told:
        _ = Settings(log="grpc://127.0.0.1:9", server_token=token).remote
    assert "a-secret" not in str(told.value)
