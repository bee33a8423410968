"""The course of training: history.csv, with exact numbers, which goes on without a seam where a run was cut off."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from ..errors import UserError

HEADER = b"step,epoch,metric,value\n"


class History(Logger):
    """Writes one line for each number: step, epoch, metric, value.

    Read it with `pandas.read_csv(path).pivot(index="step", columns="metric", values="value")`.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.length = 0  # bytes
        self.sha256 = hashlib.sha256()

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
        self.path.write_bytes(b"")
        self._append(HEADER)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append the numbers of a step."""
        epoch = metrics.get("epoch", "")
        named = sorted((name, value) for name, value in metrics.items() if name != "epoch")
        self._append("".join(f"{step},{epoch},{name},{float(value)!r}\n" for name, value in named).encode())

    def position(self) -> dict[str, Any]:
        """Tell how much there is, for a checkpoint; it is on the disk then."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        return {"length": self.length, "sha256": self.sha256.hexdigest()}

    def rewind(self, position: dict[str, Any]) -> None:
        """Forget what was written after that position: the run will write it again.

        Raises:
            UserError: what was written before has changed.
        """
        content = self.path.read_bytes()[: position["length"]] if self.path.exists() else b""
        self.length, self.sha256 = len(content), hashlib.sha256(content)
        if self.sha256.hexdigest() != position["sha256"]:
            raise UserError(
                f"{self.path} is missing, or not what the run had written before it was cut off: move the folder"
                f" {self.path.parent / 'checkpoints'} away, and the same command trains from the beginning."
            )
        with self.path.open("rb+") as file:
            file.truncate(self.length)

    def _append(self, content: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(content)
        self.length += len(content)
        self.sha256.update(content)
