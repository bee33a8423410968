"""Random changes of training images, float32 (3, H, W): each draws from PyTorch's global generator."""

from __future__ import annotations

import torch
from torch.nn.functional import pad


def random_crop(image: torch.Tensor, padding: int) -> torch.Tensor:
    """Add a border of zeros, and cut out an image of the size before."""
    height, width = image.shape[-2:]
    top, left = torch.randint(2 * padding + 1, (2,)).tolist()
    return pad(image, [padding] * 4)[:, top : top + height, left : left + width]


def random_channels(image: torch.Tensor, p: float) -> torch.Tensor:
    """Exchange the colours with a probability `p`."""
    return image[torch.randperm(3)] if torch.rand(()) < p else image


def random_noise(image: torch.Tensor, std: float) -> torch.Tensor:
    """Add normal noise of a standard deviation `std` to every pixel."""
    return image + std * torch.randn_like(image)
