"""Measure everything, or what is named: `make bench`, or `python -m bench throughput start`.

It prints each row as soon as it is measured, and when everything was measured it writes bench/results.json and the
tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .project import Project, generated
from .report import title, write_tables
from .rows import Row

HERE = Path(__file__).parent
COMPARISONS = (
    *("throughput", "guarantees", "closed_world", "start", "installation", "data"),
    *("runs", "verification", "processes", "serving"),
)
ROUNDS = 5


def measure(name: str, project: Project, rounds: int) -> list[Row]:
    """Take one of the comparisons, and print its rows."""
    print(f"\n{title(name)}", flush=True)
    found = []
    for row in importlib.import_module(f".{name}", __package__).rows(project, rounds):
        print("  " + " | ".join(cell for cell in row.cells() if cell), flush=True)
        found.append(row)
    return found


def machine(project: Project) -> dict[str, Any]:
    """Describe what it was measured on."""
    code = "import torch, pytorch_lightning as pl; print(torch.__version__, pl.__version__)"
    torch, lightning = project.run(project.interpreter, "-c", code).split()
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(models) or None,
        "python": platform.python_version(),
        "torch": torch,
        "pytorch-lightning": lightning,
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> int:
    """Return 1 where a goal was missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n")[0])
    parser.add_argument("comparisons", nargs="*", metavar="name", help=f"any of {', '.join(COMPARISONS)} (all)")
    parser.add_argument("--project", type=Path, help="a generated project that has been trained (a new one)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"that count, after one that does not ({ROUNDS})")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.comparisons if name not in COMPARISONS]:
        parser.error(f"there is no comparison {unknown[0]}: choose from {', '.join(COMPARISONS)}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing is left behind
    with generated(arguments.project) as project:
        chosen = arguments.comparisons or COMPARISONS
        found = {name: measure(name, project, arguments.rounds) for name in chosen}
        if set(chosen) == set(COMPARISONS):
            about = {**machine(project), "rounds": arguments.rounds}
            rows = {name: [row.described() for row in each] for name, each in found.items()}
            (HERE / "results.json").write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")
            write_tables(HERE.parent / "docs/performance.md", about, found)
    missed = [row.name for each in found.values() for row in each if row.met is False]
    print(f"\nMissed: {', '.join(missed)}." if missed else "\nEvery goal was met.")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
