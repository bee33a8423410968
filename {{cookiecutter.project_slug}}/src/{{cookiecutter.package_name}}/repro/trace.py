"""The trace of a training: trace.jsonl, by which a stranger sees the first step at which theirs went another way.

One line a row. Its columns stand in the order of cause and effect: batch (the data), rng (the global generators after
the forward pass: hidden draws), loss (forward), grad (backward), weights (the optimiser). The first steps are dense,
with one entry for each parameter; later ones are rows of single fingerprints, every so many steps; the last says how
training ended. `follows` is the hash of all lines before, so that one cannot be taken out. traces.py reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from . import fingerprint
from .fingerprint import DIGITS
from .growing import GrowingFile
from .operators import OperatorTrace, is_compiled
from .shards import Shards


class Trace(pl.Callback):
    """Writes the trace. It only looks: it draws no random number and changes nothing.

    Args:
        path: of the file.
        dense: so many steps, from the first on, have an entry for each parameter.
        every_n_steps: from one later row to the next; each costs two hashes of a model's size.
        operators: the steps (the first is 1) of which every operator's result is written down, at some five times
            the step's time; not of models that torch.compile has changed, nor of batches in shards.
    """

    def __init__(self, path: str, dense: int, every_n_steps: int, operators: Sequence[int] = (1,)) -> None:
        self.file = GrowingFile(Path(path))
        self.dense = dense
        self.every_n_steps = every_n_steps
        self.operators = tuple(operators)
        self.step = 0  # optimiser steps done
        self.written = 0  # the step of the last row
        self.resumed = False
        self.row: dict[str, Any] | None = None  # of the step that is going on, if it is traced
        self.recorder: OperatorTrace | None = None
        self.between = True  # whether a step has ended and the next not begun

    # --- across a kill

    def state_dict(self) -> dict[str, Any]:
        """Say where the file stands, for a checkpoint."""
        return {"step": self.step, "written": self.written, "file": self.file.position()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.step, self.written, self.resumed = state["step"], state["written"], True
        self.file.rewind(state["file"])

    # --- the hooks of a step, in their order

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the initial weights as step 0."""
        if not self.resumed:
            self.file.start()
            self._write({"step": 0, "weights": fingerprint.by_name(pl_module.state_dict().items())})

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the batch; several may make up a step."""
        if self.between:
            self.between, self.steps_before = False, trainer.global_step
            step = self.step + 1
            traced = step <= self.dense or step % self.every_n_steps == 0 or step in self.operators
            self.row = {"step": step, "epoch": trainer.current_epoch} if traced else None
            self.batch, self.rng = hashlib.sha256(), hashlib.sha256()
            self.losses: list[str] = []
        self.shards = trainer.strategy if isinstance(trainer.strategy, Shards) else None
        if self.shards:
            self.shards.watched = self.row is not None
            return
        if self.row is None:
            return
        fingerprint.add_all(self.batch, batch)
        if self.row["step"] in self.operators and not is_compiled(pl_module):
            self.recorder = self.recorder or OperatorTrace(pl_module)
            self.recorder.phase = "forward"
            self.recorder.start()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """Look at the loss, and at what has been drawn."""
        if self.row is not None and self.shards:
            for batch, rng, value in (each for seen in self.shards.gather(self.shards.seen) for each in seen):
                self.batch.update(batch.encode())
                self.rng.update(rng.encode())
                self.losses.append(value)
        elif self.row is not None:
            self._phase("backward")
            with torch.utils._python_dispatch._disable_current_modes():
                fingerprint.add_generators(self.rng)
                self.losses.append(repr(float(loss.detach())))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look at the gradients, before they are clipped."""
        if self.row is not None:
            self._phase("optimizer")
            with torch.utils._python_dispatch._disable_current_modes():
                held = {
                    id(each) for group in optimizer.param_groups for each in group["params"]
                }  # others are never zeroed
                named = (
                    (name, each.grad)
                    for name, each in pl_module.named_parameters()
                    if each.grad is not None and id(each) in held
                )
                grad = fingerprint.by_name(named)
                before = self.row.get("grad", {})  # of another optimiser of the same step
                self.row["grad"] = (
                    {name: fingerprint.together({"": before.get(name, ""), "+": value}) for name, value in grad.items()}
                    if before
                    else grad
                )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the weights, and write the row."""
        operators = self.recorder.stop() if self.recorder else []  # what loads the next batch is not of interest
        if trainer.global_step == self.steps_before:  # gradients are still gathering
            return
        self.step, self.between = self.step + 1, True
        if self.row is None:
            return
        row, self.row, self.recorder = self.row, None, None
        row |= {"batch": self.batch.hexdigest()[:DIGITS], "rng": self.rng.hexdigest()[:DIGITS], "loss": self.losses}
        row |= {"grad": row.pop("grad", {}), "weights": fingerprint.by_name(pl_module.state_dict().items())}
        if row["step"] > self.dense:
            row |= {name: fingerprint.together(row[name]) for name in ("grad", "weights")}
        self._write(row | ({"operators": operators} if operators else {}))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights of the last step, if it has no row."""
        if self.written != self.step:
            weights = fingerprint.together(fingerprint.by_name(pl_module.state_dict().items()))
            self._write({"step": self.step, "epoch": trainer.current_epoch, "weights": weights})

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave nothing switched on."""
        if self.recorder and self.recorder.on:
            self.recorder.stop()

    def _phase(self, name: str) -> None:
        if self.recorder is not None:
            self.recorder.phase = name

    def _write(self, row: dict[str, Any]) -> None:
        row["follows"] = self.file.sha256.hexdigest()[:DIGITS]
        self.file.append(f"{json.dumps(row)}\n".encode())
        self.written = row["step"]
