"""Callbacks of a training, and the logger that is always there.

`BestWeights` keeps the best weights, `History` writes history.csv, `Predictions` predictions.csv, `ProgressLines` the
progress where no bar can be drawn, `ResourceUsage` what was spent; `PortableOptimizer` and `SameHardware` refuse what
`determinism` does not allow; `Probe` ends a training after some steps.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from . import environment
from .distributed import is_first
from .errors import PROGRESS_FORM, PROGRESS_SECONDS, UserError
from .files import AppendLog, write_atomically
from .lightning import Logger, pl
from .record import PROBE, counters, peak_memory, read_record, read_usage
from .sharded_strategy import ShardedStrategy


class BestWeights(pl.Callback):
    """Keeps the weights with the lowest (or highest) value of a metric of the validation.

    They are part of the state of training, so a run that was cut off cannot lose or mistake them.

    Args:
        monitor: name of the metric, as it is logged.
        mode: `min` or `max`, which value is best.
    """

    def __init__(self, monitor: str, mode: str = "min") -> None:
        if mode not in ("min", "max"):
            raise UserError(f"callbacks.best.mode is {mode!r}, but must be min or max.")
        self.monitor = monitor
        self.mode = mode
        self.score = math.inf if mode == "min" else -math.inf
        self.step = 0  # after which the weights were best
        self.weights: dict[str, torch.Tensor] = {}
        self.measured: dict[str, torch.Tensor] = {}  # by the validation that is going on

    @property
    def state_key(self) -> str:
        """The name of its state in a checkpoint."""
        return self._generate_state_key(monitor=self.monitor, mode=self.mode)

    def state_dict(self) -> dict[str, Any]:
        """Read the state."""
        return {"score": self.score, "step": self.step, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the state back."""
        self.score, self.step, self.weights = state["score"], state["step"], state["weights"]

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Copy the weights that are measured: another callback may have exchanged them for the validation."""
        if trainer.state.fn == "fit" and batch_idx == dataloader_idx == 0:
            self.measured = {name: tensor.detach().cpu().clone() for name, tensor in pl_module.state_dict().items()}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they are better than all before; of equals, the first."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if self.monitor not in trainer.callback_metrics:
            names = ", ".join(sorted(trainer.callback_metrics))
            raise UserError(f"callbacks.best.monitor is {self.monitor!r}, which is not logged: choose from {names}.")
        score = float(trainer.callback_metrics[self.monitor])
        if score < self.score if self.mode == "min" else score > self.score:
            self.score, self.step = score, trainer.global_step
            self.weights = self.measured

    def load_into(self, model: pl.LightningModule) -> None:
        """Give the model its best weights; where there was no validation, it keeps the last."""
        if self.weights:
            model.load_state_dict(self.weights)


class KeptWeights(pl.Callback):
    """Sees to it that the weights that are measured are those that are saved, whatever other callbacks exchange.

    Args:
        model: with the weights that are kept.
    """

    def __init__(self, model: pl.LightningModule) -> None:
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put them back, should an averaging callback have put others in their place."""
        if batch_idx == dataloader_idx == 0:
            pl_module.load_state_dict(self.weights)

    on_test_batch_start = on_validation_batch_start


HISTORY_HEADER = b"step,epoch,metric,value\n"


class History(Logger):
    """Writes one line for each number: step, epoch, metric, value.

    Read it with `pandas.read_csv(path).pivot(index="step", columns="metric", values="value")`.
    """

    name, version = "history", ""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = AppendLog(path)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml holds them."""

    def start(self) -> None:
        """Begin an empty history."""
        self.file.start(HISTORY_HEADER)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append the numbers of a step."""
        epoch = metrics.get("epoch", "")
        named = sorted((name, value) for name, value in metrics.items() if name != "epoch")
        self.file.append("".join(f"{step},{epoch},{name},{float(value)!r}\n" for name, value in named).encode())

    def repeat(self, loggers: Sequence[Logger]) -> None:
        """Log all that is here to other loggers, which an earlier start of the run has left with more or with less."""
        calls: list[tuple[tuple[str, str], dict[str, float]]] = []
        for line in self.file.path.read_text(encoding="utf-8").splitlines()[1:]:
            step, epoch, *name, value = line.split(",")
            metric = ",".join(name)
            if not calls or calls[-1][0] != (step, epoch) or metric in calls[-1][1]:
                calls.append(((step, epoch), {}))
            calls[-1][1][metric] = float(value)
        for (step, epoch), metrics in calls:
            for logger in loggers:
                logger.log_metrics({**metrics, **({"epoch": float(epoch)} if epoch else {})}, int(step))


class PortableOptimizer(pl.Callback):
    """Refuses optimisers whose arithmetic depends on the processor.

    The fused kernels of SGD, Adam, AdamW and Adagrad are one piece of code whose instruction set is pinned; the others
    call libraries that choose their own instructions, and were seen to differ between processors.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at every optimiser, and name the first that is not fused."""
        for optimizer in trainer.optimizers:
            if not all(group.get("fused") for group in optimizer.param_groups):
                raise UserError(
                    f"determinism=portable needs a fused optimiser, and this {type(optimizer).__name__} is not: say"
                    " model.optimizer.fused=true (SGD, Adam, AdamW and Adagrad know it), or determinism=native."
                )


