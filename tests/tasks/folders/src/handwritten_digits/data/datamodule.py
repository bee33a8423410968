"""From arrays on disk to batches, by ordinary loaders: the library makes them exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import samebits
import torch
from torch.utils.data import DataLoader, Dataset

from .images import to_input

SPLITS = ("train", "val", "test")

Sample = tuple[torch.Tensor, int]
Transform = Callable[[torch.Tensor], torch.Tensor]


class ImageDataset(Dataset[Sample]):
    """Images and labels in two memory-mapped files: nothing is read before it is asked for.

    Args:
        directory: holds the files.
        split: `train`, `val` or `test`.
        transforms: change an image, float32 (3, 16, 16), one after the other.
    """

    def __init__(self, directory: Path, split: str, transforms: Sequence[Transform] = ()) -> None:
        self.images = np.load(directory / f"{split}_images.npy", mmap_mode="r")
        self.labels = np.load(directory / f"{split}_labels.npy", mmap_mode="r")
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """One sample: float32 (3, 16, 16), and its label."""
        image = to_input(self.images[index])
        for transform in self.transforms:
            image = transform(image)
        return image, int(self.labels[index])


class ImageDataModule(pl.LightningDataModule):
    """Batches of the images that `prepare` wrote.

    Args:
        directory: holds `{train,val,test}_{images,labels}.npy`.
        batch_size: samples a batch.
        folds: the settings `data.folds`; None: the prepared split.
        transforms: of training images.
        num_workers: processes that load; 0 loads in the training process.

    Raises:
        UserError: a file is missing.
    """

    def __init__(
        self,
        directory: str,
        batch_size: int,
        folds: Mapping[str, Any] | None = None,
        transforms: Sequence[Transform] = (),
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.folds = folds
        self.transforms = transforms
        self.options: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
        for split in SPLITS:
            for part in ("images", "labels"):
                path = self.directory / f"{split}_{part}.npy"
                if not path.exists():
                    raise samebits.UserError(f"{path} is missing: run `make data`.")

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled, changed images of the training split."""
        return DataLoader(self.dataset("train", self.transforms), shuffle=True, **self.options)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Batches of the validation split, in order."""
        return DataLoader(self.dataset("val"), **self.options)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Batches of the test split, in order."""
        return DataLoader(self.dataset("test"), **self.options)

    def dataset(self, split: str, transforms: Sequence[Transform] = ()) -> Dataset[Sample]:
        """Return a split as prepared, or that of a fold, whose samples are of all prepared splits."""
        return samebits.fold_dataset(self.folds, split, lambda part: ImageDataset(self.directory, part, transforms))
