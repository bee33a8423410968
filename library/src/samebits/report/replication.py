"""The same procedure on new data: `samebits replicate CONFIG`, or `make replicate DATA=<config>`.

Trains the main run's experiment again, seed by seed, on the data that configs/data/<config>.yaml describes, and puts
the results side by side in reports/replication-<config>.md. The data lies apart, in data/replication/<config>/.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..engine.config import quote
from ..engine.errors import UserError, require_packages
from ..engine.inputs import data_settings, data_sha256, require_prepared
from ..engine.project import project
from ..engine.record import settings_of
from ..fetch import make_available
from ..sweep.plan import compose_run, seeds
from ..sweep.sweep import jobs_at_once, sweep
from ..verify import provenance_diff
from .documents import TEMPLATES, write_document
from .runs import Experiment, differing_settings, group, published, read_runs
from .tables import unpaired


def write_comparison(path: Path, before: Experiment, after: Experiment) -> None:
    """Write the comparison of an experiment with the same procedure on other data as Markdown."""
    differing = [each for each in differing_settings(before.first, after.first) if each[0] != "data.name"]
    write_document(
        path,
        TEMPLATES / "replication.md",
        before=before,
        after=after,
        metrics=[name for name in before.first.metrics if after.values(name)],
        unpaired=unpaired,
        differing=differing,
    )


def original(root: Path, config: str) -> Experiment:
    """Find the experiment of the main run, and require that code and settings here are still its own.

    Raises:
        UserError: there is none, or the procedure here is another one.
    """
    runs, _ = read_runs(root / "models", ["debug-*", "reference-*", f"{config}-*"])
    main = published(root / "models")
    if main is None:
        raise UserError("there is no main run whose procedure could be replicated: make train.")
    experiment = group(runs, main)[0]
    run = next((each for each in experiment.runs if each.id == main), experiment.first)
    changed = provenance_diff.code_differences(run.record) + provenance_diff.settings_differences(run.record)[0]
    if changed:
        raise UserError(
            f"the procedure here is not that of {run.id} ({changed[0][0]} is another one): train the main run"
            " with what is here (make train), or go back to its commit."
        )
    return experiment


def settings_for(experiment: Experiment, config: str) -> list[str]:
    """Make the settings of the replication: those of the experiment, on the new data, under names of its own.

    Raises:
        UserError: configs/data/ has no such file.
    """
    if not (project().configs / "data" / f"{config}.yaml").exists():
        known = ", ".join(sorted(path.stem for path in (project().configs / "data").glob("*.yaml")))
        raise UserError(f"configs/data/{config}.yaml is missing: describe the new data there; there are: {known}.")
    left_out = ("seed=", "data=", "run_name=", "paths.")
    words = [word for word in settings_of(experiment.first.record) or [] if not word.startswith(left_out)]
    folder = f"${{paths.root}}/data/replication/{config}"
    words += [f"data={config}", *(f"paths.{each}={quote(f'{folder}/{each}')}" for each in ("raw", "processed"))]
    name = OmegaConf.to_container(compose_run(words), resolve=False)["run_name"]  # type: ignore[call-overload, index]
    return [*words, f"run_name={quote(f'{config}-{name}')}"]


def require_other_data(cfg: DictConfig, experiment: Experiment) -> None:
    """Refuse to call it a replication where the data are the same.

    Raises:
        UserError: says so.
    """
    inputs, new = experiment.first.record["inputs"], data_settings(cfg)
    files = {each["name"]: each["sha256"] for each in inputs.get("origin", {}).get("files", [])}
    if (new["files"], new["split"]) == (files, inputs["config"].get("data", {}).get("split")):
        raise UserError(
            f"{cfg.data.name} is the data of {experiment.first.id} itself: make reproduce trains that again; for a"
            " replication, describe other data in configs/data/."
        )


def replicate(config: str, chosen: str | None, jobs: int | None, root: Path | None = None) -> Path:
    """Fetch and prepare the new data, train, and write the comparison; return its path.

    Args:
        config: name of a file in configs/data/.
        chosen: seeds, as `0..4`; None for those of the main experiment.
        jobs: runs at once.
        root: the project's folder.

    Raises:
        UserError: the data cannot be had, or the procedure is not the recorded one.
    """
    require_packages("report", "jinja2", "scipy")
    root = root or project().root
    before = original(root, config)
    words = settings_for(before, config)
    cfg = compose_run(words)
    require_other_data(cfg, before)
    make_available(cfg)
    require_prepared(cfg)
    if sweep([*words, seeds(chosen or ",".join(map(str, before.seeds)))], jobs):
        raise UserError("a run failed, so there is nothing to compare yet: mend it, then the same command goes on.")
    data = data_sha256(Path(cfg.paths.processed))
    runs, _ = read_runs(root / "models", [])
    ours = [run for run in runs if run.id.startswith(f"{config}-") and run.record["inputs"]["data"] == data]
    current = [run for run in ours if not provenance_diff.code_differences(run.record)]
    path = root / "reports" / f"replication-{config}.md"
    path.parent.mkdir(exist_ok=True)
    write_comparison(path, before, group(current, None)[0])
    return path


def main(arguments: argparse.Namespace) -> None:
    """Replicate, and print the comparison."""
    os.chdir(project().root)
    path = replicate(arguments.config, arguments.seeds, jobs_at_once(arguments.jobs))
    print(f"\n{path.read_text()}\n({os.path.relpath(path)})")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    text = "Train the main run's experiment on other data, and put the results side by side."
    described = argparse.ArgumentParser(description=text)
    described.add_argument("config", metavar="CONFIG", help="name of a file in configs/data/")
    described.add_argument("--seeds", metavar="0..4", help="other seeds than those of the main experiment")
    described.add_argument("--jobs", metavar="N", help="runs at once (default: as many as cores)")
    return described
