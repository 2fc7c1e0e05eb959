"""`kafka://…`: every part is understood or refused, and a secret is in no text."""

from __future__ import annotations

import subprocess
import traceback
from dataclasses import replace
from pathlib import Path

import pytest

from eventstore.errors import InvalidRequest
from eventstore.kafka.url import KafkaUrl

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "servers", "topic"),
    [
        ("kafka://127.0.0.1:9092/threads", ("127.0.0.1:9092",), "threads"),
        ("kafka://broker/t", ("broker:9092",), "t"),
        ("kafka://a:1,b,c:65535/x.y_z-1", ("a:1", "b:9092", "c:65535"), "x.y_z-1"),
        ("kafka://[::1]:9093,[fe80::2]/t", ("[::1]:9093", "[fe80::2]:9092"), "t"),
        ("kafka://BROKER/T", ("broker:9092",), "T"),
    ],
)
def test_brokers_and_topic(url: str, servers: tuple[str, ...], topic: str) -> None:
    assert KafkaUrl(servers, topic) == KafkaUrl.parse(url)


def test_it_is_written_as_it_is_read() -> None:
    url = "kafka://a:1,[::1]:2/threads"
    assert url == str(KafkaUrl.parse(url))
    assert KafkaUrl.parse(url).where == "a:1, [::1]:2"


def test_without_parameters_it_is_plain_text() -> None:
    settings = KafkaUrl.parse("kafka://a:1,b:2/t").client_settings()
    assert settings["bootstrap_servers"] == ["a:1", "b:2"]
    assert settings["security_protocol"] == "PLAINTEXT"
    assert not any(name.startswith(("ssl", "sasl")) for name in settings)


@pytest.mark.parametrize(
    ("url", "mechanism", "protocol"),
    [
        ("kafka://ann:s3cr3t@a/t", "PLAIN", "SASL_PLAINTEXT"),
        ("kafka://ann:s3cr3t@a/t?sasl=PLAIN", "PLAIN", "SASL_PLAINTEXT"),
        ("kafka://ann:s3cr3t@a/t?sasl=SCRAM-SHA-256", "SCRAM-SHA-256", "SASL_PLAINTEXT"),
        ("kafka://ann:s3cr3t@a/t?tls=true&sasl=SCRAM-SHA-512", "SCRAM-SHA-512", "SASL_SSL"),
    ],
)
def test_sasl(url: str, mechanism: str, protocol: str) -> None:
    settings = KafkaUrl.parse(url).client_settings()
    assert (settings["sasl_mechanism"], settings["security_protocol"]) == (mechanism, protocol)
    assert (settings["sasl_plain_username"], settings["sasl_plain_password"]) == ("ann", SECRET)


def test_user_and_password_come_from_the_environment_where_the_url_has_none() -> None:
    url = KafkaUrl.parse("kafka://a/t?sasl=SCRAM-SHA-512", username="ann", password=SECRET)
    assert (url.mechanism, url.username, url.password) == ("SCRAM-SHA-512", "ann", SECRET)
    assert KafkaUrl.parse("kafka://bob@a/t", username="ann", password=SECRET).username == "bob"
    assert KafkaUrl.parse("kafka://a/t", username="ann", password=SECRET).mechanism == "PLAIN"


def test_a_password_may_have_any_sign() -> None:
    url = KafkaUrl.parse("kafka://a%40b:p%2Fa%3As%40%25%20s%23@host/t")
    assert (url.username, url.password, url.servers) == ("a@b", "p/a:s@% s#", ("host:9092",))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A certificate, its key, and the same key under a password."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key, locked = folder / "cert.pem", folder / "key.pem", folder / "locked.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=broker", "-keyout", str(key)]
    subprocess.run(["openssl", *made, "-out", str(cert)], check=True, capture_output=True)
    subprocess.run(
        ["openssl", "rsa", "-aes256", "-passout", "pass:word", "-in", str(key), "-out", str(locked)],
        check=True,
        capture_output=True,
    )
    return cert, key, locked


def test_tls_takes_the_files_it_is_given(certificate: tuple[Path, Path, Path]) -> None:
    cert, key, _ = certificate
    for query in ("tls=true", f"ca={cert}", f"ca={cert}&cert={cert}&key={key}", f"tls=true&cert={cert}&key={key}"):
        settings = KafkaUrl.parse(f"kafka://a/t?{query}").client_settings()
        assert settings["security_protocol"] == "SSL"
        assert settings["ssl_context"].check_hostname
    assert KafkaUrl.parse("kafka://a/t?tls=false").client_settings()["security_protocol"] == "PLAINTEXT"


def test_files_of_certificates_that_cannot_be_read_are_named(
    certificate: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    cert, _, locked = certificate
    (tmp_path / "empty.pem").write_text("")
    for query in (f"ca={tmp_path}/none.pem", f"ca={tmp_path}/empty.pem", f"cert={cert}&key={locked}", f"cert={cert}"):
        with pytest.raises(InvalidRequest) as refused:
            KafkaUrl.parse(f"kafka://a/t?{query}").client_settings()
        assert query.rpartition("=")[2] in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "kafka:///threads",
        "kafka://",
        "kafka://a",
        "kafka://a/",
        "kafka://a/two/parts",
        "kafka://a/sp ace",
        "kafka://a/..",
        "kafka://a/ümlaut",
        f"kafka://a/{'x' * 250}",
        "kafka://a,,b/t",
        "kafka://a..b/t",
        "kafka://a:port/t",
        "kafka://a:0/t",
        "kafka://a:65536/t",
        "kafka://[::1/t",
        "kafka://a b/t",
        "kafka://a/t#fragment",
        "sqlite:a.db",
        "kafka://a/t?tls=yes",
        "kafka://a/t?tls=",
        "kafka://a/t?tls=true&tls=false",
        "kafka://a/t?ca=x.pem&tls=false",
        "kafka://a/t?key=x.pem",
        "kafka://a/t?acks=0",
        "kafka://a/t?sasl=GSSAPI",
        "kafka://a/t?sasl=PLAIN",
        "kafka://ann@a/t",
    ],
)
def test_what_is_malformed_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        KafkaUrl.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "kafka://ann:s3cr3t@a/t",
        "kafka://ann:s3cr3t@a:port/t",
        "kafka://ann:s3cr3t@/t",
        "kafka://ann:s3cr3t@a/no topic",
        "kafka://ann:s3cr3t@a/t?sasl=GSSAPI",
        "kafka://ann:s3cr3t@a/t?ca=/no/such/file",
        "kafka://ann:x/s3cr3t@a/t",
        "kafka://ann:x#s3cr3t@a/t",
        "kafka://ann:x?s3cr3t@a/t",
        "kafka://ann:x@y/s3cr3t@a/t",
        "kafka://ann:[s3cr3t@a/t",
        "kafka://ann:s3cr3t/t",
        "kafka://ann:s3cr3t℀@a/t",
    ],
)
def test_a_secret_is_in_no_text(url: str) -> None:
    try:
        parsed = KafkaUrl.parse(url)
        shown = f"{parsed} {parsed!r} {parsed.where} {replace(parsed, topic='u')!r}"
        assert SECRET in (parsed.password or "")
        parsed.client_settings()
    except InvalidRequest as refused:
        shown = "".join(str(link) for link in (refused, refused.__cause__, refused.__context__))
        shown += "".join(traceback.format_exception_only(refused))
    assert SECRET not in shown
