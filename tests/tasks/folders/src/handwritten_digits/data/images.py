"""What an image is here: its class, its size, how it is read from a file, what the network is given."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import samebits
from PIL import Image

if TYPE_CHECKING:
    import torch

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")  # names of the folders
SIDE = 16  # pixels, to which every image is scaled
SUFFIXES = {".png", ".jpg", ".jpeg"}


def read_image(file: Path | IO[bytes]) -> np.ndarray:
    """Read an image of any size, uint8 (16, 16, 3); a UserError where it is none."""
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB").resize((SIDE, SIDE)))
    except OSError as error:
        raise samebits.UserError(f"{file} cannot be read as an image ({error}).") from error


def to_input(images: np.ndarray) -> torch.Tensor:
    """Turn pixels, uint8 (..., 16, 16, 3), into what the network reads: float32 (..., 3, 16, 16), 0 to 1."""
    import torch  # here, so that --help does not wait for it

    return torch.from_numpy(np.moveaxis(images, -1, -3).astype(np.float32) / 255)
