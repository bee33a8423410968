"""How a network learns to classify: loss, metrics, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

Batch = tuple[torch.Tensor, torch.Tensor]


class Classifier(pl.LightningModule):
    """Trains `network` with the cross-entropy loss.

    Args:
        network: float32 (B, 1, side, side) → float32 (B, num_classes).
        num_classes: number of labels.
        optimizer: called with the parameters.
        scheduler: called with the optimiser, stepped once an epoch; None for a constant learning rate.
    """

    def __init__(
        self,
        network: nn.Module,
        num_classes: int,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.loss = nn.CrossEntropyLoss()
        self.train_loss = MeanMetric()
        self.val_loss, self.test_loss = MeanMetric(), MeanMetric()
        scores = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(num_classes, average="micro"),
                "f1": MulticlassF1Score(num_classes, average="macro"),
            }
        )
        self.val_scores, self.test_scores = scores.clone(prefix="val/"), scores.clone(prefix="test/")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score images: float32 (B, 1, side, side) → float32 (B, num_classes), not normalised."""
        scores: torch.Tensor = self.network(images)
        return scores

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """Return the batch's mean loss, to be minimised."""
        images, labels = batch
        loss: torch.Tensor = self.loss(self(images), labels)
        self.train_loss.update(loss.detach(), weight=len(labels))
        return loss

    # Means over an epoch are logged at its end: a call of self.log costs 0.3 ms, at every step

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
        """Count this batch into the test metrics; return its scores, which the callback `predictions` writes down."""
        return {"scores": self._score(batch, self.test_loss, self.test_scores), "labels": batch[1]}

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self.log("test/loss", self.test_loss)
        self.log_dict(self.test_scores)

    def _score(self, batch: Batch, loss: MeanMetric, scores: MetricCollection) -> torch.Tensor:
        images, labels = batch
        outputs: torch.Tensor = self(images)
        loss.update(self.loss(outputs, labels), weight=len(labels))
        scores.update(outputs, labels)
        return outputs

    def configure_optimizers(self) -> Any:
        """Make the optimiser and, where there is one, the schedule of its learning rate."""
        optimizer = self.make_optimizer(self.network.parameters())
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}
