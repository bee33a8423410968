"""The compute used, failed runs included: reports/compute.md and a drawing of it.

Apart from the report itself, which is the same bytes wherever its runs are trained again; what that cost is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..repro.files import write_atomically
from ..repro.record import Record
from .experiments import Experiment
from .figures import canvas, short, svg
from .runs import UnfinishedRun, total

HOUR = 3600.0
UNITS = ((1.0, "hours"), (1 / 60, "minutes"), (1 / HOUR, "seconds"))
UNFINISHED = "not finished"  # what failed or was cut off, or is being trained


@dataclass(frozen=True)
class Cost:
    """What some runs cost together.

    Attributes:
        name: whose.
        runs: how many.
        wall: hours by the clock.
        cpu: hours of all processor cores together.
        gpu: hours of GPUs.
        memory: bytes at most, of a run.
        joules: of the processor; None where no machine counted them.
        machines: that trained them.
    """

    name: str
    runs: int
    wall: float
    cpu: float
    gpu: float
    memory: int
    joules: float | None
    machines: tuple[str, ...] = ()

    def cells(self) -> list[str]:
        """Write it as cells of a table."""
        energy = "not counted" if self.joules is None else f"{self.joules / 1000:,.1f} kJ"
        return [self.name, str(self.runs), *map(hours, (self.wall, self.cpu, self.gpu)), size(self.memory), energy]


HEADINGS = ("", "runs", "wall", "CPU", "GPU", "memory, at most", "energy")


def costs(experiments: Sequence[Experiment], unfinished: Sequence[UnfinishedRun]) -> list[Cost]:
    """Sum up what each experiment cost, what did not finish, and all."""
    found = []
    for each in experiments:
        records = [run.record for run in each.runs + each.repeats]
        found.append(_sum(each.name, [record["observed"] for record in records], _machines(records)))
    if unfinished:
        found.append(_sum(UNFINISHED, [each.observed for each in unfinished]))
    joules = [each.joules for each in found if each.joules is not None]
    everything = Cost(
        "all",
        sum(each.runs for each in found),
        sum(each.wall for each in found),
        sum(each.cpu for each in found),
        sum(each.gpu for each in found),
        max(each.memory for each in found),
        sum(joules) if joules else None,
    )
    return [*found, everything] if len(found) > 1 else found


def write_costs(folder: Path, experiments: Sequence[Experiment], unfinished: Sequence[UnfinishedRun]) -> list[Cost]:
    """Write compute.md, with every run, and compute.svg."""
    found = costs(experiments, unfinished)
    lines = ["# Compute used", "", "Written by `make report` from the runs' records.", "", *table(HEADINGS, found)]
    machines = sorted({name for each in found for name in each.machines})
    lines += ["", f"Machines: {'; '.join(machines)}.", "", "## Each run", ""]
    lines += ["| run | ended | starts | wall | CPU | memory, at most |", "|---|---|---|---|---|---|"]
    for run in (run for each in experiments for run in each.runs + each.repeats):
        seen = run.record["observed"]
        cells = (seen["ended"], seen["starts"], hours(seen["wall_seconds"] / HOUR), hours(seen["cpu_seconds"] / HOUR))
        lines.append(f"| `{run.id}` | {' | '.join(map(str, cells))} | {size(seen['peak_memory_bytes'])} |")
    for left in unfinished:
        wall, cpu = (hours((left.observed.get(name) or 0) / HOUR) for name in ("wall_seconds", "cpu_seconds"))
        cells = (UNFINISHED, left.observed.get("starts", "?"), wall, cpu)
        lines.append(
            f"| `{left.id}` | {' | '.join(map(str, cells))} | {size(left.observed.get('peak_memory_bytes', 0))} |"
        )
    write_atomically(folder / "compute.md", "\n".join([*lines, ""]).encode())
    draw(found, folder)
    return found


def draw(found: Sequence[Cost], folder: Path) -> None:
    """Draw a bar of hours for each, with the figures beside it."""
    longest = max(max(each.wall, each.cpu) for each in found)
    unit, name = next(((unit, name) for unit, name in UNITS if longest >= unit), UNITS[-1])
    with canvas(0.5 + 0.62 * len(found)) as (figure, axis):
        for number, each in enumerate(found):
            axis.barh(
                number + 0.18, each.cpu / unit, height=0.16, color="#56B4E9", label="CPU" if number == 0 else None
            )
            axis.barh(
                number + 0.36, each.wall / unit, height=0.16, color="#0072B2", label="wall" if number == 0 else None
            )
            axis.annotate(short(each.name), (0, number - 0.32), xycoords=("axes fraction", "data"), va="center")
            _, runs, wall, cpu, gpu, memory, energy = each.cells()
            said = f"{runs} {'run' if each.runs == 1 else 'runs'}, {wall} by the clock, {cpu} CPU, {memory}"
            said += f", {gpu} GPU" if each.gpu else ""
            said += "" if each.joules is None else f", {energy}"
            axis.annotate(said, (0, number - 0.06), xycoords=("axes fraction", "data"), fontsize=8, va="center")
        axis.set_ylim(len(found) - 0.4, -0.6)
        axis.set_yticks([])
        axis.set_xlabel(name)
        axis.spines["left"].set_visible(False)
        axis.locator_params(axis="x", nbins=5)
        axis.legend(fontsize=8, loc="upper right", ncols=2, bbox_to_anchor=(1, 1.02), borderaxespad=0)
        write_atomically(folder / "compute.svg", svg(figure))


def table(headings: Sequence[str], found: Sequence[Cost]) -> list[str]:
    """Write costs as a Markdown table."""
    rows = [" | ".join(each.cells()) for each in found]
    return [f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *(f"| {row} |" for row in rows)]


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


def _sum(name: str, observed: Sequence[dict[str, Any]], machines: tuple[str, ...] = ()) -> Cost:
    on_gpus = [each for each in observed if each.get("peak_gpu_memory_bytes")]
    return Cost(
        name,
        len(observed),
        total(observed, "wall_seconds") / HOUR,
        total(observed, "cpu_seconds") / HOUR,
        sum(float(each.get("wall_seconds") or 0) * int(each.get("processes") or 1) for each in on_gpus) / HOUR,
        max((int(each.get("peak_memory_bytes") or 0) for each in observed), default=0),
        total(observed, "joules") or None,
        machines,
    )


def _machines(records: Sequence[Record]) -> tuple[str, ...]:
    """Name the processors, and the GPUs of those runs that used one."""
    processors = {str(each["environment"]["processor"]["model"]) for each in records}
    used = [each["environment"]["gpu"] for each in records if each["observed"].get("peak_gpu_memory_bytes")]
    return (*sorted(processors), *sorted({str(gpu["model"]) for gpu in used if gpu}))
