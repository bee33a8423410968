"""The report on all runs, `samebits report`, and the same procedure on new data, `samebits replicate CONFIG`.

A report reads what runs have left, and refuses a run whose files are not those that its record names. report.html, the
figures and the tables are the same bytes for the same results; compute.md, the checklist and the model card tell of the
machines, too. A replication trains the main run's experiment again, seed by seed, on the data that
configs/data/<config>.yaml describes, and puts the results side by side in reports/replication-<config>.md.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..engine.config import quote
from ..engine.errors import UserError, require_packages
from ..engine.inputs import data_folder, data_settings, data_sha256, require_prepared, section
from ..engine.project import project
from ..engine.record import CONFIG, settings_of
from ..engine.untrusted import read_yaml
from ..fetch import make_available, require_names
from ..sweep.plan import compose_run, seeds
from ..sweep.sweep import jobs_at_once, sweep
from ..verify import provenance_diff
from ..verify.touched import unrecorded_answers
from . import documents, figures
from .documents import TEMPLATES, write_document
from .runs import SAME, Experiment, differing_settings, group, published, read_runs, read_table, same_data, same_inputs
from .tables import UNFINISHED, Comparison, compare, costs, estimates, unpaired, write_csv

NAME = figures.CONFIG
OVER_FOLDS = (
    "Folds: each fold counts as the mean of its seeds. Since their training sets overlap, their mean spreads more than"
    " Student's t says: the interval is that of the corrected resampled t-test, with the variance 1/J + n_test/n_train,"
    " instead of 1/J, times that of the J folds, where n_train counts all samples learned from, validation included."
    ' Source: Nadeau and Bengio (2003), "Inference for the Generalization Error", Machine Learning 52.'
)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _panels(value: Any) -> bool:
    entries = value.values() if isinstance(value, dict) else [value]
    return all(each is None or (isinstance(each, dict) and isinstance(each.get("_target_"), str)) for each in entries)


RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "metric": (lambda value: isinstance(value, str), "the name of a metric"),
    "metrics": (_texts, "a list of metrics, in brackets"),
    "curves": (_texts, "a list of metrics, in brackets"),
    "exclude": (_texts, "a list of patterns, in brackets"),
    "baseline": (lambda value: value is None or isinstance(value, str), "the name of an experiment, or null"),
    "panels": (_panels, "a group of panels, each with its function as _target_, or null"),
    "per_fold": (lambda value: isinstance(value, bool), "true or false"),
    "other_data": (lambda value: isinstance(value, bool), "true or false"),
}


def read_settings(path: Path, overrides: Sequence[str]) -> DictConfig:
    """Read configs/report.yaml, with overrides; a UserError where a setting is unknown, missing or of a wrong kind."""
    try:
        defaults = {"per_fold": False, "other_data": False}
        settings = OmegaConf.merge(defaults, OmegaConf.load(path), OmegaConf.from_dotlist(list(overrides)))
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
    """Refuse metrics that no run has; the UserError lists those that there are."""
    metric, first = settings.metric, experiments[0].first
    if metric not in first.metrics:
        names = ", ".join(first.metrics)
        raise UserError(f"{NAME}: metric is {metric!r}, which {first.id} does not have: choose from {names}.")
    runs = [run for experiment in experiments for run in experiment.runs]
    curves = {name for run in runs for name in run.curves} or set(settings.curves)  # no history is here
    for key, there in {"metrics": {name for run in runs for name in run.metrics}, "curves": curves}.items():
        if strange := [name for name in settings[key] if name not in there]:
            choice = ", ".join(sorted(there))
            raise UserError(f"{NAME}: {key} has {strange[0]!r}, which no run has: choose from {choice}.")


def find_baseline(experiments: Sequence[Experiment], name: str | None) -> Experiment:
    """Find the experiment that others are compared with: the named one, else a UserError, or the main run's."""
    found = [experiment for experiment in experiments if name is None or experiment.name == name]
    if not found:
        names = ", ".join(repr(experiment.name) for experiment in experiments)
        raise UserError(f"{NAME}: baseline is {name!r}, but the experiments are {names}: choose one of them.")
    return found[0]


