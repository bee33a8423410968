"""From arrays on disk to batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

import samebits

from .images import move, to_input

SPLITS = ("train", "val", "test")

Batch = tuple[torch.Tensor, torch.Tensor]


class ArrayDataset(Dataset[Batch]):
    """Images and labels in two memory-mapped files: nothing is read before it is asked for.

    Args:
        directory: holds the files.
        split: `train`, `val` or `test`.
        shift: the most pixels that `augment` moves an image by.
    """

    def __init__(self, directory: Path, split: str, shift: int = 0) -> None:
        self.images = np.load(directory / f"{split}_images.npy", mmap_mode="r")
        self.labels = np.load(directory / f"{split}_labels.npy", mmap_mode="r")
        self.shift = shift

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        """One sample: float32 (1, 8, 8) and int64 ()."""
        images, labels = self.read_batch(np.array([index]))
        return images[0], labels[0]

    def read_batch(self, indices: np.ndarray) -> Batch:
        """Read a whole batch in one call: float32 (B, 1, 8, 8) and int64 (B,)."""
        return to_input(self.images[indices]), torch.from_numpy(self.labels[indices])

    def augment(self, batch: Batch, random: samebits.SampleRandom) -> Batch:
        """Move each image by random pixels; called by the loader, with random numbers for each sample."""
        if self.shift == 0:
            return batch
        images, labels = batch
        down, right = (random.integers(-self.shift, self.shift + 1) for _ in range(2))
        return move(images, down, right), labels


class ArrayDataModule(pl.LightningDataModule):
    """Batches of the arrays that `prepare` wrote.

    Args:
        directory: holds `{train,val,test}_{images,labels}.npy`.
        batch_size: samples a batch of training.
        seed: of the order of the training samples, and of their augmentation.
        folds: the settings `data.folds`; None: the prepared split.
        shift: each training image is moved by up to so many pixels at random; 0 leaves it where it is.
        eval_batch_size: samples a batch of validation and test; None: as many as in training.
        num_workers: processes that load; 0 loads in the training process.
        persistent_workers: keep them from epoch to epoch.
        prefetch_factor: batches that each of them loads ahead.

    Raises:
        UserError: a file is missing.
    """

    def __init__(
        self,
        directory: str,
        batch_size: int,
        seed: int,
        folds: Mapping[str, Any] | None = None,
        shift: int = 0,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        persistent_workers: bool = True,
        prefetch_factor: int = 2,
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.folds = folds
        self.shift = shift
        self.options: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "num_workers": num_workers}
        if num_workers:  # PyTorch refuses these without workers
            self.options |= {"persistent_workers": persistent_workers, "prefetch_factor": prefetch_factor}
        self.eval_options = self.options | {"batch_size": eval_batch_size or batch_size}
        for split in SPLITS:
            for part in ("images", "labels"):
                path = self.directory / f"{split}_{part}.npy"
                if not path.exists():
                    raise samebits.UserError(f"{path} is missing: run `make data`.")

    # make_loader is a DataLoader whose batches follow from the seed alone. Told the trainer, it shuffles, and begins
    # where training stands; without, it reads in order.

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled, augmented batches of the training split."""
        return samebits.make_loader(self.dataset("train", self.shift), trainer=self.trainer, **self.options)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation split, in order."""
        return samebits.make_loader(self.dataset("val"), trainer=None, **self.eval_options)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test split, in order."""
        return samebits.make_loader(self.dataset("test"), trainer=None, **self.eval_options)

    def dataset(self, split: str, shift: int = 0) -> Dataset[Batch]:
        """Return a split as prepared, or that of a fold, whose samples are of all prepared splits."""
        return samebits.fold_dataset(self.folds, split, lambda part: ArrayDataset(self.directory, part, shift))
