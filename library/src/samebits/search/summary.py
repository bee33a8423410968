"""What a search has found: its trials as values, as sentences, as a table, and the best settings to keep."""

from __future__ import annotations

import csv
import io
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from ..engine.command_line import LIBRARY_CONFIGS, counts
from ..engine.files import write_atomically
from ..engine.hashing import redact
from ..engine.project import project

if TYPE_CHECKING:  # Optuna takes a while to load, and `samebits search --help` does not need it
    from optuna.trial import FrozenTrial

    from .search_config import Search

STATUS = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}  # ours, by Optuna's


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0.
        status: `finished`, `pruned`, `failed`, or `open`: being trained, or cut off.
        value: of the metric; of a pruned trial, its last one; None where there is none.
        settings: that were tried, by name.
        overrides: of its training, those of its settings alone.
        run: the name of its directory in models/.
        weights: sha256 of the finished run's weights.
        validations: how many there were.
        reason: why it failed.
    """

    number: int
    status: str
    value: float | None
    settings: dict[str, Any]
    overrides: list[str]
    run: str
    weights: str
    validations: int
    reason: str


@dataclass(frozen=True)
class Results:
    """All trials of a search.

    Attributes:
        search: its settings.
        trials: by number.
        concurrent: whether workers chose at the same time, so that the choice of settings depended on timing.
        stored: the trials as Optuna has them.
    """

    search: Search
    trials: list[Trial]
    concurrent: bool
    stored: Sequence[FrozenTrial] = field(repr=False)

    @property
    def finished(self) -> list[Trial]:
        """The trials whose training came to its end."""
        return [trial for trial in self.trials if trial.status == "finished"]

    @property
    def best(self) -> Trial | None:
        """The best of them; of equals, the first."""
        sign = -1 if self.search.maximize else 1
        return min(self.finished, key=lambda each: (sign * (each.value or 0.0), each.number), default=None)

    def count(self, status: str) -> int:
        """Count the trials with a status."""
        return sum(trial.status == status for trial in self.trials)

    def command(self, trial: Trial, target: str = "train") -> str:
        """Write the command that trains with a trial's settings."""
        return f"make {target} ARGS={shlex.quote(' '.join([*self.search.overrides, *trial.overrides]))}"

    @property
    def counts(self) -> str:
        """The number of trials, and of each status, in words."""
        counted = [f"{self.count(each)} {each}" for each in (*STATUS.values(), "open") if self.count(each)]
        return f"{len(self.trials)} of {self.search.options.trials} trials" + (": " + ", ".join(counted)) * bool(
            counted
        )


def read_results(search: Search, trials: Sequence[FrozenTrial]) -> Results:
    """Read the trials of a study."""
    return Results(
        search, [_trial(search, each) for each in trials], any(each.user_attrs.get("beside") for each in trials), trials
    )


def _trial(search: Search, stored: FrozenTrial) -> Trial:
    seen, attributes = stored.intermediate_values, stored.user_attrs
    return Trial(
        number=stored.number,
        status=STATUS.get(stored.state.name) or ("failed" if failure_reason(stored) else "open"),
        value=seen[max(seen)] if seen and stored.state.name == "PRUNED" else stored.value,
        settings={key: stored.params[key] for key in search.space if key in stored.params},
        overrides=search.training(stored.params)[len(search.overrides) :],
        run=str(attributes.get("run", "")),
        weights=str(attributes.get("weights", "")),
        validations=len(seen),
        reason=failure_reason(stored),
    )


def failure_reason(trial: FrozenTrial) -> str:
    """Return why a trial's training failed; empty where it did not, or is being tried again."""
    return str(trial.user_attrs.get("reason", ""))


# --- sentences


def introduction(results: Results, workers: int) -> str:
    """Write what is searched, and whether the same search would find the same."""
    options = results.search.options
    storage = redact(options.storage)
    return (
        f"Search {options.name!r} for {options.metric}, kept in {storage}: {results.counts}.\n"
        f"{reproducibility(results, workers)}"
    )


def reproducibility(results: Results, workers: int = 1) -> str:
    """Write whether the same search makes the same trials."""
    if results.concurrent or workers > 1:
        who = f"{workers} workers choose" if workers > 1 else "several workers have chosen"
        return (
            f"Not reproducible as a whole: {who} at the same time, so which settings are tried depends on timing. Each"
            " trial is an ordinary run, and can be trained again bit for bit."
        )
    if not results.search.base.determinism.enabled:
        return "Not reproducible: determinism=off, so a training comes to other values each time."
    return (
        "Reproducible: one worker, so each trial's settings follow from search.seed, its number and the results before"
        " it, however often the search is cut off. Another worker beside it would end that."
    )


def outcome(trial: Trial, results: Results) -> str:
    """Write in one line how a trial ended."""
    if trial.status == "failed":
        return f"trial {trial.number}: FAILED: {trial.reason}"
    value = "" if trial.value is None else f" {results.search.options.metric} {trial.value:.4f}"
    how = f"pruned after {trial.validations} validations at" if trial.status == "pruned" else "finished,"
    return f"trial {trial.number}: {how}{value}; {best_so_far(results)}"


def best_so_far(results: Results) -> str:
    """Name the best trial and its value."""
    best, metric = results.best, results.search.options.metric
    return f"best: trial {best.number}, {metric} {best.value:.4f}" if best else "none finished yet"


def conclusion(results: Results) -> str:
    """Write what was found, what is left, and what to do with it."""
    lines = [f"{results.counts}."]
    lines += [f"FAILED  trial {each.number}: {each.reason}" for each in results.trials if each.status == "failed"]
    if results.count("failed"):
        lines.append("What failed is tried again by the same command.")
    if unfinished := [str(each.number) for each in results.trials if each.status == "open"]:
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
    import yaml

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
    parts = ["# @package _global_\n"]
    parts += [yaml.safe_dump({"defaults": groups}, sort_keys=False)] if groups else []
    parts += [OmegaConf.to_yaml(values)] if values else []
    return "".join(parts)


def write_table(reports: Path, results: Results) -> Path:
    """Write the table of all trials, with exact numbers, from which `make report` knows them; return its path."""
    reports.mkdir(parents=True, exist_ok=True)
    options, names = results.search.options, list(results.search.space)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", options.metric, *names, "run", "weights", "reason"])
    for trial in results.trials:
        value = "" if trial.value is None else repr(trial.value)
        tried = [trial.settings.get(name, "") for name in names]
        writer.writerow([trial.number, trial.status, value, *tried, trial.run, trial.weights, trial.reason])
    path = reports / f"{'search' if options.name == 'search' else f'search-{options.name}'}.csv"
    write_atomically(path, text.getvalue().encode())
    return path