def counterpart(experiment: Experiment, baseline: Experiment, experiments: Sequence[Experiment]) -> Experiment:
    """Find what an experiment is compared with: the baseline, or where folds tell them apart, what has the same folds.

    Of several such, it is the one with the baseline's settings, or else the first.
    """
    alike = [each for each in (baseline, *experiments) if each.splitting == experiment.splitting]

    def settings_differ(other: Experiment) -> bool:
        return any("folds" not in key.split(".") for key, _, _ in differing_settings(other.first, baseline.first))

    return min(alike, key=settings_differ)


def comparisons(pairs: Sequence[tuple[Experiment, Experiment]], metrics: Sequence[str]) -> list[Comparison]:
    """Compare the second of each pair of experiments with the first, metric by metric, where both have runs for it."""
    return [found for one, other in pairs for metric in metrics if (found := compare(one, other, metric))]


def runs_of_searches(reports: Path) -> dict[str, str]:
    """Read from the tables of all searches which runs were trials: the run's id, and the name of the search's files."""
    paths = sorted(reports.glob("search*.csv"), reverse=True)  # a run of several searches is a trial of the first
    return {row["run"]: path.stem for path in paths for row in read_table(path) if row.get("run")}


def candidates(
    experiments: Sequence[Experiment], trials: dict[str, str], main: str | None, baseline: str | None
) -> list[Experiment]:
    """Gather the experiments that are trials and nothing else, into one for each search.

    One that has seeds beside the search, or is the main run's or the baseline, is a result. Those returned are named
    after the search's page; there are none where no others would be left. `trials` are from `runs_of_searches`.
    """
    found: dict[str, Experiment] = {}
    others = False
    for experiment in experiments:
        runs = [*experiment.runs, *experiment.repeats]
        if experiment.name != baseline and all(run.id in trials and run.id != main for run in runs):
            name = f"tried in {trials[runs[0].id]}"
            found.setdefault(name, Experiment([], name)).runs.extend(runs)
        else:
            others = True
    for experiment in found.values():
        experiment.runs.sort(key=lambda run: run.id)
    return [found[name] for name in sorted(found)] if others else []


def caveats(experiments: Sequence[Experiment], baseline: Experiment) -> list[str]:
    """List what a reader must know besides the numbers: repeats, other data, other code, what marks in names mean."""
    procedure = [part for part in SAME if part != "data"]
    found = [sentence for experiment in experiments for sentence in repeats(experiment)]
    for experiment in experiments:
        name = experiment.name
        for sentence in dict.fromkeys(each for run in experiment.runs for each in unrecorded_answers(run.record)):
            found.append(f"{name}: {sentence}.")
        if not same_inputs(experiment.first, baseline.first, ["data"]):
            found.append(f"{name} was trained and tested on other data than {baseline.name}, so is not compared.")
        elif not same_inputs(experiment.first, baseline.first, procedure):
            found.append(
                f"{name} was trained with other code or packages than {baseline.name}: a difference between the two may"
                " be due to these."
            )
    for experiment in experiments:
        count = experiment.folds[0].of if experiment.folds else 0
        if len(experiment.runs) < count * len(experiment.seeds):
            found.append(f"{experiment.name} has {experiment.extent}: make sweep FOLDS={count} trains what is missing.")
    found += [OVER_FOLDS] if any(experiment.folds for experiment in experiments) else []
    if any(re.search(rf" ({'|'.join(SAME)}):", experiment.name) for experiment in experiments):
        found.append(
            "code:… and the like in a name are the first digits of the hash of what tells it from its namesakes."
        )
    return found