class SameHardware(pl.Callback):
    """Refuses to go on with a run on hardware that rounds otherwise: it would be the result of neither."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Note what the training runs on; on a GPU, let cuBLAS add in one order under determinism=native, too."""
        if trainer.strategy.root_device.type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product of matrices
        self.name = environment.hardware(trainer.strategy.root_device)

    def state_dict(self) -> dict[str, str]:
        """Put it into the checkpoint."""
        return {"hardware": self.name}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Compare it with the checkpoint's."""
        if state["hardware"] != self.name:
            raise UserError(
                f"this run was begun on {state['hardware']}, and {self.name} may round otherwise: go on with it"
                " there, move its checkpoints/ away to train from the beginning, or choose determinism=portable."
            )


Tensors = dict[str, torch.Tensor]
PADDING = -100  # the label that PyTorch's losses pass over
FORMS = "scores and labels, predictions and targets, losses of sequences, or other tensors of one number a sample"


def sequence_losses(found: Tensors) -> torch.Tensor | None:
    """Take from what `test_step` returned the loss at each position, (B, T), NaN where none is; else None."""
    scores, labels, losses = (found.get(name) for name in ("scores", "labels", "losses"))
    if scores is not None and labels is not None and scores.ndim == 3 and scores.shape[:2] == labels.shape:
        loss = cross_entropy(scores.float().flatten(0, 1), labels.flatten(), ignore_index=PADDING, reduction="none")
        return loss.view(labels.shape).masked_fill(labels == PADDING, math.nan)
    return losses if losses is not None and losses.ndim == 2 else None


def sample_columns(found: Tensors) -> Tensors:
    """Choose from what `test_step` returned the columns of a line for each sample, each (B,); none, if nothing fits."""
    if found.keys() >= {"scores", "labels"} and found["scores"].ndim == 2:
        best = found["scores"].float().softmax(dim=1).max(dim=1)
        columns = {"label": found["labels"], "predicted": best.indices, "probability": best.values}
    elif found.keys() >= {"predictions", "targets"}:
        pair = [found["targets"], found["predictions"]]
        target, predicted = (each[:, None] if each.ndim == 1 else each for each in pair)  # (B, K)
        if target.ndim != 2 or target.shape != predicted.shape:
            return {}
        ends = [f"_{number}" for number in range(target.shape[1])] if target.shape[1] > 1 else [""]
        both = (("target", target), ("predicted", predicted))
        columns = {f"{name}{end}": each[:, k] for k, end in enumerate(ends) for name, each in both}
    else:
        columns = {name: each for name, each in found.items() if each.ndim}  # without means over the batch
    one_shape = len({each.shape for each in columns.values()}) == 1
    return columns if one_shape and all(each.ndim == 1 for each in columns.values()) else {}


class Predictions(pl.Callback):
    """Writes predictions.csv, what the model says of the test samples, in columns by what `test_step` returns.

    - `scores` (B, num_classes), not normalised, and `labels` (B,): index, label, predicted, probability;
    - `predictions` and `targets`, (B,) or (B, K): index, target, predicted; for K > 1 target_0, predicted_0, ...;
    - `scores` (B, T, num_classes) and `labels` (B, T), -100 where a sequence has ended, or `losses` (B, T), NaN there:
      position, samples, loss, which is their mean;
    - other tensors (B,): index, and a column for each.

    The index is that in the test split. Where it returns none of these, one sentence says so, and there is no file.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.on_test_epoch_start()

    def on_test_epoch_start(self, *arguments: Any) -> None:
        """Begin anew."""
        self.header, self.unfit = "", "there was no test batch"
        self.rows: list[str] = []
        self.losses: list[torch.Tensor] = []  # of each batch of sequences: sums and counts by position, (2, T)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *batch: Any) -> None:
        """Add the rows of a batch."""
        values = outputs if isinstance(outputs, Mapping) else {}
        found = {name: torch.as_tensor(each).detach() for name, each in values.items() if hasattr(each, "shape")}
        if (losses := sequence_losses(found)) is not None:
            columns, header = {}, "position,samples,loss"
            there = ~losses.isnan()
            self.losses.append(torch.stack([losses.double().nansum(dim=0), there.double().sum(dim=0)]).cpu())
        elif columns := sample_columns(found):
            header = ",".join(["index", *columns])
        else:
            shapes = ", ".join(f"{name} {tuple(each.shape)}" for name, each in found.items())
            what = f"a dict of {shapes or 'no tensors'}" if values is outputs else f"a {type(outputs).__name__}"
            header, self.unfit = "nothing", f"test_step() returned {'nothing' if outputs is None else what}"
        if header != (self.header or header):
            header, self.unfit = "nothing", "test_step() returned now one thing, now another"
        self.header = header
        for row in zip(*(column.tolist() for column in columns.values()), strict=True):
            self.rows.append(",".join(map(repr, (len(self.rows), *row))) + "\n")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file, whole or not at all."""
        if not trainer.is_global_zero:
            return
        if self.header in ("", "nothing"):
            print(f"There is no {self.path.name}, since {self.unfit}; it takes {FORMS}.", flush=True)
            return
        if self.losses:
            sums, counts = pad_sequence([each.T for each in self.losses]).sum(dim=1).T.tolist()
            means = (total / count if count else math.nan for total, count in zip(sums, counts, strict=True))
            self.rows = [
                f"{k},{int(count)},{mean!r}\n" for k, (count, mean) in enumerate(zip(counts, means, strict=True))
            ]
        write_atomically(self.path, "".join([self.header, "\n", *self.rows]).encode())


