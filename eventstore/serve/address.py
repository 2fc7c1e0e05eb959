"""Addresses to listen at, as a command line names them. Needs nothing that is not always installed."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from eventstore.errors import InvalidRequest, quoted

_LONGEST_PORT: Final = 5
"""Digits of a port."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens, or is watched."""

    host: str
    port: int
    """0: any that is free."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `HOST:PORT`, `[IPv6]:PORT` or a port on 127.0.0.1.

        Raises:
            InvalidRequest: It is none of these.
        """
        host, colon, port = text.rpartition(":")
        is_port = port.isascii() and port.isdecimal() and len(port) <= _LONGEST_PORT and int(port) < 65_536
        if not is_port or (colon and not host):
            raise InvalidRequest(f"{quoted(text)} is no address to listen at; give PORT or HOST:PORT")
        return cls(host.removeprefix("[").removesuffix("]") or "127.0.0.1", int(port))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
