"""Writing the trace of a training, trace.jsonl, by which anyone sees the first step at which theirs went another way.

One line a row. Its columns stand in the order of cause and effect: batch (the data), rng (the global generators after
the forward pass: hidden draws), loss (forward), grad (backward), weights (the optimiser). The first steps are dense,
with one entry for each parameter; later ones are rows of single fingerprints, every so many steps; the last says how
training ended. Of some steps, what each operator computed is listed, too. Each evaluation has a row: weights, batch
(all of them), outputs (the tensors that validation_step or test_step returned), metrics; the last of all is the test's.
`follows` is the hash of all lines before, so that one cannot be taken out. trace_reader.py reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from . import fingerprint
from .files import AppendLog
from .fingerprint import DIGITS
from .lightning import pl
from .sharded_strategy import ShardedStrategy
from .trace_reader import VALIDATION

NO_RESULT = ("set_", "resize_")  # change what a tensor refers to, before there is anything in it


class OperatorTrace(TorchDispatchMode):
    """Lists [operator, where, fingerprint of its result] while it is switched on.

    Where is the module's name in the forward pass, or `backward`, or `optimizer`. Left out are views, which compute
    nothing, and memory that is yet to be filled.

    Args:
        model: whose modules are named.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        self.modules: list[str] = []
        self.phase = "forward"
        self.hooks: list[Any] = []  # while it is switched on
        self.rows: list[list[Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator, and note what came out."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = str(func).removeprefix("aten.")
        if func.is_view or name.startswith(NO_RESULT) or "empty" in name:
            return result
        changed = (args, kwargs) if func._schema.is_mutable else ()
        tensors = [leaf for leaf in tree_leaves((result, changed)) if isinstance(leaf, torch.Tensor)]
        if tensors:
            where = self.modules[-1] if self.phase == "forward" and self.modules else self.phase
            self.rows.append([name, where, fingerprint.begin(tensors)])
        return result

    def start(self) -> None:
        """Switch it on."""

        def enter(module: nn.Module, inputs: Any) -> None:
            self.modules.append(self.names.get(module, type(module).__name__))

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            self.modules.pop()

        self.hooks = [
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave, always_call=True),
        ]
        self.__enter__()

    def stop(self) -> list[list[str]]:
        """Switch it off; return the rows so far."""
        self.__exit__(None, None, None)
        while self.hooks:
            self.hooks.pop().remove()
        found = fingerprint.collect(dict(enumerate(row.pop() for row in self.rows)))()
        self.rows = [[*row, found[number]] for number, row in enumerate(self.rows)]
        return self.rows


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile has changed a part of the model: under this trace it would run as if it had not."""
    modules = model.modules()
    return any(hasattr(each, "_orig_mod") or getattr(each, "_compiled_call_impl", None) for each in modules)


class TraceWriter(pl.Callback):
    """Writes the trace. It only looks: it draws no random number and changes nothing.

    Args:
        path: of the file.
        dense: so many steps, from the first on, have an entry for each parameter.
        every_n_steps: from one later row to the next; each costs two hashes of a model's size.
        operators: the steps (the first is 1) of which every operator's result is written down, at some five times
            the step's time; not of models that torch.compile has changed, nor of batches in shards.
    """

    def __init__(self, path: str, dense: int, every_n_steps: int, operators: Sequence[int] = (1,)) -> None:
        self.file = AppendLog(Path(path))
        self.dense = dense
        self.every_n_steps = every_n_steps
        self.operators = tuple(operators)
        self.step = 0  # optimiser steps done
        self.written_step = 0  # the step of the last row
        self.resumed = False
        self.row: dict[str, Any] | None = None  # of the step that is going on, if it is traced
        self.operator_trace: OperatorTrace | None = None
        self.between = True  # whether a step has ended and the next not begun
        self.waiting: dict[str, Any] | None = None  # the last row, while its fingerprints are not all there
        self.batches = 0  # gone through since the last optimiser step, as gradients gather
        self.evaluation: dict[str, list[Any]] = {}  # fingerprints of the one that is going on
        self.measured: list[dict[str, Any]] = []  # rows of the kept weights' evaluations

    # --- across a kill

    def state_dict(self) -> dict[str, Any]:
        """Say where the file stands, for a checkpoint."""
        self._finish()
        return {"step": self.step, "written": self.written_step, "file": self.file.position()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.step, self.written_step, self.resumed = state["step"], state["written"], True
        self.file.rewind(state["file"])

    # --- the hooks of a step, in their order

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the initial weights as step 0."""
        if not self.resumed:
            self.file.start()
            self._write({"step": 0, "weights": fingerprint.by_name(pl_module.state_dict().items())})

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *rest: Any) -> None:
        """Look at the batch; several may make up a step."""
        if self.between:
            self.between, self.global_step = False, trainer.global_step
            step = self.step + 1
            traced = step <= self.dense or step % self.every_n_steps == 0 or step in self.operators
            self.row = {"step": step, "epoch": trainer.current_epoch} if traced else None
            self.batch, self.rng = hashlib.sha256(), hashlib.sha256()
            self.losses: list[str] = []
        self.sharded = trainer.strategy if isinstance(trainer.strategy, ShardedStrategy) else None
        if self.sharded:
            self.sharded.traced = self.row is not None
            return
        if self.row is None:
            return
        fingerprint.add_tensors(self.batch, batch)
        if self.row["step"] in self.operators and not is_compiled(pl_module):
            self.operator_trace = self.operator_trace or OperatorTrace(pl_module)
            self.operator_trace.phase = "forward"
            self.operator_trace.start()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        """Look at the loss, and at what has been drawn."""
        if self.row is not None and self.sharded:
            for batch, rng, value in chain(*self.sharded.gather(self.sharded.fingerprints)):
                self.batch.update(batch.encode())
                self.rng.update(rng.encode())
                self.losses.append(value)
        elif self.row is not None:
            self._phase("backward")
            with _disable_current_modes():
                fingerprint.add_generators(self.rng)
                self.losses.append(repr(float(loss.detach())))

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        """Look at the gradients, before they are clipped."""
        if self.row is not None:
            self._phase("optimizer")
            ours = {id(each) for group in optimizer.param_groups for each in group["params"]}  # others are never zeroed
            named = ((name, each.grad) for name, each in pl_module.named_parameters() if id(each) in ours)
            with _disable_current_modes():
                self._finish()
                grad = fingerprint.begin_by_name((name, tensor) for name, tensor in named if tensor is not None)
                if "grad" in self.row:  # of another optimiser of the same step
                    before, after = self.row["grad"](), grad()
                    pairs = {name: {"": before.get(name, ""), "+": value} for name, value in after.items()}
                    self.row["grad"] = lambda: {name: fingerprint.combine(pair) for name, pair in pairs.items()}
                else:
                    self.row["grad"] = grad

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Look at the weights, and write the row."""
        # now: what loads the next batch is not of interest
        operators = self.operator_trace.stop() if self.operator_trace else []
        if trainer.global_step == self.global_step:  # gradients are still gathering
            self.batches += 1
            return
        self.step, self.between, self.batches = self.step + 1, True, 0
        if self.row is None:
            return
        row, self.row, self.operator_trace = self.row, None, None
        row |= {"batch": self.batch.hexdigest()[:DIGITS], "rng": self.rng.hexdigest()[:DIGITS], "loss": self.losses}
        row |= {"grad": row.pop("grad", dict), "weights": fingerprint.begin_by_name(pl_module.state_dict().items())}
        self.waiting = row | ({"operators": operators} if operators else {})
        if row["step"] <= self.dense or pl_module.device.type not in fingerprint.ON_DEVICE:
            self._finish()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights of the last step, if it has no row."""
        self._finish()
        if self.written_step != self.step:
            weights = fingerprint.combine(fingerprint.by_name(pl_module.state_dict().items()))
            self._write({"step": self.step, "epoch": trainer.current_epoch, "weights": weights})

    # --- the hooks of an evaluation

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a row."""
        self._finish()
        self.evaluation = {"weights": [], "batch": [], "outputs": []}

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Look at the batch, before the model can change it."""
        self.evaluation["batch"].append(fingerprint.begin_tensors(batch))

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *index: int, **named: int
    ) -> None:
        """Look at the outputs, and once at the weights, for which other callbacks may have put in others."""
        self.evaluation["outputs"].append(fingerprint.begin_tensors(outputs))
        if not self.evaluation["weights"] and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.evaluation["weights"] += [fingerprint.begin(each) for each in pl_module.state_dict().values()]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row of a validation within training, with all that was logged."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        results: Any = trainer._results
        found = [each for each in results.values() if each.meta.on_epoch and not each.has_reset]
        metrics = {results._forked_name(each, False)[1]: each._computed for each in found}
        logged = {name: value for name, value in metrics.items() if isinstance(value, torch.Tensor)}
        self._write(self._evaluated(VALIDATION, logged) | ({"batches": self.batches} if self.batches else {}))

    on_test_start, on_test_batch_start = on_validation_start, on_validation_batch_start
    on_test_batch_end = on_validation_batch_end

    def keep_measured(self, kind: str, metrics: Mapping[str, Any]) -> None:
        """Keep what was seen in an evaluation of the kept weights, and its metrics, for `write_measured`."""
        if self.evaluation:  # there was a batch
            self.measured.append(self._evaluated(kind, metrics))

    def write_measured(self, weights: str, inputs: str) -> None:
        """Write the rows of the kept weights, with their sha256 and the hash of the inputs, which names a run."""
        for row in self.measured:
            self._write(row | {"weights": weights, "inputs": inputs})
        self.measured = []

    def _evaluated(self, kind: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {"step": self.step, "evaluation": kind}
        for column, begun in self.evaluation.items():
            found = fingerprint.collect(dict(enumerate(begun)))()
            row[column] = fingerprint.combine({f"{place:09}": each for place, each in found.items()})
        self.evaluation = {}
        return row | {"metrics": {name: repr(float(value)) for name, value in metrics.items()}}

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave nothing switched on, and no row unwritten."""
        self._finish()
        if self.operator_trace and self.operator_trace.hooks:
            self.operator_trace.stop()

    def _phase(self, name: str) -> None:
        if self.operator_trace is not None:
            self.operator_trace.phase = name

    def _finish(self) -> None:
        """Write the last row, once its fingerprints are there."""
        if self.waiting is None:
            return
        row, self.waiting = self.waiting, None
        for name in ("grad", "weights"):
            found = row[name]()
            row[name] = fingerprint.combine(found) if row["step"] > self.dense else found
        self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        row["follows"] = self.file.sha256.hexdigest()[:DIGITS]
        self.file.append(f"{json.dumps(row)}\n".encode())
        if "evaluation" not in row:
            self.written_step = row["step"]