class Probe(pl.Callback):
    """Ends the training after some optimiser steps, with the environment in the run's probe.json: `make probe`."""

    def __init__(self, directory: str, steps: int) -> None:
        self.directory = Path(directory)
        self.steps = steps

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Stop, where training has come to the step."""
        if trainer.global_step < self.steps:
            return
        if trainer.is_global_zero:
            described, code, touched = environment.depended_on(read_record(self.directory)["inputs"])
            found = {"environment": described, "outside": touched["outside"] | code}
            write_atomically(self.directory / PROBE, json.dumps(found).encode())
        raise SystemExit(0)


class ProgressLines(pl.Callback):
    """Prints a line every 15 seconds, or as often as the environment says, where a bar would be redrawn into a file."""

    def __init__(self) -> None:
        self.seconds = float(os.environ.get(PROGRESS_SECONDS, 15))
        self.last = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Print how far training is, and the metrics so far, if the last line is old enough."""
        if time.monotonic() - self.last >= self.seconds:
            self.last = time.monotonic()
            line = PROGRESS_FORM.format(
                epoch=trainer.current_epoch + 1,
                epochs=trainer.max_epochs,
                batch=trainer.fit_loop.batch_idx + 1,
                batches=trainer.num_training_batches,
                metrics=", ".join(f"{name}={float(value):.4f}" for name, value in trainer.callback_metrics.items()),
            )
            print(line, flush=True)


SUMMED = ("wall_seconds", "cpu_seconds", "joules")


class ResourceUsage(pl.Callback):
    """Measures what a run costs, and writes the sums over all its starts to a file: they count if it is killed, too."""

    interval = 10.0  # seconds between two writes: what a kill can hide

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before = {"starts": 0, **dict.fromkeys(SUMMED, 0.0), **(read_usage(path) if is_first() else {})}
        self.others: list[dict[str, Any]] | None = None  # of the other processes; None until training has ended
        self.begin = counters()
        self.written = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Write the sums, if the file is old enough."""
        if time.monotonic() - self.written >= self.interval:
            self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Write what was spent until an error or a signal."""
        self._write(trainer)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write that there was a start."""
        self._write(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what was spent, in all processes: what follows can still fail."""
        if isinstance(trainer.strategy, ShardedStrategy):
            everyone = trainer.strategy.gather({"local_rank": trainer.local_rank, **self._own()})
            self.others = [each for rank, each in enumerate(everyone) if rank != trainer.global_rank]
        self._write(trainer)

    def observed(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Describe the training so far: seconds (wall, and CPU of all processes), joules of processors, bytes."""
        own = self._own()
        # until the others have told theirs, they count as much as this process: they do the same
        others = [own | {"local_rank": 1}] * (trainer.world_size - 1) if self.others is None else self.others
        spent = {name: self.before[name] + own[name] for name in SUMMED}
        spent["cpu_seconds"] += sum(each["cpu_seconds"] for each in others)
        spent["joules"] += sum(each["joules"] for each in others if each["local_rank"] == 0)  # a counter is a node's
        return {
            "starts": int(self.before["starts"]) + 1,
            "wall_seconds": round(spent["wall_seconds"], 3),
            "cpu_seconds": round(spent["cpu_seconds"], 3),
            "joules": round(spent["joules"], 1) if spent["joules"] else None,
            "peak_memory_bytes": own["memory"] + sum(each["memory"] for each in others),
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_initialized() else None,
            "processes": trainer.world_size,
            "steps": trainer.global_step,
        }

    def _own(self) -> dict[str, Any]:
        now = counters()
        return {name: max(0.0, now[name] - self.begin[name]) for name in SUMMED} | {"memory": peak_memory()}

    def _write(self, trainer: pl.Trainer) -> None:
        self.written = time.monotonic()
        if not trainer.is_global_zero:
            return
        new = self.path.with_name(self.path.name + ".new")
        new.write_text(json.dumps(self.observed(trainer)) + "\n")
        new.replace(self.path)  # not forced to the disk: a lost write is a small loss
