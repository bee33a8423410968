"""What a training cost: time, memory and, where the machine counts it, energy; over all starts of the same run."""

from __future__ import annotations

import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

COUNTERS = Path("/sys/class/powercap")  # of Intel and AMD processors, in microjoules; readable by root alone on many


class Compute(pl.Callback):
    """Counts; its state is in the checkpoints, so that what an earlier start did is counted too.

    What was done after the last checkpoint before a kill is not.
    """

    def __init__(self) -> None:
        self.before = {"starts": 0, "wall_seconds": 0.0, "cpu_seconds": 0.0, "joules": 0.0}
        self.begin = self._now()

    def state_dict(self) -> dict[str, float]:
        """Read the sums."""
        return self.sums()

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Add to the sums of an earlier start."""
        self.before = state

    def sums(self) -> dict[str, float]:
        """Sum up all starts: wall_seconds, cpu_seconds (all processes), joules (of the processor)."""
        now = self._now()
        spent = {name: self.before[name] + max(0.0, now[name] - self.begin[name]) for name in now}
        return {"starts": self.before["starts"] + 1, **spent}

    def observed(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Describe the training, now that it has ended."""
        sums = self.sums()
        return {
            "status": "finished",
            "ended": now(),
            "starts": int(sums["starts"]),
            "wall_seconds": round(sums["wall_seconds"], 3),
            "cpu_seconds": round(sums["cpu_seconds"], 3),
            "joules": round(sums["joules"], 1) if sums["joules"] else None,
            "peak_memory_bytes": peak_memory(),
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None,
            "steps": trainer.global_step,
            "parameters": sum(each.numel() for each in trainer.lightning_module.parameters()),
        }

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
