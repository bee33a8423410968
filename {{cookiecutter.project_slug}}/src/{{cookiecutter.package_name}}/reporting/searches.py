"""Runs that a search tried out: candidates, not results; the report counts what they cost, and names their page."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from .experiments import Experiment
from .runs import FinishedRun


def runs_of_searches(reports: Path) -> dict[str, str]:
    """Read from the tables of all searches which runs were trials: the run's id, and the name of the search's files."""
    found: dict[str, str] = {}
    for path in sorted(reports.glob("search*.csv")):
        for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))):
            if row.get("run"):
                found.setdefault(row["run"], path.stem)
    return found


def page_of(reports: Path, search: str) -> str:
    """Name the page of a search, by the name of its files; its table, while there is no page."""
    return f"{search}.html" if (reports / f"{search}.html").exists() else f"{search}.csv"


def candidates(
    experiments: Sequence[Experiment], tried: dict[str, str], main: str | None, baseline: str | None
) -> list[Experiment]:
    """Gather the experiments that are trials and nothing else, into one for each search.

    One that has seeds beside the search, or is the main run's or the baseline, is a result.

    Args:
        experiments: all.
        tried: from `runs_of_searches`.
        main: id of the main run.
        baseline: name of the baseline, if configs/report.yaml names one.

    Returns:
        Experiments named after the search's page; empty where no others would be left.
    """
    gathered: dict[str, list[FinishedRun]] = {}
    for each in experiments:
        runs = [*each.runs, *each.repeats]
        if each.name != baseline and all(run.id in tried and run.id != main for run in runs):
            gathered.setdefault(tried[runs[0].id], []).extend(runs)
    if sum(map(len, gathered.values())) == sum(len(each.runs) + len(each.repeats) for each in experiments):
        return []
    return [
        Experiment(sorted(gathered[name], key=lambda run: run.id), name=f"tried in {name}") for name in sorted(gathered)
    ]
