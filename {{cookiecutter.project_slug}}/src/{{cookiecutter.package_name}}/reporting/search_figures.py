"""Figures of a search: its course, what mattered, and the metric against each setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import CategoricalDistribution

from ..searching.results import Results, Trial
from .figures import Figure, canvas, save, short

FINISHED, PRUNED, FAILED, BEST = "#0072B2", "#D55E00", "#000000", "#009E73"  # told apart by their marks, too
MARKS = {"finished": ("o", FINISHED), "pruned": ("x", PRUNED)}


def history(found: Results, folder: Path) -> Figure | None:
    """Draw the value of every trial, and the best so far as a line; None where no trial has a value."""
    shown = [trial for trial in found.trials if _has_value(trial)]
    if not shown:
        return None
    with canvas(3.0) as (figure, axis):
        _scatter(axis, shown, [trial.number for trial in shown])
        better = max if found.search.maximize else min
        best: list[tuple[int, float]] = []
        for trial in found.finished:
            value = _number(trial)
            best.append((trial.number, better(value, best[-1][1]) if best else value))
        if best:
            last = found.trials[-1].number
            axis.step(*zip(*best, (last, best[-1][1]), strict=True), where="post", color=BEST, label="best so far")
        if failed := [trial.number for trial in found.trials if trial.state == "failed"]:
            axis.plot(
                failed,
                [0.02] * len(failed),
                "|",
                color=FAILED,
                markersize=9,
                label="failed",
                transform=axis.get_xaxis_transform(),
            )
        _scale(axis, shown)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set(xlabel="trial", ylabel=found.search.options.metric)
        axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=4, handletextpad=0.3, columnspacing=1)
        said = f"{found.said}; the best is {best[-1][1]:.4g}" if best else found.said
        return save(figure, folder, "history", f"{found.search.options.metric} of every trial", said)


def importances(shares: dict[str, float], folder: Path) -> Figure:
    """Draw how much of the metric's variation each setting accounts for."""
    names = sorted(shares, key=lambda name: (-shares[name], name))
    with canvas(0.8 + 0.5 * len(names)) as (figure, axis):
        for number, name in enumerate(names):
            axis.barh(number + 0.18, shares[name], height=0.3, color=FINISHED)
            axis.annotate(
                f"{short(name)}: {shares[name]:.0%}",
                (0, number - 0.2),
                fontsize=9,
                va="center",
                xycoords=("axes fraction", "data"),
            )
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_yticks([])
        axis.set_xlim(0, 1)
        axis.xaxis.set_major_formatter(lambda value, position: f"{value:.0%}")
        axis.set_xlabel("share of the variation")
        axis.spines["left"].set_visible(False)
        said = "; ".join(f"{name}: {shares[name]:.0%}" for name in names)
        return save(figure, folder, "importances", "How much each setting mattered", said)


def against(found: Results, name: str, number: int, folder: Path) -> Figure | None:
    """Draw the value of every trial over one setting; None where no trial has a value.

    Args:
        found: all trials.
        name: of the setting.
        number: of the figure, since names of settings are not always names of files.
        folder: for the files.
    """
    shown = [trial for trial in found.trials if _has_value(trial) and name in trial.settings]
    if not shown:
        return None
    distribution = found.search.space[name].distribution
    metric = found.search.options.metric
    with canvas(2.8) as (figure, axis):
        if isinstance(distribution, CategoricalDistribution):
            choices = [str(choice) for choice in distribution.choices]
            _scatter(axis, shown, [choices.index(str(trial.settings[name])) for trial in shown])
            axis.set_xticks(range(len(choices)), [short(choice)[:14] for choice in choices])
            axis.set_xlim(-0.5, len(choices) - 0.5)
        else:
            _scatter(axis, shown, [float(trial.settings[name]) for trial in shown])
            if distribution.log:  # type: ignore[attr-defined]
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter("{x:g}")  # matplotlib's own needs formulas, which STYLE turns off
                axis.xaxis.set_minor_formatter("")
        _scale(axis, shown)
        axis.set(xlabel=short(name), ylabel=metric)
        if len({trial.state for trial in shown}) > 1:
            axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handletextpad=0.3)
        best = found.best
        said = f"{metric} over {name}" + (f"; the best trial has {best.settings[name]}" if best else "")
        return save(figure, folder, f"setting-{number}", f"{metric} over {name}", said)


def _scatter(axis: Any, trials: Sequence[Trial], places: Sequence[float]) -> None:
    for state, (mark, colour) in MARKS.items():
        points = [(x, _number(trial)) for trial, x in zip(trials, places, strict=True) if trial.state == state]
        if points:
            axis.plot(
                *zip(*points, strict=True), mark, color=colour, markersize=6, markerfacecolor="white", label=state
            )


def _scale(axis: Any, trials: Sequence[Trial]) -> None:
    """Use a logarithmic axis where the values need one."""
    values = [_number(trial) for trial in trials]
    if min(values) > 0 and max(values) / min(values) > 20:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")


def _has_value(trial: Trial) -> bool:
    return trial.state in MARKS and trial.value is not None and math.isfinite(trial.value)


def _number(trial: Trial) -> float:
    assert trial.value is not None
    return trial.value
