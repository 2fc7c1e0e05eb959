"""What every test may ask for: the rollouts at hand, one at a time, and how examples are searched.

A test with an argument `rollout_file` runs once for each rollout, one with `codex_home` once for each home. Those of
compose/example-home are always there, so nothing is ever skipped for want of data.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    # Imported where one is started: most runs start none, and the client takes long to load.
    from eventstore.settings import Settings
    from tests.support.processes import Nursery
    from tests.support.redis_server import RedisServer

pytest_plugins = ["tests.support.services"]

# Where gRPC has threads, whatever process is started from here would begin with lines of gRPC's on its standard error.
os.environ["GRPC_VERBOSITY"] = "NONE"

# Whoever runs the tests may have a store of their own, which is none of the tests' business.
for _name in [name for name in os.environ if name.startswith("EVENTSTORE_")]:
    del os.environ[_name]

EXAMPLE_HOME = Path(__file__).parent.parent / "compose" / "example-home"
ROLLOUTS = "rollout-*.jsonl"

# `ci`, the default, tries the same examples at every run: a red run is then about the change, not about luck.
# `--hypothesis-profile search` looks for new ones. Neither has a deadline: a loaded machine is not a bug.
settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", settings.get_profile("ci"), derandomize=False, max_examples=1_000)
settings.load_profile("ci")


@pytest.fixture(params=["sqlite", "cluster"])
async def either(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Settings]:
    """An empty store on either engine, whose views are kept."""
    from eventstore.settings import Settings

    if request.param == "sqlite":
        yield Settings(log=f"sqlite:{tmp_path / 'threads.db'}", actor="a test")
        return
    from tests.support.cluster import a_log, a_worker

    async with a_log(partitions=2) as settings, a_worker(settings) as worker:
        await worker.ready()
        yield settings


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """Start processes that never outlive their test."""
    from tests.support.processes import Nursery

    made = Nursery(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis that the tests of one process share; who asks for it empties it first."""
    from tests.support.redis_server import running

    with running() as server:
        yield server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rollouts",
        action="append",
        default=[],
        metavar="DIR",
        help="also read the rollout files under DIR (repeatable; without compose/test, write --rollouts=DIR)",
    )


def pytest_configure(config: pytest.Config) -> None:
    for root in rollout_roots(config):
        if not any(root.rglob(ROLLOUTS)):
            raise pytest.UsageError(f"no {ROLLOUTS} under {root}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "rollout_file" in metafunc.fixturenames:
        parametrize(metafunc, "rollout_file", rollout_files(metafunc.config))
    if "codex_home" in metafunc.fixturenames:
        parametrize(metafunc, "codex_home", codex_homes(metafunc.config))


def rollout_files(config: pytest.Config) -> dict[str, Path]:
    """Every rollout file at hand, by a name that is the same on every machine."""
    return {
        f"{root.name}/{path.relative_to(root)}": path
        for root in rollout_roots(config)
        for path in sorted(root.rglob(ROLLOUTS))
    }


def codex_homes(config: pytest.Config) -> dict[str, Path]:
    """Every directory at hand with a `sessions` directory in it, by a name that is the same on every machine."""
    return {
        str(Path(root.name) / home.relative_to(root)): home for root in rollout_roots(config) for home in homes(root)
    }


def rollout_roots(config: pytest.Config) -> Iterator[Path]:
    yield EXAMPLE_HOME
    for given in config.getoption("--rollouts"):
        yield (config.invocation_params.dir / given).resolve()


def homes(root: Path) -> Iterator[Path]:
    for sessions in sorted(root.rglob("sessions")):
        if sessions.is_dir():
            yield sessions.parent


def parametrize(metafunc: pytest.Metafunc, argument: str, values: dict[str, Path]) -> None:
    metafunc.parametrize(argument, list(values.values()), ids=list(values))
