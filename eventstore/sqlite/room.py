"""One SQLite connection and the jobs that want it, in the order in which they came.

Jobs that come in one turn of the event loop run together, so that appends share a commit. While jobs are quick they run
in the loop itself: handing one to a thread and back costs more than a commit on a fast disk. Slow ones, and whatever
meets a lock, go to a thread, and the loop goes on. Never both at once: that is the invariant here.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic, TypeVar
from weakref import WeakSet

from eventstore.life import closed
from eventstore.sqlite.edge import Locked

T = TypeVar("T")

_QUICK = 0.004
"""Seconds that one turn's jobs may take in the event loop, as a rule."""
_WEIGHT = 0.125
"""Of the last turn in that rule: one alone may be a checkpoint, or a processor that was needed elsewhere."""
_OUTLIER = _QUICK / _WEIGHT / 2
"""Seconds that a turn counts for at most, so that no one turn decides."""
_TRY_AGAIN_AFTER = 5.0
"""Seconds for which the thread then has all jobs."""
_LOOK_EVERY = 0.05
"""Seconds between two looks for jobs that ran out of time: one timer for all is cheaper than a timer a job."""
_GRACE = 2 * _LOOK_EVERY
"""Seconds beyond its time that a job is given: whoever waits for a lock until then knows that nothing was written."""


class Job(Generic[T]):
    """One piece of work and the future of its result.

    A job whose caller was cancelled or ran out of time runs all the same; only its result is dropped.
    """

    __slots__ = ("deadline", "ended", "error", "future", "result", "within", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], *, within: float) -> None:
        """Take the work and how many seconds its caller waits for the result."""
        self.work = work
        self.within = within
        self.ended = False
        self.future: asyncio.Future[None] | None = None
        """Set when the job has to wait, which most jobs never do: whoever waits is woken by it."""
        self.deadline = float("inf")
        """By the loop's clock; set when the job has to wait."""
        self.result: T | None = None
        self.error: BaseException | None = None

    def wait_from(self, now: float) -> None:
        """Let the time run, if it does not yet."""
        self.deadline = min(self.deadline, now + self.within)

    def run(self, connection: sqlite3.Connection) -> None:
        self.error = None
        try:
            self.result = self.work(connection)
        except BaseException as exc:
            self.error = exc

    def settle(self) -> None:
        self.ended = True
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


RunTogether = Callable[[sqlite3.Connection, Sequence[Job[Any]]], None]
"""Runs jobs in order, in few transactions; one that meets a lock ends with `Locked`, and so do all after it."""


