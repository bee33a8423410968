"""Which runs belong together: the same code, settings and data, and only the seed is another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..repro.hashing import json_sha256
from .names import SAME, name_all
from .runs import FinishedRun


@dataclass
class Experiment:
    """Runs that differ in their seed alone.

    Attributes:
        runs: one for each seed, in the seeds' order.
        name: for people; no two experiments of a report share it.
        repeats: further runs with the inputs of one of them.
    """

    runs: list[FinishedRun]
    name: str = ""
    repeats: list[FinishedRun] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """The seeds."""
        return [run.seed for run in self.runs]

    @property
    def first(self) -> FinishedRun:
        """The run with the lowest seed, which stands for what all have in common."""
        return self.runs[0]

    def values(self, metric: str) -> dict[int, float]:
        """Give the metric of each seed that has it."""
        return {run.seed: run.metrics[metric] for run in self.runs if metric in run.metrics}

    def same_data(self, other: Experiment) -> bool:
        """Whether both were trained and tested on the same files."""
        return bool(self.first.record["inputs"]["data"] == other.first.record["inputs"]["data"])


def group(runs: Sequence[FinishedRun], main: str | None) -> list[Experiment]:
    """Group runs into experiments, the one of the main run first, then by name.

    Args:
        runs: finished ones.
        main: id of the main run.
    """
    seeds = {run.seed for run in runs}
    alike: dict[str, list[list[FinishedRun]]] = {}  # groups that may be one another's, so that few are compared
    for run in sorted(runs, key=lambda each: (each.seed, len(each.id), each.id)):
        groups = alike.setdefault(_key(run, seeds), [])
        fitting = next((each for each in groups if same_but_for_seed(each[0], run)), None)
        if fitting is None:
            groups.append([run])
        else:
            fitting.append(run)
    experiments = [_experiment(each) for groups in alike.values() for each in groups]
    name_all(experiments, main)
    return sorted(experiments, key=lambda each: (main not in [run.id for run in each.runs + each.repeats], each.name))


def _key(run: FinishedRun, seeds: set[int]) -> str:
    """Hash what runs of one experiment certainly share: a value that is nobody's seed follows none."""
    inputs = run.record["inputs"]
    settled = {
        key: float(value) if isinstance(value, int) else value  # 1, 1.0 and true are equal, and here they look it
        for key, value in run.settings.items()
        if value is not None and not (isinstance(value, int | float) and value in seeds)
    }
    return json_sha256([settled, *(inputs.get(key) or {} for key in SAME)])


def same_but_for_seed(one: FinishedRun, other: FinishedRun) -> bool:
    """Whether two runs differ in nothing but the seed, and in settings that follow it."""
    a, b = one.record["inputs"], other.record["inputs"]
    if any((a.get(key) or {}) != (b.get(key) or {}) for key in SAME):
        return False
    return not differing_settings(one, other)


def differing_settings(one: FinishedRun, other: FinishedRun) -> list[tuple[str, Any, Any]]:
    """List the settings in which two runs differ, but for the seed and those that follow it: name and both values."""
    mine, theirs = one.settings, other.settings
    return [
        (key, mine.get(key), theirs.get(key))
        for key in sorted(mine | theirs)
        if mine.get(key) != theirs.get(key) and (mine.get(key), theirs.get(key)) != (one.seed, other.seed)
    ]


def data_sets(experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """List the data sets behind the experiments, each once: what its card says, its files, and `of`, their names."""
    found: list[dict[str, Any]] = []
    for each in experiments:
        origin = each.first.record["inputs"].get("origin") or {}
        shown = {key: origin.get(key) for key in ("title", "licence", "address", "card", "files")}
        known = next((other for other in found if {**shown, "of": other["of"]} == other), None)
        if known:
            known["of"].append(each.name)
        elif shown["files"]:
            found.append({**shown, "of": [each.name]})
    return found


def _experiment(runs: list[FinishedRun]) -> Experiment:
    chosen: dict[int, FinishedRun] = {}
    repeats = []
    for run in runs:
        if run.seed in chosen:
            repeats.append(run)
        else:
            chosen[run.seed] = run
    return Experiment([chosen[seed] for seed in sorted(chosen)], repeats=repeats)
