"""Images with labels, data/patterns.npz: images float32 (N, 1, side, side), labels int64 (N,)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, random_split

Batch = tuple[torch.Tensor, torch.Tensor]


class Images(Dataset):
    """The images of a file, each so many times; a batch is taken out at once."""

    def __init__(self, path: str, repeat: int) -> None:
        with np.load(path) as arrays:
            self.images, self.labels = torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])
        self.repeat = repeat

    def __len__(self) -> int:
        return len(self.labels) * self.repeat

    def __getitem__(self, index: int) -> Batch:
        return self.images[index % len(self.labels)], self.labels[index % len(self.labels)]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Take out a batch."""
        rows = torch.tensor(indices) % len(self.labels)
        return self.images[rows], self.labels[rows]


def whole(batch: Any) -> Any:
    """Return the batch that `__getitems__` has made."""
    return batch


class Patterns(pl.LightningDataModule):
    """Loads them in batches, the training's in random order."""

    def __init__(self, path: str, batch_size: int, repeat: int = 1) -> None:
        super().__init__()
        self.path, self.batch_size, self.repeat = path, batch_size, repeat

    def setup(self, stage: str | None = None) -> None:
        """Read and split them."""
        parts = (0.9, 0.1)
        images = Images(self.path, self.repeat)
        self.train, self.test = random_split(images, parts, torch.Generator().manual_seed(0))

    def train_dataloader(self) -> DataLoader:
        """Return the batches to train on."""
        options: dict[str, Any] = {"pin_memory": torch.cuda.is_available(), "collate_fn": whole}
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True, **options)

    def val_dataloader(self) -> DataLoader:
        """Return the batches that tell which weights are best: here, those of the test."""
        return self.test_dataloader()

    def test_dataloader(self) -> DataLoader:
        """Return the batches to measure on."""
        return DataLoader(self.test, self.batch_size, collate_fn=whole)
