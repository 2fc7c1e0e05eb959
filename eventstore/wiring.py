"""The composition root: which engine stands behind the ports. The only place, beside the command line, that knows the
projections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from eventstore.errors import TopicMisconfigured, Unsupported, ViewsUnavailable
from eventstore.ports import EventFeed, EventLog, ThreadViews
from eventstore.settings import Settings, load_settings
from eventstore.sqlite.file import SqliteFile
from eventstore.sqlite.log import PARTITION, SqliteFeed, SqliteLog
from eventstore.store import ThreadStore
from eventstore.threads import EventSourcedThreadStore

if TYPE_CHECKING:
    from eventstore.kafka.feed import KafkaFeed
    from eventstore.kafka.reader import KafkaReader
    from eventstore.kafka.url import KafkaUrl
    from eventstore.remote.store import RemoteThreadStore
    from projections.metrics import Metrics
    from projections.ports import Census, Entries
    from projections.rebuild import Rebuild
    from projections.redis_generations import Generations
    from projections.redis_shards import Shards
    from projections.redis_views import RedisViews
    from projections.verify import StoredViews
    from projections.worker import Group, Worker

_VERIFY_WITHIN = 5.0
"""Seconds for which opening a store waits for Redis; what is not verified by then is at the first look at the views."""
_CLOSE_WITHIN = 5.0
"""Seconds that a closing store has to send what was handed over."""


@dataclass(frozen=True, slots=True)
class _Store:
    """A store, and the ports it stands on."""

    store: EventSourcedThreadStore
    log: EventLog
    feed: EventFeed
    views: ThreadViews


@dataclass(frozen=True, slots=True)
class Embedded(_Store):
    """A store on one SQLite file."""

    file: SqliteFile

    def stored_views(self) -> StoredViews:
        """Return the views that serve, as they are stored."""
        from projections.sqlite_views import SqliteViews

        return SqliteViews(self.file)

    async def censuses(self) -> list[Census | None]:
        """Return what the views hold, partition by partition.

        Raises:
            ViewsUnavailable: They cannot be read, or are damaged.
        """
        from projections.census import census_in

        return [await self.file.read(census_in)]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A topic on Kafka and its views in Redis, with no store on them yet."""

    topic: KafkaUrl
    reader: KafkaReader
    feed: KafkaFeed
    shards: Shards
    generations: Generations

    async def verify(self) -> None:
        """See whether the views that serve are of this log; raises as `Generations.verify` does."""
        looks = map(self.generations.verify, range(self.reader.partitions))
        # All of them have ended when this does: one that went on would meet connections that are closed.
        for found in await asyncio.gather(*looks, return_exceptions=True):
            if isinstance(found, BaseException):
                raise found

    def stored_views(self, generation: int | None = None) -> RedisViews:
        """Return the views of a generation as they are stored; None for the one that serves."""
        from projections.redis_views import RedisViews

        return RedisViews(self.shards, partition_of=self.feed.partition_of, generation=generation)


@dataclass(frozen=True, slots=True)
class Clustered(_Store):
    """A store on Kafka and Redis."""

    cluster: Cluster

    def stored_views(self) -> StoredViews:
        """Return the views that serve, as they are stored."""
        return self.cluster.stored_views()

    async def censuses(self) -> list[Census | None]:
        """Return what the views hold, partition by partition; None where there are none yet.

        Raises:
            ViewsUnavailable: They cannot be read, or are damaged.
        """
        from projections.redis_edge import NotBuilt

        views = self.cluster.stored_views()

        async def census(partition: int) -> Census | None:
            try:
                return await views.census(partition)
            except NotBuilt:
                return None

        return list(await asyncio.gather(*map(census, range(self.feed.partitions))))


Parts: TypeAlias = Embedded | Clustered


