"""`kafka://HOST:PORT[,HOST:PORT…]/TOPIC`: where the topic is, and how its brokers are spoken to.

Secrets come from the URL or, better, from the environment, and are in no text that anybody is shown.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from eventstore.errors import InvalidRequest

EXAMPLE: Final = "kafka://HOST:PORT/TOPIC, e.g. kafka://127.0.0.1:9092/threads"
DEFAULT_PORT: Final = 9092
REQUEST_WITHIN: Final = 5.0
"""Seconds that a broker has for one request. A hung one delays its partitions for as long, so it is short."""
_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<netloc>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:\#(?P<fragment>.*))?",
    re.DOTALL,
)
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
        parts = _split(url)
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
        files = {name: given.get(name) for name in ("ca", "cert", "key")}
        return cls(
            servers,
            _topic(parts),
            tls=_tls(given),
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
                # Without a password of any kind OpenSSL would ask for one at the terminal, and wait.
                context.load_cert_chain(self.cert, self.key, password="")
        except (OSError, ssl.SSLError) as exc:
            files = ", ".join(filter(None, (self.ca, self.cert, self.key)))
            raise InvalidRequest(f"the certificates for {self.where} cannot be read from {files} ({exc})") from exc
        return context


def _split(url: str) -> SplitResult:
    # Not `urlsplit`: of several hosts it takes the brackets of one for a mistake, in some versions of Python.
    found = _PARTS.fullmatch(url)
    if found is None:
        raise InvalidRequest(f"this is no URL of a topic; give {EXAMPLE}")
    parts = SplitResult(*(found[name] or "" for name in SplitResult._fields))
    if "@" in parts.path + parts.query + parts.fragment:
        raise InvalidRequest(f"in a user or password write / ? # [ ] as %2F %3F %23 %5B %5D, or {_GIVEN_BY}")
    if parts.scheme.lower() != "kafka" or parts.fragment:
        raise InvalidRequest(f"this is no URL of a topic; give {EXAMPLE}")
    return parts


def _server(host: str) -> str:
    try:
        split = urlsplit(f"//{host}")
        name = split.hostname or ""
        name.encode("idna")
    except ValueError as exc:
        raise InvalidRequest(f"there is a broker whose name cannot be one; give {EXAMPLE}") from exc
    if not name or any(sign.isspace() for sign in host):
        raise InvalidRequest(f"there is a broker without a name; give {EXAMPLE}")
    try:
        port = DEFAULT_PORT if split.port is None else split.port
    except ValueError:
        port = 0
    if port == 0:
        # What stands there is not repeated: it may be a password whose broker was forgotten.
        raise InvalidRequest(f"what follows {name!r} is no port; give {EXAMPLE}")
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _tls(given: Mapping[str, str]) -> bool:
    files = [name for name in ("ca", "cert", "key") if name in given]
    tls = given.get("tls", "true" if files else "false")
    if tls not in ("true", "false"):
        raise InvalidRequest("tls= is true or false")
    if files and tls == "false":
        raise InvalidRequest(f"{files[0]}= is of no use with tls=false; leave one of them out")
    if "key" in given and "cert" not in given:
        raise InvalidRequest("key= belongs to a certificate; give cert= as well")
    return tls == "true"


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
        if name in given or not value:
            raise InvalidRequest(f"give {name}= once, and with a value")
        given[name] = value
    return given
