"""Train a model: `python -m <package>.train [key=value ...]`, or `make train`.

From top to bottom: check the settings, find the run that they belong to, pin what must not vary, train, test, save.
"""

from __future__ import annotations

import os
from pathlib import Path

from omegaconf import DictConfig

from .cli import run_command, start_processes
from .config import PACKAGE, ROOT, check
from .data.prepared import origin, require_prepared
from .repro import determinism, ranks
from .repro.inputs import collect, require_expected
from .repro.run import Run, find_run


def train(cfg: DictConfig) -> dict[str, float]:
    """Train, unless a run with the same inputs has finished, and return the metrics of the weights that were kept.

    Raises:
        UserError: a setting, a data file or a package is wrong or missing; nothing has been written then.
    """
    check(cfg)
    require_prepared(cfg)
    inputs = collect(cfg, root=ROOT, package=PACKAGE, data=Path(cfg.paths.processed))
    require_expected(inputs)
    inputs["origin"] = origin(cfg)
    run = find_run(Path(cfg.paths.models), cfg.run_name, inputs, ROOT, fresh=cfg.force)
    ranks.require_match(cfg)
    if ranks.wanted(cfg) > ranks.current().world and not run.finished:
        start_processes(ranks.wanted(cfg))  # each of them comes here again, and the first one does the rest
        return run.metrics if run.finished else {}
    with run.lock():
        if run.finished:
            from .verdicts.integrity import require_unedited  # here, because a new training needs none of it

            require_unedited(run.directory)
            print("These inputs have been trained already; force=true trains once more, beside it.")
        else:
            train_anew(cfg, run)
    if not ranks.is_first():
        return {}
    if cfg.publish:
        run.publish(Path(cfg.paths.root) / cfg.publish)
    show(run, cfg.publish)
    return run.metrics


def train_anew(cfg: DictConfig, run: Run) -> None:
    """Train the model that `cfg` describes, from where it was cut off if it was, and fill the run's directory."""
    determinism.require_untouched(cfg.determinism)
    determinism.before_torch(cfg.determinism)
    # torch is imported only here, so that it finds its environment as it must be
    from .build import build
    from .recording import begin_record, finish_record
    from .repro import randomness, weights
    from .trainer import build_trainer, fit, keep_best, measure

    determinism.after_torch(cfg.determinism)
    cfg.paths.run = "${paths.models}/" + run.id
    datamodule = build(cfg, "data.module")
    randomness.seed_all(cfg.seed, randomness.Purpose.MODEL)
    model = build(cfg, "model")
    trainer = build_trainer(cfg, run.directory)

    if ranks.is_first():
        begin_record(run, cfg)
    fit(trainer, model, datamodule)
    keep_best(trainer, model)
    metrics = measure(trainer, model, datamodule)
    if ranks.is_first():
        finish_record(run, trainer, metrics, weights.save(model.network, run.directory / "model.safetensors", run.id))


def show(run: Run, published: str | None) -> None:
    """Print what came out, and where it is."""
    for name, value in run.metrics.items():
        print(f"{name:<14}{value:.4f}")
    print(f"{'weights':<14}sha256 {run.weights_digest}")
    print(f"{'results':<14}{os.path.relpath(run.directory)}" + (f", copied to {published}" if published else ""))


if __name__ == "__main__":
    run_command(train)
