"""Ordinary loaders made exact: each batch of a plain `DataLoader` a function of (seed, epoch, batch), and nothing else.

`ExactLoaders` stands between Lightning and what a data module returns. The samples' order comes from the user's own
sampler, with all generators set before each of its steps; each sample is read with the generators set for its place in
the epoch, so that the number of workers does not matter; a run that is resumed begins where it was cut off. What cannot
be exact is refused before the first step. `make_loader` of data_loading.py, which is faster, is left as it is.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils._pytree import tree_unflatten
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from . import access_log
from .attributes import LARGEST, ChangedAttributes
from .callbacks import BestWeights
from .data_loading import LateLoader, Loader, LocalShards, ShardedBatch, collate_shards, split_batch
from .errors import UserError
from .lightning import CombinedLoader, _DataLoaderSource, pl
from .lightning import _tree_flatten as tree_flatten
from .randomness import Purpose, find_generators, seed_everything

Position = tuple[int, int, int]  # the epoch, the pass over the data in it, and the batch of that, which come next
KEPT = ("num_workers", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "persistent_workers")


class Places(NamedTuple):
    """Some samples of one batch: what the order gives to the data set."""

    epoch: int
    batch: int
    first: int  # the place of the first of them in the batch
    indices: Any  # list, of what the data set is indexed by; one index where the loader makes no batches


class ExactOrder(Sampler[Any]):
    """Steps through a sampler or batch sampler of the user's, with all generators set before each step.

    Args:
        sampler: the user's.
        seed: of the run.
        shards: of each batch, those of this process; None where batches are whole.
    """

    begin: Position = (0, 0, 0)  # set before each pass

    def __init__(self, sampler: Any, seed: int, shards: LocalShards | None = None) -> None:
        self.sampler, self.seed, self.shards = sampler, seed, shards
        inner: Iterable[Any] = (sampler, getattr(sampler, "sampler", None))
        self.counters = ChangedAttributes({type(each).__name__: each for each in inner if hasattr(each, "__dict__")})
        self.counted = self.counters.state()  # when the epoch began

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        epoch, again, first = self.begin
        self.counted = self.counters.state()
        generators = find_generators(self.sampler)
        seed_everything(generators, self.seed, Purpose.ORDER, epoch, again, 0)
        steps = iter(self.sampler)
        for number in count():
            seed_everything(generators, self.seed, Purpose.ORDER, epoch, again, number + 1)
            try:
                indices = next(steps)
            except StopIteration:
                return
            if number >= first:
                yield self._split(epoch, number, indices)

    def _split(self, epoch: int, number: int, indices: Any) -> Places | ShardedBatch:
        if self.shards is None:
            return Places(epoch, number, 0, indices)
        split = split_batch(epoch, number, np.arange(len(indices)), self.shards)
        return split.map(
            lambda shard, places: Places(epoch, number, int(places[0]), indices[places[0] : places[-1] + 1])
        )


class ExactSamples(Dataset[Any]):
    """Reads each sample with all generators set for its place in the epoch.

    Args:
        dataset: the user's, read by `dataset[index]`, or by `dataset.__getitems__(indices)` where it has that.
        collate: makes a batch of samples; its generators are set as well.
        seed: of the run.
    """

    def __init__(self, dataset: Any, collate: Any, seed: int) -> None:
        self.access_log = access_log.Handle()
        self.dataset, self.collate, self.seed = dataset, collate, seed
        self.generators: list[Any] | None = None  # found where the samples are read, which may be another process

    def __len__(self) -> int:
        return len(self.dataset)

    def _set(self, places: Places, place: int) -> None:
        if self.generators is None:
            self.generators = find_generators(self.dataset, self.collate)
        seed_everything(self.generators, self.seed, Purpose.SAMPLE, places.epoch, places.batch, place)

    def __getitem__(self, places: Places) -> Any:
        self._set(places, 0)
        return self.dataset[places.indices]

    def __getitems__(self, places: Places | ShardedBatch) -> Any:
        """Read the samples of a batch."""
        if isinstance(places, ShardedBatch):
            return places.map(lambda shard, part: self.__getitems__(part))
        if hasattr(self.dataset, "__getitems__"):
            self._set(places, places.first)
            return self.dataset.__getitems__(places.indices)
        samples = []
        for place, index in enumerate(places.indices, start=places.first):
            self._set(places, place)
            samples.append(self.dataset[index])
        return samples

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"generators": None}


class ExactStream(IterableDataset[Any]):
    """Reads an IterableDataset with all generators set before each sample; begins where training stands.

    Samples that come before are read and passed over. It is read by one process: by several, the order would depend on
    their number. Each pass begins with the data set as it was, whatever the pass before did to it.
    """

    begin: Position = (0, 0, 0)  # set before each pass; samples are counted here, not batches

    def __init__(self, dataset: Any, collate: Any, seed: int) -> None:
        self.access_log = access_log.Handle()
        self.dataset, self.collate, self.seed = dataset, collate, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        epoch, again, first = self.begin
        generators = find_generators(self.dataset, self.collate)
        seed_everything(generators, self.seed, Purpose.ORDER, epoch, again, 0)
        samples = iter(twin(self.dataset))
        for number in count():
            seed_everything(generators, self.seed, Purpose.SAMPLE, epoch, again, number)
            try:
                sample = next(samples)
            except StopIteration:
                return
            if number >= first:
                yield sample


class ExactLoader(LateLoader):
    """A DataLoader of exact samples in an exact order, made of the user's."""

    seed: int
    position: Callable[[], Position]
    source: ExactOrder | ExactStream

    def begin(self) -> tuple[int, int, int]:
        """Tell the order, or the stream, where training stands."""
        epoch, again, first = self.position()
        in_batches = isinstance(self.source, ExactOrder) or self.batch_size is None
        self.source.begin = (epoch, again, first if in_batches else first * (self.batch_size or 1))
        set_epoch(self.source, epoch)
        return self.seed, epoch, first


