"""What a search has found: its trials as values, as sentences, as a table and as a page with figures."""

from __future__ import annotations

import csv
import io
import math
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import yaml
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial

from ..engine.command_line import LIBRARY_CONFIGS, counts
from ..engine.files import write_atomically
from ..engine.printing import cell
from ..engine.project import project
from ..engine.secrets import redact
from ..report.documents import Project, write_page
from ..report.figures import Figure, canvas, remove_others, save, scale, short
from .search_config import Search

STATUS = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}  # ours, by Optuna's
MARKS = {"finished": ("o", "#0072B2"), "pruned": ("x", "#D55E00")}  # told apart by more than their colours
BEST = "#009E73"
LEGEND = {"fontsize": 8, "loc": "lower left", "bbox_to_anchor": (0, 1), "handletextpad": 0.3, "columnspacing": 1}
ENOUGH = 8  # finished trials from which on shares of the variation mean something
MOST_FIGURES = 12  # of single settings, the most important first


@dataclass(frozen=True)
class Trial:
    """One trial."""

    number: int  # from 0
    status: str  # finished, pruned, failed, or open: being trained, or cut off
    value: float | None  # of the metric; of a pruned trial, its last one; None where there is none
    settings: dict[str, Any]  # that were tried, by name
    overrides: list[str]  # of its training, those of its settings alone
    run: str  # the name of its directory in models/
    weights: str  # sha256 of the finished run's weights
    validations: int  # how many there were
    reason: str  # why it failed


@dataclass(frozen=True)
class Results:
    """All trials of a search."""

    search: Search  # its settings
    trials: list[Trial]  # by number
    concurrent: bool  # whether workers chose at the same time, so that the choice of settings depended on timing
    stored: Sequence[FrozenTrial] = field(repr=False)  # the trials as Optuna has them

    @property
    def finished(self) -> list[Trial]:
        """The trials whose training came to its end."""
        return [trial for trial in self.trials if trial.status == "finished"]

    @property
    def best(self) -> Trial | None:
        """The best of them; of equals, the first."""
        sign = -1 if self.search.maximize else 1
        return min(self.finished, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def count(self, status: str) -> int:
        """Count the trials with a status."""
        return sum(trial.status == status for trial in self.trials)

    @property
    def counts(self) -> str:
        """The number of trials, and of those with each status, in words."""
        counted = [f"{self.count(status)} {status}" for status in (*STATUS.values(), "open") if self.count(status)]
        return f"{len(self.trials)} of {self.search.options.trials} trials" + f": {', '.join(counted)}" * bool(counted)

    @property
    def best_so_far(self) -> str:
        """The best trial and its value, in words."""
        best, metric = self.best, self.search.options.metric
        return f"best: trial {best.number}, {metric} {best.value:.4f}" if best else "none finished yet"

    def outcome(self, trial: Trial) -> str:
        """Write in one line how a trial ended."""
        if trial.status == "failed":
            return f"trial {trial.number}: FAILED: {trial.reason}"
        value = "" if trial.value is None else f" {self.search.options.metric} {trial.value:.4f}"
        how = f"pruned after {trial.validations} validations at" if trial.status == "pruned" else "finished,"
        return f"trial {trial.number}: {how}{value}; {self.best_so_far}"

    def command(self, trial: Trial, target: str = "train") -> str:
        """Write the command that trains with a trial's settings."""
        return f"make {target} ARGS={shlex.quote(' '.join([*self.search.overrides, *trial.overrides]))}"


def read_results(search: Search, trials: Sequence[FrozenTrial]) -> Results:
    """Read the trials of a study."""
    found = []
    for stored in trials:
        values, attributes, reason = stored.intermediate_values, stored.user_attrs, failure_reason(stored)
        trial = Trial(
            number=stored.number,
            status=STATUS.get(stored.state.name) or ("failed" if reason else "open"),
            value=values[max(values)] if values and stored.state.name == "PRUNED" else stored.value,
            settings={key: stored.params[key] for key in search.space if key in stored.params},
            overrides=search.training(stored.params)[len(search.overrides) :],
            run=str(attributes.get("run", "")),
            weights=str(attributes.get("weights", "")),
            validations=len(values),
            reason=reason,
        )
        found.append(trial)
    return Results(search, found, any(stored.user_attrs.get("beside") for stored in trials), trials)


def failure_reason(trial: FrozenTrial) -> str:
    """Return why a trial's training failed; empty where it did not, or is being tried again."""
    return str(trial.user_attrs.get("reason", ""))


def copy_study(
    search: Search, trials: Sequence[FrozenTrial], notes: Mapping[str, Any] | None = None, **algorithms: Any
) -> optuna.Study:
    """Copy a study into memory, to ask Optuna what to try and whether to end a training.

    Samplers and pruners write down notes while they choose. In a copy, a kill in between leaves nothing half done:
    their answer is written to the storage in one piece, and the same trials lead to the same answer.
    `notes` are the sampler's on the study, `algorithms` are `sampler` and `pruner`.
    """
    algorithms = {"pruner": NopPruner(), **algorithms}
    study = optuna.create_study(study_name=search.options.name, direction=search.options.direction, **algorithms)
    for key, value in (notes or {}).items():
        study._storage.set_study_system_attr(study._study_id, key, value)
    for trial in trials:
        study._storage.create_new_trial(study._study_id, template_trial=trial)
    return study


def importances(results: Results) -> dict[str, float]:
    """Estimate the share of each setting in the metric's variation, by fANOVA; empty where there are too few trials."""
    if len(results.finished) < ENOUGH or len({trial.value for trial in results.finished}) < 2:
        return {}
    with warnings.catch_warnings(action="ignore"):
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=int(results.search.options.seed))
        return dict(
            optuna.importance.get_param_importances(copy_study(results.search, results.stored), evaluator=evaluator)
        )


