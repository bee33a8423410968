"""The layers. A network turns features into a number and knows nothing of how it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class MLP(nn.Module):
    """A multilayer perceptron with two hidden layers.

    Args:
        inputs: features of a sample.
        hidden: units of the two hidden layers.
        dropout: fraction of the second layer's units left out at random while training.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        first, second = hidden
        self.layers = nn.Sequential(
            nn.BatchNorm1d(inputs, affine=False),  # scales by what training has seen, and is saved with the weights
            nn.Linear(inputs, first),
            nn.ReLU(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(second, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Predict: float32 (B, inputs) → float32 (B,)."""
        predictions: torch.Tensor = self.layers(features).squeeze(1)
        return predictions
