"""A record of the log with its verdict, as an audit shows it."""

from typing import Literal

from eventstore.documents.fields import Document, Moment


class EventRecord(Document):
    """One record of the log with its verdict, for audit."""

    position: str
    """Where it lies, `PARTITION:OFFSET`: `parse_position` reads it."""
    kind: str
    event_id: str | None
    thread_id: str | None
    occurred_at: Moment | None
    writer_id: str | None = None
    writer_seq: int | None = None
    actor: str | None = None
    verdict: Literal["admitted", "duplicate", "fenced", "refused", "unreadable", "foreign"]
    why: str | None = None
    reason: str | None = None
    """What its sender gave as the reason of an archive, unarchive or delete."""
    items: int = 0
    """How many items it bears; of an append in several records they count when the last of these does."""
