"""Rule 1 against random interleavings of several processes that write one thread.

Packets are delayed, repeated, reordered and lost; processes look at the head late, take over, crash, resend; the
log is copied and life goes on in the copy. Every rule that lacks one of rule 1's rows must be found out.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, TypeAlias

import pytest

from eventstore import admission
from eventstore.admission import FENCED, NO_THREAD, Admitted, Duplicate, Head, Lifecycle, Verdict, admit, advance
from eventstore.events import (
    Command,
    Event,
    Item,
    ItemsAppended,
    MetadataPatched,
    ThreadArchived,
    ThreadCreated,
    ThreadDeleted,
    ThreadUnarchived,
    WriterClosed,
    WriterEvent,
    WriterOpened,
    items_of,
)
from eventstore.ids import EventId, ThreadId, WriterId

INTERLEAVINGS = 20_000
"""About 15 s of one core."""
INTERLEAVINGS_AT_FULL_MEMORY = 2_000
BUDGET = 20_000
"""In how many interleavings a broken rule must be found out; most need fewer than a hundred."""
STEPS = range(30, 120)
PROCESSES = 3
THREAD = ThreadId("019dbb4e-0f0a-7c33-9a56-2f4f3b7f1f10")

Judge: TypeAlias = Callable[[Head, Event], Verdict]
Words: TypeAlias = ThreadCreated | WriterOpened | ItemsAppended | WriterClosed
Orders: TypeAlias = MetadataPatched | ThreadArchived | ThreadUnarchived | ThreadDeleted


class PromiseBrokenError(AssertionError):
    """The world saw what the design says nobody ever sees."""


def promise(kept: bool, text: str) -> None:
    if not kept:
        raise PromiseBrokenError(text)


@dataclass(frozen=True)
class Rule:
    judge: Judge = admit
    advance: Callable[..., Head] = advance


RULE_1 = Rule()


@dataclass(frozen=True)
class Habits:
    """What the processes of a world do."""

    takeovers: bool = True
    reuses_seqs: bool = False
    """A failed append's seq is given to the next append, one append at a time (no writer of ours does that)."""
    forgets_what_it_saw: bool = False
    """A retried command claims to know of all commands there are (no process of ours does that)."""


