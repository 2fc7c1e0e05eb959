"""Settings, from arguments or the environment (`EVENTSTORE_…`), and the URLs of logs and views."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eventstore.documents.fields import is_utf8
from eventstore.errors import InvalidRequest, quoted

if TYPE_CHECKING:
    from eventstore.kafka.url import KafkaUrl
    from eventstore.remote.url import RemoteUrl

PREFIX = "EVENTSTORE_"
_MEMORY = ":memory:"
"""In place of a path: no file, and gone with the store."""
_TEXTS = frozenset({"log", "views", "actor"})


class Settings(BaseModel):
    """Everything that can be set."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    log: str = Field(default="", repr=False)
    """URL of the log; not given: a file in the user's data directory."""
    views: str = Field(default="", repr=False)
    """URL of the views; empty: beside the log."""
    actor: str = ""
    """Who is named in events, for audit; empty: the user and this program."""
    kafka_username: str = ""
    """Who is authenticated with the brokers (SASL) where the URL of the log does not say."""
    kafka_password: str = Field(default="", repr=False)
    server_token: str = Field(default="", repr=False)
    """The bearer token that is shown to a server which keeps the store."""
    synchronous: Literal["OFF", "NORMAL", "FULL", "EXTRA"] = "FULL"
    """How durable a commit of the SQLite engine is; FULL survives power loss."""
    durable: bool = False
    """Acknowledge what counts in the log, without waiting until the views show it to readers."""
    within: float = Field(default=30.0, gt=0, le=3600)
    """Each call's deadline in seconds."""

    @property
    def is_cluster(self) -> bool:
        """Whether the log is on Kafka, and its views are in Redis."""
        return self.log.startswith("kafka:")

    @property
    def is_remote(self) -> bool:
        """Whether a server of ours keeps the store."""
        return self.log.startswith(("grpc:", "grpcs:"))

    @cached_property
    def remote(self) -> RemoteUrl:
        """The server that keeps the store.

        Raises:
            InvalidRequest: The URL is malformed, one of views is given as well, or a token would travel in the open or
                not at all.
        """
        from eventstore.remote.url import RemoteUrl

        if self.views:
            raise InvalidRequest("a server has its views where it wants; leave --views and EVENTSTORE_VIEWS away")
        url = RemoteUrl.parse(self.log)
        if self.server_token and not url.keeps_secrets:
            raise InvalidRequest(f"a token would travel to {url.address} for all to read; begin the URL with grpcs://")
        if not all("!" <= character <= "~" for character in self.server_token):
            raise InvalidRequest(
                "EVENTSTORE_SERVER_TOKEN is no token: there is a blank, a line break or what is not ASCII in it; "
                "set it to the TOKEN of a line of the server's --tokens"
            )
        return url

    @cached_property
    def kafka(self) -> KafkaUrl:
        """The topic which the log is kept in.

        Raises:
            InvalidRequest: The URL is malformed.
        """
        from eventstore.kafka.url import KafkaUrl

        return KafkaUrl.parse(self.log, username=self.kafka_username, password=self.kafka_password)

    @property
    def redis(self) -> str:
        """The URL of the Redis which the views are kept in; it may hold a password.

        Raises:
            InvalidRequest: None is given, or it is of another kind.
        """
        if not self.views.startswith(("redis://", "rediss://")):
            raise InvalidRequest(
                "a log on Kafka has its views in Redis; give --views redis://HOST:PORT/DB, or set EVENTSTORE_VIEWS"
            )
        return self.views

    @cached_property
    def sqlite(self) -> SqliteUrl:
        """The SQLite file which log and views are kept in.

        Raises:
            InvalidRequest: A URL is malformed, or log and views name different files.
        """
        # A log that is given and empty is refused: whoever named it so by a variable that is not set means another.
        log = SqliteUrl.parse(self.log) if "log" in self.model_fields_set else SqliteUrl(str(default_file()))
        if self.views and (not self.views.startswith("sqlite:") or SqliteUrl.parse(self.views) != log):
            raise InvalidRequest(
                "on SQLite, log and views are kept in one file; leave --views and EVENTSTORE_VIEWS away, or give the "
                "same URL"
            )
        return log

    @property
    def who(self) -> str:
        return self.actor or f"{_user()} (eventstore)"


