"""The composition root: which engine stands behind the ports. The only place, beside the command line, that knows the
projections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from eventstore.ports import ThreadViews
from eventstore.settings import Settings, load_settings
from eventstore.sqlite.file import SqliteFile
from eventstore.sqlite.log import PARTITION, SqliteFeed, SqliteLog
from eventstore.threads import EventSourcedThreadStore


@dataclass(frozen=True, slots=True)
class Embedded:
    """A store on one SQLite file, and the parts it is made of."""

    store: EventSourcedThreadStore
    file: SqliteFile
    log: SqliteLog
    feed: SqliteFeed
    views: ThreadViews


@asynccontextmanager
async def open_store(url: str | None = None, *, actor: str | None = None) -> AsyncIterator[EventSourcedThreadStore]:
    """Open the thread store at `url` (`sqlite:PATH`, `sqlite::memory:`), or where the settings say.

    Raises:
        InvalidRequest: The URL or a setting is wrong.
        LogUnavailable: The file cannot be opened or written.
        TopicMisconfigured: It is damaged, another program's, or a newer version's.
    """
    async with open_embedded(load_settings(log=url, actor=actor)) as embedded:
        yield embedded.store


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
            log, feed, views, name=f"sqlite:{file.path}", actor=settings.who, within=settings.within
        )
        try:
            yield Embedded(store, file, log, feed, views)
        finally:
            await store.close()
            await views.close()
    finally:
        await file.close()
