"""Real services for tests: one Kafka and one Redis for a whole run, and own ones for tests that break them.

A run is all processes of one call of pytest. What they start lies in one folder, whose name they inherit; the first
that needs a service starts it, and a warden (see `warden`) ends it when the last of them has gone, however they ended.
Nothing is started for tests that ask for nothing, and what cannot be started is an error, not a skip.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from compose.services.health import end_all
from compose.services.node import Standing
from compose.services.ports import Ports

if TYPE_CHECKING:
    # Imported where something is started: most runs start nothing, and the clients take long to load.
    from compose.services.kafka import Kafka
    from compose.services.redis import Kind, Redis

ROOT = Path(__file__).resolve().parent.parent.parent
VARIABLE = "TESTS_SERVICES"
"""The name of the environment variable with the run's folder."""


@dataclass(frozen=True)
class Topics:
    """What a test has of the run's Kafka: topics and groups of its own, by the prefix of their names."""

    bootstrap: str
    prefix: str

    def named(self, name: str = "threads") -> str:
        """Return the name of a topic or group that no other test uses. It is not created."""
        return f"{self.prefix}{name}"

    def url(self, name: str = "threads") -> str:
        """Return the URL of such a topic."""
        return f"kafka://{self.bootstrap}/{self.named(name)}"


class StartKafka(Protocol):
    """Starts a Kafka that ends with the test."""

    def __call__(
        self, *, brokers: int = 1, listeners: Sequence[str] = (), settings: Mapping[str, str] | None = None
    ) -> Awaitable[Kafka]:
        """Start so many brokers, the first with more listeners, all with more settings."""
        ...


class StartRedis(Protocol):
    """Starts a Redis that ends with the test."""

    def __call__(self, kind: Kind = "single") -> Awaitable[Redis]: ...


class Run:
    """This process's part in a run."""

    def __init__(self) -> None:
        """Join the run that this process was started by, or begin one."""
        inherited = os.environ.get(VARIABLE)
        self.is_first = inherited is None
        self.folder = Path(inherited or tempfile.mkdtemp(prefix="eventstore-tests-"))
        os.environ[VARIABLE] = str(self.folder)
        self._held = ExitStack()
        self._held.enter_context(locked(self.folder / "alive", fcntl.LOCK_SH))
        self.ports = self._held.enter_context(Ports())
        self.breakable: Kafka | None = None
        self._kafka: Kafka | None = None
        self._redis: Redis | None = None
        self._database: int | None = None

    def leave(self) -> None:
        """Go; who began the run sees that nothing of it is left."""
        self._held.close()
        if self.is_first:
            del os.environ[VARIABLE]
            with turn(self.folder / "warden"):
                shutil.rmtree(self.folder, ignore_errors=True)

    async def kafka(self) -> Kafka:
        """Return the run's Kafka, started if it was not."""
        from compose.services.kafka import Kafka

        if self._kafka is None:
            self.watch()
            with turn(self.folder / "kafka.lock"), Ports() as ports:
                folder = self.folder / "kafka"
                self._kafka = Kafka.found(folder) or Kafka.made(folder, ports=ports)
                await self._kafka.start()
        return self._kafka

    async def redis(self) -> tuple[Redis, int]:
        """Return the run's Redis, started if it was not, and the database that is this process's own."""
        from compose.services.redis import DATABASES, Redis

        if self._redis is None:
            self.watch()
            with turn(self.folder / "redis.lock"), Ports() as ports:
                folder = self.folder / "redis"
                self._redis = Redis.found(folder) or Redis.made(folder, ports=ports)
                await self._redis.start()
        if self._database is None:
            self._database = self._claim_database(DATABASES)
        return self._redis, self._database

    def watch(self) -> None:
        """See that a warden watches over the run. Has to be called before anything is started."""
        try:
            lock = locked(self.folder / "warden", fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        # The warden holds the lock from its first moment, for it inherits it, to its last.
        with lock, (self.folder / "warden.log").open("wb") as log:
            os.set_inheritable(lock.fileno(), True)
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "tests.support.warden", str(self.folder)],
                os.environ | {"PYTHONPATH": str(ROOT)},
                setsid=True,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                ],
            )

    def own_folder(self) -> Path:
        """Return a folder for services that are a test's own, or this process's."""
        return Path(tempfile.mkdtemp(prefix="own-", dir=self.folder))

    def _claim_database(self, databases: int) -> int:
        for number in range(databases):
            try:
                self._held.enter_context(locked(self.folder / f"database-{number}", fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError:
                continue
            return number
        raise AssertionError(f"more than {databases} processes use one Redis")


def locked(path: Path, kind: int) -> FileIO:
    """Open a file and lock it; closing it, or dying, ends the lock.

    Raises:
        BlockingIOError: Somebody else has it, and `kind` says not to wait.
    """
    lock = FileIO(path, "a")
    try:
        fcntl.flock(lock, kind)
    except BaseException:
        lock.close()
        raise
    return lock


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait until nobody else holds this lock, and hold it in the block."""
    with locked(path, fcntl.LOCK_EX):
        yield


@cache
def joined() -> Run:
    """Return this process's part in the run of tests."""
    return Run()


RUN = pytest.StashKey[Run]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUN] = joined()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[RUN].leave()


@pytest.fixture
async def kafka(request: pytest.FixtureRequest) -> AsyncIterator[Topics]:
    """The run's Kafka, of one broker; topics of this test are deleted after it."""
    shared = await request.config.stash[RUN].kafka()
    for node in shared.nodes:
        node.check()
    name = re.sub(r"[^A-Za-z0-9_]+", "-", request.node.name)[:60]
    topics = Topics(shared.bootstrap, f"{name}.{secrets.token_hex(4)}.")
    yield topics
    await delete_topics(topics)


async def delete_topics(topics: Topics) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=topics.bootstrap)
    await admin.start()
    try:
        left = [topic for topic in await admin.list_topics() if topic.startswith(topics.prefix)]
        if left:
            answer = await admin.delete_topics(left)
            refusals = [refused for refused in answer.topic_error_codes if refused[1] != 0]
            assert not refusals, refusals
    finally:
        await admin.close()


