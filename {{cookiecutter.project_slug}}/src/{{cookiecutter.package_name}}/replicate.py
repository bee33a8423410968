"""The same procedure on new data: `python -m <package>.replicate CONFIG`, or `make replicate DATA=<config>`.

Trains the main run's experiment again, seed by seed, on the data that configs/data/<config>.yaml describes, and puts
the results side by side in reports/replication-<config>.md. The data lies apart, in data/replication/<config>/.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from .cli import run_with_arguments
from .config import CONFIGS, ROOT, quote
from .data.available import make_available
from .data.prepared import require_prepared, settings
from .errors import UserError
from .reporting.experiments import Experiment, group
from .reporting.replication import side_by_side
from .reporting.runs import published, read_runs
from .repro.files import write_atomically
from .repro.inputs import data_sha256
from .repro.record import settings_of
from .sweep import jobs_at_once, sweep
from .sweeping.combinations import composed, seeds
from .verdicts import here


def original(root: Path, config: str) -> Experiment:
    """Find the experiment of the main run, and require that code and settings here are still its own.

    Raises:
        UserError: there is none, or the procedure here is another one.
    """
    runs, _ = read_runs(root / "models", ["debug-*", "reference-*", f"{config}-*"])
    main = published(root / "models")
    if main is None:
        raise UserError("there is no main run whose procedure could be replicated: make train.")
    found = group(runs, main)[0]
    settings, _ = here.settings_differences(found.first.record)
    changed = here.code_differences(found.first.record) + settings
    if changed:
        raise UserError(
            f"the procedure here is not that of {found.first.id} ({changed[0][0]} is another one): train the main run"
            " with what is here (make train), or go back to its commit."
        )
    return found


def words_for(experiment: Experiment, config: str) -> list[str]:
    """Make the settings of the replication: those of the experiment, on the new data, under names of its own.

    Raises:
        UserError: configs/data/ has no such file.
    """
    if not (CONFIGS / "data" / f"{config}.yaml").exists():
        known = ", ".join(sorted(path.stem for path in (CONFIGS / "data").glob("*.yaml")))
        raise UserError(f"configs/data/{config}.yaml is missing: describe the new data there; there are: {known}.")
    said = settings_of(experiment.first.record) or []
    words = [word for word in said if not word.startswith(("seed=", "data=", "run_name=", "paths."))]
    folder = f"${{paths.root}}/data/replication/{config}"
    words += [
        f"data={config}",
        f"paths.raw={quote(f'{folder}/raw')}",
        f"paths.processed={quote(f'{folder}/processed')}",
    ]
    name = OmegaConf.to_container(composed(words), resolve=False)["run_name"]  # type: ignore[call-overload, index]
    return [*words, f"run_name={quote(f'{config}-{name}')}"]


def require_other_data(cfg: DictConfig, experiment: Experiment) -> None:
    """Refuse to call it a replication where the data are the same.

    Raises:
        UserError: says so.
    """
    inputs = experiment.first.record["inputs"]
    files = {each["name"]: each["sha256"] for each in inputs.get("origin", {}).get("files", [])}
    new = settings(cfg)
    if (new["files"], new["split"]) == (files, inputs["config"].get("data", {}).get("split")):
        raise UserError(
            f"{cfg.data.name} is the data of {experiment.first.id} itself: make reproduce trains that again; for a"
            " replication, describe other data in configs/data/."
        )


def replicate(config: str, chosen: str | None, jobs: int | None, root: Path = ROOT) -> Path:
    """Fetch and prepare the new data, train, and write the comparison; return its path.

    Args:
        config: name of a file in configs/data/.
        chosen: seeds, as `0..4`; None for those of the main experiment.
        jobs: runs at once.
        root: the project's folder.

    Raises:
        UserError: the data cannot be had, or the procedure is not the recorded one.
    """
    before = original(root, config)
    words = words_for(before, config)
    cfg = composed(words)
    require_other_data(cfg, before)
    make_available(cfg)
    require_prepared(cfg)
    if sweep([*words, seeds(chosen or ",".join(map(str, before.seeds)))], jobs):
        raise UserError("a run failed, so there is nothing to compare yet: mend it, then the same command goes on.")
    data = data_sha256(Path(cfg.paths.processed))
    runs, _ = read_runs(root / "models", [])
    ours = [run for run in runs if run.id.startswith(f"{config}-") and run.record["inputs"]["data"] == data]
    after = next(each for each in group(ours, None) if not here.code_differences(each.first.record))
    path = root / "reports" / f"replication-{config}.md"
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, side_by_side(before, after).encode())
    return path


def main(arguments: argparse.Namespace) -> None:
    """Replicate, and print the comparison."""
    os.chdir(ROOT)
    path = replicate(arguments.config, arguments.seeds, jobs_at_once(arguments.jobs))
    print(f"\n{path.read_text()}\n({os.path.relpath(path)})")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        prog="python -m <package>.replicate",
        description="Train the main run's experiment on other data, and put the results side by side.",
    )
    described.add_argument("config", metavar="CONFIG", help="name of a file in configs/data/")
    described.add_argument("--seeds", metavar="0..4", help="other seeds than those of the main experiment")
    described.add_argument("--jobs", metavar="N", help="runs at once (default: as many as cores)")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
