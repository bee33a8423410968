"""Say why two runs differ: `python -m <package>.compare RUN RUN`, or `make compare A=models/x B=models/y`."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from .cli import run_with_arguments
from .errors import UserError
from .repro import record as records
from .repro.record import Record
from .verdicts import differences, here
from .verdicts.differences import Difference
from .verdicts.integrity import contradictions
from .verdicts.rerun import recorded
from .verdicts.text import console_for_people, print_diff, print_results, print_table
from .verdicts.verdict import compare


def input_differences(one: Record, other: Record) -> list[Difference]:
    """List how the inputs of two runs differ."""
    a, b = one["inputs"], other["inputs"]
    files = {"code": "code", "code outside of the package": "outside", "lock": "lock", "data": "data"}
    found = here.named("settings", differences.differing(a["config"], b["config"]))
    for kind, key in files.items():
        found += here.named(kind, differences.files(a.get(key, {}), b.get(key, {})))
    return found


def diff(one: Path, other: Path, inputs: list[Difference]) -> str:
    """Show how the code of two runs differs, where the repository still has both."""
    if not any(name.startswith("code") for name, *_ in inputs):
        return ""
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        trees = Path(folder) / "one", Path(folder) / "other"
        try:
            for run, tree in zip((one, other), trees, strict=True):
                here.export(records.read(run), run, tree)
        except UserError as error:
            return f"(no diff: {error})"
        return here.code_diff(inputs, *trees)


def main(arguments: argparse.Namespace) -> None:
    """Print the differences; the exit status is 0 where both runs came to the same results, else 1."""
    runs: tuple[Path, Path] = (arguments.a, arguments.b)
    found: list[Any] = [records.read_finished(run) for run in runs]
    console = console_for_people()
    for run, record in zip(runs, found, strict=True):
        for contradiction in contradictions(run, record):
            console.print(f"warning: {run}: {contradiction}", markup=False)
    one, other = found
    comparison = compare(recorded(runs[0], one), recorded(runs[1], other))
    inputs = input_differences(one, other)
    environment = here.environment_differences(one["environment"], other["environment"])
    console.print(f"A  {one['run']}\nB  {other['run']}\n", markup=False)
    if comparison:
        console.print("DIFFERENT", style="bold yellow", end="  ")
    else:
        console.print("IDENTICAL", style="bold green", end="  ")
    if not comparison:
        console.print("every traced step, every tensor and every metric is the same, bit for bit")
    elif inputs:
        console.print("the inputs differ; see the table")
    elif environment:
        console.print("the inputs are the same, so the difference lies in the environment; see the table")
    else:
        console.print(
            f"neither inputs nor environment differ: make reproduce RUN={runs[0]} says whether the code repeats"
        )
    print_table(console, "Inputs", inputs, ("A", "B"))
    print_diff(console, diff(*runs, inputs))
    if comparison:
        print_results(console, comparison, len(one["outputs"]["tensors"]), ("in A", "in B"))
    print_table(console, "Environment", environment, ("A", "B"))
    raise SystemExit(1 if comparison else 0)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(prog="python -m <package>.compare", description=__doc__.split(":")[0])
    described.add_argument("a", type=Path, metavar="A", help="folder of a run")
    described.add_argument("b", type=Path, metavar="B", help="folder of another run")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
