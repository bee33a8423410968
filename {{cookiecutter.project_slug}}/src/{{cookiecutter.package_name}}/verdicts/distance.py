"""How far two sets of weights are apart. It loads NumPy, so it is imported only where they differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import deserialize

from ..repro.weights import DTYPES


@dataclass(frozen=True)
class Distance:
    """How far two sets of weights are apart.

    Attributes:
        tensors: how many differ.
        numbers: how many single numbers differ, of `total`.
        largest: the largest absolute difference; NaN where one is not a number.
        ulps: the largest difference in units of the last place: the count of floating-point numbers in between.
    """

    tensors: int
    numbers: int
    total: int
    largest: float
    ulps: int

    def __str__(self) -> str:
        return (
            f"{self.numbers:,} of {self.total:,} numbers in {self.tensors} tensors differ,"
            f" by at most {self.largest:.3g} or {self.ulps:,} units of the last place"
        )

    def as_dict(self) -> dict[str, Any]:
        """Give the numbers by name."""
        return asdict(self)


def distance(one: Path, other: Path) -> Distance | None:
    """Measure how far the weights in two safetensors files are apart; None where their names or shapes differ."""
    mine, theirs = (dict(deserialize(path.read_bytes())) for path in (one, other))
    if {name: each["shape"] for name, each in mine.items()} != {name: each["shape"] for name, each in theirs.items()}:
        return None
    tensors = numbers = total = ulps = 0
    largest = 0.0
    for name, each in mine.items():
        (a, a_bits), (b, b_bits) = (numbers_of(side) for side in (each, theirs[name]))
        if len(a_bits) != len(b_bits):
            return None
        differ = a_bits != b_bits
        count = int(differ.sum())
        total += len(a)
        if count:
            tensors, numbers = tensors + 1, numbers + count
            with np.errstate(invalid="ignore", over="ignore"):
                largest = float(np.fmax(largest, np.abs(a[differ] - b[differ]).max()))
            steps = zip(order(a_bits[differ]).tolist(), order(b_bits[differ]).tolist(), strict=True)
            ulps = max(ulps, max(abs(x - y) for x, y in steps))
    return Distance(tensors, numbers, total, largest, ulps)


def numbers_of(tensor: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read a tensor of a safetensors file: its numbers as float64 (N,), and their bits as signed integers (N,)."""
    content, name = bytes(tensor["data"]), DTYPES.get(tensor["dtype"], "uint8")
    if name == "bfloat16":
        bits = np.frombuffer(content, np.int16)
        return (bits.astype(np.int32) << 16).view(np.float32).astype(np.float64), bits
    values = np.frombuffer(content, name)
    return values.astype(np.float64), values.view(f"i{values.itemsize}")


def order(bits: np.ndarray) -> np.ndarray:
    """Number floating-point numbers in their order, so that neighbours differ by 1; -0.0 and 0.0 are one number.

    Args:
        bits: as signed integers, of any width.
    """
    lowest = int(np.iinfo(bits.dtype).min)
    wide = bits.astype(object) if bits.dtype.itemsize == 8 else bits.astype(np.int64)
    return np.where(wide < 0, lowest - wide, wide)
