"""The runs that a report stands on, read from their records and checked against them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..repro import record as records
from ..repro import spent
from ..repro.record import HISTORY, PREDICTIONS, RECORD, WEIGHTS, Record
from ..saved import MAIN
from ..verdicts.appendix import verdicts_on
from ..verdicts.differences import flat
from ..verdicts.integrity import contradictions

Curve = dict[int, float]  # value at each step


@dataclass(frozen=True)
class FinishedRun:
    """One finished run, by its files.

    Attributes:
        directory: where they are.
        record: its record.
    """

    directory: Path
    record: Record

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.record["run"])

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.record["inputs"]["config"]["seed"])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that count, each by its dotted key."""
        return flat(self.record["inputs"]["config"])

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of its weights."""
        metrics: dict[str, float] = self.record["outputs"]["metrics"]
        return metrics

    @property
    def weights(self) -> str:
        """The sha256 of its weights, by content."""
        return str(self.record["outputs"]["weights"])

    @property
    def has_weights(self) -> bool:
        """Whether the weights are here, and so have been compared with the record."""
        return (self.directory / WEIGHTS).exists()

    @property
    def command(self) -> str:
        """What trains it."""
        return records.command(self.record)

    @cached_property
    def verdicts(self) -> list[dict[str, Any]]:
        """What re-runs found, the oldest first."""
        return verdicts_on(self.directory, self.record)

    @cached_property
    def curves(self) -> dict[str, Curve]:
        """The course of every metric; empty where the history is not here."""
        path = self.directory / HISTORY
        found: dict[str, Curve] = {}
        for row in csv.DictReader(io.StringIO(path.read_text())) if path.exists() else ():
            # the first value at a step: the last row of a metric is that of the weights that were kept
            found.setdefault(row["metric"], {}).setdefault(int(row["step"]), float(row["value"]))
        return found

    @cached_property
    def predictions(self) -> list[dict[str, str]]:
        """What it says of every test sample; empty where it was not kept."""
        path = self.directory / PREDICTIONS
        return list(csv.DictReader(io.StringIO(path.read_text()))) if path.exists() else []


@dataclass(frozen=True)
class UnfinishedRun:
    """A run that failed, was cut off, or is still being trained.

    Attributes:
        id: its directory's name.
        observed: what it has cost so far; empty where nothing was noted.
    """

    id: str
    observed: dict[str, Any]


def read_runs(models: Path, exclude: Sequence[str]) -> tuple[list[FinishedRun], list[UnfinishedRun]]:
    """Read all runs in a folder, and refuse those whose files are not what their records say.

    Args:
        models: the folder; a published copy counts where the run itself is not there.
        exclude: patterns of names to pass over.

    Raises:
        UserError: names each contradiction, or there is no finished run.
    """
    finished: dict[str, FinishedRun] = {}
    unfinished, wrong = [], []
    folders = sorted(path.parent for path in models.glob(f"*/{RECORD}"))
    for folder in sorted(folders, key=lambda each: each.name == MAIN.name):
        if any(fnmatch(folder.name, pattern) for pattern in exclude):
            continue
        record = records.read(folder)
        if record["observed"]["status"] != "finished":
            unfinished.append(UnfinishedRun(folder.name, spent.read(folder / spent.COMPUTE)))
            continue
        wrong += [f"{folder.name}: {each}" for each in contradictions(folder, record)]
        finished.setdefault(record["run"], FinishedRun(folder, record))
    if wrong:
        raise UserError(
            f"there is no report on runs whose files are not those of their records ({'; '.join(wrong)}): put the right"
            " files back, or move such runs out of models/ and train them again."
        )
    if not finished:
        but = f" but those that configs/report.yaml excludes ({', '.join(exclude)})" if folders else ""
        raise UserError(f"{models} has no finished run to report on{but}: make train, or make sweep SEEDS=0..4.")
    return list(finished.values()), unfinished


def published(models: Path) -> str | None:
    """Return the id of the run that was published as the main one."""
    path = models / MAIN.name / RECORD
    return str(json.loads(path.read_text())["run"]) if path.exists() else None


def total(runs: Iterable[dict[str, Any]], name: str) -> float:
    """Sum up what runs observed: `wall_seconds` for example; nothing where it was not counted."""
    return float(sum(each.get(name) or 0.0 for each in runs))
