"""Trains in one way and prints samples a second: `throughput.py WAY [override ...]`, in the project's Python.

The first epoch does not count, nor does the last. All ways share the network, its initial weights, the batch size, the
loss, the fused optimiser and its schedule, and what `determinism` pins, threads included.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from samebits.engine import determinism
from samebits.engine.config import compose, quote

WARM = 1  # epochs that do not count
way, *overrides = sys.argv[1:]
folder = tempfile.TemporaryDirectory()
cfg = compose([f"paths.models={quote(folder.name)}", "snapshot=false", *overrides])
determinism.before_torch(cfg.determinism)

import numpy as np  # noqa: E402 # PyTorch is loaded in the environment that was pinned
import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from handwritten_digits.data.datamodule import ArrayDataset  # noqa: E402
from handwritten_digits.models.classifier import Classifier  # noqa: E402
from handwritten_digits.train import train  # noqa: E402
from samebits.engine.config import instantiate  # noqa: E402
from samebits.engine.randomness import SampleRandom  # noqa: E402
from samebits.engine.trainer import keep_freed_memory  # noqa: E402
from torch.nn.functional import pad  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchmetrics import MeanMetric  # noqa: E402
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score  # noqa: E402

samples = len(np.load(Path(cfg.data.module.directory) / "train_labels.npy", mmap_mode="r"))
size, limit = cfg.data.module.batch_size, cfg.trainer.limit_train_batches
if isinstance(limit, int):  # batches an epoch; 1.0 is all of them
    samples = min(samples, limit * size)
starts: list[float] = []  # of each epoch


def note(module: object) -> None:
    """Take the time, at the start of an epoch."""
    starts.append(time.perf_counter())


def ours() -> None:
    """Train as `make train` does: record, trace, checkpoints, history, and all other callbacks."""
    Classifier.on_train_epoch_start = note
    train(cfg)


def plain() -> None:
    """Train by the shortest loop that sees the same batches, and keeps and says nothing."""
    keep_freed_memory()
    determinism.after_torch(cfg.determinism)
    data = ArrayDataset(Path(cfg.data.module.directory), "train", cfg.data.module.shift)
    torch.manual_seed(cfg.seed)
    model = instantiate(cfg, "model")
    network, loss = model.network, model.loss
    optimizer = model.make_optimizer(network.parameters())
    schedule = model.make_scheduler(optimizer)
    for epoch in range(cfg.trainer.max_epochs):
        note(model)
        order = torch.randperm(len(data))[:samples].numpy()
        for indices in np.split(order, range(size, samples, size)):
            images, labels = data.augment(data.read_batch(indices), SampleRandom(cfg.seed, epoch, indices))
            optimizer.zero_grad()
            loss(network(images), labels).backward()
            optimizer.step()
        schedule.step()


class Samples(Dataset):
    """The same data as one usually reads it: sample by sample, each moved at random."""

    def __init__(self, directory: Path, split: str, shift: int = 0) -> None:
        self.images, self.labels = (np.load(directory / f"{split}_{part}.npy") for part in ("images", "labels"))
        self.shift = shift

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(self.images[index]).float().div(16).unsqueeze(0)
        if self.shift:
            down, right = torch.randint(2 * self.shift + 1, (2,)).tolist()
            side = image.shape[-1]
            image = pad(image, [self.shift] * 4)[:, down : down + side, right : right + side]
        return image, int(self.labels[index])


class Usual(pl.LightningModule):
    """The same training as one usually writes it: what is to be known is logged at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.model = instantiate(cfg, "model")
        self.losses = torch.nn.ModuleDict({"train_": MeanMetric(), "val_": MeanMetric()})
        self.accuracy = torch.nn.ModuleDict({each: MulticlassAccuracy(10, average="micro") for each in self.losses})
        self.f1 = MulticlassF1Score(10)

    def step(self, batch: list[torch.Tensor], part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the loss, and log it with the accuracy."""
        images, labels = batch
        scores = self.model.network(images)
        loss = self.model.loss(scores, labels)
        self.losses[part](loss)
        self.accuracy[part](scores, labels)
        self.log(f"{part}loss", self.losses[part], on_step=False, on_epoch=True, prog_bar=True)
        self.log(f"{part}accuracy", self.accuracy[part], on_step=False, on_epoch=True, prog_bar=True)
        return loss, scores

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss."""
        return self.step(batch, "train_")[0]

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        """Log one more metric."""
        _, scores = self.step(batch, "val_")
        self.f1(scores, batch[1])
        self.log("val_f1", self.f1, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self) -> dict[str, object]:
        """Make the same ones."""
        optimizer = self.model.make_optimizer(self.model.network.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.model.make_scheduler(optimizer)}


def peers() -> None:
    """Train by Lightning with all its defaults: progress bar, summary, logger, a checkpoint each epoch."""
    determinism.after_torch(cfg.determinism)
    pl.seed_everything(cfg.seed)
    Usual.on_train_epoch_start = note
    directory = Path(cfg.data.module.directory)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=cfg.trainer.max_epochs, deterministic=True, default_root_dir=folder.name
    )
    training = DataLoader(Samples(directory, "train", cfg.data.module.shift), size, shuffle=True)
    trainer.fit(Usual(), training, DataLoader(Samples(directory, "val"), size))


{"ours": ours, "plain": plain, "peers": peers}[way]()
print(samples * (len(starts) - 1 - WARM) / (starts[-1] - starts[WARM]))
