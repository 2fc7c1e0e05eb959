"""`kafka://HOST:PORT[,HOST:PORT…]/TOPIC`: where the topic is, and how its brokers are spoken to.

Secrets come from the URL or, better, from the environment, and are in no text that anybody is shown.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from eventstore.errors import InvalidRequest

EXAMPLE: Final = "kafka://HOST:PORT/TOPIC, e.g. kafka://127.0.0.1:9092/threads"
DEFAULT_PORT: Final = 9092
REQUEST_WITHIN: Final = 5.0
"""Seconds that a broker has for one request. A hung one delays its partitions for as long, so it is short."""
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_GIVEN_BY = "set EVENTSTORE_KAFKA_USERNAME and EVENTSTORE_KAFKA_PASSWORD"
_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_PARAMETERS = ("tls", "ca", "cert", "key", "sasl")


@dataclass(frozen=True, slots=True)
class KafkaUrl:
    """A topic and the way to its brokers; `str` gives it without secrets."""

    servers: tuple[str, ...]
    topic: str
    tls: bool = False
    ca: str | None = None
    """A file with the certificates that brokers are trusted by; None: the system's."""
    cert: str | None = None
    """A file with this client's own certificate, and maybe its key."""
    key: str | None = None
    mechanism: str | None = None
    """How SASL authenticates; None: it does not."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"kafka://{','.join(self.servers)}/{self.topic}"

    @property
    def where(self) -> str:
        """The brokers, as texts name them."""
        return ", ".join(self.servers)

    @classmethod
    def parse(cls, url: str, *, username: str = "", password: str = "") -> KafkaUrl:
        """Read the URL; user and password are those that it leaves out.

        Parameters: `tls=true`, `ca=FILE`, `cert=FILE`, `key=FILE`, `sasl=PLAIN|SCRAM-SHA-256|SCRAM-SHA-512`.

        Raises:
            InvalidRequest: It is malformed or has a parameter that is not known. No text of it shows a secret.
        """
        parts = urlsplit(url)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        servers = tuple(_server(host) for host in hosts.split(","))
        given = _parameters(parts)
        named, _, secret = userinfo.partition(":")
        username, password = unquote(named) or username, unquote(secret) or password
        mechanism = given.get("sasl") or ("PLAIN" if username else None)
        if mechanism is not None and mechanism not in _MECHANISMS:
            raise InvalidRequest(f"sasl={mechanism} is not known; known are {', '.join(_MECHANISMS)}")
        if mechanism is not None and not (username and password):
            raise InvalidRequest(f"sasl={mechanism} needs a user and a password; {_GIVEN_BY}")
        if given.get("tls", "true") not in ("true", "false"):
            raise InvalidRequest("tls= is true or false")
        files = {name: given.get(name) for name in ("ca", "cert", "key")}
        return cls(
            servers,
            _topic(parts),
            tls=given.get("tls") == "true" or ("tls" not in given and any(files.values())),
            mechanism=mechanism,
            username=username or None,
            password=password or None,
            **files,
        )

    def client_settings(self) -> dict[str, Any]:
        """Return the arguments which all of aiokafka's clients share.

        Raises:
            InvalidRequest: A file of certificates cannot be read.
        """
        transport = "SSL" if self.tls else "PLAINTEXT"
        settings: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "client_id": "eventstore",
            "request_timeout_ms": int(REQUEST_WITHIN * 1000),
            "security_protocol": transport if self.mechanism is None else f"SASL_{transport}",
        }
        if self.tls:
            settings["ssl_context"] = self._tls_context()
        if self.mechanism is not None:
            settings["sasl_mechanism"] = self.mechanism
            settings["sasl_plain_username"] = self.username
            settings["sasl_plain_password"] = self.password
        return settings

    def _tls_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as exc:
            files = ", ".join(filter(None, (self.ca, self.cert, self.key)))
            raise InvalidRequest(f"the certificates for {self.where} cannot be read from {files} ({exc})") from exc
        return context


def _server(host: str) -> str:
    name, port = urlsplit(f"//{host}").hostname, None
    try:
        port = urlsplit(f"//{host}").port
    except ValueError as exc:
        raise InvalidRequest(f"{host!r} names no broker; give {EXAMPLE}") from exc
    if not name or any(sign.isspace() for sign in host):
        raise InvalidRequest(f"{host!r} names no broker; give {EXAMPLE}")
    return f"[{name}]:{port or DEFAULT_PORT}" if ":" in name else f"{name}:{port or DEFAULT_PORT}"


def _topic(parts: SplitResult) -> str:
    topic = parts.path.removeprefix("/")
    if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
        raise InvalidRequest(f"{topic!r} is no topic's name; give {EXAMPLE}")
    return topic


def _parameters(parts: SplitResult) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _PARAMETERS:
            raise InvalidRequest(f"a kafka: URL has no parameter {name!r}; known are {', '.join(_PARAMETERS)}")
        given[name] = value
    return given
