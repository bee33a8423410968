"""The numbers: means over seeds and folds with their uncertainty, results.csv, and what the runs cost."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.files import write_atomically
from ..engine.inputs import Fold
from ..engine.printing import cell
from ..engine.record import Record
from .runs import Experiment, Key

CONFIDENCE = 0.95
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
HOUR = 3600.0  # seconds
TIMES = ("wall_seconds", "cpu_seconds")
NOT_COUNTED = "not counted"  # energy, where the machine does not tell
UNFINISHED = "not finished"  # what failed or was cut off, or is being trained


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, or over folds."""

    mean: float
    half: float | None  # the width of its interval; None with fewer than two values, which say nothing of the spread
    count: int  # of the values

    @property
    def excludes_zero(self) -> bool:
        """Whether all of the interval lies on one side of zero."""
        return self.half is not None and abs(self.mean) > self.half

    @property
    def digits(self) -> int:
        """How many decimals it deserves: two digits of its uncertainty, or four."""
        return 4 if not self.half else min(6, max(0, 1 - math.floor(math.log10(self.half))))

    def __str__(self) -> str:
        mean = f"{self.mean:.{self.digits}f}".replace("-", "−")
        return mean + ("" if self.half is None else f" ± {self.half:.{self.digits}f}")

    @property
    def latex(self) -> str:
        """The same, for LaTeX."""
        mean = f"{self.mean:.{self.digits}f}"
        return mean if self.half is None else f"${mean} \\pm {self.half:.{self.digits}f}$"


@dataclass(frozen=True)
class Comparison:
    """One metric of one experiment against the baseline."""

    name: str  # of the experiment
    metric: str
    differences: dict[Key, float]  # experiment - baseline, of each seed, or fold and seed, that both have
    mean: Estimate  # of the differences
    against: str = ""  # name of the baseline

    @property
    def unit(self) -> str:
        """What the mean is over."""
        return "fold" if isinstance(next(iter(self.differences)), tuple) else "seed"

    @property
    def pairs(self) -> str:
        """Which differences there are."""
        if self.unit == "seed":
            return ", ".join(map(str, self.differences))
        return f"{self.mean.count} folds, {len(self.differences)} pairs"

    @property
    def meaning(self) -> str:
        """What the interval tells."""
        if self.mean.half is None:
            return f"one {self.unit} tells nothing of the spread"
        if self.mean.half == 0:
            return (
                f"the same difference in every {self.unit}" if self.mean.mean else f"no difference in any {self.unit}"
            )
        return "differs: the interval is on one side of 0" if self.mean.excludes_zero else "may be chance: it holds 0"


def estimate(values: Sequence[float], overlap: float = 0.0) -> Estimate:
    """Estimate the mean over all seeds from that of a few (N,), with its 95 % interval after Student; N is at least 1.

    With three to ten seeds its coverage is what it says, which the bootstrap's is not. Source: Student (1908), "The
    probable error of a mean", Biometrika 6. Values of folds depend on each other, since their training sets `overlap`:
    the variance of their mean is then 1/N + overlap, instead of 1/N, times theirs. Source: Nadeau and Bengio (2003),
    "Inference for the Generalization Error", Machine Learning 52.
    """
    mean, count = math.fsum(values) / len(values), len(values)
    if count < 2:
        return Estimate(mean, None, count)
    from scipy.stats import t  # takes a second

    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * statistics.stdev(values) * math.sqrt(1 / count + overlap)
    return Estimate(mean, half, count)


def overlap_of(fold: Fold) -> float:
    """Return n_test / n_train of a cross-validation, where n_train counts all samples learned from: validation, too.

    By time, where the training sets grow, it is the mean over the folds.
    """
    by_time = statistics.fmean(1 / (number + 1) for number in range(fold.of))
    return by_time if fold.by == "time" else 1 / (fold.of - 1)


def estimate_of(values: Mapping[Key, float]) -> Estimate:
    """Estimate the mean of at least one value: over seeds, or over folds, of each the mean of its seeds."""
    of_folds: dict[Fold, list[float]] = {}
    for key, value in values.items():
        if isinstance(key, tuple):
            of_folds.setdefault(key[0], []).append(value)
    if not of_folds:
        return estimate(list(values.values()))
    return estimate([math.fsum(each) / len(each) for each in of_folds.values()], overlap_of(next(iter(of_folds))))


def estimates(experiment: Experiment, metrics: Sequence[str]) -> dict[str, Estimate]:
    """Estimate each of the metrics that the experiment has."""
    values = {metric: experiment.values(metric) for metric in metrics}
    return {metric: estimate_of(found) for metric, found in values.items() if found}


