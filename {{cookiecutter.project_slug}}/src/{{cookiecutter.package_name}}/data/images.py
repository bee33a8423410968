"""What an image is here: its size, its pixels, how it is read from a file, what the network is given."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import samebits

if TYPE_CHECKING:
    import torch

SIDE = 8  # pixels
INK = 16  # the largest pixel value
SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def to_input(images: np.ndarray) -> torch.Tensor:
    """Turn pixels into what the network reads.

    Args:
        images: uint8, shape (N, 8, 8), 0 (paper) to 16 (ink).

    Returns:
        float32, shape (N, 1, 8, 8), 0 to 1.
    """
    import torch  # here, so that --help does not wait for it

    return torch.from_numpy(np.asarray(images, dtype=np.float32)).div_(INK).unsqueeze(1)


def move(images: torch.Tensor, down: np.ndarray, right: np.ndarray) -> torch.Tensor:
    """Move each image by whole pixels; what enters is paper (0).

    Args:
        images: float32, shape (B, 1, 8, 8).
        down: pixels, int64, shape (B,); negative is up.
        right: pixels, int64, shape (B,); negative is left.

    Returns:
        Of the same type and shape.
    """
    import torch
    from torch.nn.functional import pad

    most = int(max(np.abs(down).max(), np.abs(right).max()))
    if most == 0:
        return images
    place = np.arange(SIDE) + most
    rows = torch.from_numpy(place[None, :, None] - down[:, None, None])
    columns = torch.from_numpy(place[None, None, :] - right[:, None, None])
    which = torch.arange(len(images))[:, None, None]
    return pad(images[:, 0], [most] * 4)[which, rows, columns].unsqueeze(1)


def read_images(path: Path, invert: bool = False) -> np.ndarray:
    """Read pixels as the training data has them: uint8, shape (N, 8, 8), 0 (paper) to 16 (ink).

    Raises:
        UserError: the file is missing, of an unknown kind, or not made of 64 pixels a row.
    """
    if not path.is_file():
        raise samebits.UserError(f"{path} is not a file: give the path of an image or of a CSV file.")
    pixels = _read_picture(path, invert) if path.suffix.lower() in SUFFIXES else _read_csv(path)
    return INK - pixels if invert else pixels


def _read_picture(path: Path, invert: bool) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            ground = Image.new("RGBA", picture.size, "white" if invert else "black")  # behind what is transparent
            solid = Image.alpha_composite(ground, picture.convert("RGBA"))
            small = solid.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise samebits.UserError(f"{path} cannot be read as an image: save it as PNG and try again.") from error
    return np.round(np.asarray(small, dtype=np.float32)[None] * (INK / 255)).astype(np.uint8)


def _read_csv(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of an empty file, which is refused below
            table = np.loadtxt(path, delimiter=",", ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise samebits.UserError(f"{path} is neither an image nor a CSV file of numbers ({error}).") from error
    if table.size == 0:
        raise samebits.UserError(f"{path} is empty: a row must hold {SIDE * SIDE} pixels.")
    if table.shape[1] != SIDE * SIDE or not ((table >= 0) & (table <= INK)).all():
        raise samebits.UserError(
            f"{path} has {table.shape[1]} columns with values from {table.min():g} to {table.max():g},"
            f" but a row must hold {SIDE * SIDE} pixels from 0 (paper) to {INK} (ink)."
        )
    return table.astype(np.uint8).reshape(-1, SIDE, SIDE)
