"""What a patient is here: ten columns of numbers, how they are read from a file, what the network is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import samebits

if TYPE_CHECKING:
    import torch

MEAN = np.array([48.5, 1.5, 26.4, 94.6, 189.1, 115.4, 49.8, 4.1, 4.6, 91.3])  # age sex bmi bp s1 ... s6
SCALE = np.array([13.1, 0.5, 4.4, 13.8, 34.6, 30.4, 12.9, 1.3, 0.5, 11.5])


def to_input(features: np.ndarray) -> torch.Tensor:
    """Turn columns (N, 10), as published, into what the network reads: float32 (N, 10), near -2 to 2."""
    import torch  # here, so that --help does not wait for it

    return torch.from_numpy(((features - MEAN) / SCALE).astype(np.float32))


def read_features(path: Path) -> np.ndarray:
    """Read a CSV file of ten columns, float64 (N, 10); a UserError where it is none."""
    try:
        features = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise samebits.UserError(f"{path} is no table of numbers ({error}).") from error
    if features.shape[1] != len(MEAN):
        raise samebits.UserError(f"{path} has {features.shape[1]} columns, but a row must hold {len(MEAN)} numbers.")
    return features
