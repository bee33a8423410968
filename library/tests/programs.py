"""Programs as people write them: loaders of PyTorch's, callbacks and models with state in plain attributes."""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from .busy import BusyClassifier
from .project import module

datamodule = module("dummy.data.datamodule")


# --- data sets


class Augmented(Dataset[Any]):
    """Draws from the global generators of all three libraries, and from its own."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.rng = np.random.default_rng(5)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        image, label = self.dataset[int(index)]
        return image * torch.rand(()) + random.random() + np.random.rand() + self.rng.random(), label


class ReadInBatches(Augmented):
    """Is asked for whole batches, as data sets of Hugging Face are."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


class WholeBatches(Augmented):
    """Each of its items is a batch."""

    def __len__(self) -> int:
        return len(self.dataset) // 32

    def __getitem__(self, index: int) -> Any:
        return default_collate([super(WholeBatches, self).__getitem__(index * 32 + place) for place in range(32)])


class Stream(IterableDataset[Any]):
    """Shuffles its order in place, with a generator of its own, and counts how often it was read."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.order = dataset, list(range(len(dataset)))
        self.rng, self.reads = random.Random(3), 0

    def __iter__(self) -> Iterator[Any]:
        self.reads += 1
        self.rng.shuffle(self.order)
        for index in self.order:
            image, label = self.dataset[index]
            yield image * torch.rand(()) + self.reads, label


class SizedStream(Stream):
    """Says how long it is."""

    def __len__(self) -> int:
        return len(self.dataset)


# --- samplers


class OwnSampler(Sampler[int]):
    """Keeps a generator and a count of epochs, and shuffles its order in place."""

    def __init__(self, samples: int) -> None:
        self.order, self.rng, self.passes = list(range(samples)), np.random.RandomState(1), 0

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[int]:
        self.passes += 1
        self.rng.shuffle(self.order)
        return iter(self.order[self.passes :] + self.order[: self.passes])


class Buckets(Sampler[list[int]]):
    """Batches of different sizes, drawn as it goes from Python's global generator."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return 12

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(12):
            yield random.sample(range(self.samples), random.randint(20, 40))


class Mix:
    """Blends samples with a generator of its own."""

    def __init__(self) -> None:
        self.rng = torch.Generator()

    def __call__(self, samples: list[Any]) -> Any:
        images, labels = default_collate(samples)
        share = torch.rand((), generator=self.rng)
        return share * images + (1 - share) * images.flip(0), labels


Make = Callable[[Any, dict[str, Any]], Any]
LOADERS: dict[str, Make] = {
    "shuffled": lambda data, how: DataLoader(Augmented(data), 32, shuffle=True, drop_last=True, **how),
    "a generator": lambda data, how: DataLoader(
        Augmented(data), 32, shuffle=True, generator=torch.Generator().manual_seed(1), **how
    ),
    "weighted": lambda data, how: DataLoader(
        Augmented(data), 32, sampler=WeightedRandomSampler([1.0 + n % 3 for n in range(len(data))], 400), **how
    ),
    "subset": lambda data, how: DataLoader(Augmented(data), 32, sampler=SubsetRandomSampler(range(0, 1000, 2)), **how),
    "own sampler": lambda data, how: DataLoader(Augmented(data), 32, sampler=OwnSampler(len(data)), **how),
    "sampler in batches": lambda data, how: DataLoader(
        Augmented(data), batch_sampler=BatchSampler(OwnSampler(len(data)), 32, drop_last=False), **how
    ),
    "own batch sampler": lambda data, how: DataLoader(Augmented(data), batch_sampler=Buckets(len(data)), **how),
    "collate": lambda data, how: DataLoader(Augmented(data), 32, shuffle=True, collate_fn=Mix(), **how),
    "reads in batches": lambda data, how: DataLoader(ReadInBatches(data), 32, shuffle=True, **how),
    "whole batches": lambda data, how: DataLoader(WholeBatches(data), None, shuffle=True, **how),
    "stream": lambda data, how: DataLoader(Stream(data), 32, **how),
    "sized stream": lambda data, how: DataLoader(SizedStream(data), 32, **how),
    "two": lambda data, how: {
        "one": DataLoader(Augmented(data), 16, shuffle=True, **how),
        "short": DataLoader(Augmented(data), 16, sampler=SubsetRandomSampler(range(64)), **how),
    },
    "least of two": lambda data, how: CombinedLoader(
        [DataLoader(Augmented(data), 16, shuffle=True, **how), DataLoader(Stream(data), 16, **how)], "min_size"
    ),
}


