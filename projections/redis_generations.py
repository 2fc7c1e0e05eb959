"""Complete sets of views beside each other: one serves, another is built, the one before can come back.

Which one serves is said per partition, under its hash tag, and is switched only to one that is as far as the one before
and as the log was when its building began: readers never go back. A generation belongs to one log and one fold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from eventstore.errors import Superseded, TopicMisconfigured, ViewsAheadOfLog
from eventstore.ports import EventFeed
from projections.fold import fold_in_force, is_newer
from projections.ports import Mark
from projections.redis_shards import Shards, script
from projections.redis_views import event_id_of

_THREADS_AT_A_TIME = 500
"""Threads removed in one step of dropping: less than a millisecond of Redis's time."""


class Role(StrEnum):
    SERVING = "serving"
    PREVIOUS = "previous"
    """It served before."""
    BUILDING = "building"
    LEFT = "left"
    """It served once, or was being built, and nothing points to it."""
    DROPPED = "dropped"
    """It is being removed."""


class Generation(NamedTuple):
    """One complete set of views of a partition."""

    number: int
    role: Role
    checkpoint: int
    fold: str
    """Which fold made it: see `fold_in_force`."""
    cluster: str
    """Names the cluster of the log it was folded from."""
    first: str
    """Event id of that partition's first record; empty while it is not known."""
    last: int
    """Offset of the last record that was folded; -1 for none."""
    last_id: str
    """That record's event id; empty for a record that could not be read."""


class RolledBack(NamedTuple):
    """What became of partitions that were to be rolled back."""

    switched: tuple[int, ...]
    refused: dict[int, str]
    """Why not, by partition."""


