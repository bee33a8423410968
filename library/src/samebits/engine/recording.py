"""What a training writes down about itself, at its start and at its end: record.json."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from . import environment, git_snapshot, record
from .callbacks import ResourceUsage
from .hashing import file_sha256, json_sha256
from .project import project
from .record import HISTORY, RunDirectory
from .resource_usage import now
from .trainer import callbacks_of


def begin_record(run: RunDirectory, cfg: DictConfig) -> None:
    """Write the settings, the inputs and the state of the code."""

    def describe() -> dict[str, object]:
        described = git_snapshot.take_snapshot(project().root, run.id if cfg.snapshot else None, run.directory)
        for name, size in described.get("left_out", {}).items():
            print(
                f"warning: {name} ({size / 1e6:,.0f} MB) is neither committed nor ignored, and too large to be code, so"
                " the record leaves it out: put it into data/external/, or its name into .gitignore.",
                file=sys.stderr,
            )
        return {"tree": json_sha256(run.inputs["code"]), **described, "overrides": overrides()}

    run.start(cfg, describe, now())


def finish_record(
    run: RunDirectory, trainer: pl.Trainer, metrics: dict[str, float], digests: tuple[str, dict[str, str]]
) -> None:
    """Add the environment, the cost and the outputs."""
    modules = environment.loaded_modules()
    outside = environment.outside_files(modules, run.inputs["code"])
    if outside:
        names = ", ".join([*list(outside)[:3], *(["..."] if len(outside) > 3 else [])])
        package = project().package.relative_to(project().root)
        print(
            f"warning: the training loaded {names}, which its imports do not lead to: the record has the hash, but to"
            f" make changes there part of a run's id, move such code into {package}/, and import it by its name.",
            file=sys.stderr,
        )
    weights, tensors = digests
    (compute,) = callbacks_of(trainer, ResourceUsage)
    observed = {
        "status": "finished",
        "ended": now(),
        **compute.observed(trainer),
        "parameters": sum(each.numel() for each in trainer.lightning_module.parameters()),
        "history": file_sha256(run.directory / HISTORY),
    }
    run.finish(
        metrics,
        record.outputs(run.directory, tensors, weights, metrics),
        inputs={"outside": outside},
        environment=environment.describe_environment(modules),
        observed=observed,
    )
    compute.path.unlink(missing_ok=True)


def overrides() -> list[str] | None:
    """Return the words that the command line gave to Hydra; None where there was none, or a run's own config.yaml."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    words: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # as they were typed, ${...} and all
    return list(words) if hydra.job.config_name == "train" else None