def compare(baseline: Experiment, other: Experiment, metric: str) -> Comparison | None:
    """Estimate how much higher a metric is than the baseline's, paired by seed and fold; None where no pair is."""
    one, two = baseline.values(metric), other.values(metric)
    common: Any = one.keys() & two.keys()  # all of them are seeds, or folds and seeds
    differences: dict[Key, float] = {key: two[key] - one[key] for key in sorted(common)}
    if not differences:
        return None
    return Comparison(other.name, metric, differences, estimate_of(differences), baseline.name)


def unpaired(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Estimate how much higher the mean of the other is, where nothing pairs their values: Welch's interval.

    Source: Welch (1947), "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34.
    """
    mean = statistics.fmean(other) - statistics.fmean(one)
    if min(len(one), len(other)) < 2 or not statistics.pvariance(one) + statistics.pvariance(other):
        return Estimate(mean, None, min(len(one), len(other)))
    from scipy.stats import ttest_ind

    interval = ttest_ind(other, one, equal_var=False).confidence_interval(CONFIDENCE)
    return Estimate(mean, float(interval.high - interval.low) / 2, min(len(one), len(other)))


def write_csv(path: Path, experiments: Sequence[Experiment]) -> None:
    """Write one line for each run, with exact numbers: experiment, seed, run, metrics, weights (sha256 by content).

    Where there are folds, their numbers are the last column.
    """
    rows = [(experiment, run) for experiment in experiments for run in experiment.runs]
    metrics = list(dict.fromkeys(name for _, run in rows for name in run.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    folds = any(run.fold for _, run in rows)
    writer.writerow(map(cell, ["experiment", "seed", "run", *metrics, "weights", *(["fold"] if folds else [])]))
    for experiment, run in rows:
        numbers = [repr(run.metrics[name]) if name in run.metrics else "" for name in metrics]
        fold = [run.fold.number if run.fold else ""] if folds else []
        writer.writerow(map(cell, [experiment.name, run.seed, run.id, *numbers, run.weights, *fold]))
    write_atomically(path, text.getvalue().encode())


def escape(text: str) -> str:
    """Write a text so that LaTeX prints it as it is."""
    return re.sub(r"[\\~^&%$#_{}]", lambda match: SPECIAL.get(match[0], f"\\{match[0]}"), text)


@dataclass(frozen=True)
class Cost:
    """What some runs cost together."""

    name: str  # of the experiment
    observed: Sequence[dict[str, Any]]  # by each of the runs, of its own cost
    machines: tuple[str, ...] = ()  # that trained them

    def total_hours(self, name: str) -> float:
        """Sum up `wall_seconds`, by the clock, or `cpu_seconds`, of all processor cores together; in hours."""
        return self._sum(name) / HOUR

    def cells(self) -> list[str]:
        """Write it as cells of a table: name, runs, hours (wall, CPU, GPU), memory of a run at most, energy."""
        used = [run for run in self.observed if run.get("peak_gpu_memory_bytes")]
        gpu = sum(float(run.get("wall_seconds") or 0) * int(run.get("processes") or 1) for run in used) / HOUR
        memory = max((int(run.get("peak_memory_bytes") or 0) for run in self.observed), default=0)
        joules = self._sum("joules")
        energy = f"{joules / 1000:,.1f} kJ" if joules else NOT_COUNTED
        return [
            self.name,
            str(len(self.observed)),
            *map(hours, (*map(self.total_hours, TIMES), gpu)),
            size(memory),
            energy,
        ]

    def _sum(self, name: str) -> float:
        return float(sum(run.get(name) or 0.0 for run in self.observed))


def costs(experiments: Sequence[Experiment], unfinished: dict[str, dict[str, Any]]) -> list[Cost]:
    """Sum up what each experiment cost, what did not finish, and all."""
    found = []
    for experiment in experiments:
        records = [run.record for run in experiment.runs + experiment.repeats]
        found.append(Cost(experiment.name, [record["observed"] for record in records], _machines(records)))
    found += [Cost(UNFINISHED, list(unfinished.values()))] if unfinished else []
    everything = Cost("all", [run for cost in found for run in cost.observed])
    return [*found, everything] if len(found) > 1 else found


def _machines(records: Sequence[Record]) -> tuple[str, ...]:
    """Name the processors, and the GPUs of those runs that used one."""
    processors = {str(record["environment"]["processor"]["model"]) for record in records}
    used = [record["environment"]["gpu"] for record in records if record["observed"].get("peak_gpu_memory_bytes")]
    return (*sorted(processors), *sorted({str(gpu["model"]) for gpu in used if gpu}))


def hours(value: float) -> str:
    """Write hours, in minutes or seconds where they are few."""
    if value == 0:
        return "0 h"
    if value >= 1:
        return f"{value:,.1f} h"
    return f"{value * 60:.1f} min" if value * 60 >= 1 else f"{value * HOUR:.0f} s"


def size(count: float) -> str:
    """Write bytes as MB or GB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"
