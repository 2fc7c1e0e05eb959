"""The edge to Redis: its address without secrets, and its errors as ours.

Whatever Redis or the network says, callers meet `ViewsUnavailable`, or `TopicMisconfigured` where a person has to
change a setting. No text and no `repr` ever shows a password.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from redis import exceptions

from eventstore.errors import EventStoreError, InvalidRequest, TopicMisconfigured, ViewsUnavailable
from projections.ports import DamagedView

_DEFAULT_PORT = 6379
_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
"""Parameters that redis-py takes from a URL. The others it knows are not for a URL to say, or it stumbles over them."""
_OLDEST = 7
"""The first major version whose scripts say whether they write: a reading one runs when memory is full."""
_REPLICA = "is a replica, which may lag; give the address of a master"


class NotBuilt(ViewsUnavailable):
    """No generation of this version's views serves the partition: workers have to build one first."""


def address_of(url: str) -> str:
    """Return the URL's address as texts may show it.

    Raises:
        InvalidRequest: It is not the URL of a Redis.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, _DEFAULT_PORT if parts.port is None else parts.port
        parameters = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise _no_url() from None
    known = _FILES if parts.scheme == "rediss" else frozenset()
    names = [name for name, value in parameters if value]
    if (
        parts.scheme not in ("redis", "rediss")
        or not (host and port)
        or re.fullmatch(r"/?\d*", parts.path, re.ASCII) is None
        or parts.fragment
        or not known.issuperset(names)
        or len(parameters) > len(set(names))
    ):
        raise _no_url()
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def check_files(url: str) -> None:
    """Check that the files which a URL names can be read.

    Raises:
        InvalidRequest: One of them cannot.
    """
    for name, path in parse_qsl(urlsplit(url).query):
        try:
            with open(path, "rb"):
                pass
        except OSError as exc:
            raise InvalidRequest(
                f"{name}={path} of the views' URL cannot be read ({exc.strerror}); name another"
            ) from exc


def _no_url() -> InvalidRequest:
    # The URL may hold a password.
    return InvalidRequest(
        "the URL of the views is none of a Redis; give redis://HOST:PORT/DB, or with TLS rediss://HOST:PORT/DB, which "
        f"?{'&'.join(f'{name}=FILE' for name in sorted(_FILES))} may follow"
    )


def translated(exc: Exception, address: str) -> EventStoreError:
    """Return the error of ours that says what to do about Redis's."""
    match exc:
        case exceptions.NoPermissionError():
            return ViewsUnavailable(f"{address} does not let the views' user do what they need ({exc}); see its ACL")
        case exceptions.AuthenticationError() | exceptions.AuthorizationError():
            return ViewsUnavailable(f"{address} refuses the credentials of the views' URL; check user and password")
        case exceptions.BusyLoadingError():
            return ViewsUnavailable(f"{address} is loading its data; try again in a moment")
        case exceptions.ReadOnlyError():
            return ViewsUnavailable(f"{address} {_REPLICA}")
        case exceptions.OutOfMemoryError():
            return ViewsUnavailable(f"{address} is full (maxmemory); give it more memory or remove what else it holds")
        case exceptions.ConnectionError() | exceptions.TimeoutError() | OSError():
            return ViewsUnavailable(f"{address} cannot be reached ({exc}); check that a Redis answers there")
        case exceptions.ResponseError():
            return ViewsUnavailable(_response(str(exc), address))
        case exceptions.InvalidResponse():
            return ViewsUnavailable(f"{address} does not answer like a Redis; check host and port")
        case _:
            return ViewsUnavailable(f"{address} cannot be used now ({exc}); try again")


def _response(text: str, address: str) -> str:
    if text.startswith("NOAUTH"):
        return f"{address} asks for a password; put user and password into the views' URL"
    if text.startswith(("OOM", "-OOM")) or "maxmemory" in text:
        return f"{address} is full (maxmemory); give it more memory or remove what else it holds"
    return f"{address} refuses: {text}"


def refusal(why: bytes, address: str, key: str) -> EventStoreError:
    """Return the error for what a script of ours refused."""
    match why:
        case b"absent":
            return NotBuilt(f"{address} has no views of {key} yet; a worker has to build them from the log")
        case b"fold":
            return NotBuilt(
                f"the views of {key} at {address} are another version's; build them anew, or use that version"
            )
        case b"serving":
            return InvalidRequest(f"this generation of the views of {key} serves; let another one serve first")
        case b"replica":
            return ViewsUnavailable(f"{address} {_REPLICA}")
        case b"unvouched":
            return ViewsUnavailable(
                f"{address} was replaced or started anew, and may have lost what was folded last into {key}; a worker "
                "has to bring it up to the log"
            )
        case b"damaged":
            return DamagedView(f"a thread is missing from the views of {key} at {address}; build them anew")
        case _:
            return ViewsUnavailable(f"{address} refuses for {key}: {why.decode(errors='replace')}")


def check_settings(info: dict[str, object], address: str) -> None:
    """Check what a server says of itself.

    Raises:
        TopicMisconfigured: Views cannot be kept there.
    """
    version = str(info.get("redis_version", "0"))
    if int(version.partition(".")[0]) < _OLDEST:
        raise TopicMisconfigured(f"{address} is Redis {version}; the views need {_OLDEST}.0 or later")
    policy = info.get("maxmemory_policy")
    if info.get("maxmemory") and policy != "noeviction":
        raise TopicMisconfigured(
            f"{address} would drop views when memory is full: its maxmemory-policy is {policy}; set it to noeviction"
        )