@pytest.fixture
async def redis_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """An empty database of the run's Redis, which no other test uses at the same time."""
    from redis.asyncio import Redis as RedisClient

    shared, database = await request.config.stash[RUN].redis()
    for node in shared.nodes:
        node.check()
    async with RedisClient.from_url(shared.url(database)) as client:
        await client.flushdb()
        yield shared.url(database)
        await client.flushdb()


@pytest.fixture
async def own_kafka(request: pytest.FixtureRequest) -> AsyncIterator[StartKafka]:
    """Starts brokers that a test may kill, hang, stop and start again, and that end with it."""
    from compose.services.kafka import Kafka

    run = request.config.stash[RUN]
    async with AsyncExitStack() as ends:
        ports = ends.enter_context(Ports())

        async def start(
            *, brokers: int = 1, listeners: Sequence[str] = (), settings: Mapping[str, str] | None = None
        ) -> Kafka:
            run.watch()
            started = Kafka.made(run.own_folder(), ports=ports, brokers=brokers, listeners=listeners, settings=settings)
            ends.push_async_callback(end_all, started.nodes)
            await started.start()
            return started

        yield start


@pytest.fixture
async def own_redis(request: pytest.FixtureRequest) -> AsyncIterator[StartRedis]:
    """Starts a Redis of any kind that a test may kill, hang, stop and start again, and that ends with it."""
    from compose.services.redis import Redis

    run = request.config.stash[RUN]
    async with AsyncExitStack() as ends:
        ports = ends.enter_context(Ports())

        async def start(kind: Kind = "single") -> Redis:
            run.watch()
            started = Redis.made(run.own_folder(), ports=ports, kind=kind)
            ends.push_async_callback(end_all, started.nodes)
            await started.start()
            return started

        yield start


@pytest.fixture
async def three_brokers(request: pytest.FixtureRequest) -> AsyncIterator[Kafka]:
    """Three brokers that a test may kill, hang, stop and start again.

    They cost as much as all else in a test, so tests of one process have them one after the other, each time whole.
    """
    from compose.services.kafka import Kafka

    run = request.config.stash[RUN]
    brokers = run.breakable
    if brokers is None:
        run.watch()
        brokers = Kafka.made(run.own_folder(), ports=run.ports, brokers=3)
        await brokers.start()
        run.breakable = brokers
    yield brokers
    run.breakable = None
    for node in brokers.nodes:
        if node.standing is Standing.HUNG:
            await node.wake()
    await brokers.start()
    run.breakable = brokers
