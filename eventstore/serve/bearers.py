"""Who may call: names and their bearer tokens in a file, read again when it changes.

A token is never shown, logged or kept: only its digest is, and all digests are compared, however soon one fits.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import structlog

from eventstore.errors import InvalidRequest
from eventstore.serve.statuses import NotAuthenticated

HEADER: Final = "authorization"
SCHEME: Final = "bearer"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")
"""What RFC 6750 (2.1) lets a token be; a shorter one can be guessed."""
_SHOW_IT: Final = (
    "send the metadata 'authorization: Bearer TOKEN' with a token of the file that the server's --tokens names"
)

_Stamp: TypeAlias = tuple[int, ...] | None

log = structlog.get_logger("eventstore.serve")


class Bearer(NamedTuple):
    """Somebody who may call."""

    name: str
    digest: bytes


class Bearers:
    """Those whom a file names, one a line as `NAME TOKEN`, beside empty lines and comments after `#`.

    A name may have several tokens: an old one and the one that replaces it. A file that cannot be used when it was
    changed leaves everything as it was until it can.
    """

    def __init__(self, file: Path) -> None:
        """Read the file.

        Raises:
            InvalidRequest: It cannot be read, others than its owner and group can read it, or a line is wrong.
        """
        self._file = file
        # Looked at before it is read: what changes in between is read again.
        self._seen = _stamp(file)
        self._bearers = _read(file)

    def __repr__(self) -> str:
        return f"<Bearers {self._file} {len(self._bearers)}>"

    def caller(self, metadata: Iterable[tuple[str, str | bytes]]) -> str:
        """Return the name of whom a call's metadata shows the token of.

        Raises:
            NotAuthenticated: They show none, or one that is not known.
        """
        shown = [value for key, value in metadata if key == HEADER]
        if len(shown) != 1 or not isinstance(shown[0], str):
            raise NotAuthenticated(f"the call shows no token; {_SHOW_IT}")
        scheme, _, token = shown[0].partition(" ")
        if scheme.lower() != SCHEME:
            raise NotAuthenticated(f"the call shows no bearer token; {_SHOW_IT}")
        name = self._name_of(token.strip())
        if name is None:
            raise NotAuthenticated(f"the call's token is not known here, or not any more; {_SHOW_IT}")
        return name

    def _name_of(self, token: str) -> str | None:
        self._renew()
        shown, name = _digest(token), None
        for bearer in self._bearers:
            if hmac.compare_digest(bearer.digest, shown):
                name = bearer.name
        return name

    def _renew(self) -> None:
        stamp = _stamp(self._file)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._bearers = _read(self._file)
        except InvalidRequest as exc:
            log.warning("tokens not renewed", why=str(exc))
        else:
            log.info("tokens renewed", bearers=len(self._bearers))


def _stamp(file: Path) -> _Stamp:
    """Return what changes when the file or its permissions do; None if it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(file: Path) -> tuple[Bearer, ...]:
    """Read the file.

    Raises:
        InvalidRequest: It cannot be used; no text says what stands in it.
    """
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_mode & stat.S_IRWXO:
                raise InvalidRequest(f"everyone on this machine can read or write the tokens; say chmod o= {file}")
            lines = opened.read().decode().splitlines()
    except OSError as exc:
        raise InvalidRequest(f"the tokens cannot be read: {exc}; --tokens names a file of lines NAME TOKEN") from exc
    except UnicodeDecodeError:
        raise InvalidRequest(f"the tokens in {file} are not UTF-8") from None
    bearers: dict[bytes, Bearer] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split("#", 1)[0].split()
        if not words:
            continue
        bearer = _bearer(words, f"line {number} of {file}")
        if bearer.digest in bearers:
            raise InvalidRequest(f"line {number} of {file} repeats the token of another line; give each its own")
        bearers[bearer.digest] = bearer
    if not bearers:
        raise InvalidRequest(f"{file} names nobody who may call; give it lines of NAME TOKEN")
    return tuple(bearers.values())


def _bearer(words: list[str], place: str) -> Bearer:
    if len(words) != 2 or not words[0].isprintable():
        raise InvalidRequest(f"{place} is not NAME TOKEN")
    name, token = words
    if not _TOKEN.fullmatch(token):
        raise InvalidRequest(
            f"the token in {place} has fewer than 16 characters, or others than letters, digits and -._~+/; "
            "openssl rand -hex 32 makes one"
        )
    return Bearer(name, _digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
