"""A thread with one SQLite connection, to which the event loop hands jobs.

Jobs run in the order in which they were handed over. A job whose caller was cancelled runs all the same; only its
result is dropped.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Job(Generic[T]):
    """One piece of work and the future of its result."""

    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T], future: asyncio.Future[T]) -> None:
        self.work = work
        self.future = future
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self, connection: sqlite3.Connection) -> None:
        try:
            self.result = self.work(connection)
        except BaseException as exc:
            self.error = exc

    def settle(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)  # type: ignore[arg-type]


class Room:
    """Runs jobs on its own thread and connection; `close` ends both after the jobs already handed over."""

    def __init__(
        self,
        name: str,
        connect: Callable[[], sqlite3.Connection],
        *,
        run_together: Callable[[sqlite3.Connection, Sequence[Job[Any]]], None] | None = None,
    ) -> None:
        """Start the thread; `run_together` may run all jobs that wait in fewer transactions."""
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._run_together = run_together or _run_one_by_one
        self._closed = self._loop.create_future()
        self._connect = connect
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def hand(self, job: Job[Any]) -> None:
        self._jobs.put(job)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work(connection)` on the thread; return what it returns, raise what it raises."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(Job(work, future))
        return await future

    async def close(self) -> None:
        self._jobs.put(None)
        await asyncio.shield(self._closed)

    def _work(self) -> None:
        connection = self._connect()
        open_ = True
        while open_:
            jobs = self._waiting()
            open_ = jobs[-1] is not None
            work = [job for job in jobs if job is not None]
            self._run_together(connection, work)
            self._tell(_settle, work)
        connection.close()
        self._tell(_close, self._closed)

    def _waiting(self) -> list[Job[Any] | None]:
        """Wait for a job; return it with all others that wait, up to the end mark."""
        jobs = [self._jobs.get()]
        while jobs[-1] is not None:
            try:
                jobs.append(self._jobs.get_nowait())
            except queue.Empty:
                break
        return jobs

    def _tell(self, what: Callable[[Any], None], about: object) -> None:
        try:
            self._loop.call_soon_threadsafe(what, about)
        except RuntimeError:
            # The loop is closed: nobody waits for an answer any more.
            return


def _run_one_by_one(connection: sqlite3.Connection, jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.run(connection)


def _settle(jobs: Sequence[Job[Any]]) -> None:
    for job in jobs:
        job.settle()


def _close(closed: asyncio.Future[None]) -> None:
    if not closed.done():
        closed.set_result(None)
