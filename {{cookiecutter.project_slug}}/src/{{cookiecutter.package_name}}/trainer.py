"""What stands between our settings and Lightning's Trainer."""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar

from .build import build, build_all
from .errors import UserError
from .repro.inputs import portable_config


class ProgressLines(pl.Callback):
    """Prints a line now and then, for logs and containers, where a progress bar would be redrawn into a file.

    Args:
        seconds: the least time between two lines.
    """

    def __init__(self, seconds: float = 15.0) -> None:
        self.seconds = seconds
        self.last = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the epoch and its metrics, if the last line is old enough."""
        if time.monotonic() - self.last >= self.seconds:
            self.last = time.monotonic()
            metrics = ", ".join(f"{name}={float(value):.4f}" for name, value in trainer.callback_metrics.items())
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {metrics}", flush=True)


def build_trainer(cfg: DictConfig) -> pl.Trainer:
    """Make the Trainer with its callbacks and loggers; every logger is told all settings.

    Where nobody can watch a progress bar, lines take its place.
    """
    be_quiet()
    bar = cfg.trainer.enable_progress_bar and sys.stderr.isatty()
    callbacks = [each for each in build_all(cfg, "callbacks") if bar or not isinstance(each, ProgressBar)]
    if cfg.trainer.enable_progress_bar and not bar:
        callbacks.append(ProgressLines())
    loggers = build_all(cfg, "logger")
    trainer: pl.Trainer = build(cfg, "trainer", callbacks=callbacks, logger=loggers or False, enable_progress_bar=bar)
    for logger in loggers:
        logger.log_hyperparams(OmegaConf.to_container(portable_config(cfg)))
    return trainer


def fit(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> None:
    """Train, and say what an interruption means."""
    try:
        trainer.fit(model, datamodule)
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        print("\nInterrupted before the end: the same command starts this run again.", file=sys.stderr)
        raise


def evaluation_trainer() -> pl.Trainer:
    """Make a Trainer that only measures, on the CPU, and writes nothing."""
    be_quiet()
    return pl.Trainer(
        accelerator="cpu",
        devices=1,
        deterministic=True,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


def keep_best(trainer: pl.Trainer, model: pl.LightningModule) -> None:
    """Put the weights that the first checkpoint callback holds for best into the model; without one, keep the last."""
    callback = trainer.checkpoint_callback
    if isinstance(callback, ModelCheckpoint) and callback.best_model_path:
        checkpoint = torch.load(callback.best_model_path, map_location="cpu", weights_only=True)
        model.load_state_dict(checkpoint["state_dict"])


def measure(trainer: pl.Trainer, model: pl.LightningModule, datamodule: pl.LightningDataModule) -> dict[str, float]:
    """Compute the validation and test metrics of the model's weights.

    Raises:
        UserError: a metric is not a finite number.
    """
    metrics: dict[str, Any] = {}
    for evaluate in (trainer.validate, trainer.test):
        metrics |= evaluate(model, datamodule=datamodule, verbose=False)[0]
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
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
