"""Loading data so that each batch is a function of (seed, epoch, batch): a data module needs `make_loader` alone.

It joins the order of the samples (`BatchOrder`), the randomness of each (`SeededDataset`) and a loader that begins
where training stands (`Loader`). Where a batch is split into shards, each process loads its own shards of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, dataloader, default_collate

from . import access_log
from .lightning import pl
from .randomness import Purpose, SampleRandom, mix, seed_all

# of an iterator that could not be made, as where memory is full: without it, PyTorch prints a traceback of its own
dataloader._MultiProcessingDataLoaderIter._shutdown = True


class LocalShards(NamedTuple):
    """The shards of each batch that one process computes: from `first` to before `end`, of `total`."""

    total: int
    first: int
    end: int


def local_shards(total: int, world_size: int, rank: int) -> LocalShards:
    """Return the shards of a process: consecutive ones, as many as the others compute, or one more."""
    each, more = divmod(total, world_size)
    first = rank * each + min(rank, more)
    return LocalShards(total, first, first + each + (rank < more))


@dataclass(frozen=True)
class ShardedBatch:
    """The shards of one batch that this process computes. Hooks are given it in the place of a batch.

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


def split_batch(epoch: int, number: int, indices: np.ndarray, shards: LocalShards) -> ShardedBatch:
    """Split the indices of a batch, int64 (B,), into shards of about the same size, and keep this process's."""
    parts = np.array_split(indices, shards.total)[shards.first : shards.end]
    sizes = tuple(len(part) for part in parts)
    held = tuple(part if len(part) else None for part in parts)
    return ShardedBatch(epoch, number, len(indices), shards.first, sizes, held)


def collate_shards(collate: Callable[[Any], Any], batch: ShardedBatch) -> ShardedBatch:
    """Make a batch of the samples of each shard."""
    return batch.map(lambda shard, samples: collate(samples))


class BatchIndices(NamedTuple):
    """The samples of one batch: what `BatchOrder` gives to `SeededDataset`."""

    epoch: int
    indices: np.ndarray  # int64, shape (B,)


