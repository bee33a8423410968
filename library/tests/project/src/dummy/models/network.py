"""The layers. A network turns images into one score a class and knows nothing of how it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class CNN(nn.Module):
    """Two convolutions, each followed by a halving of the side, and two linear layers.

    Args:
        num_classes: scores to give.
        channels: of the two convolutions.
        hidden: units between the convolutions and the classes.
        dropout: fraction of these units left out at random while training.
        side: pixels of an image's side, divisible by 4.
    """

    def __init__(
        self, num_classes: int, channels: Sequence[int], hidden: int, dropout: float = 0.0, side: int = 8
    ) -> None:
        super().__init__()
        first, second = channels
        self.layers = nn.Sequential(
            nn.Conv2d(1, first, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * (side // 4) ** 2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score images: float32 (B, 1, side, side) → float32 (B, num_classes), not normalised."""
        scores: torch.Tensor = self.layers(images)
        return scores


class MLP(nn.Module):
    """A multilayer perceptron: the image as one row of numbers, two hidden layers.

    Args:
        num_classes: scores to give.
        hidden: units of the two hidden layers.
        dropout: fraction of the second layer's units left out at random while training.
        side: pixels of an image's side.
    """

    def __init__(self, num_classes: int, hidden: Sequence[int], dropout: float = 0.0, side: int = 8) -> None:
        super().__init__()
        first, second = hidden
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(side**2, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(second, num_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score images: float32 (B, 1, side, side) → float32 (B, num_classes), not normalised."""
        scores: torch.Tensor = self.layers(images)
        return scores