class Log:
    """Records in order, and what a reader makes of them by the rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.records: list[Event] = []
        self.admitted: list[Event] = []
        self.head = NO_THREAD
        self.history: list[str] = []
        self.verdicts: Counter[str] = Counter()

    def append(self, event: Event) -> bool:
        """Log the event; True if it counts."""
        self.records.append(event)
        verdict = self.rule.judge(self.head, event)
        self.verdicts[type(verdict).__name__] += 1
        if not isinstance(verdict, Admitted):
            return False
        before, self.head = self.head, self.rule.advance(self.head, event, offset=len(self.records) - 1)
        self.admitted.append(event)
        if self.head.items != before.items:
            parts = [*(self.records[part.offset] for part in before.run), event]
            self.history += [item.payload for part in parts for item in items_of(part)]
        return True


class Writer:
    """A live writer with its outbox: what it said and does not know to count."""

    def __init__(self, name: str, opening: ThreadCreated | WriterOpened) -> None:
        self.name = WriterId(name)
        self.asked_at = opening.epoch if isinstance(opening, WriterOpened) else 0
        self.outbox: list[Words] = [opening]
        self.next_seq = 1
        self.closing = False

    def settled(self, head: Head) -> int | None:
        """Up to which seq its words took effect; None if the head does not know it."""
        if head.writer is not None and head.writer.writer_id == self.name:
            return head.writer.last_seq if head.writer.closed else head.writer.completed_seq
        return next((past.completed_seq for past in head.past if past.writer_id == self.name), None)

    def is_out(self, head: Head) -> bool:
        """Nothing more of it can ever count."""
        if head.lifecycle is Lifecycle.DELETED or head.epoch > self.asked_at + 1:
            return True
        if head.writer is None or head.epoch == self.asked_at:
            return False
        return head.writer.writer_id != self.name or head.writer.closed

    def is_forgotten(self, head: Head) -> bool:
        return self.settled(head) is None and head.epoch > self.asked_at + 1 + admission.PAST_WRITERS


class World:
    """One thread, its log, the packets in the air and the processes."""

    def __init__(self, rng: random.Random, rule: Rule, habits: Habits) -> None:
        self.rng, self.rule, self.habits = rng, rule, habits
        self.log = Log(rule)
        self.flying: list[Event] = []
        self.asleep: list[Event] = []
        """Packets that wake up late, if ever."""
        self.serial = count()
        self.appends: dict[str, tuple[int, int, tuple[str, ...]]] = {}
        """By first item: the process, its how-manieth append, all items."""
        self.counted: set[EventId] = set()
        self.refused: set[EventId] = set()
        """Whose senders were told: it does not count."""
        self.latest: dict[int, int] = {}
        self.openers: set[WriterId] = set()
        self.speaker: WriterId | None = None
        self.version = 0
        self.happened: Counter[str] = Counter()
        self.processes = [Process(self, number) for number in range(PROCESSES if habits.takeovers else 1)]

    def name(self, kind: str) -> str:
        return f"{kind}{next(self.serial)}"

    def event_id(self) -> EventId:
        return EventId(self.name("e"))

    def send(self, event: Event) -> None:
        if len(self.flying) < 40:
            self.flying.append(event)

    def run(self) -> None:
        for _ in range(self.rng.choice(STEPS)):
            self.step()
        self.come_to_rest()
        self.check_alive()

    def step(self) -> None:
        dice = self.rng.random()
        if dice < 0.02:
            self.move_to_a_copy()
        elif self.flying and dice < 0.5:
            at = self.rng.randrange(len(self.flying)) if self.rng.random() < 0.5 else 0
            event = self.flying[at] if self.rng.random() < 0.2 else self.flying.pop(at)
            self.deliver(event)
        elif self.flying and dice < 0.53:
            self.asleep.append(self.flying.pop(self.rng.randrange(len(self.flying))))
        elif self.asleep and dice < 0.55:
            self.deliver(self.rng.choice(self.asleep))
        else:
            self.rng.choice(self.processes).act()

    def deliver(self, event: Event) -> None:
        before, known = self.log.head, len(self.log.history)
        if self.log.append(event):
            self.check_admitted(event, before)
            self.check_grown(event, self.log.history[known:])

    def check_admitted(self, event: Event, before: Head) -> None:
        promise(event.event_id not in self.counted, "an event counts once")
        promise(event.event_id not in self.refused, "what its sender was told does not count, does not count")
        promise(not self.happened["deleted"], "nothing counts after a delete")
        self.counted.add(event.event_id)
        match event:
            case ThreadCreated() | WriterOpened():
                promise(event.writer_id not in self.openers, "a writer is opened once")
                self.happened["takeover"] += bool(self.openers)
                self.happened["run dropped by takeover"] += bool(before.run)
                self.openers.add(event.writer_id)
                self.speaker = event.writer_id
            case ItemsAppended() | WriterClosed():
                promise(event.writer_id == self.speaker, "only the writer opened last counts, until it is closed")
                if isinstance(event, WriterClosed):
                    self.speaker = None
                    self.happened["closed"] += 1
            case _:
                self.happened["command"] += 1
                self.happened["command between the parts of a run"] += bool(before.run)
                self.happened["deleted"] += isinstance(event, ThreadDeleted)
        visible = isinstance(event, ThreadCreated | Command) or (isinstance(event, ItemsAppended) and not event.more)
        self.version += visible
        promise(self.log.head.version == self.version, "the version counts what a reader sees")

    def check_grown(self, event: Event, grown: list[str]) -> None:
        promise(self.log.head.items == len(self.log.history), "the head knows how many items there are")
        if not grown or isinstance(event, ThreadCreated):
            return
        process, number, items = self.appends.get(grown[0], (0, 0, ()))
        promise(tuple(grown) == items, "an append is there whole or not at all")
        promise(self.latest.get(process, -1) < number, "appends are there once, in their process's order")
        self.latest[process] = number

    def move_to_a_copy(self) -> None:
        """Copy what counts, perhaps twice from the beginning, and go on there."""
        original, copy = self.log, Log(self.rule)
        if self.rng.random() < 0.5:
            for event in original.admitted[: self.rng.randrange(len(original.admitted) + 1)]:
                copy.append(event)
        for event in original.admitted:
            copy.append(event)
        promise(without_offsets(copy.head) == without_offsets(original.head), "a copy has the head of its original")
        promise(copy.history == original.history, "a copy has the history of its original")
        copy.verdicts += original.verdicts
        self.log = copy
        self.happened["copied"] += 1
        self.happened["copied in mid-run"] += bool(copy.head.run)

    def come_to_rest(self) -> None:
        for event in self.rng.sample(self.flying, len(self.flying)) + self.asleep:
            self.deliver(event)
        for process in self.processes:
            process.look()
        again = Log(self.rule)
        for event in self.log.records:
            again.append(event)
        promise((again.head, again.history) == (self.log.head, self.log.history), "folding twice gives the same")

    def check_alive(self) -> None:
        """Nothing that happened keeps the next writer out, unless the thread is deleted."""
        head = self.log.head
        if head.lifecycle is Lifecycle.DELETED:
            return
        last = Process(self, PROCESSES)
        last.view = head
        last.open()
        writer = last.writer
        assert writer is not None
        last.say(writer, last.fresh_append(4))
        for event in list(writer.outbox):
            self.deliver(event)
        last.look()
        promise(last.writer is writer and not writer.outbox, "whoever resumes can write")


def without_offsets(head: Head) -> Head:
    return replace(head, run=tuple(part._replace(offset=0) for part in head.run))


class Process:
    """Writes, commands, and believes only the head; it looks when it likes."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number, self.rng = world, number, world.rng
        self.view = NO_THREAD
        self.writer: Writer | None = None
        self.commands: list[Orders] = []
        self.unsent: list[tuple[str, ...]] = []
        """Appends handed back by a writer that lost its place, to be appended again."""
        self.appended = 0

    def act(self) -> None:
        dice = self.rng.random()
        if dice < 0.3:
            self.look()
        elif dice < 0.42:
            self.command()
        elif dice < 0.48:
            self.retry_a_command()
        elif self.writer is None:
            self.open()
        elif dice < 0.75:
            self.append()
        elif dice < 0.92:
            self.resend()
        elif dice < 0.97 and self.world.habits.takeovers:
            self.close()
        elif self.world.habits.takeovers:
            self.crash()

    def look(self) -> None:
        self.view = self.world.log.head
        self.settle_commands()
        if self.writer is not None:
            self.settle(self.writer)

    def open(self) -> None:
        if self.view.lifecycle is Lifecycle.DELETED:
            return
        name = WriterId(self.world.name("w"))
        opening: ThreadCreated | WriterOpened
        if self.view.lifecycle is Lifecycle.ABSENT:
            meta = Item(0, "session_meta", "{}")
            opening = ThreadCreated(**self.said(name, 0), session_meta=meta)
        else:
            opening = WriterOpened(**self.said(name, 0), epoch=self.view.epoch)
        self.writer = Writer(name, opening)
        self.world.send(opening)
        handed_back, self.unsent = self.unsent, []
        for items in handed_back:
            self.say(self.writer, items)

    def said(self, name: WriterId, seq: int) -> dict[str, Any]:
        return {
            "event_id": self.world.event_id(),
            "thread_id": THREAD,
            "occurred_at": 0,
            "writer_id": name,
            "writer_seq": seq,
        }

    def append(self) -> None:
        assert self.writer is not None
        if self.world.habits.reuses_seqs:
            return self.append_reusing(self.writer)
        if len(self.writer.outbox) > 12:
            return None
        return self.say(self.writer, self.fresh_append(self.rng.choice((1, 1, 2, 3, 4))))

    def fresh_append(self, size: int) -> tuple[str, ...]:
        items = tuple(self.world.name("i") for _ in range(size))
        self.world.appends[items[0]] = (self.number, self.appended, items)
        self.appended += 1
        return items

    def say(self, writer: Writer, items: tuple[str, ...]) -> None:
        """Cut the append into a run of parts, queue them all, send some of them."""
        cuts = sorted({0, *(self.rng.randrange(len(items)) for _ in range(3))})
        parts = [items[start:end] for start, end in zip(cuts, [*cuts[1:], len(items)], strict=True)]
        for part in parts:
            self.queue_items(writer, part, more=part is not parts[-1])

    def queue_items(self, writer: Writer, part: tuple[str, ...], *, more: bool) -> None:
        items = tuple(Item(0, "item", text) for text in part)
        event = ItemsAppended(**self.said(writer.name, writer.next_seq), items=items, more=more)
        writer.next_seq += 1
        writer.outbox.append(event)
        if self.rng.random() < 0.8:
            self.world.send(event)

    def append_reusing(self, writer: Writer) -> None:
        if writer.next_seq > 1 and len(writer.outbox) == 1:
            writer.outbox.clear()
            writer.next_seq -= 1
        if not writer.outbox:
            self.queue_items(writer, self.fresh_append(1), more=False)

    def resend(self) -> None:
        assert self.writer is not None
        for event in self.writer.outbox:
            self.world.send(event)

    def close(self) -> None:
        assert self.writer is not None
        if self.writer.closing:
            return
        closing = WriterClosed(**self.said(self.writer.name, self.writer.next_seq))
        self.writer.next_seq += 1
        self.writer.closing = True
        self.writer.outbox.append(closing)
        self.world.send(closing)

    def crash(self) -> None:
        """Die and come back knowing nothing."""
        self.writer, self.commands, self.unsent = None, [], []

    def settle(self, writer: Writer) -> None:
        """Learn from the head what counts; hand back what never will."""
        if self.world.habits.reuses_seqs:
            return self.settle_by_asking(writer)
        settled = writer.settled(self.view)
        while writer.outbox and settled is not None and writer.outbox[0].writer_seq <= settled:
            self.acknowledge(writer.outbox.pop(0))
        if writer.is_forgotten(self.view):
            self.writer = None
        elif writer.is_out(self.view):
            self.hand_back(writer)
        return None

    def settle_by_asking(self, writer: Writer) -> None:
        """Ask the rule about each record, as it would be judged if it were sent now."""
        for event in list(writer.outbox):
            verdict = self.world.rule.judge(self.view, event)
            if isinstance(verdict, Duplicate):
                self.acknowledge(event)
            elif (writer.settled(self.view) or 0) < event.writer_seq:
                continue
            writer.outbox.remove(event)

    def acknowledge(self, event: Words) -> None:
        self.world.happened["acknowledged"] += 1
        promise(event.event_id in self.world.counted, "what was acknowledged counts")
        if isinstance(event, ItemsAppended) and not event.more:
            promise(event.items[-1].payload in self.world.log.history, "an acknowledged append is in the history")

    def hand_back(self, writer: Writer) -> None:
        """Tell the callers that the rest does not count; they append it again with the next writer."""
        self.writer = None
        self.world.refused.update(event.event_id for event in writer.outbox)
        items: tuple[str, ...] = ()
        for event in writer.outbox:
            items += tuple(item.payload for item in items_of(event)) if isinstance(event, ItemsAppended) else ()
            if isinstance(event, ItemsAppended) and not event.more:
                self.unsent.append(items)
                items = ()
        self.world.happened["handed back"] += bool(writer.outbox)

    def command(self) -> None:
        if self.view.lifecycle in (Lifecycle.ABSENT, Lifecycle.DELETED):
            return
        common: dict[str, Any] = {
            "event_id": self.world.event_id(),
            "thread_id": THREAD,
            "occurred_at": 0,
            "commands_seen": self.view.commands_total,
            "expected_version": self.view.version if self.rng.random() < 0.2 else None,
        }
        kind = self.rng.choices((MetadataPatched, ThreadArchived, ThreadUnarchived, ThreadDeleted), (60, 15, 15, 3))[0]
        event: Orders = MetadataPatched(**common, fields=()) if kind is MetadataPatched else kind(**common)
        self.commands.append(event)
        self.world.send(event)

    def retry_a_command(self) -> None:
        if not self.commands:
            return
        event = self.rng.choice(self.commands)
        if self.world.habits.forgets_what_it_saw:
            event = replace(event, commands_seen=self.world.log.head.commands_total)
        self.world.send(event)

    def settle_commands(self) -> None:
        """Whether a command counts is known from its id; that it never will, from a bygone version or a delete."""
        head, pending = self.view, []
        for event in self.commands:
            if event.event_id in head.commands:
                promise(event.event_id in self.world.counted, "an acknowledged command counts")
                self.world.happened["command acknowledged"] += 1
            elif head.commands_total - event.commands_seen >= admission.RECENT_COMMANDS:
                self.world.happened["command of unknown outcome"] += 1
            elif head.lifecycle is Lifecycle.DELETED:
                self.world.refused.add(event.event_id)
            elif event.expected_version is not None and event.expected_version < head.version:
                self.world.refused.add(event.event_id)
                self.world.happened["command refused by version"] += 1
            else:
                pending.append(event)
        self.commands = pending


