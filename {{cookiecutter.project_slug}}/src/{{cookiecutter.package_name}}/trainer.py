"""What stands between our settings and Lightning's Trainer."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from pytorch_lightning.profilers import PassThroughProfiler

from .allocator import keep_freed_memory
from .build import build, build_all
from .errors import UserError
from .progress import EVERY, FORM
from .repro import determinism, ranks
from .repro.best import BestWeights
from .repro.compute import Compute
from .repro.files import DISK_FULL
from .repro.group import Environment, has_lost_a_peer
from .repro.hardware import PortableOptimizer, SameHardware
from .repro.history import History
from .repro.inputs import portable_config
from .repro.leaving import INTERRUPTED, RESUME_LATER
from .repro.randomness import Reseed
from .repro.record import HISTORY
from .repro.resume import ExactResume, SealedCheckpointIO, histories
from .repro.shards import Shards
from .repro.spent import COMPUTE

T = TypeVar("T", bound=pl.Callback)
MEANT = (0, RESUME_LATER, ranks.PEER_LOST)  # exit statuses of a training that was not interrupted by a person


class ProgressLines(pl.Callback):
    """Prints a line now and then, for logs and containers, where a progress bar would be redrawn into a file.

    Args:
        seconds: the least time between two lines; by default what the environment says, or 15.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = float(os.environ.get(EVERY, 15)) if seconds is None else seconds
        self.last = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Print how far training is, and the metrics so far, if the last line is old enough."""
        if time.monotonic() - self.last >= self.seconds:
            self.last = time.monotonic()
            metrics = ", ".join(f"{name}={float(value):.4f}" for name, value in trainer.callback_metrics.items())
            print(
                FORM.format(
                    epoch=trainer.current_epoch + 1,
                    epochs=trainer.max_epochs,
                    batch=batch_idx + 1,
                    batches=trainer.num_training_batches,
                    metrics=metrics,
                ),
                flush=True,
            )


class Unprofiled(PassThroughProfiler):
    """Measures nothing, as Lightning's default does, and makes no new context for each of some 70 hooks a step."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> nullcontext[None]:  # type: ignore[override]
        """Give the same empty context for everything."""
        return self.nothing


def build_trainer(cfg: DictConfig, directory: Path) -> pl.Trainer:
    """Make the Trainer with its callbacks and loggers; every logger is told all settings.

    Where nobody can watch a progress bar, lines take its place.

    Args:
        cfg: the composed configuration.
        directory: the run's own.
    """
    be_quiet()
    bar = cfg.trainer.enable_progress_bar and sys.stderr.isatty()
    callbacks = [each for each in build_all(cfg, "callbacks") if bar or not isinstance(each, ProgressBar)]
    if cfg.trainer.enable_progress_bar and not bar:
        callbacks.append(ProgressLines())
    if cfg.determinism.enabled:
        callbacks.append(PortableOptimizer() if cfg.determinism.portable else SameHardware())
    # first of all: the state is saved before others change it, and they find the generators set
    callbacks = [Compute(directory / COMPUTE), Reseed(cfg.seed), *callbacks]
    callbacks = sorted(callbacks, key=lambda each: not isinstance(each, ExactResume))
    loggers = [History(directory / HISTORY), *build_all(cfg, "logger")]
    plugins: list[Any] = [SealedCheckpointIO()]
    options: dict[str, Any] = {}
    if cfg.trainer.get("profiler") is None:
        options["profiler"] = Unprofiled()
    if ranks.shards(cfg) > 1:
        options |= {"strategy": Shards(cfg.seed, ranks.shards(cfg)), "use_distributed_sampler": False}
    else:
        plugins.append(Environment())  # in whatever job this runs, Lightning is not to look for other processes
    trainer: pl.Trainer = build(
        cfg,
        "trainer",
        callbacks=callbacks,
        logger=loggers,
        plugins=plugins,
        **options,
        enable_progress_bar=bar,
        enable_checkpointing=any(isinstance(each, Checkpoint) for each in callbacks),
    )
    for logger in loggers:
        logger.log_hyperparams(OmegaConf.to_container(portable_config(cfg)))
    return trainer


def fit(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> None:
    """Train, from where an earlier start of the same run was cut off, if there was one.

    Raises:
        UserError: the disk is full, or an operation cannot be deterministic.
    """
    keep_freed_memory()
    resume = callbacks_of(trainer, ExactResume)

    def next_start() -> str:
        saved = any(each.previous for each in resume)
        return f"the same command {'goes on from the last checkpoint' if saved else 'starts from the beginning'}"

    try:
        newest = next((each.find() for each in resume), None) if trainer.is_global_zero else None
        if isinstance(trainer.strategy, Shards):
            trainer.strategy.setup_environment()  # now, to tell the other processes where to go on
            newest = trainer.strategy.broadcast(newest)
        if newest is None:
            for history in histories(trainer):
                history.start()
        trainer.fit(model, datamodule, ckpt_path=newest, weights_only=True)
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(f"{trainer.default_root_dir} is full ({error.strerror}): make room; {next_start()}.") from error
    except RuntimeError as error:
        leave_after_a_loss(error, next_start())
        raise determinism.explain(error) or error from None
    except (KeyboardInterrupt, SystemExit) as stop:  # Lightning turns the one into the other
        if isinstance(stop, SystemExit) and stop.code in MEANT:
            raise
        print(f"\nInterrupted: {next_start()}.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def leave_after_a_loss(error: RuntimeError, next_start: str) -> None:
    """Leave, where an error says that another process of this training has ended."""
    if has_lost_a_peer(error):
        if ranks.current().launcher != "ours":  # which tells more
            print(f"error: another process of this training has ended ({error}): {next_start}.", file=sys.stderr)
        raise SystemExit(ranks.PEER_LOST) from None


def evaluation_trainer(cfg: DictConfig) -> pl.Trainer:
    """Make a Trainer that only measures, on the CPU, and writes nothing."""
    be_quiet()
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        plugins=[Environment()],
        deterministic=cfg.determinism.enabled,
        callbacks=[Reseed(cfg.seed)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


def keep_best(trainer: pl.Trainer, model: pl.LightningModule) -> None:
    """Put the weights that were best into the model; without the callback `best`, the last are kept."""
    for callback in callbacks_of(trainer, BestWeights)[:1]:
        callback.put_into(model)


def callbacks_of(trainer: pl.Trainer, kind: type[T]) -> list[T]:
    """List the trainer's callbacks of a kind."""
    return [each for each in trainer.callbacks if isinstance(each, kind)]  # type: ignore[attr-defined] # set elsewhere


def measure(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> dict[str, float]:
    """Compute the validation and test metrics of the model's weights.

    Raises:
        UserError: a metric is not a finite number.
    """
    metrics: dict[str, Any] = {}
    try:
        for evaluate in (trainer.validate, trainer.test):
            metrics |= evaluate(model, datamodule=datamodule, verbose=False)[0]
    except RuntimeError as error:
        leave_after_a_loss(error, "the same command goes on from the last checkpoint")
        raise
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise UserError(f"the training diverged ({name} is {value}): lower model.optimizer.lr and train again.")
    return {name: float(value) for name, value in metrics.items()}


def be_quiet() -> None:
    """Silence Lightning's remarks on hardware and on workers, which repeat our own settings."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*lower value for log_every_n_steps.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*deprecated.*")  # between Lightning 2.6 and PyTorch 2.13
    warnings.filterwarnings("ignore", message=".*srun.* command is available on your system.*")  # a sweep uses it
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
