"""Runs every benchmark and prints one table, or JSON."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sqlite3
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks import appends, histories, imports, listings, startup
from tests.benchmarks.measure import Figure


def main() -> None:
    asked = _arguments()
    rounds = 3 if asked.quick else 5
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=asked.dir, prefix="bench-") as folder:
        for name, run in {
            "appends": lambda at: asyncio.run(
                appends.measure(at, rounds=2 * rounds + 1, appends=400 if asked.quick else 1_600)
            ),
            "histories": lambda at: asyncio.run(histories.measure(at, rounds=rounds)),
            "listings": lambda at: asyncio.run(
                listings.measure(at, rounds=rounds, threads=10_000 if asked.quick else 100_000)
            ),
            "imports": imports.measure,
            "startup": lambda at: startup.measure(at, rounds=rounds),
            "serving": lambda at: asyncio.run(_served(at, quick=asked.quick, rollouts=asked.rollouts)),
            "clusters": lambda at: asyncio.run(_on_a_cluster(at, quick=asked.quick)),
            "crowds": lambda at: asyncio.run(_crowds(at, quick=asked.quick, full=asked.full)),
        }.items():
            if asked.only and name not in asked.only:
                continue
            print(f"measuring {name} …", file=sys.stderr)
            at = Path(folder) / name
            at.mkdir()
            figures.extend(run(at))
    if asked.json:
        machine = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "machine": platform.machine()}
        print(json.dumps({"machine": machine, "figures": [asdict(figure) for figure in figures]}, indent=2))
    else:
        _print_table(figures)


async def _served(folder: Path, *, quick: bool, rollouts: Path | None) -> list[Figure]:
    from tests.benchmarks import serving

    return await serving.measure(folder, quick=quick, rollouts=rollouts)


async def _on_a_cluster(folder: Path, *, quick: bool) -> list[Figure]:
    from tests.benchmarks import clusters

    async with clusters.servers(folder) as made:
        return await clusters.measure(made, quick=quick)


async def _crowds(folder: Path, *, quick: bool, full: bool) -> list[Figure]:
    from tests.benchmarks import clusters, crowds

    small, large = (1_000, 10_000) if quick else (10_000, 1_000_000 if full else 100_000)
    async with clusters.servers(folder) as made:
        return await crowds.measure(made, small=small, large=large)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compose/bench", description="Ratios against raw sqlite3, in one run.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and threads")
    parser.add_argument("--full", action="store_true", help="a crowd of a million threads; takes a quarter of an hour")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--only", action="append", help="appends, histories, listings, imports, startup, serving, clusters or crowds"
    )
    parser.add_argument("--rollouts", type=Path, help="folder of rollouts that serving's clients replay")
    parser.add_argument("--dir", help="folder on the disk to measure (default: the system's temporary one)")
    return parser.parse_args()


def _print_table(figures: list[Figure]) -> None:
    print("| what | reached | wanted | |\n|---|---|---|---|")
    for figure in figures:
        print(f"| {figure.name} | {figure.reached:.2f} {figure.unit} | {figure.wanted} | {figure.detail} |")


if __name__ == "__main__":
    main()