@dataclass(frozen=True, slots=True)
class SqliteUrl:
    """`sqlite:PATH` or `sqlite::memory:`."""

    path: str

    @classmethod
    def parse(cls, url: str) -> SqliteUrl:
        """Read the URL.

        Raises:
            InvalidRequest: It is malformed or has a parameter that is not known.
        """
        scheme, colon, rest = url.partition(":")
        if scheme != "sqlite" or not colon:
            # The rest of it may hold a password.
            shown = f"{scheme}:…" if colon else url
            raise InvalidRequest(
                f"{quoted(shown)} is not a URL of a store; give sqlite:PATH, e.g. sqlite:agent.db, "
                "kafka://HOST:PORT/TOPIC, or grpc://HOST:PORT"
            )
        path, _, query = rest.partition("?")
        for name, _ in parse_qsl(query, keep_blank_values=True):
            raise InvalidRequest(f"{url!r} has an unknown parameter {name!r}; sqlite: takes none")
        if path == _MEMORY:
            return cls(path)
        path = path.removeprefix("//")
        if "\0" in path:
            raise InvalidRequest(f"{url!r} names no file: no path has a NUL in it; give sqlite:PATH")
        if not path or path.endswith("/"):
            raise InvalidRequest(f"{url!r} names no file; give sqlite:PATH, e.g. sqlite:agent.db")
        try:
            path = str(Path(path).expanduser())
        except RuntimeError as exc:
            raise InvalidRequest(f"{url!r} names no file: {exc}; give the whole path") from exc
        # A file of that name is one on disk, whatever the path becomes on its way.
        return cls(f"./{path}" if path == _MEMORY else path)


def load_settings(*, log: str | None = None, views: str | None = None, actor: str | None = None) -> Settings:
    """Return the settings: what is given here wins over the environment, whose empty variables are not set.

    A log given here that is not on Kafka leaves the environment's views alone.

    Raises:
        InvalidRequest: A value is wrong, or the environment holds an `EVENTSTORE_` name that is not known.
    """
    named = _named_in(os.environ)
    given = {name: value for name, value in (("log", log), ("views", views), ("actor", actor)) if value is not None}
    for name, value in (named | given).items():
        if not isinstance(value, str):
            raise InvalidRequest(f"setting {name!r} is wrong: {value!r} is no text; a file is named sqlite:PATH")
        if not is_utf8(value):
            raise InvalidRequest(f"setting {name!r} is wrong: {value!r} is not UTF-8; give another")
    if log is not None and not log.startswith("kafka:"):
        # The environment's views are those of a log on Kafka, mostly the environment's; this one has none elsewhere.
        named.pop("views", None)
    if named.keys() <= _TEXTS:
        # Any text will do: a command line that says no more than where its file is starts without building a validator.
        texts: dict[str, Any] = {**named, **given}
        return Settings.model_construct(**texts)
    try:
        return Settings.model_validate(named | given)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(f"setting {name!r} is wrong: {first['msg']}") from exc


def default_file() -> Path:
    """Return where threads are kept when nothing else is said.

    Raises:
        InvalidRequest: Nobody's home is known.
    """
    from platformdirs import user_data_path

    try:
        return user_data_path("eventstore") / "threads.db"
    except RuntimeError as exc:
        raise InvalidRequest(
            "there is no home to keep a file in; give --log sqlite:PATH, or set EVENTSTORE_LOG or HOME"
        ) from exc


def _named_in(environment: Mapping[str, str]) -> dict[str, str]:
    named = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    known = {PREFIX + name.upper(): name for name in Settings.model_fields}
    for name in named:
        if name not in known:
            raise InvalidRequest(f"{name} in the environment is not a setting; known are {', '.join(sorted(known))}")
    return {known[name]: value for name, value in named.items() if value}


def _user() -> str:
    import getpass

    try:
        return getpass.getuser().encode(errors="replace").decode()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
