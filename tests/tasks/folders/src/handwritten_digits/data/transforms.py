"""Random changes of training images, float32 (3, H, W): each draws from PyTorch's global generator."""

from __future__ import annotations

import torch
from torch.nn.functional import pad


class RandomCrop:
    """Adds a border of `padding` zeros, and cuts out an image of the size before."""

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Change one image."""
        height, width = image.shape[-2:]
        top, left = torch.randint(2 * self.padding + 1, (2,)).tolist()
        return pad(image, [self.padding] * 4)[:, top : top + height, left : left + width]


class RandomChannels:
    """Exchanges the colours with a probability `p`."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Change one image."""
        return image[torch.randperm(3)] if torch.rand(()) < self.p else image
