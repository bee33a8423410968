"""Write the report on all runs: `python -m <package>.report`, or `make report`.

It reads what runs have left, and refuses a run whose files are not those that its record names. report.html, the
figures and the tables are the same bytes for the same results; compute.md, the checklist and the model card tell of the
machines, too.
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from .about import read_project
from .cli import run_with_arguments
from .config import CONFIGS, ROOT
from .reporting.experiments import Experiment, data_sets, group
from .reporting.notes import notes
from .reporting.runs import FinishedRun, published, read_runs
from .reporting.searches import candidates, page_of, runs_of_searches
from .reporting.settings import check_metrics, find_baseline, read_settings


def report(root: Path, settings: DictConfig) -> list[Experiment]:
    """Write all files of the report.

    Args:
        root: the project's folder, or one like it.
        settings: as configs/report.yaml.

    Returns:
        The experiments that it shows.

    Raises:
        UserError: a run's files are not what its record says, or there is no run.
    """
    models, folder = root / "models", root / "reports"
    runs, unfinished = read_runs(models, settings.exclude)
    project = read_project(root)
    main = published(models)
    experiments = group(runs, main)
    tried = candidates(experiments, runs_of_searches(folder), main, settings.baseline)
    aside = {run.id for each in tried for run in each.runs}
    experiments = group([run for run in runs if run.id not in aside], main)
    baseline = find_baseline(experiments, settings.baseline)
    comparable = [each for each in experiments if each is not baseline and each.same_data(baseline)]
    check_metrics(settings, experiments)
    metrics = list(settings.metrics)
    # here, because they load matplotlib and NumPy
    from .reporting import figures
    from .reporting.card import write_card
    from .reporting.checklist import write_checklist
    from .reporting.classification import confusion, errors
    from .reporting.costs import write_costs
    from .reporting.page import comparisons, estimates, write_page
    from .reporting.tables import write_csv, write_latex

    drawings, main_run = folder / "figures", main_of(experiments[0], main)
    mistakes, why_not = errors(main_run, settings.errors, root / "data/processed", drawings)
    drawn = [
        figures.seeds(experiments, settings.metric, drawings),
        *(figures.curves(experiments, metric, drawings) for metric in settings.curves),
        confusion(experiments[0], settings.classes, drawings),
        mistakes,
        figures.differences(baseline, comparable, settings.metric, drawings),
    ]
    remove_others(drawings, {each.name for each in drawn if each})
    cost = write_costs(folder, [*experiments, *tried], unfinished)
    write_csv(folder / "results.csv", experiments)
    write_latex(folder / "results.tex", experiments, metrics)
    write_checklist(folder / "checklist.md", experiments, metrics, cost, project, root)
    write_card(folder / "model-card.md", project, experiments[0], main_run, metrics, root)
    write_page(
        folder / "report.html",
        project,
        drawn,
        metric=settings.metric,
        metrics=metrics,
        headline=estimates(experiments[0], [settings.metric])[settings.metric],
        experiments=experiments,
        several=any(len(each.runs) > 1 for each in experiments),
        tried=tried,
        page_of=partial(page_of, folder),
        baseline=baseline,
        compared=comparisons(baseline, comparable, metrics),
        notes=[*notes(experiments, baseline), *([why_not] if why_not else [])],
        origins=data_sets(experiments),
    )
    return experiments


def main_of(experiment: Experiment, main: str | None) -> FinishedRun:
    """Find the main run, by its id, in its experiment; the first one where it is not there."""
    return next((run for run in experiment.runs if run.id == main), experiment.first)


def remove_others(folder: Path, names: set[str]) -> None:
    """Remove figures of an earlier report that this one does not have."""
    for path in [*folder.glob("*.svg"), *folder.glob("*.png")]:
        if path.stem not in names:
            path.unlink()


def main(arguments: argparse.Namespace) -> None:
    """Write the report, and say where it is and what it tells."""
    os.chdir(ROOT)
    settings = read_settings(CONFIGS / "report.yaml", arguments.settings)
    experiments = report(ROOT, settings)
    from .reporting.page import estimates

    for each in experiments:
        found = ", ".join(f"{name} {value}" for name, value in estimates(each, [settings.metric]).items())
        print(f"{each.name}: {len(each.runs)} {'seeds' if len(each.runs) > 1 else 'seed'}, {found}")
    print("reports/report.html: open it in a browser; beside it figures/, results.csv, results.tex, compute.md,")
    print("checklist.md and model-card.md")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        prog="python -m <package>.report",
        description="Write reports/report.html, with figures and tables, on all runs in models/.",
    )
    described.add_argument("settings", nargs="*", metavar="key=value", help="instead of what configs/report.yaml says")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