@asynccontextmanager
async def open_store(
    url: str | None = None, *, views: str | None = None, actor: str | None = None
) -> AsyncIterator[ThreadStore]:
    """Open the thread store whose log is at `url`, or where the settings say.

    The URL is `sqlite:PATH`, `sqlite::memory:`, `kafka://HOST:PORT/TOPIC` with its views at `redis://HOST:PORT/DB`, or
    `grpc://HOST:PORT` of a server that keeps the store. Events bear the name of the `actor`. Leaving the store ends its
    live threads as discard does: a thread that was created and never flushed is gone; what was appended to a stored one
    stays.

    Raises:
        InvalidRequest: A URL or a setting is wrong.
        LogUnavailable: The file cannot be opened or written, or no broker or server answers.
        TopicMisconfigured: File or topic is damaged, missing, another program's, or a newer version's.
        Unsupported: What the engine needs is not installed.
    """
    async with open_threads(load_settings(log=url, views=views, actor=actor)) as store:
        yield store


@asynccontextmanager
async def open_threads(settings: Settings) -> AsyncIterator[EventSourcedThreadStore | RemoteThreadStore]:
    """Open the store that the settings name, here or at a server; raises as `open_store` does."""
    if not settings.is_remote:
        async with open_parts(settings) as parts:
            yield parts.store
        return
    with _the_extra("a store at a server", "serve"):
        from eventstore.remote.store import open_remote

    async with open_remote(
        settings.remote,
        actor=settings.who,
        within=settings.within,
        durable=settings.durable,
        token=settings.server_token,
    ) as store:
        yield store


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open the store that the settings name, of whichever engine; raises as `open_store` does.

    Raises:
        Unsupported: A server keeps it, and its log and views are not to be had there.
    """
    if settings.is_remote:
        raise needs_the_log()
    if settings.is_cluster:
        async with open_clustered(settings) as clustered:
            yield clustered
    else:
        async with open_embedded(settings) as embedded:
            yield embedded


@asynccontextmanager
async def open_embedded(settings: Settings) -> AsyncIterator[Embedded]:
    """Open a store on one SQLite file; closing it ends its live threads as discard does."""
    from projections.embedded import EmbeddedViews
    from projections.projector import Projector
    from projections.sqlite_views import SqliteViews

    file = SqliteFile(settings.sqlite.path, synchronous=settings.synchronous, within=settings.within)
    log = SqliteLog(file)
    await log.open()
    try:
        stored = SqliteViews(file)
        await stored.open()
        feed = SqliteFeed(file, log.recent)
        views = EmbeddedViews(file, feed, stored, Projector(feed, stored, partition=PARTITION), within=settings.within)
        log.on_append = views.note_append
        store = EventSourcedThreadStore(
            log,
            feed,
            views,
            name=f"sqlite:{file.path}",
            actor=settings.who,
            within=settings.within,
            durable=settings.durable,
        )
        try:
            yield Embedded(store, log, feed, views, file)
        finally:
            await store.close()
            await views.close()
    finally:
        await file.close()


@asynccontextmanager
async def open_clustered(settings: Settings) -> AsyncIterator[Clustered]:
    """Open a store on Kafka and Redis; closing it ends its live threads as discard does."""
    with _the_extra():
        from eventstore.kafka.log import KafkaLog
        from projections.shared import SharedViews

    async with AsyncExitStack() as ends:
        cluster = await ends.enter_async_context(open_cluster(settings, needs_views=False))
        verified = await _verified(cluster, within=settings.within)
        log = KafkaLog(settings.kafka, cluster.reader)
        await log.open(within=settings.within)
        ends.push_async_callback(log.close, within=_CLOSE_WITHIN)
        views = SharedViews(
            cluster.feed,
            cluster.shards,
            partitions=cluster.reader.partitions,
            within=settings.within,
            verify=None if verified else cluster.verify,
        )
        ends.push_async_callback(views.close)
        store = EventSourcedThreadStore(
            log,
            cluster.feed,
            views,
            name=str(settings.kafka),
            actor=settings.who,
            within=settings.within,
            durable=settings.durable,
        )
        ends.push_async_callback(store.close)
        yield Clustered(store, log, cluster.feed, views, cluster)


async def _verified(cluster: Cluster, *, within: float) -> bool:
    """See whether the views are of this log; False if they cannot be read now, which keeps nobody from appending.

    Raises:
        TopicMisconfigured: They are of another log, or Redis is not fit for them.
        ViewsAheadOfLog: The log ends before what was folded.
    """
    try:
        async with asyncio.timeout(min(_VERIFY_WITHIN, within / 2)):
            await cluster.verify()
    except (ViewsUnavailable, TimeoutError):
        return False
    return True


@asynccontextmanager
async def open_cluster(settings: Settings, *, needs_views: bool = True) -> AsyncIterator[Cluster]:
    """Open a topic and the Redis with its views; a topic whose partitions were changed is refused.

    With `needs_views`, a Redis that is away is an error; otherwise it is connected to once it is there.
    """
    with _the_extra():
        from eventstore.kafka.feed import KafkaFeed
        from projections.redis_generations import Generations
        from projections.redis_shards import open_shards

    topic, redis = settings.kafka, settings.redis
    async with AsyncExitStack() as ends:
        reader = await ends.enter_async_context(_open_topic(settings))
        shards = await ends.enter_async_context(
            open_shards(redis, topic.topic, within=settings.within, needed=needs_views)
        )
        feed = KafkaFeed(reader)
        yield Cluster(topic, reader, feed, shards, Generations(shards, feed, cluster=reader.cluster_id))


@dataclass(frozen=True, slots=True)
class OpenLog:
    """A log, to be written and read, without any views."""

    log: EventLog
    feed: EventFeed


@asynccontextmanager
async def open_log(settings: Settings) -> AsyncIterator[OpenLog]:
    """Open the log that the settings name, of whichever engine; raises as `open_store` does."""
    if settings.is_remote:
        raise needs_the_log()
    if not settings.is_cluster:
        async with open_embedded(settings) as embedded:
            yield OpenLog(embedded.log, embedded.feed)
        return
    with _the_extra():
        from eventstore.kafka.feed import KafkaFeed
        from eventstore.kafka.log import KafkaLog

    async with AsyncExitStack() as ends:
        reader = await ends.enter_async_context(_open_topic(settings))
        log = KafkaLog(settings.kafka, reader)
        await log.open(within=settings.within)
        ends.push_async_callback(log.close, within=_CLOSE_WITHIN)
        yield OpenLog(log, KafkaFeed(reader))


@asynccontextmanager
async def _open_topic(settings: Settings) -> AsyncIterator[KafkaReader]:
    """Open a topic; one whose number of partitions was changed is refused."""
    from eventstore.kafka.reader import KafkaReader
    from eventstore.kafka.topic import misplaced_key

    reader = KafkaReader(settings.kafka, within=settings.within)
    await reader.open()
    try:
        misplaced = await misplaced_key(reader)
        if misplaced is not None:
            raise TopicMisconfigured(misplaced)
        yield reader
    finally:
        await reader.close()


def worker_on(cluster: Cluster, group: Group, *, metrics: Metrics, batch: int | None = None) -> Worker:
    """Return a worker that keeps the views of the partitions which it is given; `batch` is the most a step folds."""
    from projections.worker import BATCH, Worker

    return Worker(group, cluster.feed, cluster.generations, cluster.stored_views, metrics=metrics, batch=batch or BATCH)


def rebuild_of(parts: Clustered, ahead: Entries) -> Rebuild:
    """Return what rebuilds the views of the parts' log, which is read ahead by `ahead`."""
    from projections.rebuild import Rebuild

    cluster = parts.cluster
    return Rebuild(cluster.feed, ahead, cluster.generations, cluster.stored_views)


def needs_the_log() -> Unsupported:
    """Return the error of what is asked of a store at a server, and can be answered with its log only."""
    return Unsupported("this needs the log itself, which a server does not hand out; give the --log that it serves")


@contextmanager
def _the_extra(what: str = "a log on Kafka", extra: str = "cluster") -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as exc:
        raise Unsupported(f"{what} needs {exc.name}, which is not installed; install eventstore[{extra}]") from exc