# --- sentences


def reproducibility(results: Results, workers: int = 1) -> str:
    """Write whether the same search makes the same trials."""
    if results.concurrent or workers > 1:
        who = f"{workers} workers choose" if workers > 1 else "several workers have chosen"
        return (
            f"Not reproducible as a whole: {who} at the same time, so which settings are tried depends on timing. Each"
            " trial is an ordinary run, and can be trained again bit for bit."
        )
    if not results.search.base.determinism.enabled:
        return "Not reproducible: determinism=off, so the values of a training differ each time."
    return (
        "Reproducible: one worker, so each trial's settings follow from search.seed, its number and the results before"
        " it, however often the search is cut off. Another worker beside it would end that."
    )


def introduction(results: Results, workers: int) -> str:
    """Write what is searched, and whether the same search would find the same."""
    options = results.search.options
    kept = f"kept in {redact(options.storage)}: {results.counts}."
    return f"Search {options.name!r} for {options.metric}, {kept}\n{reproducibility(results, workers)}"


def conclusion(results: Results) -> str:
    """Write what was found, what is left, and what to do with it."""
    lines = [f"{results.counts}."]
    lines += [f"FAILED  trial {trial.number}: {trial.reason}" for trial in results.trials if trial.status == "failed"]
    if results.count("failed"):
        lines.append("What failed is tried again by the same command.")
    if unfinished := [str(trial.number) for trial in results.trials if trial.status == "open"]:
        lines.append(
            f"Still with other workers: trial {', '.join(unfinished)}. Where these are gone for good, the same command"
            " takes such trials over; those begun in another folder, with search.adopt=true."
        )
    if (best := results.best) is None:
        return "\n".join([*lines, "No training has come to its end yet."])
    lines += [f"Best: trial {best.number}, {results.search.options.metric} {best.value:.4f}"]
    lines += [f"  {override}" for override in best.overrides]
    lines += [
        f"trained by    {results.command(best)}",
        f"results       {os.path.relpath(results.search.models / best.run)}",
        f"how sure      {results.command(best, 'sweep SEEDS=0..4')}",
        "To keep these settings, write them into configs/, or the page's lines into configs/experiment/<name>.yaml.",
    ]
    return "\n".join(lines)


