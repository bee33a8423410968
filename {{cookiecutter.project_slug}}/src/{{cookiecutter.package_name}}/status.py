"""Where the runs of the sweeps are, here or on a cluster: `make status`, or `python -m <package>.status`."""

from __future__ import annotations

import argparse
import os
import sys

from .cli import run_with_arguments
from .config import ROOT
from .sweeping.notes import LOGS
from .sweeping.standing import Standing, standings

COLUMNS = ("run", "state", "what", "job", "directory")


def main(arguments: argparse.Namespace) -> None:
    """Print a table in a terminal, else a line for each run."""
    os.chdir(ROOT)
    found, trouble = standings(ROOT / LOGS)
    if trouble:
        print(f"SLURM does not answer ({trouble}): what follows is what was known before.", file=sys.stderr)
    if not found:
        print("There is no sweep yet: make sweep SEEDS=0..4, or make sweep CLUSTER=slurm SEEDS=0..4.")
    elif sys.stdout.isatty():
        draw(found)
    else:
        for each in found:
            print("  ".join(part for part in row(each) if part))


def row(standing: Standing) -> tuple[str, ...]:
    """Write a run as a row of the table."""
    job = f"job {standing.job}" if standing.job else ""
    return standing.label, standing.state, standing.what, job, standing.directory


def draw(found: list[Standing]) -> None:
    """Draw the table."""
    from rich.console import Console
    from rich.table import Table

    colours = {"finished": "green", "failed": "red", "running": "cyan"}
    table = Table(*COLUMNS, box=None)
    for each in found:
        label, state, *rest = row(each)
        colour = colours.get(each.state, "yellow")
        table.add_row(label, f"[{colour}]{state}[/{colour}]", *(text.replace("[", r"\[") for text in rest))
    Console().print(table)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    return argparse.ArgumentParser(
        prog="python -m <package>.status", description="Say where the runs of the sweeps are, here or on a cluster."
    )


if __name__ == "__main__":
    run_with_arguments(main, parser())