def explore(rule: Rule, seeds: range, habits: Habits = Habits()) -> Counter[str]:
    """Run one interleaving per seed and count what happened in all of them.

    Raises:
        PromiseBrokenError: In the interleaving of the seed it names.
    """
    total: Counter[str] = Counter()
    for seed in seeds:
        world = World(random.Random(seed), rule, habits)
        try:
            world.run()
        except PromiseBrokenError as broken:
            raise PromiseBrokenError(f"seed {seed}: {broken}") from broken
        total += world.happened + world.log.verdicts
    return total


@pytest.fixture
def a_short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that forget after a few events, so that short interleavings see it happen."""
    monkeypatch.setattr(admission, "PAST_WRITERS", 2)
    monkeypatch.setattr(admission, "RECENT_COMMANDS", 3)


RARE_BUT_SEEN = (
    "Admitted", "Duplicate", "Fenced", "Refused", "acknowledged", "takeover", "closed", "deleted", "handed back",
    "run dropped by takeover", "command acknowledged", "command between the parts of a run",
    "command of unknown outcome", "command refused by version", "copied", "copied in mid-run",
)  # fmt: skip


@pytest.mark.usefixtures("a_short_memory")
def test_rule_1_keeps_every_promise_in_20_000_interleavings() -> None:
    happened = explore(RULE_1, range(INTERLEAVINGS))

    assert {name: happened[name] for name in RARE_BUT_SEEN if happened[name] < INTERLEAVINGS // 100} == {}


def test_rule_1_keeps_every_promise_with_the_memory_it_really_has() -> None:
    explore(RULE_1, range(INTERLEAVINGS_AT_FULL_MEMORY))


ONE_AT_A_TIME = Habits(takeovers=False, reuses_seqs=True)


def test_a_seq_given_to_two_events_counts_for_one_of_them_and_is_acknowledged_to_no_other() -> None:
    """Only while its writer is the current one: the head keeps the id of the last event alone."""
    explore(RULE_1, range(INTERLEAVINGS_AT_FULL_MEMORY), ONE_AT_A_TIME)


def nothing_counts(head: Head, event: Event) -> Verdict:
    return FENCED


def opened_at_any_epoch(head: Head, event: Event) -> Verdict:
    return admit(head, replace(event, epoch=head.epoch) if isinstance(event, WriterOpened) else event)


def seqs_with_gaps(head: Head, event: Event) -> Verdict:
    last = last_seq_of_its_writer(head, event)
    if isinstance(event, WriterEvent) and last is not None and event.writer_seq > last:
        return admit(head, replace(event, writer_seq=last + 1))
    return admit(head, event)


def fenced_by_name_alone(head: Head, event: Event) -> Verdict:
    return admit(replace(head, writer=replace(head.writer, closed=False)) if head.writer else head, event)


def resends_counted_again(head: Head, event: Event) -> Verdict:
    last = last_seq_of_its_writer(head, event)
    if isinstance(event, ItemsAppended) and last is not None and event.writer_seq <= last:
        return admit(head, replace(event, writer_seq=last + 1))
    return admit(head, event)


def last_seq_without_its_id(head: Head, event: Event) -> Verdict:
    if head.writer is not None and isinstance(event, WriterEvent) and event.writer_seq == head.writer.last_seq:
        return admit(head, replace(event, event_id=head.writer.last_event_id))
    return admit(head, event)


def last_seq_of_its_writer(head: Head, event: Event) -> int | None:
    current = head.writer
    if current is None or not isinstance(event, WriterEvent) or event.writer_id != current.writer_id:
        return None
    return current.last_seq


def repeated_commands_counted_again(head: Head, event: Event) -> Verdict:
    return admit(replace(head, commands=()), event)


def stale_commands_counted(head: Head, event: Event) -> Verdict:
    return admit(head, replace(event, commands_seen=head.commands_total) if isinstance(event, Command) else event)


def commands_of_the_dead_counted(head: Head, event: Event) -> Verdict:
    dead = isinstance(event, Command) and head.lifecycle is Lifecycle.DELETED
    return admit(replace(head, lifecycle=Lifecycle.ACTIVE) if dead else head, event)


def writers_of_the_dead_counted(head: Head, event: Event) -> Verdict:
    dead = isinstance(event, WriterEvent) and head.lifecycle is Lifecycle.DELETED
    return admit(replace(head, lifecycle=Lifecycle.ACTIVE) if dead else head, event)


def expected_version_ignored(head: Head, event: Event) -> Verdict:
    return admit(head, replace(event, expected_version=None) if isinstance(event, Command) else event)


def past_writers_by_last_admitted(head: Head, event: Event, *, offset: int) -> Head:
    after = advance(head, event, offset=offset)
    if not isinstance(event, WriterOpened) or head.writer is None:
        return after
    return replace(after, past=(*after.past[:-1], after.past[-1]._replace(completed_seq=head.writer.last_seq)))


def run_kept_at_takeover(head: Head, event: Event, *, offset: int) -> Head:
    after = advance(head, event, offset=offset)
    return replace(after, run=head.run) if isinstance(event, WriterOpened) else after


def parts_counted_one_by_one(head: Head, event: Event, *, offset: int) -> Head:
    return advance(head, replace(event, more=False) if isinstance(event, ItemsAppended) else event, offset=offset)


BROKEN_RULES = {
    "nothing ever counts": (Rule(nothing_counts), Habits()),
    "a writer is opened at any epoch": (Rule(opened_at_any_epoch), Habits()),
    "seqs may have gaps": (Rule(seqs_with_gaps), Habits()),
    "a closed writer may go on": (Rule(fenced_by_name_alone), Habits()),
    "past writers are done up to their last admitted seq": (Rule(advance=past_writers_by_last_admitted), Habits()),
    "resends count again": (Rule(resends_counted_again), Habits()),
    "repeated commands count again": (Rule(repeated_commands_counted_again), Habits()),
    "the last seq is known without its event id": (Rule(last_seq_without_its_id), ONE_AT_A_TIME),
    "stale commands count": (Rule(stale_commands_counted), Habits()),
    "a retried command claims to know all": (RULE_1, Habits(forgets_what_it_saw=True)),
    "commands count after a delete": (Rule(commands_of_the_dead_counted), Habits()),
    "writers go on after a delete": (Rule(writers_of_the_dead_counted), Habits()),
    "the expected version is ignored": (Rule(expected_version_ignored), Habits()),
    "an open run outlives its writer": (Rule(advance=run_kept_at_takeover), Habits()),
    "the parts of a run count one by one": (Rule(advance=parts_counted_one_by_one), Habits()),
}


@pytest.mark.usefixtures("a_short_memory")
@pytest.mark.parametrize("simplification", BROKEN_RULES)
def test_a_rule_that_lacks_a_row_is_found_out(simplification: str) -> None:
    rule, habits = BROKEN_RULES[simplification]

    with pytest.raises(PromiseBrokenError):
        explore(rule, range(BUDGET), habits)
