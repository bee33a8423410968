"""The best weights of a training, kept in memory and in its checkpoints."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch

from ..errors import UserError


class BestWeights(pl.Callback):
    """Keeps the weights with the lowest (or highest) value of a metric of the validation.

    They are part of the state of training, so a run that was cut off cannot lose or mistake them.

    Args:
        monitor: name of the metric, as it is logged.
        mode: `min` or `max`, which value is best.
    """

    def __init__(self, monitor: str, mode: str = "min") -> None:
        if mode not in ("min", "max"):
            raise UserError(f"callbacks.best.mode is {mode!r}, but must be min or max.")
        self.monitor = monitor
        self.mode = mode
        self.score = math.inf if mode == "min" else -math.inf
        self.step = 0  # after which the weights were best
        self.weights: dict[str, torch.Tensor] = {}

    @property
    def state_key(self) -> str:
        """The name of its state in a checkpoint."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def state_dict(self) -> dict[str, Any]:
        """Read the state."""
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the state back."""
        self.score, self.step, self.weights = state["score"], state["step"], state["weights"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they are better than all before; of equals, the first.

        Raises:
            UserError: there is no such metric.
        """
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.monitor not in trainer.callback_metrics:
            names = ", ".join(sorted(trainer.callback_metrics))
            raise UserError(f"callbacks.best.monitor is {self.monitor!r}, which is not logged: choose from {names}.")
        score = float(trainer.callback_metrics[self.monitor])
        if score < self.score if self.mode == "min" else score > self.score:
            self.score, self.step = score, trainer.global_step
            self.weights = {name: tensor.detach().cpu().clone() for name, tensor in pl_module.state_dict().items()}

    def put_into(self, model: pl.LightningModule) -> None:
        """Give the model its best weights; where there was no validation, it keeps the last."""
        if self.weights:
            model.load_state_dict(self.weights)
