"""A store is not carried over a fork: the child is refused, the parent goes on (design §2, promise 3)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.engines import Engine, MakeEngine, engines

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from eventstore import ListThreadsParams
from eventstore.errors import InvalidRequest
from tests.support.engines import engines
from tests.support.threads import *

async def main(name, folder):
    engine = engines(shared=False)[name](Path(folder))
    store = await engine.open()
    thread_id = await a_live_thread(store, "before")
    cold = await a_cold_thread(store)
    child = os.fork()
    if not child:
        refused = 0
        for call in (
            created(store), resume(store, cold), say(store, thread_id, "no"), store.flush_thread(thread_id),
            store.persist_thread(thread_id), store.shutdown_thread(thread_id), store.discard_thread(thread_id),
            history(store, thread_id), read(store, thread_id), page(store, thread_id), patch(store, cold, name="no"),
            archive(store, cold), unarchive(store, cold), delete(store, cold), store.list_threads(ListThreadsParams()),
        ):
            try:
                call.send(None)
            except InvalidRequest as exc:
                refused += "before the process forked; fork first, or start" in str(exc)
            except BaseException:
                pass
        os._exit(refused)
    _, status = os.waitpid(child, 0)
    await say(store, thread_id, "after")
    await store.shutdown_thread(thread_id)
    print(os.waitstatus_to_exitcode(status), await said(store, thread_id))
    await engine.end()

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_forked_process_is_refused_and_its_parent_goes_on(
    engine: Engine, make_engine: MakeEngine, tmp_path: Path
) -> None:
    (name,) = [name for name, make in engines(shared=False).items() if make is make_engine]

    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, name, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ("15 ['before', 'after']\n", "") == (ran.stdout, ran.stderr)
