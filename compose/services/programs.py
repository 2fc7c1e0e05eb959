"""Where the programs lie that the services run: what `compose/programs` finds, or gets when it is missing."""

from __future__ import annotations

import asyncio
import subprocess
from functools import cache
from pathlib import Path
from typing import Literal

from compose.services.node import ServiceError

SCRIPT = Path(__file__).resolve().parent.parent / "programs"


async def programs(service: Literal["kafka", "redis"]) -> dict[str, str]:
    """Return the paths of what the service needs: `java` and `jars`, or `redis-server`.

    Raises:
        ServiceError: Something is missing and cannot be installed here.
    """
    return await asyncio.to_thread(_found, service)


@cache
def _found(service: str) -> dict[str, str]:
    done = subprocess.run([SCRIPT, service], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise ServiceError(f"compose/programs {service} failed; what it printed says why")
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())
