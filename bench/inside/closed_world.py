"""Trains, with or without recording what else the run depends on, and prints the seconds.

`closed_world.py all|none arrays|files [override ...]`: what is recorded is what a training touches and loads, when its
code asks for the time, and the trace's rows of evaluations. *files* are 10,000 PNGs, one for each sample.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from handwritten_digits.train import train
from samebits import project, run
from samebits.engine import determinism
from samebits.engine.config import compose, quote

FILES, SPLITS = 10_000, {"train": 8_000, "val": 1_000, "test": 1_000}

way, data, *overrides = sys.argv[1:]
runs = tempfile.TemporaryDirectory()
images = project().root / "data/interim/closed-world"  # made once
if data == "files":
    overrides += ["data.module._target_=__main__.Images", f"data.module.directory={quote(str(images))}"]
cfg = compose([f"paths.models={quote(runs.name)}", "run_name=closed-world", "snapshot=false", *overrides])
determinism.before_torch(cfg.determinism)

import numpy as np  # noqa: E402 # PyTorch is loaded in the environment that was pinned
import pytorch_lightning as pl  # noqa: E402
import torch  # noqa: E402
from handwritten_digits.data import datamodule  # noqa: E402, F401 # Hydra asks for them later
from handwritten_digits.models import classifier, network  # noqa: E402, F401
from PIL import Image  # noqa: E402
from samebits.engine import access_log, callbacks, loaded_code, observer, trace_writer, trainer  # noqa: E402, F401
from torch.utils.data import DataLoader, Dataset  # noqa: E402


class Files(Dataset):
    """Reads each sample, a float32 (1, 8, 8), from a file of its own."""

    def __init__(self, directory: str, split: str) -> None:
        self.paths = [f"{directory}/{split}-{number}.png" for number in range(SPLITS[split])]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self.paths[index]) as image:
            return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None], index % 10


class Images(pl.LightningDataModule):
    """Ordinary loaders of files."""

    def __init__(self, directory: str, batch_size: int, **unused: Any) -> None:
        super().__init__()
        self.directory, self.batch_size = directory, batch_size

    def loader(self, split: str) -> DataLoader:
        """Load one of SPLITS."""
        return DataLoader(Files(self.directory, split), self.batch_size, shuffle=split == "train")

    def train_dataloader(self) -> DataLoader:
        """Those of the split."""
        return self.loader("train")

    def val_dataloader(self) -> DataLoader:
        """Those of the split."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader:
        """Those of the split."""
        return self.loader("test")


def make_images() -> None:
    """Write the files, and beside them what tells that they belong to the settings."""
    if images.exists():
        return
    folder = images.with_name("unfinished")
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (FILES, 8, 8), dtype=np.uint8)
    names = [f"{split}-{number}.png" for split, count in SPLITS.items() for number in range(count)]
    for name, each in zip(names, pixels, strict=True):
        Image.fromarray(each).save(folder / name)
    shutil.copy(Path(cfg.paths.processed) / "dataset.json", folder)
    folder.rename(images)


@contextmanager
def unwatched(*arguments: Any) -> Iterator[None]:
    """Note nothing."""
    yield


if data == "files":
    make_images()
if way == "none":
    run.watched = observer.watch_clock = unwatched
    observer.find_dates = lambda files: []
    loaded_code.find_loaded = lambda: loaded_code.Loaded()
    none = dict.fromkeys(("on_validation_batch_start", "on_validation_batch_end", "on_test_batch_start"))
    for name in (*none, "on_test_batch_end", "on_validation_end"):
        setattr(trace_writer.TraceWriter, name, getattr(pl.Callback, name))
    trace_writer.TraceWriter.keep_measured = lambda *arguments: None
run.collect(cfg)  # the hashes of the data are kept from here on
begin = time.perf_counter()
train(cfg)
print(time.perf_counter() - begin)
