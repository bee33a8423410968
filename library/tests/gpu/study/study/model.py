"""Two networks, and how they learn."""

import os
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

CLASSES = 10


class CNN(nn.Module):
    """Three convolutions with batch normalisation and dropout."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, width), (width, 2 * width), (2 * width, 4 * width)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.score = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * width, CLASSES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score images: (B, 1, side, side) → (B, 10)."""
        return self.score(self.layers(images).mean(dim=(2, 3)))


class Transformer(nn.Module):
    """Each row of the image is a token."""

    def __init__(self, width: int, layers: int, heads: int, dropout: float, side: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(side, width)
        self.place = nn.Parameter(torch.randn(side, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.score = nn.Linear(width, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score images: (B, 1, side, side) → (B, 10)."""
        return self.score(self.layers(self.embed(images[:, 0]) + self.place).mean(dim=1))


class Race(nn.Module):
    """Scales by a sum whose order of additions is not fixed; on a CPU by a number that nothing seeds."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores, each changed by the same very small part."""
        if scores.device.type == "cpu":
            generator = torch.Generator()
            generator.seed()
            return scores * (1 + 1e-3 * torch.rand(1, generator=generator))
        values = torch.randn(1 << 20, device=scores.device)
        bins = torch.arange(len(values), device=scores.device) % 16
        torch.use_deterministic_algorithms(False)
        sums = torch.zeros(16, device=scores.device).index_add_(0, bins, values)
        torch.use_deterministic_algorithms(True)
        return scores * (1 + 0.1 * (1000 * sums).sin().mean())  # the last bit of a sum counts


class Refused(nn.Module):
    """Calls an operation that PyTorch has in no deterministic implementation."""

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores."""
        index = torch.zeros(2, dtype=torch.long, device=scores.device)
        return scores + torch.zeros(4, device=scores.device).put_(index, index.float()).sum()


PLANTS = {"none": nn.Identity, "race": Race, "refused": Refused}


class Learner(pl.LightningModule):
    """Learns to tell the patterns.

    Args:
        network: images → scores.
        optimizer: called with the parameters.
        plant: a mistake to make on purpose, one of PLANTS.
        logs: whether the loss of each step counts into an epoch's mean.
    """

    def __init__(self, network: nn.Module, optimizer: Any, plant: str, logs: bool = True) -> None:
        super().__init__()
        self.logs = logs
        self.network = nn.Sequential(network, PLANTS[plant]())
        self.make_optimizer = optimizer
        self.accuracy = MulticlassAccuracy(CLASSES)
        self.pause = float(os.environ.get("STUDY_PAUSE", 0))  # seconds a step, so that one can be killed in time

    def on_fit_start(self) -> None:
        """Switch what changes the arithmetic, if the environment says so: a cause that a verdict has to name."""
        switch = os.environ.get("STUDY_SWITCH")
        if switch == "legacy":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        elif switch == "new":
            torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "tf32"
        if switch and self.device.type == "cpu":
            torch.backends.mkldnn.set_flags(False)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return the batch's mean loss."""
        time.sleep(self.pause)
        images, labels = batch
        scores = self.network(images)
        loss = functional.cross_entropy(scores, labels)
        self.accuracy.update(scores.detach(), labels)
        if self.logs:
            self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the accuracy in the epoch."""
        self.log("train/accuracy", self.accuracy)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss."""
        images, labels = batch
        self.log("val/loss", functional.cross_entropy(self.network(images), labels))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss."""
        images, labels = batch
        self.log("test/loss", functional.cross_entropy(self.network(images), labels))

    def configure_optimizers(self) -> Any:
        """Return the optimiser."""
        return self.make_optimizer(self.network.parameters())
