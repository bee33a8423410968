"""Fingerprints of what a step of training works with: 16 hexadecimal digits of a sha256, compared bit for bit."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

DIGITS = 16


def add_tensors(sha256: Any, value: Any, levels: int = 5) -> None:
    """Add all that a value holds to a hash; of tensors and arrays type, shape and bytes.

    Args:
        sha256: the hash.
        value: nested lists, tuples, dicts and objects.
        levels: of objects in objects that are looked into.
    """
    for leaf in tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            _add_tensor(sha256, leaf)
        elif isinstance(leaf, np.ndarray):
            _add_tensor(sha256, torch.from_numpy(leaf))
        elif isinstance(leaf, str | bytes | int | float | bool | None):
            sha256.update(repr(leaf).encode())
        elif isinstance(leaf, Mapping):  # which PyTorch takes for a leaf: a BatchEncoding of Hugging Face
            add_tensors(sha256, dict(leaf), levels)
        elif levels and not isinstance(leaf, type) and hasattr(leaf, "__dict__"):  # an object that holds tensors
            add_tensors(sha256, vars(leaf), levels - 1)


def _add_tensor(sha256: Any, tensor: torch.Tensor) -> None:
    """Add a tensor's bytes, which tell NaN and -0.0 apart; nothing is drawn."""
    sha256.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    flat = tensor.resolve_neg().cpu().contiguous().reshape(-1)
    sha256.update(flat.view(torch.uint8).numpy())


def add_generators(sha256: Any) -> None:
    """Add the state of the global generators of Python, NumPy, PyTorch and CUDA to a hash."""
    sha256.update(torch.get_rng_state().numpy())
    sha256.update(repr(random.getstate()).encode())
    sha256.update(repr([np.asarray(part).tobytes() for part in np.random.get_state()]).encode())
    if torch.cuda.is_initialized():
        for state in torch.cuda.get_rng_state_all():
            sha256.update(state.numpy())


def of_tensors(value: Any) -> str:
    """Fingerprint all that a batch, in whatever nesting, holds."""
    sha256 = hashlib.sha256()
    add_tensors(sha256, value)
    return sha256.hexdigest()[:DIGITS]


def of_generators() -> str:
    """Fingerprint the state of the global generators."""
    sha256 = hashlib.sha256()
    add_generators(sha256)
    return sha256.hexdigest()[:DIGITS]


def by_name(tensors: Iterable[tuple[str, torch.Tensor]]) -> dict[str, str]:
    """Fingerprint each of the tensors."""
    return {name: of_tensors(tensor) for name, tensor in tensors}


def combine(fingerprints: dict[str, str]) -> str:
    """Combine several fingerprints to one."""
    joined = "".join(f"{name} {value}\n" for name, value in sorted(fingerprints.items()))
    return hashlib.sha256(joined.encode()).hexdigest()[:DIGITS]
