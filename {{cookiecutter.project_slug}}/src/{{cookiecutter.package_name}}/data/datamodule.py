"""From arrays on disk to batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import UserError
from .images import to_input

SPLITS = ("train", "val", "test")

Batch = tuple[torch.Tensor, torch.Tensor]


class ArrayDataset(Dataset[Batch]):
    """Images and labels in two memory-mapped files: nothing is read before it is asked for."""

    def __init__(self, directory: Path, split: str) -> None:
        self.images = np.load(directory / f"{split}_images.npy", mmap_mode="r")
        self.labels = np.load(directory / f"{split}_labels.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Batch:
        """One sample: float32 (1, 8, 8) and int64 ()."""
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> Batch:
        """Read a whole batch in one call: float32 (B, 1, 8, 8) and int64 (B,)."""
        return to_input(self.images[indices]), torch.from_numpy(self.labels[indices])


def as_it_is(batch: Any) -> Any:
    """Tell the loader that `__getitems__` has already made a batch."""
    return batch


class ArrayDataModule(pl.LightningDataModule):
    """Batches of the arrays that `prepare` wrote.

    Args:
        directory: holds `{train,val,test}_{images,labels}.npy`.
        batch_size: samples a batch.
        num_workers: processes that load; 0 loads in the training process.
        seed: of the order of the training samples.

    Raises:
        UserError: a file is missing.
    """

    def __init__(self, directory: str, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        for split in SPLITS:
            for part in ("images", "labels"):
                path = self.directory / f"{split}_{part}.npy"
                if not path.exists():
                    raise UserError(f"{path} is missing: run `make data`.")

    def _loader(self, split: str) -> DataLoader[Batch]:
        return DataLoader(
            ArrayDataset(self.directory, split),
            batch_size=self.batch_size,
            shuffle=split == "train",
            # each loader has a generator of its own, so that validating does not shift the order of training
            generator=torch.Generator().manual_seed(self.seed),
            num_workers=self.num_workers,
            collate_fn=as_it_is,
        )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled batches of the training split."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation split, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Batches of the test split, in order."""
        return self._loader("test")
