"""What a patient is here: ten columns of numbers, how they are read from a file, what the network is given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import samebits

if TYPE_CHECKING:
    import torch

COLUMNS = 10  # age sex bmi bp s1 ... s6


def to_input(features: np.ndarray) -> torch.Tensor:
    """Turn columns (N, 10), as published, into what the network reads: float32 (N, 10)."""
    import torch  # here, so that --help does not wait for it

    return torch.from_numpy(features.astype(np.float32))


def read_features(path: Path) -> np.ndarray:
    """Read a CSV file of ten columns, float64 (N, 10); a UserError where it is none."""
    try:
        features = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise samebits.UserError(f"{path} is no table of numbers ({error}).") from error
    if features.shape[1] != COLUMNS:
        raise samebits.UserError(f"{path} has {features.shape[1]} columns, but a row must hold {COLUMNS} numbers.")
    return features
