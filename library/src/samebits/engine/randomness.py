"""Randomness without state: every random number is a function of (seed, purpose, counters).

Nothing of it has to be saved, and nothing that draws in between (a validation, a logger, a callback) can shift it:
- the order of the samples is a function of (seed, epoch), a sample's augmentation one of (seed, epoch, index):
  data_loading.py, of which a data module needs `make_loader`;
- the global generators (Python, NumPy, PyTorch, CUDA) are set from (seed, epoch, batch, shard) at the start of every
  batch (`Reseed`), and of every shard of one (sharded_strategy.py).
Generators that a project makes and keeps (in a model, a callback, a sampler, a data set) are found by looking through
the objects' attributes, and set with the global ones.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum
from functools import partial
from types import BuiltinMethodType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from .lightning import pl

MASK = 2**64 - 1

Generators = list[Any]
ENTRIES = 100  # of a list or dict that are looked at, in the search of generators
PLAIN = (str, bytes, int, float, complex, torch.Tensor, np.ndarray, np.generic)
LEVELS = 6  # of objects in objects
OTHERS = (pl.Trainer, DataLoader, ModuleType, type)  # whose generators are set by others, or are nobody's


class Purpose(IntEnum):
    """What random numbers are for; the same counters give unrelated numbers for each."""

    MODEL = 1
    ORDER = 2
    SAMPLE = 3
    STEP = 4
    EPOCH = 5
    EVALUATION = 6
    TRANSFER = 7


def mix(*numbers: Any) -> Any:
    """Hash whole numbers to one of 64 bits: splitmix64, chained (Steele, Lea, Flood, OOPSLA 2014).

    Args:
        numbers: from 0 to 2**64 - 1 each; the last one may be a uint64 array, of any shape.

    Returns:
        int, or where the last number is an array, uint64 of its shape.
    """
    state: Any = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state = state ^ (state >> 31)
    return state


def seed_all(seed: int, purpose: Purpose, *counters: int) -> None:
    """Set the global generators of Python, NumPy, PyTorch and CUDA from (seed, purpose, counters)."""
    number = mix(seed, purpose, *counters)
    random.seed(number)
    np.random.seed(number & 0xFFFFFFFF)
    torch.default_generator.manual_seed(number)  # torch.manual_seed does the same, 100 times slower
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(number)


def find_generators(*objects: Any) -> Generators:
    """Find the generators of PyTorch, NumPy and Python that objects hold in their attributes, in a fixed order."""
    found: Generators = []
    seen: set[int] = set()

    def visit(value: Any, level: int) -> None:
        if id(value) in seen or level > LEVELS or isinstance(value, PLAIN + OTHERS):
            return
        seen.add(id(value))
        if isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
            found.append(value)
            return
        for inner in _inside(value):
            visit(inner, level + 1)

    for each in objects:
        visit(each, 0)
    return found


def _inside(value: Any) -> Iterator[Any]:
    """List what an object holds."""
    if isinstance(value, nn.Module):
        yield from (inner for module in value.modules() for inner in vars(module).values())
    elif isinstance(value, list | tuple | deque | set | frozenset):
        yield from list(value)[:ENTRIES]
    elif isinstance(value, dict):
        yield from list(value.values())[:ENTRIES]
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType | BuiltinMethodType):
        yield value.__self__
    elif isinstance(value, FunctionType) and value.__closure__:
        yield from (cell.cell_contents for cell in value.__closure__ if cell != CellType())
    else:
        inner: list[Any] = []
        with suppress(Exception):  # there are none, or the object answers every name in its own way
            inner = list(vars(value).values())
        yield from inner


def seed_generators(generators: Generators, number: int) -> None:
    """Set each generator from a whole number and its place in the list."""
    for place, generator in enumerate(generators):
        seed = mix(number, place)
        if isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        elif isinstance(generator, np.random.Generator):
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        else:
            generator.seed(seed & 0xFFFFFFFF)


def seed_everything(generators: Generators, seed: int, purpose: Purpose, *counters: int) -> None:
    """Set the global generators, and those of a program's objects, from (seed, purpose, counters)."""
    seed_all(seed, purpose, *counters)
    if generators:
        seed_generators(generators, mix(seed, purpose, *counters))


class Reseed(pl.Callback):
    """Sets the global generators before Lightning calls code that may draw from them: dropout, a hook, a callback.

    What runs between a batch's loading and its step, `on_after_batch_transfer` for example, data_loading.py covers.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.generators: Generators = []  # of the program's objects

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Find the generators that model, data module and callbacks have made."""
        held = (pl_module, getattr(trainer, "datamodule", None), *trainer.callbacks)  # type: ignore[attr-defined]
        self.generators = find_generators(*held)
        trainer.strategy.generators = self.generators  # type: ignore[attr-defined] # sharded_strategy.py sets them

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find those that were made since."""
        self.setup(trainer, pl_module, "fit")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set them from (seed, epoch)."""
        self.setup(trainer, pl_module, "fit")
        seed_everything(self.generators, self.seed, Purpose.EPOCH, trainer.current_epoch, 0)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Set them from (seed, epoch, batch), as for the first shard."""
        counters = trainer.current_epoch, trainer.fit_loop.batch_idx, 0
        seed_everything(self.generators, self.seed, Purpose.STEP, *counters)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set them from (seed, epoch), whether there was a validation or not."""
        seed_everything(self.generators, self.seed, Purpose.EPOCH, trainer.current_epoch, 1)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set them from (seed, epoch)."""
        seed_everything(self.generators, self.seed, Purpose.EPOCH, trainer.current_epoch, 2)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *counters: int) -> None:
        """Set them from (seed, step, counters); outside of training, the step counts as 0."""
        step = trainer.global_step if trainer.state.fn == "fit" else 0
        seed_everything(self.generators, self.seed, Purpose.EVALUATION, step, *counters)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Set them from (seed, step, batch)."""
        self.on_validation_epoch_start(trainer, pl_module, dataloader_idx, batch_idx)

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_start = on_validation_batch_start


class SampleRandom:
    """Random numbers for the samples of a batch: the k-th that a sample is given follows from (seed, epoch, index, k).

    So it matters neither which other samples are in the batch, nor which process loads it.
    """

    def __init__(self, seed: int, epoch: int, indices: np.ndarray) -> None:
        self.samples = mix(seed, Purpose.SAMPLE, epoch, indices.astype(np.uint64))
        self.count = 0

    def bits(self) -> np.ndarray:
        """Draw 64 random bits for each sample: uint64 (B,)."""
        self.count += 1
        bits: np.ndarray = mix(self.count, self.samples)
        return bits

    def uniform(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Draw a number from [low, high) for each sample: float64 (B,)."""
        return low + (high - low) * ((self.bits() >> np.uint64(11)) * 2.0**-53)

    def integers(self, low: int, high: int) -> np.ndarray:
        """Draw a whole number from low to high - 1 for each sample: int64 (B,)."""
        return low + (self.bits() % np.uint64(high - low)).astype(np.int64)