# --- files


def experiment_yaml(results: Results, best: Trial) -> str:
    """Write a trial's settings, and those of all trainings that count, as a file for configs/experiment/."""
    groups: list[Any] = []
    values = OmegaConf.create()
    for override in [*results.search.overrides, *best.overrides]:
        key, _, text = override.lstrip("+~").partition("=")
        if override.startswith("~") or not counts(override):
            continue
        if any((folder / key).is_dir() for folder in (project().configs, LIBRARY_CONFIGS)):
            groups.append({f"override /{key}": text})
        else:
            OmegaConf.update(values, key, yaml.safe_load(text), force_add=True)
    defaults = yaml.safe_dump({"defaults": groups}, sort_keys=False) if groups else ""
    return f"# @package _global_\n{defaults}{OmegaConf.to_yaml(values) if values else ''}"


def write_table(reports: Path, results: Results) -> Path:
    """Write the table of all trials, with exact numbers, from which `make report` knows them; return its path."""
    reports.mkdir(parents=True, exist_ok=True)
    options, names = results.search.options, list(results.search.space)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(cell, ["trial", "state", options.metric, *names, "run", "weights", "reason"]))
    for trial in results.trials:
        value = "" if trial.value is None else repr(trial.value)
        tried = [trial.settings.get(name, "") for name in names]
        writer.writerow(map(cell, [trial.number, trial.status, value, *tried, trial.run, trial.weights, trial.reason]))
    path = reports / f"{'search' if options.name == 'search' else f'search-{options.name}'}.csv"
    write_atomically(path, text.getvalue().encode())
    return path


def write_search_page(root: Path, results: Results, metadata: Project) -> Path:
    """Write reports/search.html or reports/search-<name>.html, with its table and figures, in the project's folder.

    Returns:
        The page's path. The same trials make the same bytes.
    """
    table = write_table(root / "reports", results)
    folder, page = table.with_suffix(""), table.with_suffix(".html")
    shares = importances(results)
    names = sorted(results.search.space, key=lambda name: (-shares.get(name, 0.0), name))
    figures = [history_figure(results, folder)]
    figures += [importances_figure(shares, folder)] if shares else []
    figures += [setting_figure(results, name, number, folder) for number, name in enumerate(names[:MOST_FIGURES], 1)]
    remove_others(folder, figures)
    write_page(
        page,
        metadata,
        figures,
        template=Path(__file__).with_name("search.html"),
        results=results,
        options=results.search.options,
        best=results.best,
        experiment=experiment_yaml(results, results.best) if results.best else "",
        table=table.name,
        shares=shares,
        enough=ENOUGH,
        reproducibility=reproducibility(results),
        settings=settings(results),
    )
    return page


def settings(results: Results) -> list[tuple[str, str]]:
    """List the settings of the search, but for where it is kept."""
    options: Any = OmegaConf.to_container(results.search.options, resolve=True)
    rows = [(key, str(options[key])) for key in ("name", "trials", "metric", "direction", "seed")]
    for key in ("sampler", "pruner"):
        arguments = ", ".join(f"{name}={value}" for name, value in (options[key] or {}).items() if name != "_target_")
        rows.append((key, f"{options[key]['_target_']}({arguments})" if options[key] else "none"))
    for name, dimension in results.search.space.items():
        distribution: Any = dimension.distribution
        if isinstance(distribution, CategoricalDistribution):
            rows.append((name, ", ".join(map(str, distribution.choices))))
        else:
            step = f", in steps of {distribution.step:g}" if distribution.step else ""
            logarithmic = ", logarithmic" if distribution.log else ""
            rows.append((name, f"{distribution.low:g} to {distribution.high:g}{logarithmic}{step}"))
    return [*rows, ("every training", " ".join(results.search.overrides) or "as configs/ has it")]


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
