"""Figures: small enough to be read on a phone, in colours that are told apart by everyone, the same bytes each time."""

from __future__ import annotations

import errno
import inspect
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any

from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf

from ..engine.errors import UserError
from ..engine.files import DISK_FULL, file_sha256, write_atomically
from ..engine.record import PREDICTIONS
from .runs import Experiment, FinishedRun
from .tables import HOUR, NOT_COUNTED, TIMES, Comparison, Cost, Estimate, estimate_of, hours

CONFIG = "configs/report.yaml"
WIDTH = 4.6  # inches; 10 points of text stay legible on a phone, which shows it at three quarters of this
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")  # Okabe and Ito (2008)
UNITS = ((1.0, "hours"), (1 / 60, "minutes"), (1 / HOUR, "seconds"))
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
    """A figure on disk."""

    name: str  # of its files, without the ending
    title: str  # for the page
    text: str  # what it shows, for those who do not see it
    svg: bytes


@contextmanager
def canvas(height: float, **subplots: Any) -> Iterator[tuple[Any, Any]]:
    """Make a matplotlib figure of this height (inches) in the report's style, by `pyplot.subplots`, and its axes."""
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


@dataclass(frozen=True)
class Panel:
    """What a panel is given: a function that draws one figure of the report, named in configs/report.yaml."""

    experiment: Experiment  # the main one, with all of its seeds
    run: FinishedRun  # the main run
    settings: DictConfig  # as configs/report.yaml says
    data: Path  # the folder of the prepared data
    folder: Path  # where figures are written
    notes: list[str]  # sentences for the page's remarks; a panel that draws nothing says here why

    canvas = staticmethod(canvas)

    def save(self, figure: Any, name: str, title: str, text: str) -> Figure:
        """Write a figure of `canvas`: the name of its files, its title, and what it shows, for who does not see it."""
        return save(figure, self.folder, name, title, text)

    def rows(self, *columns: str, run: FinishedRun | None = None) -> list[dict[str, str]]:
        """Read predictions.csv of the main run, or another one; no rows where it lacks a column: a note says so."""
        rows = (run or self.run).predictions
        if rows and rows[0].keys() >= set(columns):
            return rows
        note = f"{self.run.id} has no {PREDICTIONS} with {', '.join(columns)}, which a panel would draw."
        if run in (None, self.run) and note not in self.notes:
            self.notes.append(note)
        return []

    def data_file(self, name: str) -> Path | None:
        """Find a prepared file as the run read it; None, with a note, where it is not here or another one."""
        path = self.data / name
        if self.run.fold:
            self.notes.append(f"{self.run.id} was tested on a fold, so on other samples than those of {name}.")
            return None
        if path.exists() and file_sha256(path) == self.run.record["inputs"]["data"].get(name):
            return path
        self.notes.append(
            f"The {name} of {self.run.id} is not in {self.data.parent.name}/{self.data.name}/ now: make data."
        )
        return None


def draw_panels(panel: Panel) -> list[Figure]:
    """Draw the panels that the settings name; a UserError where one is not there, or fails."""
    entries: Any = OmegaConf.to_container(panel.settings.panels or OmegaConf.create(), resolve=True)
    drawn = []
    for settings in filter(None, entries.values()):
        name = settings.pop("_target_")
        try:
            function = get_method(name)
        except (ImportError, ValueError) as error:
            cause: BaseException = error
            while cause.__cause__:  # Hydra's own says which module, and not what that could not import
                cause = cause.__cause__
            reason = str(cause).splitlines()[-1].rstrip(".")
            raise UserError(
                f"{CONFIG}: the panel {name} cannot be loaded ({reason}): correct its name, or leave it out."
            ) from error
        try:
            figure = function(panel, **settings)
            assert figure is None or isinstance(figure, Figure), "it returns no figure of panel.save"
        except UserError:
            raise
        except Exception as error:  # whatever a user's code raises
            if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, *DISK_FULL):
                raise
            lines = [
                each.lineno for each in extract_tb(error.__traceback__) if each.filename == inspect.getfile(function)
            ]
            where = f", line {lines[-1]} of {Path(inspect.getfile(function)).name}" if lines else ""
            raise UserError(
                f"{CONFIG}: the panel {name} failed ({type(error).__name__}: {error}{where}): mend it, or leave it out."
            ) from error
        drawn += [figure] if figure else []
    return drawn


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


def remove_others(folder: Path, figures: Sequence[Figure | None]) -> None:
    """Remove the figures of an earlier report that are not among these."""
    names = {figure.name for figure in figures if figure}
    for path in [*folder.glob("*.svg"), *folder.glob("*.png")]:
        if path.stem not in names:
            path.unlink()


def seeds(experiments: Sequence[Experiment], metric: str, folder: Path) -> Figure:
    """Draw every run as a point, with mean and interval, a row for each experiment."""
    found = [(experiment, experiment.values(metric)) for experiment in experiments]
    of = [(experiment, list(values.values()), estimate_of(values)) for experiment, values in found if values]
    rows = [(experiment.name, values, mean) for experiment, values, mean in of]
    text = "; ".join(
        f"{experiment.name}: {mean} over {mean.count} {'folds' if experiment.folds else 'seeds'}"
        for experiment, _, mean in of
    )
    with canvas(1.0 + 0.62 * len(rows)) as (figure, axis):
        _draw_rows(axis, rows)
        axis.set_xlabel(metric)
        unit = "run" if any(each.folds for each in experiments) else "seed"
        return save(figure, folder, "seeds", f"{metric} of every {unit}", text)


