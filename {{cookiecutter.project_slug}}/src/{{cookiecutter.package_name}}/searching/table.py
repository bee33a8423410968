"""The table of a search: one line for each trial, from which `make report` knows them, also while the search runs."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ..repro.files import write_atomically
from .results import Results


def stem(name: str) -> str:
    """Name the files of a search in reports/."""
    return "search" if name == "search" else f"search-{name}"


def write_table(reports: Path, found: Results) -> Path:
    """Write the table, with exact numbers; return its path.

    Args:
        reports: the folder of all reports.
        found: all trials.
    """
    reports.mkdir(parents=True, exist_ok=True)
    names = list(found.search.space)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", found.search.options.metric, *names, "run", "weights", "reason"])
    for trial in found.trials:
        value = "" if trial.value is None else repr(trial.value)
        tried = [trial.settings.get(name, "") for name in names]
        writer.writerow([trial.number, trial.state, value, *tried, trial.run, trial.weights, trial.reason])
    path = reports / f"{stem(found.search.options.name)}.csv"
    write_atomically(path, text.getvalue().encode())
    return path
