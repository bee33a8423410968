"""Figures: small enough to be read on a phone, in colours that are told apart by everyone, the same bytes each time."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..repro.files import write_atomically
from .statistics import Estimate, difference, estimate

if TYPE_CHECKING:  # it loads torch
    from .experiments import Experiment

WIDTH = 4.6  # inches; 10 points of text stay legible on a phone, which shows it at three quarters of this
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito (2008)
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a $ in a name is a $
    "svg.hashsalt": "report",  # names of clip paths would be random
}


@dataclass(frozen=True)
class Figure:
    """A figure on disk.

    Attributes:
        name: of its files, without the ending.
        title: for the page.
        text: what it shows, for those who do not see it.
        svg: the drawing.
    """

    name: str
    title: str
    text: str
    svg: bytes


@contextmanager
def canvas(height: float, **subplots: Any) -> Iterator[tuple[Any, Any]]:
    """Make a figure of our width and give it and its axes.

    Args:
        height: in inches.
        subplots: more of matplotlib's.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    settings: Any = {**dict(mpl.rcParamsDefault), **STYLE, "backend": "Agg"}  # and none of the user's own
    with mpl.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(WIDTH, height), **subplots)
        try:
            yield figure, axes
        finally:
            pyplot.close(figure)


def save(figure: Any, folder: Path, name: str, title: str, text: str) -> Figure:
    """Write a figure as SVG and as PNG."""
    drawing, png = svg(figure), io.BytesIO()
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / f"{name}.svg", drawing)
    write_atomically(folder / f"{name}.png", png.getvalue())
    return Figure(name, title, text, drawing)


def svg(figure: Any) -> bytes:
    """Draw a figure as SVG, without date and version."""
    drawing = io.BytesIO()
    figure.savefig(drawing, format="svg", metadata={"Date": None, "Creator": None})
    return drawing.getvalue()


def seeds(experiments: Sequence[Experiment], metric: str, folder: Path) -> Figure:
    """Draw every seed as a point, with mean and interval, a row for each experiment."""
    found = [(each.name, list(each.values(metric).values())) for each in experiments if each.values(metric)]
    rows = [(name, values, estimate(values)) for name, values in found]
    with canvas(1.0 + 0.62 * len(rows)) as (figure, axis):
        _rows(axis, rows)
        axis.set_xlabel(metric)
        text = "; ".join(f"{name}: {mean} over {mean.count} seeds" for name, _, mean in rows)
        return save(figure, folder, "seeds", f"{metric} of every seed", text)


def differences(baseline: Experiment, others: Sequence[Experiment], metric: str, folder: Path) -> Figure | None:
    """Draw how much each experiment differs from the baseline, seed by seed; None where no seed is in both."""
    rows = []
    base = baseline.values(metric)
    for other in others:
        values = other.values(metric)
        mean = difference(base, values)
        if mean is not None:
            rows.append((other.name, [values[seed] - base[seed] for seed in sorted(base.keys() & values.keys())], mean))
    if not rows:
        return None
    with canvas(1.0 + 0.62 * len(rows)) as (figure, axis):
        _rows(axis, rows)
        axis.axvline(0, color="black", linewidth=1)
        axis.set_xlabel(f"{metric}: difference from {short(baseline.name)}")
        text = "; ".join(f"{name}: {mean}" for name, _, mean in rows)
        return save(figure, folder, "differences", f"Differences from {baseline.name}, paired by seed", text)


def curves(experiments: Sequence[Experiment], metric: str, folder: Path) -> Figure | None:
    """Draw the course of a metric in training: the mean of the seeds, and a band from the lowest to the highest."""
    drawn = [(each, course(each, metric)) for each in experiments[: len(COLOURS)]]
    drawn = [(each, steps) for each, steps in drawn if steps]
    if not drawn:
        return None
    with canvas(3.0) as (figure, axis):
        lowest, highest = math.inf, -math.inf
        for number, (each, steps) in enumerate(drawn):
            x = sorted(steps)
            mean = [math.fsum(steps[step]) / len(steps[step]) for step in x]
            low, high = [min(steps[step]) for step in x], [max(steps[step]) for step in x]
            colour = COLOURS[number]
            axis.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            axis.plot(x, mean, color=colour, linestyle=LINES[number % len(LINES)], label=short(each.name))
            lowest, highest = min(lowest, *low), max(highest, *high)
        if lowest > 0 and highest / lowest > 20:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")  # matplotlib's own needs formulas, which STYLE turns off
            axis.yaxis.set_minor_formatter("")
        axis.set(xlabel="step", ylabel=metric)
        if len(drawn) > 1:
            axis.legend(fontsize=8, loc="best")
        text = f"{metric} over the steps of training of {', '.join(each.name for each, _ in drawn)}"
        return save(figure, folder, f"curve-{metric.replace('/', '-')}", f"{metric} in training", text)


def course(experiment: Experiment, metric: str) -> dict[int, list[float]]:
    """Collect a metric's values at each step that all seeds with a history have reached."""
    found = [run.curves[metric] for run in experiment.runs if metric in run.curves]
    common = set.intersection(*(set(each) for each in found)) if found else set()
    return {step: [each[step] for each in found] for step in sorted(common)}


def short(name: str) -> str:
    """Shorten a name for a legend, in its middle: what sets it apart stands at its end."""
    return name if len(name) <= 34 else f"{name[:12]}…{name[-21:]}"


def _rows(axis: Any, rows: Sequence[tuple[str, Sequence[float], Estimate]]) -> None:
    for number, (name, values, mean) in enumerate(rows):
        colour = COLOURS[number % len(COLOURS)]
        axis.plot(
            values,
            [number] * len(values),
            MARKERS[number % len(MARKERS)],
            color=colour,
            markersize=6,
            markerfacecolor="white",
            clip_on=False,
        )
        if mean.half is not None:
            axis.errorbar(mean.mean, number + 0.28, xerr=mean.half, color=colour, capsize=4, fmt="|", markersize=10)
        axis.annotate(short(name), (0, number - 0.32), xycoords=("axes fraction", "data"), fontsize=9, va="center")
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_yticks([])
    axis.margins(x=0.05)
    axis.spines["left"].set_visible(False)
    axis.locator_params(axis="x", nbins=5)
