"""Write the report on all runs: `samebits report`, or `make report`.

It reads what runs have left, and refuses a run whose files are not those that its record names. report.html, the
figures and the tables are the same bytes for the same results; compute.md, the checklist and the model card tell of the
machines, too.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..engine.errors import UserError, require_packages
from ..engine.project import project
from .documents import data_sets, read_project, write_checklist, write_model_card, write_page
from .runs import SAME, Experiment, FinishedRun, group, published, read_runs, read_table, same_inputs
from .tables import compare, costs, estimates, write_costs, write_csv, write_latex

if TYPE_CHECKING:
    from .figures import Figure, Panel

NAME = "configs/report.yaml"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "metric": (lambda value: isinstance(value, str), "the name of a metric"),
    "metrics": (_texts, "a list of metrics, in brackets"),
    "curves": (_texts, "a list of metrics, in brackets"),
    "exclude": (_texts, "a list of patterns, in brackets"),
    "baseline": (lambda value: value is None or isinstance(value, str), "the name of an experiment, or null"),
    "classes": (lambda value: value is None or isinstance(value, list), "a list of names in brackets, or null"),
    "panels": (_texts, "a list of functions by their full names, in brackets"),
    "errors": (lambda value: type(value) is int and value >= 0, "a whole number of at least 0"),
}


def read_settings(path: Path, words: Sequence[str]) -> DictConfig:
    """Read the file, with changes from the command line.

    Raises:
        UserError: a setting is unknown, missing or of the wrong kind, or the file is damaged.
    """
    try:
        settings = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(list(words)))
        assert isinstance(settings, DictConfig)
        values: Any = OmegaConf.to_container(settings, resolve=True)
    except (YAMLError, OmegaConfBaseException, AssertionError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason}): mend it, or take it from Git.") from error
    unknown, missing = sorted(values.keys() - RULES.keys()), sorted(RULES.keys() - values.keys())
    if unknown or missing:
        wrong = f"does not know {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise UserError(f"{NAME} {wrong}: its settings are {', '.join(RULES)}.")
    for key, (accepts, wanted) in RULES.items():
        if not accepts(values[key]):
            raise UserError(f"{NAME}: {key} is {values[key]!r}, but must be {wanted}: mend that line.")
    return settings


def check_metrics(settings: DictConfig, experiments: Sequence[Experiment]) -> None:
    """Refuse metrics that no run has.

    Raises:
        UserError: names it, and those that there are.
    """
    metric, first = settings.metric, experiments[0].first
    if metric not in first.metrics:
        names = ", ".join(first.metrics)
        raise UserError(f"{NAME}: metric is {metric!r}, which {first.id} does not have: choose from {names}.")
    runs = [run for each in experiments for run in each.runs]
    known = {"metrics": {name for run in runs for name in run.metrics}}
    known["curves"] = {name for run in runs for name in run.curves} or set(settings.curves)  # no history is here
    for key, there in known.items():
        if strange := [name for name in settings[key] if name not in there]:
            choice = ", ".join(sorted(there))
            raise UserError(f"{NAME}: {key} has {strange[0]!r}, which no run has: choose from {choice}.")


def find_baseline(experiments: Sequence[Experiment], name: str | None) -> Experiment:
    """Find the experiment that others are compared with: the named one, or the main run's.

    Raises:
        UserError: there is none of this name.
    """
    found = [each for each in experiments if name is None or each.name == name]
    if not found:
        names = ", ".join(repr(each.name) for each in experiments)
        raise UserError(f"{NAME}: baseline is {name!r}, but the experiments are {names}: choose one of them.")
    return found[0]


def find_panel(name: str) -> Callable[[Panel], Figure | None]:
    """Find the function that draws a panel, by its full name.

    Raises:
        UserError: there is none.
    """
    from hydra.utils import get_method

    try:
        return get_method(name)
    except (ImportError, ValueError) as error:
        reason = str(error).splitlines()[-1].rstrip(".")
        raise UserError(
            f"{NAME}: the panel {name} cannot be loaded ({reason}): correct its name, or leave it out."
        ) from error


def runs_of_searches(reports: Path) -> dict[str, str]:
    """Read from the tables of all searches which runs were trials: the run's id, and the name of the search's files."""
    found: dict[str, str] = {}
    for path in sorted(reports.glob("search*.csv")):
        for row in read_table(path):
            if row.get("run"):
                found.setdefault(row["run"], path.stem)
    return found


def candidates(
    experiments: Sequence[Experiment], trials: dict[str, str], main: str | None, baseline: str | None
) -> list[Experiment]:
    """Gather the experiments that are trials and nothing else, into one for each search.

    One that has seeds beside the search, or is the main run's or the baseline, is a result.

    Args:
        experiments: all.
        trials: from `runs_of_searches`.
        main: id of the main run.
        baseline: name of the baseline, if configs/report.yaml names one.

    Returns:
        Experiments named after the search's page; empty where no others would be left.
    """
    gathered: dict[str, list[FinishedRun]] = {}
    for each in experiments:
        runs = [*each.runs, *each.repeats]
        if each.name != baseline and all(run.id in trials and run.id != main for run in runs):
            gathered.setdefault(trials[runs[0].id], []).extend(runs)
    if sum(map(len, gathered.values())) == sum(len(each.runs) + len(each.repeats) for each in experiments):
        return []
    return [
        Experiment(sorted(gathered[name], key=lambda run: run.id), name=f"tried in {name}") for name in sorted(gathered)
    ]


def caveats(experiments: Sequence[Experiment], baseline: Experiment) -> list[str]:
    """List what a reader must know besides the numbers: repeats, other data, other code, what marks in names mean."""
    procedure = [part for part in SAME if part != "data"]
    found = [sentence for each in experiments for sentence in repeats(each)]
    for each in experiments:
        if not each.same_data(baseline):
            found.append(f"{each.name} was trained and tested on other data than {baseline.name}, so is not compared.")
        elif not same_inputs(each.first, baseline.first, procedure):
            found.append(
                f"{each.name} was trained with other code or packages than {baseline.name}: a difference between the"
                " two may be due to these."
            )
    if any(re.search(rf" ({'|'.join(SAME)}):", each.name) for each in experiments):
        found.append(
            "code:… and the like in a name are the first digits of the hash of what tells it from its namesakes."
        )
    return found


def repeats(experiment: Experiment) -> list[str]:
    """Say which runs had the same inputs or the same result as others, and whether they came to the same."""
    counted = {run.seed: run for run in experiment.runs}
    others = [run for run in experiment.runs + experiment.repeats if not same_inputs(run, experiment.first, SAME)]
    again = [run for run in experiment.repeats if same_inputs(run, counted[run.seed], SAME)]
    found = [
        f"{run.id} had the same inputs as {counted[run.seed].id}, and came to other weights:"
        f" make compare A=models/{counted[run.seed].id} B=models/{run.id} says where they part."
        for run in again
        if run.weights != counted[run.seed].weights
    ]
    if same := [run.id for run in again if run.weights == counted[run.seed].weights]:
        found.append(
            f"Trained once more with the same inputs, to the same weights, and counted once: {', '.join(same)}."
        )
    if others:
        found.append(
            f"Trained with other code or packages than {experiment.first.id}, but to the same weights and metrics in"
            " every seed that was trained with both, so one experiment, in which each seed counts once:"
            f" {', '.join(run.id for run in others)}."
        )
    return found


def report(root: Path, settings: DictConfig) -> list[Experiment]:
    """Write all files of the report.

    Args:
        root: the project's folder, or one like it.
        settings: as configs/report.yaml.

    Returns:
        The experiments that it shows.

    Raises:
        UserError: a run's files are not what its record says, there is no run, or packages are missing.
    """
    require_packages("report", "jinja2", "matplotlib", "scipy")
    models, folder = root / "models", root / "reports"
    runs, unfinished = read_runs(models, settings.exclude)
    metadata, main = read_project(root), published(models)
    experiments = group(runs, main)
    tried = candidates(experiments, runs_of_searches(folder), main, settings.baseline)
    aside = {run.id for each in tried for run in each.runs}
    experiments = group([run for run in runs if run.id not in aside], main)
    baseline = find_baseline(experiments, settings.baseline)
    comparable = [each for each in experiments if each is not baseline and each.same_data(baseline)]
    check_metrics(settings, experiments)
    metrics = list(settings.metrics)
    from . import figures  # here, because panels load NumPy

    drawings, of_main = folder / "figures", experiments[0]
    main_run = next((run for run in of_main.runs if run.id == main), of_main.first)
    panel = figures.Panel(of_main, main_run, settings, root / "data/processed", drawings, [])
    drawn = [
        figures.seeds(experiments, settings.metric, drawings),
        *(figures.curves(experiments, metric, drawings) for metric in settings.curves),
        *(find_panel(name)(panel) for name in settings.panels),
        figures.differences(baseline, comparable, settings.metric, drawings),
    ]
    figures.remove_others(drawings, drawn)
    spent = costs([*experiments, *tried], unfinished)
    figures.draw_costs(spent, folder)
    write_costs(folder / "compute.md", spent, [*experiments, *tried], unfinished)
    write_csv(folder / "results.csv", experiments)
    write_latex(folder / "results.tex", experiments, metrics)
    write_checklist(folder / "checklist.md", metadata, experiments, metrics, spent, root)
    write_model_card(folder / "model-card.md", metadata, of_main, main_run, metrics, root)
    compared = [compare(baseline, each, metric) for each in comparable for metric in metrics]
    write_page(
        folder / "report.html",
        metadata,
        drawn,
        metric=settings.metric,
        metrics=metrics,
        headline=estimates(of_main, [settings.metric])[settings.metric],
        experiments=experiments,
        several=any(len(each.runs) > 1 for each in experiments),
        tried=tried,
        page_of=lambda name: f"{name}.html" if (folder / f"{name}.html").exists() else f"{name}.csv",
        baseline=baseline,
        compared=[each for each in compared if each],
        caveats=[*caveats(experiments, baseline), *panel.notes],
        origins=data_sets(experiments),
    )
    return experiments


def main(arguments: argparse.Namespace) -> None:
    """Write the report, and say where it is and what it tells."""
    os.chdir(project().root)
    settings = read_settings(project().configs / "report.yaml", arguments.settings)
    for each in report(project().root, settings):
        found = ", ".join(f"{name} {value}" for name, value in estimates(each, [settings.metric]).items())
        print(f"{each.name}: {len(each.runs)} {'seeds' if len(each.runs) > 1 else 'seed'}, {found}")
    print("reports/report.html: open it in a browser; beside it figures/, results.csv, results.tex, compute.md,")
    print("checklist.md and model-card.md")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    text = "Write reports/report.html, with figures and tables, on all runs in models/."
    described = argparse.ArgumentParser(description=text)
    described.add_argument("settings", nargs="*", metavar="key=value", help="instead of what configs/report.yaml says")
    return described
