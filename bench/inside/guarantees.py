"""Trains with some of the guarantees and prints the seconds: `guarantees.py [trace,record,...] [override ...]`.

From the settings to the last file; imports do not count. Without `record`, inputs are read before the clock starts, and
nothing is written down of them, of the environment and of the code. Without `randomness`, PyTorch's own loader shuffles
the same data set, which draws its augmentation from NumPy's generator, and nothing is reseeded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import samebits
from handwritten_digits.train import train
from samebits import project, run
from samebits.engine import determinism
from samebits.engine.config import compose, quote

wanted, *overrides = sys.argv[1:]
folder = tempfile.TemporaryDirectory()
cfg = compose([f"paths.models={quote(folder.name)}", "run_name=guarantees", *overrides])
determinism.before_torch(cfg.determinism)

import numpy as np  # noqa: E402 # PyTorch is loaded in the environment that was pinned
from handwritten_digits.data import datamodule  # noqa: E402, F401 # Hydra asks for them later
from handwritten_digits.models import classifier, network  # noqa: E402, F401
from samebits.engine import callbacks, trace_writer, trainer  # noqa: E402, F401
from samebits.engine.randomness import Reseed  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402


class Batches(Dataset):
    """Reads whole batches, as the project's own loader does, and augments them by whatever comes next."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> Any:
        self.size = len(indices)
        return self.dataset.augment(self.dataset.read_batch(np.array(indices)), self)

    def integers(self, low: int, high: int) -> np.ndarray:
        """Draw a whole number for each sample."""
        return np.random.randint(low, high, self.size)


def load(dataset: Any, *, batch_size: int, seed: int, trainer: Any, num_workers: int) -> DataLoader:
    """Load as PyTorch does."""
    return DataLoader(Batches(dataset), batch_size, shuffle=trainer is not None, collate_fn=lambda batch: batch)


def without_reseeding(*arguments: Any) -> Any:
    """Make the trainer, and take the callback out."""
    made = build_trainer(*arguments)
    made.callbacks = [each for each in made.callbacks if not isinstance(each, Reseed)]
    return made


names = wanted.split(",")
if "trace" not in names:
    cfg.callbacks.trace = None
if "checkpoints" not in names:
    cfg.callbacks.resume = None
if "randomness" not in names:
    build_trainer, trainer.build_trainer = trainer.build_trainer, without_reseeding
    samebits.make_loader = load
if "record" not in names:
    inputs = run.collect(cfg)
    run.collect = lambda cfg: inputs
    run.begin_record = lambda files, cfg: files.directory.mkdir(parents=True)
    run.finish_record = lambda files, *rest: (files.directory / "metrics.json").write_text("{}")
    run.show = lambda *arguments: None
begin = time.perf_counter()
train(cfg)
seconds = time.perf_counter() - begin
for made in Path(folder.name).glob("guarantees-*"):  # the snapshot of the code was part of it, and is not to stay
    subprocess.run(["git", "update-ref", "-d", f"refs/runs/{made.name}"], cwd=project().root, check=True)
print(seconds)
