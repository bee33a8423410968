"""Which runs belong together: the same code, settings and data, and only the seed is another one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..repro.hashing import json_sha256
from .runs import FinishedRun

SAME = ("code", "lock", "data", "outside")  # inputs that all seeds of an experiment share


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
    _name(experiments)
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


def _name(experiments: list[Experiment]) -> None:
    """Name each by the readable part of its runs' ids, and by what else differs where that is not enough."""
    for each in experiments:
        readable = re.sub(r"-[0-9a-f]{8}(-\d+)?$", "", each.first.id)
        each.name = re.sub(rf"[-_,]?seed={each.first.seed}\b", "", readable) or readable
    for name in {each.name for each in experiments}:
        alike = [each for each in experiments if each.name == name]
        if len(alike) > 1:
            for each, difference in zip(alike, _distinctions(alike), strict=True):
                each.name = f"{name} {difference}"


def _short(key: str) -> str:
    return key if key.startswith("determinism.") else key.rpartition(".")[2]


def _distinctions(alike: list[Experiment]) -> list[str]:
    settings = [each.first.settings for each in alike]
    keys = sorted({key for each in settings for key in each})
    # what follows the seed does not tell experiments apart
    seeds = [each.first.seed for each in alike]
    varied = [
        key
        for key in keys
        if len({repr(each.get(key)) for each in settings}) > 1
        and not all(each.get(key) == seed for each, seed in zip(settings, seeds, strict=True))
    ]
    # of settings that follow each other, the shortest says it
    patterns = {tuple(repr(each.get(key)) for each in settings): key for key in sorted(varied, key=len, reverse=True)}
    varied = sorted(patterns.values(), key=lambda key: (key.startswith("determinism."), key))
    if chosen := [key for key in varied if not key.startswith("determinism.env")]:
        varied = chosen  # the variables follow from the choice

    def unique(count: int) -> bool:
        return len({repr([each.get(key) for key in varied[:count]]) for each in settings}) == len(settings)

    varied = varied[: next(filter(unique, range(3, len(varied))), len(varied))]
    said = [[f"{_short(key)}={each.get(key)}" for key in varied] for each in settings]
    for part in SAME:
        hashes = [json_sha256(each.first.record["inputs"].get(part) or {})[:4] for each in alike]
        if len(set(hashes)) > 1:
            said = [[*words, f"{part}:{digits}"] for words, digits in zip(said, hashes, strict=True)]
    return [" ".join(words) for words in said]