def run_one_by_one(connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> None:
    """Run each job by itself."""
    for number, job in enumerate(jobs):
        job.run(connection)
        if isinstance(job.error, Locked):
            for later in jobs[number + 1 :]:
                later.error = job.error
            return


class Room:
    """Runs the jobs of one connection; `close` ends it after the jobs already handed over."""

    used: ClassVar[WeakSet[Room]] = WeakSet()
    """The rooms of this process, which a forked one leaves."""

    def __init__(
        self,
        name: str,
        connection: sqlite3.Connection,
        *,
        run_together: RunTogether = run_one_by_one,
        patience: float = 0.0,
    ) -> None:
        """Take a connection, not bound to a thread; `patience` is how many seconds the thread waits for locks."""
        self._name = name
        self._connection = connection
        self._run_together = run_together
        self._patience_in_thread = patience
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Job[Any]] = []
        self._away: list[Job[Any]] = []
        self._turn_comes = False
        self._pace = 0.0
        """Seconds that a turn takes in the event loop, latest turns weighing most."""
        self._slow_until = 0.0
        self._to_thread: queue.SimpleQueue[list[Job[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._closing = False
        self._left = False
        self.patience = 0.0
        """Seconds that the jobs running now may wait for a lock: none in the event loop."""
        self.used.add(self)

    async def hand(self, job: Job[T]) -> T:
        """Queue the job, before anything is awaited; return what its work returns, raise what it raises.

        Raises:
            LogUnavailable: The room is closed.
            TimeoutError: The time ran out first.
        """
        if self._closing:
            raise closed()
        self._waiting.append(job)
        if self._away:
            job.wait_from(self._loop.time())
        elif not self._turn_comes:
            self._turn_comes = True
            self._loop.call_soon(self._turn)
        # The turn comes before this task is resumed, so that a quick job needs neither a future nor a second turn.
        await asyncio.sleep(0)
        if not job.ended:
            job.future = self._loop.create_future()
            await job.future
        if job.error is not None:
            raise job.error
        return job.result  # type: ignore[return-value]

    async def run(self, work: Callable[[sqlite3.Connection], T], *, within: float) -> T:
        """Run `work(connection)` as a job of its own."""
        return await self.hand(Job(work, within=within))

    async def close(self) -> None:
        if self._left:
            return
        self._closing = True
        while self._waiting or self._away:
            self._empty.clear()
            await asyncio.shield(self._empty.wait())
        if self._thread is not None:
            self._to_thread.put(None)
        if self._looking is not None:
            self._looking.cancel()
        self._connection.close()

    def leave(self) -> None:
        """Refuse every job, and keep the connection from being closed by anything, this process's end included.

        For a process that was forked: SQLite believes there to have the file open, and would delete the write-ahead
        log at its closing, though others had filled it since.
        """
        import ctypes  # seldom needed, and slow to import

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
        self._closing = self._left = True

    def _turn(self) -> None:
        """Run what waits, here or in the thread."""
        self._turn_comes = False
        jobs, self._waiting = self._waiting, []
        if jobs and time.monotonic() >= self._slow_until:
            jobs = self._run_here(jobs)
        if jobs:
            self._send_away(jobs)
        elif not self._waiting:
            self._empty.set()

    def _run_here(self, jobs: list[Job[Any]]) -> list[Job[Any]]:
        """Run the jobs in the event loop; return those which met a lock."""
        self.patience = 0.0
        began = time.monotonic()
        self._run_together(self._connection, jobs)
        ended = time.monotonic()
        self._pace += _WEIGHT * (min(ended - began, _OUTLIER) - self._pace)
        if self._pace > _QUICK:
            self._pace, self._slow_until = 0.0, ended + _TRY_AGAIN_AFTER
        locked: list[Job[Any]] = []
        for job in jobs:
            if isinstance(job.error, Locked):
                locked.append(job)
            else:
                job.settle()
        return locked

    def _send_away(self, jobs: list[Job[Any]]) -> None:
        self._away = jobs
        now = self._loop.time()
        for job in jobs:
            job.wait_from(now)
        left = min(job.deadline for job in jobs) - now
        self.patience = max(0.0, min(self._patience_in_thread, left))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self._to_thread.put(jobs)
        if self._looking is None:
            self._looking = self._loop.call_later(_LOOK_EVERY, self._look)

    def _work(self) -> None:
        while (jobs := self._to_thread.get()) is not None:
            self._run_together(self._connection, jobs)
            try:
                self._loop.call_soon_threadsafe(self._come_back)
            except RuntimeError:
                # The loop is closed: nobody waits for an answer any more.
                return

    def _come_back(self) -> None:
        jobs, self._away = self._away, []
        now = self._loop.time()
        again: list[Job[Any]] = []
        for job in jobs:
            if isinstance(job.error, Locked) and job.deadline > now:
                # The thread gave the lock up when another of them ran out of time.
                again.append(job)
            else:
                job.settle()
        self._waiting = again + self._waiting
        self._turn()

    def _look(self) -> None:
        now = self._loop.time()
        for job in (*self._away, *self._waiting):
            if job.deadline + _GRACE <= now and job.future is not None and not job.future.done():
                job.future.set_exception(TimeoutError())
        self._looking = self._loop.call_later(_LOOK_EVERY, self._look) if self._away else None


def _leave_all() -> None:
    for room in Room.used:
        room.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
