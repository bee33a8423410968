"""What the model says of every test sample, kept for figures: predictions.csv."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from ..repro.files import write_atomically

HEADER = "index,label,predicted,probability\n"


class Predictions(pl.Callback):
    """Writes one line for each test sample: its index in the test split, true and predicted label, and probability.

    It needs a `test_step` that returns `scores`, float (B, num_classes), not normalised, and `labels`, int (B,).

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.rows: list[str] = []

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin anew."""
        self.rows = []

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch."""
        best = outputs["scores"].float().softmax(dim=1).max(dim=1)
        for label, predicted, probability in zip(
            *(torch.as_tensor(each).tolist() for each in (outputs["labels"], best.indices, best.values)), strict=True
        ):
            self.rows.append(f"{len(self.rows)},{label},{predicted},{probability!r}\n")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file, whole or not at all."""
        if trainer.is_global_zero:
            write_atomically(self.path, "".join([HEADER, *self.rows]).encode())
