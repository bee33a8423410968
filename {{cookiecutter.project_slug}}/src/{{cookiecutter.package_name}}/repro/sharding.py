"""A batch in shards: the part of it that each process trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .tree import Span


class Held(NamedTuple):
    """Which shards a process holds, of how many."""

    shards: int
    held: Span


@dataclass(frozen=True)
class ShardedBatch:
    """The shards of one batch that this process holds. Hooks are given it in the place of a batch.

    Attributes:
        epoch: from 0 on.
        number: of the batch in its epoch, from 0 on.
        size: samples of the whole batch, in all shards of all processes.
        first: the number of the first shard in `parts`.
        sizes: samples of each of `parts`.
        parts: what the data module gives as a batch, for each shard; None for one without samples.
    """

    epoch: int
    number: int
    size: int
    first: int
    sizes: tuple[int, ...]
    parts: tuple[Any, ...]

    def map(self, function: Callable[[int, Any], Any]) -> ShardedBatch:
        """Change each part: `function` is given its shard's number and the part."""
        parts = enumerate(self.parts, start=self.first)
        return replace(self, parts=tuple(None if part is None else function(shard, part) for shard, part in parts))

    def pin_memory(self) -> ShardedBatch:
        """Move it to memory that a GPU reads from; PyTorch's loader asks for it."""
        from torch.utils.data._utils.pin_memory import pin_memory

        return self.map(lambda shard, part: pin_memory(part))


def split(epoch: int, number: int, indices: np.ndarray, shards: Held) -> ShardedBatch:
    """Split a batch as evenly as it goes, and keep what this process holds.

    Args:
        epoch: from 0 on.
        number: of the batch.
        indices: of its samples, int64 (B,).
        shards: which ones to keep.

    Returns:
        A batch whose parts are the indices of the samples.
    """
    low, high = shards.held
    parts = np.array_split(indices, shards.shards)[low:high]
    sizes = tuple(len(part) for part in parts)
    return ShardedBatch(epoch, number, len(indices), low, sizes, tuple(part if len(part) else None for part in parts))


@dataclass(frozen=True)
class CollateShards:
    """Makes a batch of the samples of each shard."""

    collate: Callable[[Any], Any]

    def __call__(self, batch: ShardedBatch) -> ShardedBatch:
        """Make them."""
        return batch.map(lambda shard, samples: self.collate(samples))
