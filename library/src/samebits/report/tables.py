"""The numbers: means over seeds with their uncertainty, results.csv, results.tex for a paper, and what was spent.

compute.md lies apart from the report, which is the same bytes wherever its runs are trained again: their cost is not.
"""

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
from .runs import Experiment, UnfinishedRun

CONFIDENCE = 0.95
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
HOUR = 3600.0  # seconds
NOT_COUNTED = "not counted"  # energy, where the machine does not tell
UNFINISHED = "not finished"  # what failed or was cut off, or is being trained


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        half: half the width of its interval; None with fewer than two values, which say nothing of the spread.
        count: of the values.
    """

    mean: float
    half: float | None
    count: int

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


@dataclass(frozen=True)
class Comparison:
    """One metric of one experiment against the baseline.

    Attributes:
        name: of the experiment.
        metric: which.
        differences: experiment − baseline, of each seed that both have.
        mean: of the differences.
    """

    name: str
    metric: str
    differences: dict[int, float]
    mean: Estimate

    @property
    def meaning(self) -> str:
        """What the interval tells."""
        if self.mean.half is None:
            return "one seed tells nothing of the spread"
        if self.mean.half == 0:
            return "the same difference in every seed" if self.mean.mean else "no difference in any seed"
        return "differs: the interval is on one side of 0" if self.mean.excludes_zero else "may be chance: it holds 0"


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean over all seeds from that of a few, with its 95 % interval after Student.

    With three to ten seeds its coverage is what it says, which the bootstrap's is not. Source: Student (1908), "The
    probable error of a mean", Biometrika 6.

    Args:
        values: one for each seed; at least one.
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
    return {metric: estimate(each) for metric, each in values.items() if each}


def compare(baseline: Experiment, other: Experiment, metric: str) -> Comparison | None:
    """Estimate how much higher a metric is than the baseline's, paired by seed; None where no seed is in both."""
    one, two = baseline.values(metric), other.values(metric)
    differences = {seed: two[seed] - one[seed] for seed in sorted(one.keys() & two.keys())}
    return Comparison(other.name, metric, differences, estimate(list(differences.values()))) if differences else None


def unpaired(one: Sequence[float], other: Sequence[float]) -> Estimate:
    """Estimate how much higher the mean of the other is, where nothing pairs them: Welch's interval.

    Source: Welch (1947), "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34.

    Args:
        one: one value for each seed; at least one.
        other: the same, of the other.
    """
    mean = statistics.fmean(other) - statistics.fmean(one)
    if min(len(one), len(other)) < 2 or not statistics.pvariance(one) + statistics.pvariance(other):
        return Estimate(mean, None, min(len(one), len(other)))
    from scipy.stats import ttest_ind

    interval = ttest_ind(other, one, equal_var=False).confidence_interval(CONFIDENCE)
    return Estimate(mean, float(interval.high - interval.low) / 2, min(len(one), len(other)))


