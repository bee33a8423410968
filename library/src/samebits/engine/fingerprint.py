"""Fingerprints of what a step of training works with: 16 hexadecimal digits of a sha256, compared bit for bit."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

DIGITS = 16
OVERLAPPED = ("cuda",)  # kinds of devices that go on while copies of their tensors are hashed
LARGEST_COPY = 4 * 2**30  # bytes of the computer's memory that may be taken for it
ALIGNMENT = 64  # bytes


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
    sha256.update(_header(tensor))
    sha256.update(_bytes_of(tensor).cpu().numpy())


def _header(tensor: torch.Tensor) -> bytes:
    return f"{tensor.dtype} {tuple(tensor.shape)}\n".encode()


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    """See a tensor as its bytes in their order: uint8 (N,), where it is."""
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.resolve_neg().contiguous().reshape(-1).view(torch.uint8)


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


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="fingerprint")


def _of_copy(copied: Any, header: bytes, copy: Any) -> str:
    if copied is not None:
        copied.synchronize()
    sha256 = hashlib.sha256(header)
    sha256.update(copy)
    return sha256.hexdigest()[:DIGITS]


class Overlapped:
    """Fingerprints a GPU's tensors while it goes on: it copies them in its turn, and other threads hash the copies.

    What is done to the tensors afterwards does not matter. Others are fingerprinted at once.
    """

    def __init__(self) -> None:
        self.buffer = torch.empty(0, dtype=torch.uint8)  # in memory that a GPU writes to by itself
        self.hashed: dict[str, Future[str]] = {}

    def by_name(self, tensors: Iterable[tuple[str, Any]]) -> Callable[[], dict[str, str]]:
        """Begin to fingerprint each of the tensors; what is returned waits for the fingerprints."""
        named = dict(tensors)
        there = {
            name: each
            for name, each in named.items()
            if isinstance(each, torch.Tensor) and each.device.type in OVERLAPPED
        }
        sizes = {name: each.numel() * each.element_size() for name, each in there.items()}
        total = sum(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes.values())
        devices = {each.device for each in there.values()}
        if len(devices) != 1 or total > LARGEST_COPY or any(each.layout != torch.strided for each in there.values()):
            found = by_name(named.items())
            return lambda: found
        (device,) = devices
        for earlier in self.hashed.values():  # they read the buffer
            earlier.result()
        if len(self.buffer) < total:
            self.buffer = torch.empty(total, dtype=torch.uint8, pin_memory=device.type == "cuda")
        copies, start = {}, 0
        for name, each in there.items():
            copies[name] = self.buffer[start : start + sizes[name]]
            copies[name].copy_(_bytes_of(each), non_blocking=True)
            start += -(-sizes[name] // ALIGNMENT) * ALIGNMENT
        copied = None
        if device.type == "cuda":
            copied = torch.cuda.current_stream(device).record_event()
        submit = _threads().submit
        self.hashed = hashed = {
            name: submit(_of_copy, copied, _header(there[name]), copy.numpy()) for name, copy in copies.items()
        }
        others = by_name((name, each) for name, each in named.items() if name not in there)
        return lambda: {name: hashed[name].result() if name in hashed else others[name] for name in named}


def combine(fingerprints: dict[str, str]) -> str:
    """Combine several fingerprints to one."""
    joined = "".join(f"{name} {value}\n" for name, value in sorted(fingerprints.items()))
    return hashlib.sha256(joined.encode()).hexdigest()[:DIGITS]