def repeats(experiment: Experiment) -> list[str]:
    """Say which runs had the same inputs or the same result as others, and whether their weights are the same."""
    counted = {run.key: run for run in experiment.runs}
    others = [run for run in experiment.runs + experiment.repeats if not same_inputs(run, experiment.first, SAME)]
    again = [run for run in experiment.repeats if same_inputs(run, counted[run.key], SAME)]
    found = [
        f"{run.id} had the same inputs as {counted[run.key].id}, and came to other weights:"
        f" make compare A=models/{counted[run.key].id} B=models/{run.id} says where they part."
        for run in again
        if run.weights != counted[run.key].weights
    ]
    if same := [run.id for run in again if run.weights == counted[run.key].weights]:
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
    """Write all files of the report on the project in `root`; return the experiments that it shows.

    Raises:
        UserError: a run's files are not what its record says, there is no run, or packages are missing.
    """
    require_packages("report", "jinja2", "matplotlib", "scipy")
    models, folder = root / "models", root / "reports"
    runs, unfinished = read_runs(models, settings.exclude)
    metadata, main = documents.read_project(root), published(models)
    runs, elsewhere = (runs, []) if settings.other_data else same_data(runs, main)
    experiments = group(runs, main)
    tried = candidates(experiments, runs_of_searches(folder), main, settings.baseline)
    aside = {run.id for experiment in tried for run in experiment.runs}
    experiments = group([run for run in runs if run.id not in aside], main)
    baseline = find_baseline(experiments, settings.baseline)
    pairs = [(counterpart(other, baseline, experiments), other) for other in experiments]
    pairs = [(one, other) for one, other in pairs if one is not other and same_inputs(one.first, other.first, ["data"])]
    check_metrics(settings, experiments)
    metrics, drawings, of_main = list(settings.metrics), folder / "figures", experiments[0]
    main_run = next((run for run in of_main.runs if run.id == main), of_main.first)
    data = data_folder(DictConfig(OmegaConf.create(read_yaml(main_run.directory / CONFIG))), root)
    panel = figures.Panel(of_main, main_run, settings, data, drawings, [])
    of_panels = figures.draw_panels(panel)
    drawn = [
        figures.seeds(experiments, settings.metric, drawings),
        *(figures.curves(experiments, metric, drawings) for metric in settings.curves),
        *of_panels,
        figures.differences(comparisons(pairs, [settings.metric]), settings.metric, drawings),
    ]
    figures.remove_others(drawings, drawn)
    spent = costs([*experiments, *tried], unfinished)
    figures.draw_costs(spent, folder)
    shared: dict[str, Any] = {"experiments": experiments, "metrics": metrics, "costs": spent}
    shared["machines"] = "; ".join(sorted({name for cost in spent for name in cost.machines}))
    observed = [(run.id, run.record["observed"]) for each in (*experiments, *tried) for run in each.runs + each.repeats]
    observed += [(name, {**seen, "ended": UNFINISHED}) for name, seen in unfinished.items()]
    write_document(folder / "compute.md", TEMPLATES / "compute.md", runs=observed, **shared)
    write_csv(folder / "results.csv", experiments)
    write_document(folder / "results.tex", TEMPLATES / "results.tex", **shared)
    documents.write_checklist(folder / "checklist.md", root, project=metadata, unfinished=bool(unfinished), **shared)
    documents.write_model_card(folder / "model-card.md", metadata, of_main, main_run, metrics, root)
    documents.write_page(
        folder / "report.html",
        metadata,
        drawn,
        TEMPLATES / "page.html",
        metric=settings.metric,
        headline=estimates(of_main, [settings.metric])[settings.metric],
        several=any(len(experiment.runs) > 1 for experiment in experiments),
        panels=[figure.name for figure in of_panels],
        tried=tried,
        page_of=lambda name: f"{name}.html" if (folder / f"{name}.html").exists() else f"{name}.csv",
        compared=comparisons(pairs, metrics),
        of_folds=any(each.folds for each in experiments),
        rows=[row for each in experiments for row in (each, *(each.of_folds() if settings.per_fold else []))],
        caveats=[*caveats(experiments, baseline), *documents.changed_card(main_run, root), *panel.notes, *elsewhere],
        origins=documents.data_sets(experiments, root),
        **shared,
    )
    print(*elsewhere, sep="\n", end="\n" * len(elsewhere))
    return experiments


def main(arguments: argparse.Namespace) -> None:
    """Write the report, and print where it is and its main numbers."""
    os.chdir(project().root)
    settings = read_settings(project().configs / "report.yaml", arguments.settings)
    for experiment in report(project().root, settings):
        found = ", ".join(f"{name} {value}" for name, value in estimates(experiment, [settings.metric]).items())
        print(f"{experiment.name}: {experiment.extent}, {found}")
    print("reports/report.html: open it in a browser; beside it figures/, results.csv, results.tex, compute.md,")
    print("checklist.md and model-card.md")


def parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits report`."""
    text = "Write reports/report.html, with figures and tables, on all runs in models/."
    described = argparse.ArgumentParser(description=text)
    described.add_argument("settings", nargs="*", metavar="key=value", help="instead of what configs/report.yaml says")
    return described


# --- the same procedure on new data


def original(root: Path, config: str) -> Experiment:
    """Find the experiment of the main run; a UserError where code or settings here are no longer its own."""
    runs, _ = read_runs(root / "models", ["debug-*", "reference-*", f"{config}-*"])
    main = published(root / "models")
    if main is None:
        raise UserError("there is no main run whose procedure could be replicated: make train.")
    experiment = group(runs, main)[0]
    if experiment.folds:
        raise UserError("the main run is one fold of several, and a replication is of seeds: make train without folds.")
    run = next((run for run in experiment.runs if run.id == main), experiment.first)
    changed = provenance_diff.code_differences(run.record) + provenance_diff.settings_differences(run.record)[0]
    if changed:
        raise UserError(
            f"the procedure here is not that of {run.id} ({changed[0][0]} is another one): train the main run"
            " with what is here (make train), or go back to its commit."
        )
    return experiment


def settings_for(experiment: Experiment, config: str) -> list[str]:
    """Make the overrides of the replication: those of the experiment, on the new data, under names of their own."""
    if not (project().configs / "data" / f"{config}.yaml").exists():
        known = ", ".join(sorted(path.stem for path in (project().configs / "data").glob("*.yaml")))
        raise UserError(f"configs/data/{config}.yaml is missing: describe the new data there; there are: {known}.")
    require_names()
    left_out = ("seed=", "data=", "run_name=", "paths.")
    overrides = [word for word in settings_of(experiment.first.record) or [] if not word.startswith(left_out)]
    overrides.append(f"data={config}")
    name = OmegaConf.to_container(compose_run(overrides), resolve=False)["run_name"]  # type: ignore[call-overload, index]
    return [*overrides, f"run_name={quote(f'{config}-{name}')}"]


def replicate_main(arguments: argparse.Namespace) -> None:
    """Fetch and prepare the new data, train, and write and print the comparison."""
    require_packages("report", "jinja2", "scipy")
    root, config, jobs = project().root, arguments.config, jobs_at_once(arguments.jobs)
    os.chdir(root)
    before = original(root, config)
    overrides = settings_for(before, config)
    cfg = compose_run(overrides)
    inputs, new = before.first.record["inputs"], data_settings(cfg)
    files = {file["name"]: file["sha256"] for file in inputs.get("origin", {}).get("files", [])}
    if (new["files"], new["split"]) == (files, section(inputs["config"], "data").get("split")):
        raise UserError(
            f"{cfg.data.name} is the data of {before.first.id} itself: make reproduce trains that again; for a"
            " replication, describe other data in configs/data/."
        )
    make_available(cfg)
    require_prepared(cfg)
    if sweep([*overrides, seeds(arguments.seeds or ",".join(map(str, before.seeds)))], jobs):
        raise UserError("a run failed, so there is nothing to compare yet: mend it, then the same command goes on.")
    data = data_sha256(data_folder(cfg))
    runs, _ = read_runs(root / "models", [])
    ours = [run for run in runs if run.id.startswith(f"{config}-") and run.record["inputs"]["data"] == data]
    current = [run for run in ours if not provenance_diff.code_differences(run.record)]
    path = root / "reports" / f"replication-{config}.md"
    path.parent.mkdir(exist_ok=True)
    after = group(current, None)[0]
    write_document(
        path,
        TEMPLATES / "replication.md",
        before=before,
        after=after,
        metrics=[name for name in before.first.metrics if after.values(name)],
        unpaired=unpaired,
        differing=[row for row in differing_settings(before.first, after.first) if row[0] != "data.name"],
    )
    print(f"\n{path.read_text()}\n({os.path.relpath(path)})")


def replicate_parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits replicate`."""
    text = "Train the main run's experiment on other data, and put the results side by side."
    described = argparse.ArgumentParser(description=text)
    described.add_argument("config", metavar="CONFIG", help="name of a file in configs/data/")
    described.add_argument("--seeds", metavar="0..4", help="other seeds than those of the main experiment")
    described.add_argument("--jobs", metavar="N", help="runs at once (default: as many as cores)")
    return described
