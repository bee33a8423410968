"""Random changes of training images, float32 (3, H, W): each draws from PyTorch's global generator, as torchvision's do."""

from __future__ import annotations

import torch
from torch.nn.functional import pad


class RandomCrop:
    """Adds a border of zeros, and cuts out an image of the size before.

    Args:
        padding: pixels on each side.
    """

    def __init__(self, padding: int) -> None:
        self.padding = padding

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        top, left = torch.randint(2 * self.padding + 1, (2,)).tolist()
        return pad(image, [self.padding] * 4)[:, top : top + height, left : left + width]


class RandomChannels:
    """Exchanges the colours of an image with a probability `p`."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image[torch.randperm(3)] if torch.rand(()) < self.p else image


class RandomNoise:
    """Adds normal noise of a standard deviation `std` to every pixel."""

    def __init__(self, std: float) -> None:
        self.std = std

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        return image + self.std * torch.randn_like(image)
