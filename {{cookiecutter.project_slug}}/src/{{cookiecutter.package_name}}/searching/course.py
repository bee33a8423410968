"""The course of a metric while a training runs, as far as its history.csv tells."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from omegaconf import DictConfig

from ..config import get


class Course:
    """Reads one value for each validation.

    What is measured after the training, of the weights that were kept, stands in the history, too, and is left out: it
    is logged one step after the last validation, or beyond the last epoch or step. So the values are the same whether
    they are read one by one or all at the end.

    Args:
        path: of history.csv.
        metric: its name.
        cfg: the settings of the training.
    """

    def __init__(self, path: Path, metric: str, cfg: DictConfig) -> None:
        self.path, self.metric = path, metric
        self.epochs = int(cfg.trainer.max_epochs)
        steps = get(cfg, "trainer.max_steps")
        self.steps = int(steps) if steps is not None and steps >= 0 else None

    def values(self) -> list[float]:
        """Read the values so far; a line that is being written does not count yet."""
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind("\n") + 1]
        found: dict[int, float] = {}
        last = None
        for row in csv.DictReader(io.StringIO(whole)):
            if row["metric"] != self.metric:
                continue
            step, epoch = int(row["step"]), int(float(row["epoch"] or 0))
            beyond = epoch >= self.epochs or (self.steps is not None and step >= self.steps)
            if not beyond and (last is None or step > last + 1):
                found[step] = float(row["value"])
                last = step
        return list(found.values())
