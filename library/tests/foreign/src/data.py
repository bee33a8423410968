"""The measured points: data/points.csv, with the columns x and y."""

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset, random_split


class Points(L.LightningDataModule):
    def __init__(self, path: str, batch_size: int, num_workers: int) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str | None = None) -> None:
        x, y = torch.from_numpy(np.loadtxt(self.hparams.path, delimiter=",", dtype=np.float32)).T
        parts = (0.7, 0.15, 0.15)
        points = TensorDataset(x[:, None], y[:, None])
        self.train, self.val, self.test = random_split(points, parts, torch.Generator().manual_seed(0))

    def loader(self, points, shuffle: bool = False) -> DataLoader:
        return DataLoader(points, self.hparams.batch_size, shuffle=shuffle, num_workers=self.hparams.num_workers)

    def train_dataloader(self) -> DataLoader:
        return self.loader(self.train, shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self.loader(self.val)

    def test_dataloader(self) -> DataLoader:
        return self.loader(self.test)