class Generations:
    """The generations of a log's partitions."""

    def __init__(self, shards: Shards, feed: EventFeed, *, cluster: str) -> None:
        """Take the shards, the log, and the name of the cluster it is on."""
        self._shards = shards
        self._feed = feed
        self._cluster = cluster
        self._ends: dict[int, tuple[bytes, int]] = {}
        """By partition that is not vouched for: the reign of its master, and the log's end as it was seen in it."""

    async def all(self, partition: int) -> list[Generation]:
        """Return what generations there are, the oldest first.

        Raises:
            ViewsUnavailable: They cannot be read.
        """
        found = []
        for number, role, checkpoint, fold, cluster, first, last, last_id in await self._shards.run(
            script("describe"), partition
        ):
            log = cluster.decode(), first.decode(), last, last_id.decode()
            found.append(Generation(number, Role(role.decode()), checkpoint, fold.decode(), *log))
        return sorted(found)

    async def begin(self, partition: int, *, start: int = 0) -> Mark:
        """Begin a generation beside the serving one; one that this fold is building from this log is gone on with.

        It is folded from offset `start` on, and may serve once it has come to the log's end as it is now.

        Raises:
            LogUnavailable: The log cannot be read.
            ViewsUnavailable: Nothing was begun, or it may have been; beginning again goes on with it.
        """
        end = await self._feed.end(partition)
        first = await self._first(partition)
        begun = await self._shards.run(
            script("begin", writes=True), partition, fold_in_force(), self._cluster, first, start, end
        )
        return Mark(*begun)

    async def serves(self, partition: int) -> bool:
        """Say whether views of this version's fold serve.

        Raises:
            Superseded: Those of a later version do. Two versions would otherwise replace each other's for ever.
            ViewsUnavailable: They cannot be read.
        """
        serving = _in_role(Role.SERVING, await self.all(partition))
        if serving is None or serving.fold == fold_in_force():
            return serving is not None
        if is_newer(serving.fold):
            raise Superseded(
                f"the views of {self._shards.name}/{partition} at {self._shards.address} are a later version's "
                f"(fold {serving.fold}, and this one's is {fold_in_force()}): upgrade this worker; to go back to this "
                "version, end the workers of the later one and give eventstore rebuild"
            )
        return False

    async def switch(self, partition: int, generation: int) -> bool:
        """Let the generation serve; False, and nothing changed, if it is not as far as it has to be.

        Raises:
            NotBuilt: There is no such generation of this fold.
            ViewsUnavailable: It may have been switched or not; switching again is harmless.
        """
        return await self._switch(partition, str(generation))

    async def roll_back_all(self, partitions: Iterable[int]) -> RolledBack:
        """Let the generations before serve again in all the partitions, or in none if it is refused in one.

        Only where a partition is folded on between the look at it and its switch some may be switched and others not,
        which harms nobody: each partition's views are whole.

        Raises:
            ViewsUnavailable: Some may have been switched or not; look before rolling back again.
        """
        wanted = list(partitions)
        objections = await asyncio.gather(*map(self._objection, wanted))
        refused = {partition: why for partition, why in zip(wanted, objections, strict=True) if why is not None}
        if refused:
            return RolledBack((), refused)
        done = []
        for partition in wanted:
            if await self.roll_back(partition):
                done.append(partition)
            else:
                refused[partition] = "those that serve were folded on just now"
        return RolledBack(tuple(done), refused)

    async def _objection(self, partition: int) -> str | None:
        """Say why the partition's views before cannot serve again; None if they can as it is."""
        found = await self.all(partition)
        previous, serving = _in_role(Role.PREVIOUS, found), _in_role(Role.SERVING, found)
        if previous is None:
            return "there are none"
        if previous.fold != fold_in_force():
            return f"they are of another version's fold, {previous.fold}: roll back with that version"
        if serving is not None and previous.checkpoint < serving.checkpoint:
            return f"they are at {previous.checkpoint}, and those that serve are at {serving.checkpoint}"
        return None

    async def roll_back(self, partition: int) -> bool:
        """Let the generation serve that served before, once it is folded up to the serving one: the rule is the same.

        Raises:
            NotBuilt: There is none of this fold.
            ViewsUnavailable: It may have been switched or not; look before rolling back again.
        """
        return await self._switch(partition, "")

    async def vouch(self, partition: int) -> None:
        """See whether the server may have lost its last writes; if so, vouch for it once the log up to now is folded.

        Until then no lists are read there, and threads from the log as well. To be called again and again.

        Raises:
            LogUnavailable: The log cannot be read.
            ViewsUnavailable: The views cannot be read or written.
        """
        _, _, reign, is_vouched_for = await self._shards.run(script("reign"), partition, fold_in_force())
        if is_vouched_for:
            self._ends.pop(partition, None)
            return
        if partition not in self._ends or self._ends[partition][0] != reign:
            self._ends[partition] = reign, await self._feed.end(partition)
        channel = self._shards.channel(partition)
        await self._shards.run(
            script("vouch", writes=True), partition, fold_in_force(), *self._ends[partition], channel
        )

    async def drop(self, partition: int, generation: int) -> None:
        """Remove a generation that does not serve, step by step; one whose removal was cut short is removed on.

        Raises:
            InvalidRequest: It serves.
            ViewsUnavailable: Some of it may be left; drop it again.
        """
        left = 1
        while left:
            _, left = await self._shards.run(script("drop", writes=True), partition, generation, _THREADS_AT_A_TIME)

    async def verify(self, partition: int) -> None:
        """Check that the serving generation was folded from this very log, and no further than it goes.

        Raises:
            TopicMisconfigured: It was folded from another log, such as a topic that was made anew under the same name.
            ViewsAheadOfLog: The log ends before what was folded.
            LogUnavailable: The log cannot be read.
            ViewsUnavailable: The views cannot be read.
        """
        for generation in await self.all(partition):
            if generation.role is Role.SERVING:
                await self._verify(partition, generation)

    async def _verify(self, partition: int, generation: Generation) -> None:
        where, key = f"{self._shards.name}/{partition}", self._shards.key(partition)
        advice = f"drop these views (the keys of Redis that begin with {key}), or give the log they were folded from"
        if generation.cluster != self._cluster:
            raise TopicMisconfigured(
                f"the views of {where} were folded from a log on {generation.cluster}, not on {self._cluster}; {advice}"
            )
        end = await self._feed.end(partition)
        if generation.checkpoint > end:
            raise ViewsAheadOfLog(
                f"the log {where} ends at {end}, and {generation.checkpoint} was folded already: records are gone, "
                f"or it is another log; {advice}"
            )
        first = await self._first(partition)
        if generation.first and first != generation.first:
            raise TopicMisconfigured(f"the log {where} begins with another record than its views; {advice}")
        if generation.last_id and await self._id_at(partition, generation.last) != generation.last_id:
            raise TopicMisconfigured(
                f"the log {where} has another record at {generation.last} than its views were folded from; {advice}"
            )

    async def _switch(self, partition: int, generation: str) -> bool:
        channel = self._shards.channel(partition)
        reply = await self._shards.run(script("switch", writes=True), partition, fold_in_force(), generation, channel)
        return bool(reply[0])

    async def _first(self, partition: int) -> str:
        return await self._id_at(partition, 0)

    async def _id_at(self, partition: int, offset: int) -> str:
        """Return the event id of the record at the offset or, where there is a hole, of the one behind it."""
        entries = await self._feed.read(partition, start=offset, limit=1)
        return event_id_of(entries[0]) if entries else ""


def _in_role(role: Role, generations: Iterable[Generation]) -> Generation | None:
    return next((generation for generation in generations if generation.role is role), None)
