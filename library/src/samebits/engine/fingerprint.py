"""Fingerprints of what a step of training works with, compared bit for bit.

They are 16 hexadecimal digits of a sha256. Of what is on a GPU they are made there, of sums in whole numbers, which any
order of additions gives alike, and begin with `+`. They are equal by chance, though bits differ, once in some 2**32.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from torch.utils._pytree import tree_leaves

from .trace_reader import SUMMED

DIGITS = 16
ON_DEVICE = ("cuda",)  # kinds of devices that sum up their tensors themselves
WORD, WORDS = 8, 2**21  # bytes; words that are summed up at a time, for which a GPU needs some 60 MB
Begun = list[tuple[bytes, list[torch.Tensor]]]  # of a fingerprint that a GPU is making: each tensor's header and sums


def leaves(value: Any, levels: int = 5) -> Iterator[Any]:
    """List the tensors (arrays are made ones), texts and numbers that a value holds.

    Args:
        value: nested lists, tuples, dicts and objects.
        levels: of objects in objects that are looked into.
    """
    for leaf in tree_leaves(value):
        if isinstance(leaf, np.ndarray):
            try:
                yield torch.from_numpy(np.asarray(leaf, order="C"))
            except TypeError:  # an array of texts or objects
                yield from leaves(leaf.tolist(), levels)
        elif isinstance(leaf, torch.Tensor | str | bytes | int | float | bool | None):
            yield leaf
        elif isinstance(leaf, Mapping):  # which PyTorch takes for a leaf: a BatchEncoding of Hugging Face
            yield from leaves(dict(leaf), levels)
        elif levels and not isinstance(leaf, type) and hasattr(leaf, "__dict__"):  # an object that holds tensors
            yield from leaves(vars(leaf), levels - 1)


def add_tensors(sha256: Any, value: Any) -> None:
    """Add all that a value holds to a hash; of tensors and arrays type, shape and bytes."""
    for leaf in leaves(value):
        if isinstance(leaf, torch.Tensor):
            _add_tensor(sha256, leaf)
        else:
            sha256.update(repr(leaf).encode())


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


@cache
def _keys(device: torch.device) -> torch.Tensor:
    """Draw a number for each place of a word, everywhere the same: int64 (WORDS,); no global generator is touched."""
    return torch.from_numpy(np.random.Philox(0).random_raw(WORDS).view(np.int64)).to(device)


def _sums(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Sum up a tensor's bits where it is: for each WORDS of it, an int64 ().

    To each word the key of its place is added, so that order counts, and its halves are multiplied, so that changes do
    not cancel each other (of sums of the words themselves, two changed signs would). Whole numbers, modulo 2**64.
    """
    found = []
    for part in _bytes_of(tensor).split(WORD * WORDS):
        if len(part) % WORD or part.storage_offset() % WORD:
            part = pad(part, (0, -len(part) % WORD))  # the header holds the shape
        words = part.view(torch.int64)
        halves = (words + _keys(part.device)[: len(words)]).view(torch.int32)
        found.append((halves[0::2] * halves[1::2].long()).sum())
    return found


def begin(value: Any) -> str | Begun:
    """Begin to fingerprint a value: where it is tensors of a GPU, this does not wait for it."""
    leaves = tree_leaves(value)
    if all(isinstance(each, torch.Tensor) for each in leaves) and any(each.device.type in ON_DEVICE for each in leaves):
        return [(_header(each), _sums(each)) for each in leaves]
    return of_tensors(value)


def begin_tensors(value: Any) -> str | Begun:
    """Begin to fingerprint the tensors alone that a value holds; empty where one of them has no bytes to be read."""
    try:
        return begin([leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor)])
    except RuntimeError:  # one that is nested, or on the device `meta`
        return ""


def collect(begun: Mapping[Any, str | Begun]) -> Callable[[], dict[Any, str]]:
    """Copy all sums at once; what is returned waits for them. What becomes of the tensors meanwhile does not matter."""
    sums = [each for parts in begun.values() if not isinstance(parts, str) for _, found in parts for each in found]
    if not sums:
        return lambda: {key: str(each) for key, each in begun.items()}
    device = sums[0].device
    there = torch.stack([each.to(device) for each in sums]).to("cpu", non_blocking=True)
    copied = torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None

    def digest(parts: Begun, words: Iterator[np.ndarray]) -> str:
        sha256 = hashlib.sha256()
        for header, found in parts:
            sha256.update(header + b"".join(next(words).tobytes() for _ in found))
        return SUMMED + sha256.hexdigest()[:DIGITS]

    def finish() -> dict[Any, str]:
        if copied is not None:
            copied.synchronize()
        words = iter(there.numpy())
        return {key: each if isinstance(each, str) else digest(each, words) for key, each in begun.items()}

    return finish


def begin_by_name(tensors: Iterable[tuple[str, Any]]) -> Callable[[], dict[str, str]]:
    """Begin to fingerprint each of the tensors; what is returned waits for the fingerprints."""
    return collect({name: begin(each) for name, each in tensors})


def by_name(tensors: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Fingerprint each of the tensors."""
    return begin_by_name(tensors)()


def combine(fingerprints: dict[str, str]) -> str:
    """Combine several fingerprints to one."""
    joined = "".join(f"{name} {value}\n" for name, value in sorted(fingerprints.items()))
    kind = SUMMED if any(value.startswith(SUMMED) for value in fingerprints.values()) else ""
    return kind + hashlib.sha256(joined.encode()).hexdigest()[:DIGITS]
