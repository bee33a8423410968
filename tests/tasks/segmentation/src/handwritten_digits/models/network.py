"""The layers. A network turns an image into a score for each pixel and knows nothing of how it is trained."""

from __future__ import annotations

import torch
from torch import nn


def block(inputs: int, outputs: int) -> nn.Sequential:
    """A convolution with normalised outputs."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """A small U-Net: the side is halved and doubled twice, and what there was before a halving is seen again.

    Args:
        channels: of the first layer; half the side has twice as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(1, channels), block(channels, 2 * channels)])
        self.middle = block(2 * channels, 2 * channels)
        self.up = nn.ModuleList([block(4 * channels, channels), block(2 * channels, channels)])
        self.head = nn.Conv2d(channels, 1, kernel_size=1)
        self.shrink, self.grow = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score pixels: float32 (B, 1, side, side) → float32 (B, side, side), positive where it sees ink."""
        first = self.down[0](images)
        second = self.down[1](self.shrink(first))
        third = self.middle(self.shrink(second))
        second = self.up[0](torch.cat([self.grow(third), second], dim=1))
        first = self.up[1](torch.cat([self.grow(second), first], dim=1))
        scores: torch.Tensor = self.head(first).squeeze(1)
        return scores