def differences(found: Sequence[Comparison], metric: str, folder: Path) -> Figure | None:
    """Draw how much experiments differ from their baseline, each pair a point; None where there is no comparison."""
    if not found:
        return None
    names = list(dict.fromkeys(comparison.against for comparison in found))
    baseline = names[0] if len(names) == 1 else "the baseline"
    units = " and ".join(dict.fromkeys(comparison.unit for comparison in found))
    text = "; ".join(f"{comparison.name}: {comparison.mean}" for comparison in found)
    with canvas(1.0 + 0.62 * len(found)) as (figure, axis):
        _draw_rows(axis, [(shown.name, list(shown.differences.values()), shown.mean) for shown in found])
        axis.axvline(0, color="black", linewidth=1)
        axis.set_xlabel(f"{metric}: difference from {short(baseline)}")
        return save(figure, folder, "differences", f"Differences from {baseline}, paired by {units}", text)


def curves(experiments: Sequence[Experiment], metric: str, folder: Path) -> Figure | None:
    """Draw a metric over the steps of training: the mean of the seeds, and a band from the lowest to the highest."""
    found = [(experiment.name, _values_at_steps(experiment, metric)) for experiment in experiments[: len(COLOURS)]]
    drawn = [(name, values) for name, values in found if values]
    if not drawn:
        return None
    with canvas(3.0) as (figure, axis):
        for number, (name, values) in enumerate(drawn):
            steps, of_steps, colour = list(values), list(values.values()), COLOURS[number]
            axis.fill_between(steps, [*map(min, of_steps)], [*map(max, of_steps)], color=colour, alpha=0.2, linewidth=0)
            mean = [math.fsum(of_step) / len(of_step) for of_step in of_steps]
            axis.plot(steps, mean, color=colour, linestyle=LINES[number % len(LINES)], label=short(name))
        scale(axis, [value for _, values in drawn for of_step in values.values() for value in of_step])
        axis.set(xlabel="step", ylabel=metric)
        if len(drawn) > 1:
            axis.legend(fontsize=8, loc="best")
        text = f"{metric} over the steps of training of {', '.join(name for name, _ in drawn)}"
        return save(figure, folder, f"curve-{metric.replace('/', '-')}", f"{metric} in training", text)


def _values_at_steps(experiment: Experiment, metric: str) -> dict[int, list[float]]:
    """Collect a metric's values at each step that all seeds with a history have reached."""
    found = [run.curves[metric] for run in experiment.runs if metric in run.curves]
    common = set.intersection(*map(set, found)) if found else set()
    return {step: [curve[step] for curve in found] for step in sorted(common)}


def draw_costs(found: Sequence[Cost], folder: Path) -> None:
    """Draw compute.svg: a bar of hours for each, with the numbers beside it."""
    longest = max(cost.total_hours(name) for cost in found for name in TIMES)
    unit, name = next(((unit, name) for unit, name in UNITS if longest >= unit), UNITS[-1])
    with canvas(0.5 + 0.62 * len(found)) as (figure, axis):
        for number, cost in enumerate(found):
            bars = ((0.18, "cpu_seconds", COLOURS[4], "CPU"), (0.36, "wall_seconds", COLOURS[0], "wall"))
            for down, time, colour, label in bars:
                once = label if number == 0 else None
                axis.barh(number + down, cost.total_hours(time) / unit, height=0.16, color=colour, label=once)
            axis.annotate(short(cost.name), (0, number - 0.32), xycoords=("axes fraction", "data"), va="center")
            _, runs, wall, cpu, gpu, memory, energy = cost.cells()
            text = f"{runs} {'run' if runs == '1' else 'runs'}, {wall} by the clock, {cpu} CPU, {memory}"
            text += f", {gpu} GPU" if gpu != hours(0) else ""
            text += f", {energy}" if energy != NOT_COUNTED else ""
            axis.annotate(text, (0, number - 0.06), xycoords=("axes fraction", "data"), fontsize=8, va="center")
        _style_rows(axis, len(found))
        axis.set_xlabel(name)
        axis.legend(fontsize=8, loc="upper right", ncols=2, bbox_to_anchor=(1, 1.02), borderaxespad=0)
        write_atomically(folder / "compute.svg", svg(figure))


def scale(axis: Any, values: Sequence[float]) -> None:
    """Use a logarithmic axis where the values need one."""
    if min(values) > 0 and max(values) / min(values) > 20:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")  # matplotlib's own needs formulas, which STYLE turns off
        axis.yaxis.set_minor_formatter("")


def short(name: str) -> str:
    """Shorten a name for a legend, in its middle: what sets it apart stands at its end."""
    return name if len(name) <= 34 else f"{name[:12]}…{name[-21:]}"


def _draw_rows(axis: Any, rows: Sequence[tuple[str, Sequence[float], Estimate]]) -> None:
    for number, (name, values, mean) in enumerate(rows):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        style = {"color": colour, "markersize": 6, "markerfacecolor": "white", "clip_on": False}
        axis.plot(values, [number] * len(values), marker, **style)
        if mean.half is not None:
            axis.errorbar(mean.mean, number + 0.28, xerr=mean.half, color=colour, capsize=4, fmt="|", markersize=10)
        axis.annotate(short(name), (0, number - 0.32), xycoords=("axes fraction", "data"), fontsize=9, va="center")
    axis.margins(x=0.05)
    _style_rows(axis, len(rows))


def _style_rows(axis: Any, count: int) -> None:
    axis.set_ylim(count - 0.4, -0.6)
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.locator_params(axis="x", nbins=5)