class AnyDataModule(datamodule.ArrayDataModule):  # type: ignore[name-defined] # found by its folder
    """Training batches by one of LOADERS; validation batches in an order drawn anew."""

    def __init__(self, loader: str, start: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.loader = loader
        self.how = {name: self.options[name] for name in ("num_workers",)}
        if start:
            self.how["multiprocessing_context"] = start

    def train_dataloader(self) -> Any:
        """Make the loader."""
        return LOADERS[self.loader](datamodule.ArrayDataset(self.directory, "train"), self.how)

    def val_dataloader(self) -> Any:
        """Shuffle the samples of the validation: its sums depend on their order."""
        return DataLoader(Augmented(datamodule.ArrayDataset(self.directory, "val")), 32, shuffle=True, **self.how)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Put the batches of several loaders together."""
        parts = list(batch.values()) if isinstance(batch, dict) else batch
        return [torch.cat(each) for each in zip(*parts, strict=True)] if isinstance(parts[0], list) else batch


# --- models and callbacks


class Forgetful(BusyClassifier):
    """Keeps what it trains by in plain attributes: a list, a count, a generator, a buffer that is not saved."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.losses: list[torch.Tensor] = []
        self.rng = np.random.default_rng(2)
        self.seen = 0
        self.register_buffer("mean", torch.zeros(()), persistent=False)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Weigh the loss by all of it."""
        self.seen += 1
        loss: torch.Tensor = super().training_step(batch, batch_idx)
        self.mean = 0.9 * self.mean + 0.1 * loss.detach()
        self.losses.append(loss.detach())
        return loss * (1 + self.mean + 1 / self.seen + self.rng.random())

    def on_train_epoch_end(self) -> None:
        """Log the mean, as is usual."""
        self.log("train/listed", torch.stack(self.losses).mean())
        self.losses.clear()


class Averaged(pl.Callback):
    """Holds an averaged copy of the first part, the network, and pulls the weights towards it."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy it."""
        self.copy = deepcopy(next(pl_module.children()))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Move both."""
        pairs = zip(self.copy.parameters(), next(pl_module.children()).parameters(), strict=True)
        with torch.no_grad():
            for slow, fast in pairs:
                slow.lerp_(fast, 0.1)
                fast.lerp_(slow, 0.05)


class Counting(pl.Callback):
    """Keeps counts, lists, arrays and a generator, and lets the weights depend on them."""

    def __init__(self) -> None:
        self.count, self.last, self.names = 0, deque([0.0], maxlen=5), defaultdict(int)
        self.sums, self.rng = np.zeros(3), random.Random(7)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        """Shake the weights by all of it."""
        self.count += 1
        self.names[str(self.count % 3)] += 1
        self.sums[self.count % 3] += self.rng.random()
        self.last.append(float(self.sums.sum()))
        with torch.no_grad():
            for weights in pl_module.parameters():
                weights.mul_(1 - 1e-3 * np.tanh(sum(self.last) + self.names["1"]))


class Unfreezing(pl.Callback):
    """Trains a part of the network first, in the middle of an epoch all of it, with dropout off for a while."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze the first parameter, once."""
        if trainer.global_step == 0:
            next(pl_module.parameters()).requires_grad_(False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Unfreeze it in the second epoch's fourth batch."""
        if trainer.current_epoch == 1 and batch_idx == 3:
            next(pl_module.parameters()).requires_grad_(True)
            next(pl_module.children()).eval()


class Growing(pl.Callback):
    """Gives the optimiser a frozen parameter in the second epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add it as a group with a learning rate of its own."""
        if trainer.current_epoch == 1:
            late = next(pl_module.parameters()).requires_grad_(True)
            trainer.optimizers[0].add_param_group({"params": [late], "lr": 0.01})


class Late(BusyClassifier):
    """Its optimiser does not know the first parameter."""

    def configure_optimizers(self) -> Any:
        """Leave it out, and a schedule with it: that is made for one group."""
        first, *rest = self.network.parameters()
        first.requires_grad_(False)
        return self.make_optimizer(rest)


class WithBackbone(BusyClassifier):
    """Has a backbone for BackboneFinetuning; its optimiser knows only what is trained from the beginning."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.backbone = next(each for each in self.network.modules() if isinstance(each, torch.nn.Conv2d))

    def configure_optimizers(self) -> Any:
        """Leave the backbone out."""
        self.backbone.requires_grad_(False)
        return self.make_optimizer([each for each in self.network.parameters() if each.requires_grad])
