"""Trainings that are cut off in the middle, and what they end with."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint

from .project import module

BUSY = (
    "model._target_=tests.busy.BusyClassifier",
    "data.module._target_=tests.busy.BusyDataModule",
    "data.module.eval_batch_size=32",
    "trainer.max_epochs=4",
    "trainer.limit_train_batches=10",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=1",
    "trainer.val_check_interval=0.2",
    "trainer.log_every_n_steps=1",
    "+trainer.accumulate_grad_batches=3",
    "callbacks.resume.every_n_steps=2",
    "model.optimizer.lr=0.05",
    "+callbacks.stop={_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val/loss,patience:6}",
    "+callbacks.top={_target_:pytorch_lightning.callbacks.ModelCheckpoint,monitor:val/accuracy,mode:max,save_top_k:2,"
    "dirpath:'${paths.run}/top',filename:'{step}',enable_version_counter:false}",
)


class Killed(BaseException):
    """Stands in for SIGKILL: nothing catches it, nothing is saved for it."""


class Killer(pl.Callback):
    """Ends the training at the n-th call of a hook."""

    def __init__(self, hook: str, after: int) -> None:
        self.left = after
        setattr(self, hook, self._count)

    def _count(self, *arguments: Any, **named: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed


class Witness(pl.Callback):
    """Keeps what the training ends with."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Read the whole state."""
        checkpoint = trainer._checkpoint_connector.dump_checkpoint()
        tops = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
        self.state = {
            "weights": checkpoint["state_dict"],
            "optimizers": checkpoint["optimizer_states"],
            "schedulers": checkpoint["lr_schedulers"],
            "callbacks": {
                name: state
                for name, state in checkpoint["callbacks"].items()
                if "ModelCheckpoint" not in name and name != "ResourceUsage"  # paths, and how long it took
            },
            "top": [sorted(map(float, each.best_k_models.values())) for each in tops],
            "step": (trainer.global_step, trainer.current_epoch),
        }


Train = Callable[..., tuple[Path, Any]]


def outcome(run: Path) -> tuple[Any, ...]:
    outputs = json.loads((run / "record.json").read_text())["outputs"]
    return outputs["weights"], *((run / name).read_text() for name in ("metrics.json", "history.csv", "trace.jsonl"))


def exact(value: Any) -> Any:
    """Turn tensors into what == compares bit for bit."""
    if isinstance(value, dict):
        return {key: exact(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [exact(each) for each in value]
    return (str(value.dtype), value.shape, value.numpy().tobytes()) if isinstance(value, torch.Tensor) else value


def trainings(settings: Callable[..., DictConfig], root: Path) -> Train:
    """Return a function that trains in a folder of its own, with more callbacks; it returns the run and its state."""

    def run(name: str, *callbacks: pl.Callback, overrides: tuple[str, ...] = BUSY) -> tuple[Path, Any]:
        witness = Witness()
        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            instantiate_all = module("samebits.engine.config").instantiate_all
            more = {"callbacks": [*callbacks, witness]}
            patch.setattr(
                module("samebits.engine.trainer"),
                "instantiate_all",
                lambda cfg, key: instantiate_all(cfg, key) + more.get(key, []),
            )
            cfg = settings(*overrides)
            cfg.paths.models = str(root / name)
            module("dummy.train").train(cfg)
        (directory,) = (path for path in (root / name).iterdir() if not path.name.startswith("."))
        return directory, getattr(witness, "state", None)

    return run
