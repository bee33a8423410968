"""How a network learns to predict a number: loss, metrics, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.regression import MeanSquaredError, R2Score

Batch = tuple[torch.Tensor, torch.Tensor]


class Regressor(pl.LightningModule):
    """Trains `network` with the mean squared error of targets that are scaled by a number near their spread.

    What is saved in model.safetensors, and evaluated later, is the attribute `network`.

    Args:
        network: float32 (B, inputs) → float32 (B,), of the scaled targets.
        mean: of the targets.
        scale: of the targets.
        optimizer: called with the parameters.
        scheduler: called with the optimiser, stepped once an epoch; None for a constant learning rate.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: float,
        scale: float,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.mean, self.scale = mean, scale
        self.loss = nn.MSELoss()
        # objects of torchmetrics count exactly, and over a kill: their state is in the checkpoints
        self.train_loss = MeanMetric()
        self.val_loss, self.test_loss = MeanMetric(), MeanMetric()
        scores = MetricCollection({"rmse": MeanSquaredError(squared=False), "r2": R2Score()})
        self.val_scores, self.test_scores = scores.clone(prefix="val/"), scores.clone(prefix="test/")

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Predict: float32 (B, inputs) → float32 (B,)."""
        predictions: torch.Tensor = self.network(features) * self.scale + self.mean
        return predictions

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the batch's mean loss, to be minimised."""
        features, targets = batch
        loss: torch.Tensor = self.loss(self(features), targets) / self.scale**2
        self.train_loss.update(loss.detach(), weight=len(targets))
        return loss

    # Means over an epoch are logged at its end: a call of self.log costs half a millisecond, at every step

    def on_train_epoch_end(self) -> None:
        """Log the mean loss of the epoch's steps."""
        self.log("train/loss", self.train_loss)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count this batch into the validation metrics."""
        self._score(batch, self.val_loss, self.val_scores)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self.log("val/loss", self.val_loss, prog_bar=True)
        self.log_dict(self.val_scores, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, torch.Tensor]:
        """Count this batch into the test metrics; return what the callback `predictions` writes down."""
        return {"predictions": self._score(batch, self.test_loss, self.test_scores), "targets": batch[1]}

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self.log("test/loss", self.test_loss)
        self.log_dict(self.test_scores)

    def _score(self, batch: Batch, loss: MeanMetric, scores: MetricCollection) -> torch.Tensor:
        features, targets = batch
        outputs: torch.Tensor = self(features)
        loss.update(self.loss(outputs, targets) / self.scale**2, weight=len(targets))
        scores.update(outputs, targets)
        return outputs

    def configure_optimizers(self) -> Any:
        """Make the optimiser and, where there is one, the schedule of its learning rate."""
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}
