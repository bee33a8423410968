"""The page of a search, reports/search.html or reports/search-<name>.html, with its table and figures."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution

from ..report.documents import Project, write_page
from ..report.figures import Figure, canvas, remove_others, save, scale, short
from .study_copy import copy_study
from .summary import Results, Trial, experiment_yaml, reproducibility, write_table

MARKS = {"finished": ("o", "#0072B2"), "pruned": ("x", "#D55E00")}  # told apart by more than their colours
BEST = "#009E73"
LEGEND = {"fontsize": 8, "loc": "lower left", "bbox_to_anchor": (0, 1), "handletextpad": 0.3, "columnspacing": 1}
ENOUGH = 8  # finished trials from which on shares of the variation mean something
MOST_FIGURES = 12  # of single settings, the most important first


def write_search_page(root: Path, results: Results, project: Project) -> Path:
    """Write page, table and figures in the project's folder; return the page's path. Same trials, same bytes."""
    table = write_table(root / "reports", results)
    folder = table.with_suffix("")
    shares = importances(results) or {}
    names = sorted(results.search.space, key=lambda name: (-shares.get(name, 0.0), name))
    figures = [history_figure(results, folder)]
    figures += [importances_figure(shares, folder)] if shares else []
    figures += [setting_figure(results, name, number, folder) for number, name in enumerate(names[:MOST_FIGURES], 1)]
    remove_others(folder, figures)
    page, best = table.with_suffix(".html"), results.best
    write_page(
        page,
        project,
        figures,
        template=Path(__file__).with_name("search.html"),
        results=results,
        options=results.search.options,
        best=best,
        experiment=experiment_yaml(results, best) if best else "",
        table=table.name,
        shares=shares,
        enough=ENOUGH,
        reproducibility=reproducibility(results),
        settings=settings(results),
    )
    return page


def importances(results: Results) -> dict[str, float] | None:
    """Estimate the share of each setting in the metric's variation, by fANOVA; None where there are too few trials."""
    if len(results.finished) < ENOUGH or len({trial.value for trial in results.finished}) < 2:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study, _ = copy_study(results.search, results.stored)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=int(results.search.options.seed))
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


def settings(results: Results) -> list[tuple[str, str]]:
    """List the settings of the search, but for where it is kept."""
    options: Any = OmegaConf.to_container(results.search.options, resolve=True)
    rows = [(key, str(options[key])) for key in ("name", "trials", "metric", "direction", "seed")]
    rows += [(key, _call(options[key])) for key in ("sampler", "pruner")]
    rows += [(name, _values(each.distribution)) for name, each in results.search.space.items()]
    return [*rows, ("every training", " ".join(results.search.overrides) or "as configs/ has it")]


def _values(distribution: Any) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(str, distribution.choices))
    text = f"{distribution.low:g} to {distribution.high:g}" + (", logarithmic" if distribution.log else "")
    return text + (f", in steps of {distribution.step:g}" if distribution.step else "")


def _call(node: dict[str, Any] | None) -> str:
    if node is None:
        return "none"
    return f"{node['_target_']}({', '.join(f'{key}={value}' for key, value in node.items() if key != '_target_')})"


# --- figures


def history_figure(results: Results, folder: Path) -> Figure | None:
    """Draw the value of every trial, and the best so far as a line; None where no trial has a value."""
    points = _points(results)
    if not points:
        return None
    metric = results.search.options.metric
    with canvas(3.0) as (figure, axis):
        _scatter(axis, points, [trial.number for trial, _ in points])
        better = max if results.search.maximize else min
        best: list[tuple[int, float]] = []
        for trial, value in points:
            if trial.status == "finished":
                best.append((trial.number, better(value, best[-1][1]) if best else value))
        if best:
            last = (results.trials[-1].number, best[-1][1])
            axis.step(*zip(*best, last, strict=True), where="post", color=BEST, label="best so far")
        if failed := [trial.number for trial in results.trials if trial.status == "failed"]:
            bottom = {"transform": axis.get_xaxis_transform()}
            axis.plot(failed, [0.02] * len(failed), "|", color="#000000", markersize=9, label="failed", **bottom)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set(xlabel="trial", ylabel=metric)
        axis.legend(ncols=4, **LEGEND)
        text = results.counts + (f"; the best is {best[-1][1]:.4g}" if best else "")
        return save(figure, folder, "history", f"{metric} of every trial", text)


def importances_figure(shares: dict[str, float], folder: Path) -> Figure:
    """Draw how much of the metric's variation each setting accounts for."""
    names = sorted(shares, key=lambda name: (-shares[name], name))
    with canvas(0.8 + 0.5 * len(names)) as (figure, axis):
        for number, name in enumerate(names):
            axis.barh(number + 0.18, shares[name], height=0.3, color=MARKS["finished"][1])
            place = {"xy": (0, number - 0.2), "xycoords": ("axes fraction", "data"), "va": "center"}
            axis.annotate(f"{short(name)}: {shares[name]:.0%}", fontsize=9, **place)
        axis.set(ylim=(len(names) - 0.5, -0.5), yticks=[], xlim=(0, 1), xlabel="share of the variation")
        axis.xaxis.set_major_formatter(lambda value, position: f"{value:.0%}")
        axis.spines["left"].set_visible(False)
        text = "; ".join(f"{name}: {shares[name]:.0%}" for name in names)
        return save(figure, folder, "importances", "How much each setting mattered", text)


def setting_figure(results: Results, name: str, number: int, folder: Path) -> Figure | None:
    """Draw the value of every trial over one setting; None where no trial has a value.

    The figure's name has a number, since names of settings are not always names of files.
    """
    points = [(trial, value) for trial, value in _points(results) if name in trial.settings]
    if not points:
        return None
    distribution: Any = results.search.space[name].distribution
    metric, best = results.search.options.metric, results.best
    with canvas(2.8) as (figure, axis):
        tried = [trial.settings[name] for trial, _ in points]
        if isinstance(distribution, CategoricalDistribution):
            choices = [str(choice) for choice in distribution.choices]
            _scatter(axis, points, [choices.index(str(value)) for value in tried])
            axis.set_xticks(range(len(choices)), [short(choice)[:14] for choice in choices])
            axis.set_xlim(-0.5, len(choices) - 0.5)
        else:
            _scatter(axis, points, [float(value) for value in tried])
            if distribution.log:
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter("{x:g}")  # as in figures.scale
                axis.xaxis.set_minor_formatter("")
        axis.set(xlabel=short(name), ylabel=metric)
        if len({trial.status for trial, _ in points}) > 1:
            axis.legend(ncols=2, **LEGEND)
        title = f"{metric} over {name}"
        text = title + (f"; the best trial has {best.settings[name]}" if best else "")
        return save(figure, folder, f"setting-{number}", title, text)


Points = Sequence[tuple[Trial, float]]  # trials and their values


def _points(results: Results) -> Points:
    trials = [(trial, trial.value) for trial in results.trials if trial.status in MARKS]
    return [(trial, value) for trial, value in trials if value is not None and math.isfinite(value)]


def _scatter(axis: Any, points: Points, places: Sequence[float]) -> None:
    """Draw values over places, on a logarithmic axis where the values need one."""
    for status, (mark, colour) in MARKS.items():
        xy = [(x, value) for (trial, value), x in zip(points, places, strict=True) if trial.status == status]
        if xy:
            axis.plot(*zip(*xy, strict=True), mark, color=colour, markersize=6, markerfacecolor="white", label=status)
    scale(axis, [value for _, value in points])