def write_csv(path: Path, experiments: Sequence[Experiment]) -> None:
    """Write one line for each run, with exact numbers: experiment, seed, run, metrics, weights (sha256 by content)."""
    metrics = list(dict.fromkeys(name for each in experiments for run in each.runs for name in run.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["experiment", "seed", "run", *metrics, "weights"])
    for each in experiments:
        for run in each.runs:
            numbers = [repr(run.metrics[name]) if name in run.metrics else "" for name in metrics]
            writer.writerow([each.name, run.seed, run.id, *numbers, run.weights])
    write_atomically(path, text.getvalue().encode())


def write_latex(path: Path, experiments: Sequence[Experiment], metrics: Sequence[str]) -> None:
    r"""Write a table for `\input`; it needs the package booktabs. Comments link each number to the runs behind it."""
    lines = [
        "% Written by `make report`; needs \\usepackage{booktabs}. Mean over seeds with the half width of its 95 %",
        "% interval (Student's t). In comments: the runs behind each row, and their exact numbers.",
        f"\\begin{{tabular}}{{l{'r' * (len(metrics) + 1)}}}",
        "\\toprule",
        " & ".join(["experiment", "seeds", *map(escape, metrics)]) + " \\\\",
        "\\midrule",
    ]
    for each in experiments:
        found = estimates(each, metrics)
        cells = [_latex(found[metric]) if metric in found else "--" for metric in metrics]
        lines.append(" & ".join([escape(each.name), str(len(each.runs)), *cells]) + " \\\\")
        for run in each.runs:
            numbers = ", ".join(f"{name} {run.metrics[name]!r}" for name in metrics if name in run.metrics)
            lines.append(f"%   {run.id}: {numbers}")
    lines += ["\\bottomrule", "\\end{tabular}", ""]
    write_atomically(path, "\n".join(lines).encode())


def escape(text: str) -> str:
    """Write a text so that LaTeX prints it as it is."""
    return re.sub(r"[\\~^&%$#_{}]", lambda match: SPECIAL.get(match[0], f"\\{match[0]}"), text)


def _latex(value: Estimate) -> str:
    mean = f"{value.mean:.{value.digits}f}"
    return mean if value.half is None else f"${mean} \\pm {value.half:.{value.digits}f}$"


@dataclass(frozen=True)
class Cost:
    """What some runs cost together.

    Attributes:
        name: whose.
        observed: what each of the runs observed of its own cost.
        machines: that trained them.
    """

    name: str
    observed: Sequence[dict[str, Any]]
    machines: tuple[str, ...] = ()

    @property
    def wall(self) -> float:
        """Hours by the clock."""
        return self._sum("wall_seconds") / HOUR

    @property
    def cpu(self) -> float:
        """Hours of all processor cores together."""
        return self._sum("cpu_seconds") / HOUR

    def cells(self) -> list[str]:
        """Write it as cells of a table: name, runs, hours (wall, CPU, GPU), memory of a run at most, energy."""
        used = [each for each in self.observed if each.get("peak_gpu_memory_bytes")]
        gpu = sum(float(each.get("wall_seconds") or 0) * int(each.get("processes") or 1) for each in used) / HOUR
        memory = max((int(each.get("peak_memory_bytes") or 0) for each in self.observed), default=0)
        joules = self._sum("joules")
        energy = f"{joules / 1000:,.1f} kJ" if joules else NOT_COUNTED
        return [self.name, str(len(self.observed)), *map(hours, (self.wall, self.cpu, gpu)), size(memory), energy]

    def _sum(self, name: str) -> float:
        return float(sum(each.get(name) or 0.0 for each in self.observed))


def costs(experiments: Sequence[Experiment], unfinished: Sequence[UnfinishedRun]) -> list[Cost]:
    """Sum up what each experiment cost, what did not finish, and all."""
    found = []
    for each in experiments:
        records = [run.record for run in each.runs + each.repeats]
        found.append(Cost(each.name, [record["observed"] for record in records], _machines(records)))
    found += [Cost(UNFINISHED, [each.observed for each in unfinished])] if unfinished else []
    everything = Cost("all", [observed for each in found for observed in each.observed])
    return [*found, everything] if len(found) > 1 else found


def _machines(records: Sequence[Record]) -> tuple[str, ...]:
    """Name the processors, and the GPUs of those runs that used one."""
    processors = {str(each["environment"]["processor"]["model"]) for each in records}
    used = [each["environment"]["gpu"] for each in records if each["observed"].get("peak_gpu_memory_bytes")]
    return (*sorted(processors), *sorted({str(gpu["model"]) for gpu in used if gpu}))


def write_costs(
    path: Path, found: Sequence[Cost], experiments: Sequence[Experiment], unfinished: Sequence[UnfinishedRun]
) -> None:
    """Write compute.md: the `costs` found of these experiments and runs, and each run."""
    lines = ["# Compute used", "", "Written by `make report` from the runs' records.", "", *cost_table(found)]
    lines += ["", f"Machines: {machines(found)}.", "", "## Each run", ""]
    lines += ["| run | ended | starts | wall | CPU | memory, at most |", "|---|---|---|---|---|---|"]
    rows = [(run.id, run.record["observed"]) for each in experiments for run in each.runs + each.repeats]
    for name, seen in [*rows, *((each.id, {**each.observed, "ended": UNFINISHED}) for each in unfinished)]:
        wall, cpu = (hours((seen.get(part) or 0) / HOUR) for part in ("wall_seconds", "cpu_seconds"))
        memory = size(seen.get("peak_memory_bytes", 0))
        lines.append(f"| `{name}` | {seen['ended']} | {seen.get('starts', '?')} | {wall} | {cpu} | {memory} |")
    write_atomically(path, "\n".join([*lines, ""]).encode())


def cost_table(found: Sequence[Cost]) -> list[str]:
    """Write costs as a Markdown table, a line each."""
    headings = ("", "runs", "wall", "CPU", "GPU", "memory, at most", "energy")
    rows = [" | ".join(each.cells()) for each in found]
    return [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *(f"| {row} |" for row in rows)]


def machines(found: Sequence[Cost]) -> str:
    """Name all machines."""
    return "; ".join(sorted({name for each in found for name in each.machines}))


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
