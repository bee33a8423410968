"""A third kind of network, for checks that should not hold for the example's networks alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class Transformer(nn.Module):
    """A small transformer: each row of the image is a token. Takes the settings of the MLP.

    Args:
        num_classes: scores to give.
        hidden: width of a token, and of the layers between.
        dropout: fraction of units left out at random while training.
        side: pixels of an image's side, and number of tokens.
    """

    def __init__(self, num_classes: int, hidden: Sequence[int], dropout: float = 0.0, side: int = 8) -> None:
        super().__init__()
        width, between = hidden
        self.embed = nn.Linear(side, width)
        self.place = nn.Parameter(torch.randn(side, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, 4, between, dropout, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.score = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score images: float32 (B, 1, side, side) → float32 (B, num_classes), not normalised."""
        scores: torch.Tensor = self.score(self.layers(self.embed(images[:, 0]) + self.place).mean(dim=1))
        return scores
