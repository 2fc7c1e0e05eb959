"""`compose/up` and `compose/down`: services for whoever works on the cluster engine, as processes of this machine.

Everything about them lies in one folder, so that they are found again: data, logs, settings, and which processes they
are. Standard output has the two URLs alone.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import logging
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from compose.services.health import end_all, nodes_under, stop_all, undone_on_failure
from compose.services.node import ServiceError, Standing
from compose.services.ports import Ports

if TYPE_CHECKING:
    # Imported by what starts them: the clients that ask for their health take longer to load than `down` takes.
    from compose.services.kafka import Kafka
    from compose.services.redis import Redis

ROOT = Path(__file__).resolve().parent.parent.parent
STATE = ROOT / ".services"


def main(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    # Refused connections are what waiting for a server consists of.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    verb = {"up": up, "down": down}[options.verb]
    code = 0
    try:
        with only_one(options.state):
            asyncio.run(verb(options))
    except* ServiceError as failures:
        code = 1
        for failure in failures.exceptions:
            say(options, str(failure))
    except* KeyboardInterrupt:
        code = 130
    except* asyncio.CancelledError:
        code = 143
    return code


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="compose", description="Kafka and Redis for working on the cluster engine.")
    verbs = made.add_subparsers(dest="verb", required=True)
    starts = verbs.add_parser("up", prog="compose/up", help="start what does not run, and print the URLs")
    starts.add_argument("--brokers", type=int, choices=(1, 3), help="how many brokers; 1 unless there are some already")
    kinds = starts.add_mutually_exclusive_group()
    kinds.add_argument("--redis-replica", dest="kind", action="store_const", const="replica", help="and a replica")
    kinds.add_argument("--redis-cluster", dest="kind", action="store_const", const="cluster", help="three masters")
    starts.add_argument("--kafka-port", type=int, metavar="PORT", help="of the first broker, the others following")
    starts.add_argument("--redis-port", type=int, metavar="PORT", help="of the first Redis, the others following")
    starts.add_argument("--topic", default="threads", help="to be named in the URL; it is not created")
    stops = verbs.add_parser("down", prog="compose/down", help="stop what compose/up started")
    stops.add_argument("--delete", action="store_true", help="and delete the data")
    for verb in (starts, stops):
        verb.add_argument("--state", type=Path, default=STATE, metavar="DIR", help="where all of it lies; .services")
    return made


async def up(options: argparse.Namespace) -> None:
    task = asyncio.current_task()
    assert task is not None
    # As Ctrl-C does: what is being started is ended before this process is.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    began = monotonic()
    state = options.state.resolve()
    with Ports() as ports:
        kafka, redis = await a_kafka(state / "kafka", options, ports), await a_redis(state / "redis", options, ports)
        ran = all(node.standing is Standing.RUNNING for node in (*kafka.nodes, *redis.nodes))
        async with undone_on_failure((*kafka.nodes, *redis.nodes)), asyncio.TaskGroup() as tasks:
            tasks.create_task(kafka.start())
            tasks.create_task(redis.start())
    names = ", ".join(node.name for node in (*kafka.nodes, *redis.nodes))
    say(options, f"{names}: running already" if ran else f"{names}: ready after {monotonic() - began:.1f} s")
    print(f"kafka://{kafka.bootstrap}/{options.topic}")
    print(redis.url())


async def a_kafka(folder: Path, options: argparse.Namespace, ports: Ports) -> Kafka:
    """Return the Kafka that is there, or lay one out as it was asked for."""
    from compose.services.kafka import Kafka

    found = Kafka.found(folder)
    if found is None:
        await clear(folder)
        return Kafka.made(folder, ports=ports, brokers=options.brokers or 1, first_port=options.kafka_port)
    must_fit(folder, "--brokers", options.brokers, len(found.nodes))
    must_fit(folder, "--kafka-port", options.kafka_port, found.ports[0])
    return found


async def a_redis(folder: Path, options: argparse.Namespace, ports: Ports) -> Redis:
    """Return the Redis that is there, or lay one out as it was asked for."""
    from compose.services.redis import Redis

    found = Redis.found(folder)
    if found is None:
        await clear(folder)
        return Redis.made(folder, ports=ports, kind=options.kind or "single", first_port=options.redis_port)
    must_fit(folder, "a Redis of the kind", options.kind, found.kind)
    must_fit(folder, "--redis-port", options.redis_port, found.ports[0])
    return found


def must_fit(folder: Path, what: str, wanted: object, there: object) -> None:
    """See that what was asked for, if anything, is what the data was made with.

    Raises:
        ServiceError: It is not.
    """
    if wanted not in (None, there):
        raise ServiceError(f"{folder} was made with {what} {there}, not {wanted}; compose/down --delete makes room")


async def down(options: argparse.Namespace) -> None:
    state = options.state.resolve()
    running = [node for node in nodes_under(state) if node.standing is not Standing.GONE]
    await stop_all(running)
    say(options, f"stopped {', '.join(node.name for node in running)}" if running else "nothing is running")
    if options.delete:
        for folder in (state / "kafka", state / "redis"):
            await clear(folder)
        say(options, f"deleted the data in {state}")


async def clear(folder: Path) -> None:
    """Remove what a start left behind that did not succeed, or what nobody wants any longer."""
    await end_all(nodes_under(folder))
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Keep others from starting or stopping the same services.

    Raises:
        ServiceError: The folder cannot be used, or is somebody else's: what is amiss in it would be deleted.
    """
    mark = state / "lock"
    try:
        state.mkdir(parents=True, exist_ok=True)
        if not mark.exists() and any(state.iterdir()):
            raise ServiceError(f"{state} holds something else; give a folder of its own with --state")
        lock = mark.open("w")
    except OSError as exc:
        raise ServiceError(f"{state} cannot be used: {exc.strerror}; give another folder with --state") from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def say(options: argparse.Namespace, text: str) -> None:
    print(f"{options.verb}: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
