"""A training that only wants to see the first steps: `make probe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from . import environment, packages
from .files import write_atomically
from .record import PROBE


class Probe(pl.Callback):
    """Ends the training after some steps, with the environment in probe.json.

    Args:
        directory: the run's.
        steps: optimiser steps.
        root: the project's folder.
        package: the folder of its package.
    """

    def __init__(self, directory: str, steps: int, root: str, package: str) -> None:
        self.directory = Path(directory)
        self.steps = steps
        self.root, self.package = Path(root), Path(package)

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Leave, where it has come to the step."""
        if trainer.global_step >= self.steps and trainer.is_global_zero:
            modules = packages.loaded()
            found = {
                "environment": environment.describe(self.package, modules),
                "outside": packages.outside(modules, self.root, self.package),
            }
            write_atomically(self.directory / PROBE, json.dumps(found).encode())
        if trainer.global_step >= self.steps:
            raise SystemExit(0)