class SeededDataset(Dataset[Any]):
    """Reads a batch and gives each of its samples randomness of its own.

    From any data set, samples are read one by one with `dataset[index]`, each with the global generators set for it, so
    that transforms which draw from those are covered as they are. One that has a method `read_batch(indices)` is asked
    for a whole batch instead, which is faster, and for `augment(batch, random)`, which is given a `SampleRandom`.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.access_log = access_log.Handle()  # first: what the data set opens, also when it is unpickled, is noted
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, batch: BatchIndices | ShardedBatch) -> Any:
        """Read the samples of one batch."""
        epoch = batch.epoch
        if isinstance(batch, ShardedBatch):
            return batch.map(lambda shard, indices: self.__getitems__(BatchIndices(epoch, indices)))
        if hasattr(self.dataset, "read_batch"):
            seed_all(self.seed, Purpose.SAMPLE, epoch, int(batch.indices[0]))  # should it draw by itself
            samples = self.dataset.read_batch(batch.indices)
            augment = getattr(self.dataset, "augment", None)
            return augment(samples, SampleRandom(self.seed, *batch)) if augment else samples
        samples = []
        for index in batch.indices.tolist():
            seed_all(self.seed, Purpose.SAMPLE, epoch, index)
            samples.append(self.dataset[index])
        return samples


class BatchOrder(Sampler[BatchIndices | ShardedBatch]):
    """Says which samples make up each batch: a function of (seed, epoch), begun at the batch that training has come to.

    Args:
        samples: number of samples in the data set.
        batch_size: samples a batch.
        seed: of the order.
        trainer: whose counters say the epoch and the batch; they are in its checkpoints, so nothing else is saved.
            None gives the samples in order, for validation and testing.
        drop_last: leave out the last batch of an epoch if it has fewer samples.
    """

    def __init__(
        self, samples: int, batch_size: int, seed: int, trainer: pl.Trainer | None, drop_last: bool = False
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.trainer = trainer
        self.drop_last = drop_last

    def __len__(self) -> int:
        return self.samples // self.batch_size if self.drop_last else -(-self.samples // self.batch_size)

    def position(self) -> tuple[int, int]:
        """Return the epoch, and the batch in it, that come next."""
        if self.trainer is None:
            return 0, 0
        overfit = self.trainer.overfit_batches  # type: ignore[attr-defined] # Lightning sets it elsewhere
        # overfitting wants the same few batches again and again
        return 0 if overfit else self.trainer.current_epoch, self.trainer.fit_loop.batch_idx + 1

    @property
    def shards(self) -> LocalShards | None:
        """Which shards of each batch are for this process; None where batches are whole."""
        return getattr(getattr(self.trainer, "strategy", None), "shards", None)

    def __iter__(self) -> Iterator[BatchIndices | ShardedBatch]:
        epoch, first = self.position()
        indices = np.arange(self.samples)
        if self.trainer is not None:
            generator = torch.Generator().manual_seed(mix(self.seed, Purpose.ORDER, epoch))
            indices = torch.randperm(self.samples, generator=generator).numpy()
        shards = self.shards
        for number in range(first, len(self)):
            batch = indices[number * self.batch_size : (number + 1) * self.batch_size]
            yield BatchIndices(epoch, batch) if shards is None else split_batch(epoch, number, batch, shards)


class LateLoader(DataLoader[Any]):
    """A DataLoader that asks for its first batch no sooner than the trainer does.

    The trainer makes iterators before its counters are restored, and workers would start loading at once.
    """

    def begin(self) -> tuple[int, int, int]:
        """Make ready for the next pass; return the seed, the epoch, and the batch in it, that come next."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override] # a generator: it begins at the first next()
        seed, epoch, first = self.begin()
        for number, batch in enumerate(super().__iter__(), start=first):
            seed_all(seed, Purpose.TRANSFER, epoch, number)  # for hooks that change the batch
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: that there is this method tells Lightning that the loader can be resumed."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: the trainer's counters say where to go on."""


class Loader(LateLoader):
    """What `make_loader` makes."""

    batch_sampler: BatchOrder  # type: ignore[assignment] # it gives BatchIndices, where PyTorch says lists

    def begin(self) -> tuple[int, int, int]:
        """Return where training stands."""
        return self.batch_sampler.seed, *self.batch_sampler.position()


def make_loader(
    dataset: Any,
    *,
    batch_size: int,
    seed: int,
    trainer: pl.Trainer | None,
    drop_last: bool = False,
    num_workers: int = 0,
    **options: Any,
) -> Loader:
    """Make a loader whose batches follow from the seed alone: not from workers, validations, or having been killed.

    Args:
        dataset: has a length and `dataset[index]`; see `SeededDataset` for what else it can do.
        batch_size: samples a batch.
        seed: of the order and of the augmentation.
        trainer: whose training is fed, in random order; None for validation and testing, in order.
        drop_last: leave out the last batch of an epoch if it has fewer samples.
        num_workers: processes that load; 0 loads in this one.
        options: more arguments of `torch.utils.data.DataLoader`, except `shuffle`, `sampler` and `batch_sampler`.
    """
    if hasattr(dataset, "read_batch"):
        options.setdefault("collate_fn", no_collate)
    order = BatchOrder(len(dataset), batch_size, seed, trainer, drop_last)
    if order.shards:
        options["collate_fn"] = partial(collate_shards, options.get("collate_fn") or default_collate)
    return Loader(
        SeededDataset(dataset, seed),
        batch_sampler=order,  # type: ignore[arg-type]
        generator=torch.Generator(),  # its own: making an iterator draws a number
        num_workers=num_workers,
        **options,
    )


def no_collate(batch: Any) -> Any:
    """Return what is given: `read_batch` has already made a batch."""
    return batch
