"""The numbers: means over seeds with their uncertainty, results.csv, and what the runs cost."""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.files import write_atomically
from ..engine.record import Record
from .runs import Experiment

CONFIDENCE = 0.95
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
HOUR = 3600.0  # seconds
TIMES = ("wall_seconds", "cpu_seconds")
NOT_COUNTED = "not counted"  # energy, where the machine does not tell
UNFINISHED = "not finished"  # what failed or was cut off, or is being trained


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds."""

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
    differences: dict[int, float]  # experiment - baseline, of each seed that both have
    mean: Estimate  # of the differences

    @property
    def meaning(self) -> str:
        """What the interval tells."""
        if self.mean.half is None:
            return "one seed tells nothing of the spread"
        if self.mean.half == 0:
            return "the same difference in every seed" if self.mean.mean else "no difference in any seed"
        return "differs: the interval is on one side of 0" if self.mean.excludes_zero else "may be chance: it holds 0"


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean over all seeds from that of a few (N,), with its 95 % interval after Student; N is at least 1.

    With three to ten seeds its coverage is what it says, which the bootstrap's is not. Source: Student (1908), "The
    probable error of a mean", Biometrika 6.
    """
    mean, count = math.fsum(values) / len(values), len(values)
    if count < 2:
        return Estimate(mean, None, count)
    from scipy.stats import t  # takes a second

    half = float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return Estimate(mean, half, count)


def estimates(experiment: Experiment, metrics: Sequence[str]) -> dict[str, Estimate]:
    """Estimate each of the metrics that the experiment has."""
    values = {metric: list(experiment.values(metric).values()) for metric in metrics}
    return {metric: estimate(found) for metric, found in values.items() if found}


def compare(baseline: Experiment, other: Experiment, metric: str) -> Comparison | None:
    """Estimate how much higher a metric is than the baseline's, paired by seed; None where no seed is in both."""
    one, two = baseline.values(metric), other.values(metric)
    differences = {seed: two[seed] - one[seed] for seed in sorted(one.keys() & two.keys())}
    return Comparison(other.name, metric, differences, estimate(list(differences.values()))) if differences else None


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
    """Write one line for each run, with exact numbers: experiment, seed, run, metrics, weights (sha256 by content)."""
    rows = [(experiment, run) for experiment in experiments for run in experiment.runs]
    metrics = list(dict.fromkeys(name for _, run in rows for name in run.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "seed", "run", *metrics, "weights"])
    for experiment, run in rows:
        numbers = [repr(run.metrics[name]) if name in run.metrics else "" for name in metrics]
        writer.writerow([experiment.name, run.seed, run.id, *numbers, run.weights])
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
