"""The layers. A network turns characters into scores of the next one and knows nothing of how it is trained."""

from __future__ import annotations

import torch
from torch import nn


class Transformer(nn.Module):
    """A transformer in which each character sees itself and those before it.

    Args:
        num_characters: that there are.
        context: characters of a sequence, at most.
        width: numbers that stand for a character.
        heads: of the attention, which divide the width.
        layers: of attention and feed-forward network.
        dropout: fraction left out at random while training.
    """

    def __init__(self, num_characters: int, context: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.characters = nn.Embedding(num_characters, width)
        self.positions = nn.Embedding(context, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.scores = nn.Linear(width, num_characters)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Score the next character at each place: int64 (B, T) → float32 (B, T, num_characters)."""
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1])
        states = self.characters(text) + self.positions.weight[: text.shape[1]]
        scores: torch.Tensor = self.scores(self.layers(states, mask, is_causal=True))
        return scores
