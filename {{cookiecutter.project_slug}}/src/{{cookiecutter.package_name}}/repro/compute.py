"""What a training cost: time, memory and, where the machine counts it, energy; over all starts of the same run."""

from __future__ import annotations

import json
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from .ranks import is_first
from .shards import Shards
from .spent import read

COUNTERS = Path("/sys/class/powercap")  # of Intel and AMD processors, in microjoules; readable by root alone on many
SECONDS = 10.0  # between two notes: what a kill can hide
SUMMED = ("wall_seconds", "cpu_seconds", "joules")


class Compute(pl.Callback):
    """Counts, and notes the sums in a file now and then, so that runs count which fail or are killed.

    A later start of the same run adds to them.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = {"starts": 0, **dict.fromkeys(SUMMED, 0.0), **(read(path) if is_first() else {})}
        self.others: list[dict[str, Any]] | None = None  # processes of the same training; None until they have said
        self.begin = self._now()
        self.noted = time.monotonic()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that there was a start."""
        self._note(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the sums, if the last note is old enough."""
        if time.monotonic() - self.noted >= SECONDS:
            self._note(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Note what was spent until an error or a signal."""
        self._note(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what was spent, in all processes: what follows can still fail."""
        if isinstance(trainer.strategy, Shards):
            everyone = trainer.strategy.gather({"local": trainer.local_rank, **self._here()})
            self.others = [each for rank, each in enumerate(everyone) if rank != trainer.global_rank]
        self._note(trainer)

    def observed(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Describe the training so far: seconds (wall, and CPU of all processes), joules of processors, bytes."""
        here = self._here()
        # until the others have said so, they are taken to spend what this process does: they do the same
        others = [here | {"local": 1}] * (trainer.world_size - 1) if self.others is None else self.others
        spent = {name: self.before[name] + here[name] for name in SUMMED}
        spent["cpu_seconds"] += sum(each["cpu_seconds"] for each in others)
        spent["joules"] += sum(each["joules"] for each in others if each["local"] == 0)  # a counter is a node's
        return {
            "starts": int(self.before["starts"]) + 1,
            "wall_seconds": round(spent["wall_seconds"], 3),
            "cpu_seconds": round(spent["cpu_seconds"], 3),
            "joules": round(spent["joules"], 1) if spent["joules"] else None,
            "peak_memory_bytes": here["memory"] + sum(each["memory"] for each in others),
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None,
            "processes": trainer.world_size,
            "steps": trainer.global_step,
        }

    def _here(self) -> dict[str, Any]:
        now = self._now()
        return {name: max(0.0, now[name] - self.begin[name]) for name in SUMMED} | {"memory": peak_memory()}

    def _note(self, trainer: pl.Trainer) -> None:
        self.noted = time.monotonic()
        if not trainer.is_global_zero:
            return
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(json.dumps(self.observed(trainer)) + "\n")
        new.replace(self.path)  # not forced to the disk: a lost note is a small loss

    @staticmethod
    def _now() -> dict[str, float]:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(each.ru_utime + each.ru_stime for each in usage)
        return {"wall_seconds": time.monotonic(), "cpu_seconds": cpu, "joules": energy()}


def energy() -> float:
    """Read the processor's counter of energy, in joules; 0.0 where there is none, or none that may be read."""
    try:
        counters = COUNTERS.glob("intel-rapl:[0-9]*/energy_uj")
        return sum(int(each.read_text()) for each in counters if each.parent.name.count(":") == 1) / 1e6
    except OSError:
        return 0.0


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def now() -> str:
    """Return the time: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
