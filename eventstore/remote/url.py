"""`grpc://HOST:PORT` and `grpcs://HOST:PORT`: where a server is that keeps threads, and how it is spoken to."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from eventstore.errors import InvalidRequest

EXAMPLE: Final = "grpc://HOST:PORT, e.g. grpc://127.0.0.1:7433, or grpcs://HOST:PORT with TLS"
DEFAULT_PORT: Final = 7433
SCHEMES: Final = ("grpc:", "grpcs:")
_PARAMETERS = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A server's address, and the files for TLS."""

    address: str
    """`HOST:PORT`, or `[IPv6]:PORT`."""
    tls: bool = False
    ca: str | None = None
    """A file with the certificates that the server is trusted by; None: the system's."""
    cert: str | None = None
    """A file with this client's own certificate."""
    key: str | None = None
    """A file with its key; None: it is in `cert`."""

    def __str__(self) -> str:
        return f"{'grpcs' if self.tls else 'grpc'}://{self.address}"

    @property
    def keeps_secrets(self) -> bool:
        """Whether nobody else can read what is sent: it is encrypted, or stays on this machine."""
        host = self.address.rpartition(":")[0].strip("[]")
        try:
            return self.tls or host == "localhost" or ip_address(host).is_loopback
        except ValueError:
            return False

    @classmethod
    def parse(cls, url: str) -> RemoteUrl:
        """Read the URL. Parameters of `grpcs:` are `ca=FILE`, `cert=FILE`, `key=FILE`.

        Raises:
            InvalidRequest: It is malformed or has a parameter that is not known.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", DEFAULT_PORT if parts.port is None else parts.port
        except ValueError as exc:
            raise InvalidRequest(f"this is no URL of a server; give {EXAMPLE}") from exc
        if f"{parts.scheme}:" not in SCHEMES or not host or port == 0 or any(sign.isspace() for sign in host):
            raise InvalidRequest(f"this is no URL of a server; give {EXAMPLE}")
        if parts.path.strip("/") or parts.fragment or parts.username is not None:
            raise InvalidRequest(f"a server's URL has a host and a port only; give {EXAMPLE}")
        tls = parts.scheme == "grpcs"
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return cls(address, tls=tls, **_files(parse_qsl(parts.query, keep_blank_values=True), tls=tls))

    def trust(self) -> Mapping[str, bytes | None]:
        """Read the files, as gRPC's credentials take them.

        Raises:
            InvalidRequest: One of them cannot be read, or they are no certificates, or do not fit together.
        """
        try:
            ca, cert, key = (
                None if name is None else Path(name).expanduser() for name in (self.ca, self.cert, self.key)
            )
            # gRPC would take anything, and say at the first call that nobody answers.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if ca is not None:
                context.load_verify_locations(ca)
            if cert is not None:
                # An empty password, or a key that has one would be asked for on the terminal.
                context.load_cert_chain(cert, key, password="")
            return {
                "root_certificates": None if ca is None else ca.read_bytes(),
                "certificate_chain": None if cert is None else cert.read_bytes(),
                "private_key": None if cert is None else (key or cert).read_bytes(),
            }
        except (OSError, RuntimeError) as exc:
            raise InvalidRequest(f"a file of certificates cannot be used: {exc}; ca=, cert= and key= name PEM") from exc


def _files(query: list[tuple[str, str]], *, tls: bool) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in query:
        if name not in _PARAMETERS:
            raise InvalidRequest(f"a grpcs: URL has no parameter {name!r}; known are {', '.join(_PARAMETERS)}")
        if not tls:
            raise InvalidRequest(f"{name}= is for TLS; begin the URL with grpcs://")
        if name in given or not value:
            raise InvalidRequest(f"give {name}= once, and with a value")
        given[name] = value
    if "key" in given and "cert" not in given:
        raise InvalidRequest("key= belongs to a certificate; give cert= as well")
    return given