class ExactCombination(CombinedLoader):
    """Several training loaders at once; after a resume, the batches that came before are read and passed over."""

    position: Callable[[], Position]
    begun = False

    def __iter__(self) -> ExactCombination:
        self.begun = False
        super().__iter__()
        return self

    def __next__(self) -> Any:
        if not self.begun:
            self.begun = True
            for _ in range(self.position()[2]):
                super().__next__()
        return super().__next__()


class Passes:
    """The position of one of several loaders: a short one is gone through again and again within an epoch."""

    def __init__(self, position: Callable[[], Position]) -> None:
        self.position, self.last = position, (-1, 0)

    def __call__(self) -> Position:
        """Return the epoch, and how often the data has been gone through in it; batches are passed over elsewhere."""
        epoch = self.position()[0]
        self.last = (epoch, self.last[1] + 1 if self.last[0] == epoch else 0)
        return *self.last, 0


class ExactLoaders(pl.Callback):
    """Makes the loaders that the model or the data module returns exact, as Lightning asks for them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.training: list[ExactLoader] = []
        self.resumed: list[Any] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stand between the trainer's loops and what they ask for loaders."""
        self.trainer: Any = trainer
        loops: dict[str, dict[str, Any]] = {
            "fit": {"train": trainer.fit_loop, "val": trainer.fit_loop.epoch_loop.val_loop},
            "validate": {"val": trainer.validate_loop},
            "test": {"test": trainer.test_loop},
        }
        for kind, loop in loops.get(stage, {}).items():
            source = loop._data_source
            if not isinstance(source, ExactSource):
                loop._data_source = ExactSource(source.instance, source.name)
                loop._data_source.convert = partial(self.convert, kind=kind)

    def state_dict(self) -> dict[str, Any]:
        """Read what the samplers had counted when the epoch began."""
        return {"samplers": [getattr(loader.source, "counted", {}) for loader in self.training]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Keep it for the loaders, which are not made yet."""
        self.resumed = state["samplers"]

    def position(self) -> Position:
        """Return where training stands."""
        trainer: Any = self.trainer
        completed = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        # overfitting wants the same few batches again and again
        return (0 if trainer.overfit_batches else trainer.current_epoch), 0, completed

    def convert(self, loaders: Any, kind: str) -> Any:
        """Make each of some loaders exact.

        Args:
            loaders: a loader, a collection of them, or a CombinedLoader.
            kind: `train`, `val` or `test`.

        Raises:
            UserError: one cannot be.
        """
        combined = isinstance(loaders, CombinedLoader)
        flat, form = tree_flatten(loaders.iterables if combined else loaders)
        if not isinstance(loaders, DataLoader) and loaders in ([], (), {}):
            flat = []  # which Lightning takes for a loader
        mode: Any = loaders._mode if combined else "max_size_cycle"
        several = len(flat) > 1
        if kind == "val" and not flat and any(isinstance(each, BestWeights) for each in self.trainer.callbacks):
            raise UserError(
                "val_dataloader() returns no loader, but callbacks.best keeps the weights that are best in validation:"
                " return one, or keep the last weights by ~callbacks.best."
            )
        if kind != "train":
            exact = [self.exact(loader, kind, lambda: (0, 0, 0)) for loader in flat]
        else:
            if several and any(isinstance(loader, Loader) for loader in flat):
                raise UserError("train_dataloader() returns several loaders, one of make_loader: use DataLoader.")
            exact = [self.exact(each, kind, Passes(self.position) if several else self.position) for each in flat]
            self.training = [loader for loader in exact if isinstance(loader, ExactLoader)]
            for loader, counted in zip(self.training, self.resumed, strict=False):
                if isinstance(loader.source, ExactOrder):
                    loader.source.counters.restore(counted)
            self.resumed = []
        collection = tree_unflatten(exact, form) if flat else loaders
        if kind == "train" and several:
            combination = ExactCombination(collection, mode)
            combination.position = self.position
            return combination
        return CombinedLoader(collection, mode) if combined else collection

    def exact(self, loader: Any, kind: str, position: Callable[[], Position]) -> Any:
        """Make one loader exact.

        Raises:
            UserError: it cannot be.
        """
        if isinstance(loader, Loader | ExactLoader):
            return loader
        name = f"{kind}_dataloader() returns a {type(loader).__name__}"
        if not isinstance(loader, DataLoader):
            raise UserError(
                f"{name}, whose batches cannot be made to follow from the seed: return a DataLoader of PyTorch, with an"
                " IterableDataset where samples come as a stream."
            )
        if any(getattr(type(loader), each) is not getattr(DataLoader, each) for each in ("__iter__", "_get_iterator")):
            raise UserError(
                f"{name}, which goes through its data in a way of its own, so a run that was cut off could not find its"
                " place: return an ordinary DataLoader, with your sampler, batch_sampler or collate_fn."
            )
        shards = getattr(self.trainer.strategy, "shards", None) if kind == "train" else None
        options: dict[str, Any] = {key: getattr(loader, key) for key in KEPT}
        if loader.num_workers:
            options["prefetch_factor"] = loader.prefetch_factor
        source: ExactOrder | ExactStream
        if isinstance(loader.dataset, IterableDataset):
            if shards is not None:
                raise UserError(
                    f"{kind}_dataloader() has an IterableDataset, which cannot be split into shards: train with"
                    " trainer.devices=1 and determinism.shards=null, or use a data set with a length and an index."
                )
            if loader.num_workers > 1:
                print(
                    f"{kind}_dataloader(): {type(loader.dataset).__name__} is read by 1 worker instead of"
                    f" {loader.num_workers}: the order of its samples would depend on their number.",
                    file=sys.stderr,
                )
                options["num_workers"] = 1
            options["persistent_workers"] = False  # each pass is to begin with the data set as it is here
            data: Any = ExactStream(loader.dataset, loader.collate_fn, self.seed)
            source = data
            options |= {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        else:
            data = ExactSamples(loader.dataset, loader.collate_fn, self.seed)
            if loader.batch_sampler is None:  # the data set makes batches by itself
                source = ExactOrder(loader.sampler, self.seed)
                options |= {"batch_size": None, "sampler": source}
            else:
                source = ExactOrder(loader.batch_sampler, self.seed, shards)
                options["batch_sampler"] = source
        options["collate_fn"] = loader.collate_fn if shards is None else partial(collate_shards, loader.collate_fn)
        made = ExactLoader(data, **options, generator=torch.Generator())  # its own: making an iterator draws a number
        made.seed, made.position, made.source = self.seed, position, source
        return made


class ExactSource(_DataLoaderSource):
    """Where a loop of Lightning's gets its loaders from; they come out exact."""

    convert: Callable[[Any], Any]

    def dataloader(self) -> Any:
        """Ask for the loaders, as Lightning would, and make them exact."""
        return self.convert(super().dataloader())


def twin(dataset: Any) -> Any:
    """Copy a data set, but for large arrays and what its objects hold: going through the copy leaves it as it was."""
    made = copy(dataset)
    for name, value in vars(dataset).items():
        small = isinstance(value, torch.Tensor | np.ndarray) and value.nbytes <= LARGEST
        if small or type(value) in (list, dict, set, deque):
            vars(made)[name] = value.clone() if isinstance(value, torch.Tensor) else copy(value)
    return made


def set_epoch(holder: Any, epoch: int) -> None:
    """Tell samplers and data sets, also those that they are made of, which epoch it is, where they ask for that."""
    while holder is not None:
        if callable(method := getattr(holder, "set_epoch", None)):
            method(epoch)
        holder = getattr(holder, "sampler", None) or getattr(holder, "dataset", None)
