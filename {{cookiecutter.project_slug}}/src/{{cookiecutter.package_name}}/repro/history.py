"""The course of training: history.csv, with exact numbers, which goes on without a seam where a run was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from .growing import GrowingFile

HEADER = b"step,epoch,metric,value\n"


class History(Logger):
    """Writes one line for each number: step, epoch, metric, value.

    Read it with `pandas.read_csv(path).pivot(index="step", columns="metric", values="value")`.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = GrowingFile(path)

    @property
    def name(self) -> str:
        """What Lightning asks for."""
        return "history"

    @property
    def version(self) -> str:
        """What Lightning asks for."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml holds them."""

    def start(self) -> None:
        """Begin an empty history."""
        self.file.start(HEADER)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append the numbers of a step."""
        epoch = metrics.get("epoch", "")
        named = sorted((name, value) for name, value in metrics.items() if name != "epoch")
        self.file.append("".join(f"{step},{epoch},{name},{float(value)!r}\n" for name, value in named).encode())
