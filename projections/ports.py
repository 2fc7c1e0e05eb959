"""Where folded threads are kept, as the projector sees it.

The one promise that everything rests on: a commit writes states, index and checkpoint together, and only if
generation and checkpoint are still what the states were read with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from eventstore.errors import ViewsUnavailable
from eventstore.ids import ThreadId
from eventstore.ports import Entry
from eventstore.state import IndexEntry, ThreadState


class DamagedView(ViewsUnavailable):
    """A thread's stored state cannot be decoded."""


class Mark(NamedTuple):
    """How far the views of a partition have come."""

    generation: int
    """Which complete set of views this is."""
    checkpoint: int
    """The next offset to fold."""
    revision: int = 0
    """Changes when a thread is replaced by a fold from its start: what was folded upon the old one is then refused."""


class Snapshot(NamedTuple):
    """Read in one atomic step."""

    mark: Mark
    states: Mapping[ThreadId, ThreadState]
    """Of the threads asked for that are known."""


@dataclass(frozen=True, slots=True)
class ThreadChange:
    """What a batch of entries did to one thread."""

    before: ThreadState
    after: ThreadState
    indexed: Sequence[IndexEntry]
    """Its next index entries; all of them if it `replaces`."""
    replaces: bool = False
    """The thread was folded anew from its start, and takes the place of what is stored of it."""

    def then(self, later: ThreadChange) -> ThreadChange:
        """Return both changes as one."""
        return ThreadChange(self.before, later.after, (*self.indexed, *later.indexed))


@dataclass(frozen=True, slots=True)
class Census:
    """What the views know in all."""

    generation: int
    checkpoint: int
    """The next offset to be folded."""
    active: int
    archived: int
    deleted: int
    items: int
    """Of all threads but deleted ones."""
    frozen: tuple[tuple[ThreadId, str], ...]
    """Frozen threads, and why each is."""


class Entries(Protocol):
    """A log, as its projector follows it: a part of the port `EventFeed`."""

    async def read(self, partition: int, *, start: int, limit: int) -> Sequence[Entry]:
        """Return up to `limit` entries from offset `start` on; none when the log has given nothing.

        Raises:
            LogTruncated: The partition does not hold `start`.
            LogUnavailable: The log cannot be read.
        """
        ...


class ViewWriter(Protocol):
    """The stored views of partitions, for their projector."""

    async def snapshot(self, partition: int, threads: Collection[ThreadId]) -> Snapshot:
        """Read mark and states together.

        Raises:
            ViewsUnavailable: The views cannot be read.
            DamagedView: The state of one of the threads cannot be decoded.
        """
        ...

    async def commit(
        self,
        partition: int,
        expected: Mark,
        checkpoint: int,
        changes: Mapping[ThreadId, ThreadChange],
        *,
        last: Entry | None = None,
    ) -> bool:
        """Write all changes and the new checkpoint, or nothing: False if the mark is not `expected` any more.

        `last` is the last entry that was folded; views that are kept apart from their log know it again by that, and
        keep what they knew where none is given. A change that replaces a thread leaves another mark, so that nobody
        commits what was folded upon the thread before.

        Raises:
            ViewsUnavailable: Nothing was written, or it may have been; reading the mark tells.
        """
        ...


class Generations(Protocol):
    """Complete sets of views of a log's partitions beside each other, of which one serves."""

    async def verify(self, partition: int) -> None:
        """Check that the views that serve were folded from this very log, and no further than it goes.

        Raises:
            TopicMisconfigured: They were folded from another log.
            ViewsAheadOfLog: The log ends before what was folded.
            ViewsUnavailable: They cannot be read.
        """
        ...

    async def serves(self, partition: int) -> bool:
        """Say whether views of this version's fold serve.

        Raises:
            Superseded: Those of a later version do, and are not to be replaced.
            ViewsUnavailable: They cannot be read.
        """
        ...

    async def begin(self, partition: int, *, start: int = 0) -> Mark:
        """Begin views beside those that serve, or go on with such that were begun.

        Raises:
            LogUnavailable: The log cannot be read.
            ViewsUnavailable: Nothing was begun, or it may have been; beginning again goes on with it.
        """
        ...

    async def switch(self, partition: int, generation: int) -> bool:
        """Let the generation serve; False, and nothing changed, if it is not as far as it has to be.

        Raises:
            ViewsUnavailable: It may have been switched or not; switching again is harmless.
        """
        ...

    async def vouch(self, partition: int) -> None:
        """See whether the views may have lost what was folded last; if so, let them serve once they are up to the log.

        To be called again and again by whoever keeps them.

        Raises:
            LogUnavailable: The log cannot be read.
            ViewsUnavailable: They cannot be read or written.
        """
        ...

    async def drop(self, partition: int, generation: int) -> None:
        """Remove a generation that does not serve.

        Raises:
            ViewsUnavailable: Some of it may be left; drop it again.
        """
        ...
