"""Exact resume: a run that was killed goes on where its newest checkpoint stands, as if nothing had happened.

Lightning's checkpoints leave out some of the state of its loops, without which a resumed run goes another way. What
reads and restores it is written for Lightning 2.6 (`pyproject.toml` pins it); tests/test_resume.py fails where a later
one behaves otherwise.
"""

from __future__ import annotations

import builtins
import copy
import pickle
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.utils import deterministic
from torch.utils._pytree import tree_leaves
from torchmetrics import Metric, MetricCollection

from .attributes import LARGEST, ChangedAttributes, metric_state, restore_metric
from .callbacks import History
from .errors import RESUME_LATER, STOP_SIGNALS, UserError
from .files import is_sealed, write_sealed
from .fingerprint import ON_DEVICE
from .lightning import ModelCheckpoint, ModelSummary, ProgressBar, ThroughputMonitor, Timer, TorchCheckpointIO, pl
from .sharded_strategy import ShardedStrategy

Checkpoint = dict[str, Any]
State = dict[str, Any]

FILES = "resume-[0-9]*[0-9].ckpt"
LARGEST_COPY = 4 * 2**30  # bytes of the computer's memory that may be taken for a checkpoint of a GPU


class SealedCheckpointIO(TorchCheckpointIO):
    """Writes every checkpoint whole or not at all, with its sha256, and reads tensors and plain values only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint, which `torch.load` reads, too. `storage_options`, if given, is what writes a copy."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if storage_options and (write := copy_for_later(checkpoint)):
            storage_options(Path(path), write)
        else:
            write_sealed(Path(path), lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Read a checkpoint to the CPU."""
        return torch.load(path, map_location="cpu", weights_only=True)


def copy_for_later(checkpoint: Checkpoint) -> Callable[[Any], None] | None:
    """Copy a checkpoint in a GPU's turn; what is returned writes the copy. None where there is no memory for it."""
    tensors = [each for each in tree_leaves(checkpoint) if isinstance(each, torch.Tensor)]
    if sum(each.nbytes for each in tensors) > LARGEST_COPY:
        return None
    switches: Any = deterministic
    filled, switches.fill_uninitialized_memory = switches.fill_uninitialized_memory, False  # all of it is written to
    try:
        memo: dict[int, Any] = {id(each): each.detach().to("cpu", non_blocking=True, copy=True) for each in tensors}
        copied = copy.deepcopy(checkpoint, memo)
    except RuntimeError:  # such memory cannot be swapped, and a system may grant little of it
        return None
    finally:
        switches.fill_uninitialized_memory = filled
    there = torch.cuda.current_stream().record_event() if torch.cuda.is_initialized() else None

    def write(file: Any) -> None:
        if there is not None:
            there.synchronize()
        torch.save(copied, file)

    return write


class ExactResume(pl.Callback):
    """Saves the whole state of training now and then, between two steps, where it is smallest.

    Args:
        directory: where checkpoints are written; the newest and the one before it are kept.
        every_n_steps: optimiser steps from one checkpoint to the next.
        every_minutes: time from one to the next, for slow steps.
        grace_seconds: how long after SIGTERM a validation may go on; a checkpoint can be written only after it.
    """

    def __init__(self, directory: str, every_n_steps: int, every_minutes: float, grace_seconds: float) -> None:
        self.directory = Path(directory)
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.grace_seconds = grace_seconds
        self.previous: Path | None = None  # the newest checkpoint that is known to be good
        self.verified = False  # whether a checkpoint of this process has been read back
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self.writing: Future[Any] | None = None  # the newest checkpoint, while a GPU goes on
        self.saving = False  # not when another callback makes a checkpoint for purposes of its own
        self.step = 0  # of the last batch's end, or of the last checkpoint
        self.saved_step, self.saved_time = 0, time.monotonic()
        self.stop_time: float | None = None  # when a signal asked to stop
        self.state: dict[str, Any] | None = None  # read from a checkpoint, not yet put back

    def find(self) -> Path | None:
        """Find the newest undamaged checkpoint; say which ones are damaged."""
        for unfinished in self.directory.glob("*.ckpt.new"):
            unfinished.unlink()
        paths = sorted(self.directory.glob(FILES), reverse=True)
        good = next((path for path in paths if is_sealed(path)), None)
        if folders := [path for path in paths if path.is_dir() and not path.is_symlink()]:
            raise UserError(f"{folders[0]} is a folder, where a checkpoint is to be written: move it away.")
        for path in paths[: paths.index(good) if good else None]:
            instead = f"going on from {good.name}" if good else "training from the beginning"
            print(f"{path} is damaged: {instead}.", file=sys.stderr)
        if good:
            print(f"This run was cut off; going on from step {int(good.stem.removeprefix('resume-')):,}.", flush=True)
        self.previous = good
        return good

    # --- what is saved beside Lightning's own

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Checkpoint) -> None:
        """Add what Lightning leaves out; leave out what config.yaml holds."""
        if not self.saving:
            return
        for key in [key for key in checkpoint if key.startswith("hyper_parameters") or key == "hparams_name"]:
            del checkpoint[key]
        state = collect_loop_state(trainer)
        state["attributes"] = [each.state() for each in self.attributes]
        state["history"] = [history.file.position() for history in histories(trainer)]
        checkpoint[type(self).__name__] = state

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Checkpoint) -> None:
        """Keep it for the start of the first batch."""
        self.state = checkpoint[type(self).__name__]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the optimisers the groups of parameters that were added while training, before their state is read."""
        if self.state is not None:
            named = dict(pl_module.named_parameters())
            for optimizer, groups in zip(trainer.optimizers, self.state["groups"], strict=True):
                for names in groups[len(optimizer.param_groups) :]:
                    optimizer.add_param_group({"params": [named[name] for name in names]})

    # --- when it is saved and put back

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over from Lightning, which stops at points from where it cannot resume exactly."""
        self.attributes = attributes_of(trainer, pl_module)
        self.step = self.saved_step = trainer.global_step
        self.saved_time = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                signal.signal(number, self._request_stop)  # Lightning puts the former handler back

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if self.stop_time is None:  # clusters may send it several times
            self.stop_time = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Put back what was read, or save where it is due. Gradients in accumulation are never saved."""
        if self.state is not None:
            for history, position in zip(histories(trainer), self.state["history"], strict=True):
                history.file.rewind(position)
                if trainer.is_global_zero:
                    history.repeat([each for each in trainer.loggers if not isinstance(each, History)])
            restore_loop_state(trainer, self.state)
            for attributes, changed in zip(self.attributes, self.state["attributes"], strict=True):
                attributes.restore(changed)
            self.state = None
        if trainer.global_step == self.step:
            return
        if self.writing is not None and self.writing.done():
            self._wait()  # that it could not be written, or read back, is said now
        self.step = trainer.global_step
        late = time.monotonic() - self.saved_time >= 60 * self.every_minutes
        stop, late = requested_by_any(trainer, self.stop_time is not None, late)
        if stop or late or self.step - self.saved_step >= self.every_n_steps:
            self.save(trainer)
        if stop:
            self._wait()
            print(f"\nAsked to stop: saved step {self.step:,}; the same command goes on from there.", file=sys.stderr)
            raise SystemExit(RESUME_LATER)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop, where SIGTERM came after the last step."""
        self._wait()
        self._stop_unsaved(0)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Let the newest checkpoint be written, whatever happened; that it cannot be, too, is not the cause."""
        with suppress(OSError, UserError):
            self._wait()

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Stop in a long validation during which SIGTERM came."""
        self._stop_unsaved(self.grace_seconds)

    def _stop_unsaved(self, grace_seconds: float) -> None:
        if self.stop_time is not None and time.monotonic() - self.stop_time >= grace_seconds:
            print("\nAsked to stop: the same command goes on from the last checkpoint.", file=sys.stderr)
            raise SystemExit(RESUME_LATER)

    def save(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint, on a GPU while training goes on; keep the one before, remove older and damaged ones."""
        self._wait()
        path = self.directory / f"resume-{self.step:09}.ckpt"
        later = self._later if trainer.strategy.root_device.type in ON_DEVICE else None
        self.saving = True
        trainer.save_checkpoint(path, storage_options=later)
        self.saving = False
        if self.writing is None:
            self._keep(path, trainer.is_global_zero)
        self.saved_step, self.saved_time = self.step, time.monotonic()

    def _later(self, path: Path, write: Callable[[Any], None]) -> None:
        def write_and_keep() -> None:
            write_sealed(path, write)
            self._keep(path)

        self.writing = self.thread.submit(write_and_keep)

    def _keep(self, path: Path, here: bool = True) -> None:
        if here and not self.verified:
            self._verify(path)
        for old in self.directory.glob(FILES) if here else ():
            if old not in (path, self.previous):
                old.unlink()
        self.previous = path

    def _wait(self) -> None:
        """Wait until the newest checkpoint is on the disk; an OSError where it could not be written."""
        if self.writing is not None:
            written, self.writing = self.writing, None
            written.result()

    def _verify(self, path: Path) -> None:
        """Read the first checkpoint back: better to know now than after the run was killed."""
        try:
            SealedCheckpointIO().load_checkpoint(path)
        except pickle.UnpicklingError as error:
            path.unlink()
            found = re.search(r"GLOBAL (\S+)", str(error))
            raise UserError(
                f"the training's state holds {found[1] if found else 'an object'}, which cannot be loaded safely: keep"
                " tensors, numbers, texts, lists and dicts alone in state_dict() and on_save_checkpoint()."
            ) from error
        self.verified = True


def requested_by_any(trainer: pl.Trainer, *requests: bool) -> list[bool]:
    """Return this process's requests or, of several processes, what any of them requested a step ago."""
    strategy = trainer.strategy
    if not isinstance(strategy, ShardedStrategy):
        return list(requests)
    requested, strategy.requests = strategy.requested, list(requests)
    return requested


UNSAVED = (ModelCheckpoint, ProgressBar, ModelSummary, Timer, ThroughputMonitor)


def attributes_of(trainer: pl.Trainer, model: pl.LightningModule) -> list[ChangedAttributes]:
    """Watch the attributes of callbacks, modules and data module; those of UNSAVED are files, displays and clocks."""
    named: dict[str, Any] = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined] # set elsewhere
        kind = type(callback)
        if not isinstance(callback, UNSAVED) and kind.__module__.partition(".")[0] != __package__.partition(".")[0]:
            number = sum(type(each) is kind for each in named.values()) + 1
            named[f"the callback {kind.__name__}" + (f" ({number})" if number > 1 else "")] = callback
    metrics = {id(part) for module in model.modules() if isinstance(module, Metric) for part in module.modules()}
    modules = {f"the model's {path}" if path else "the model": module for path, module in model.named_modules()}
    named |= {name: module for name, module in modules.items() if id(module) not in metrics}
    others = [trainer, model, *model.modules(), *trainer.optimizers]
    own = {*vars(pl.LightningModule()), "_hparams", "_hparams_initial", "_hparams_name", "_log_hyperparams"}
    held = getattr(trainer, "datamodule", None)
    data = {} if held is None else {"the data module": held}
    left_out = {*own, *vars(pl.LightningDataModule())}
    return [ChangedAttributes(named, own, others), ChangedAttributes(data, left_out, others, LARGEST)]


def histories(trainer: pl.Trainer) -> list[History]:
    """List the loggers that go on where a run was cut off."""
    return [logger for logger in trainer.loggers if isinstance(logger, History)]


def collect_loop_state(trainer: pl.Trainer) -> State:
    """Read what Lightning's checkpoints leave out, at the start of a batch that directly follows an optimiser step."""
    connector, results = trainer._logger_connector, trainer.fit_loop.epoch_loop._results
    return {
        "should_stop": trainer.should_stop,  # early stopping may have said so before trainer.min_epochs is reached
        "callback_metrics": dict(connector._callback_metrics),  # what schedulers and callbacks monitor
        "first_batch": connector._first_loop_iter,  # of an epoch: sums begin at zero
        # when it restarts at the start of a batch, Lightning counts the step before it once more
        "batches_that_stepped": trainer.fit_loop.epoch_loop._batches_that_stepped,
        "accumulate_grad_batches": trainer.accumulate_grad_batches,  # which a callback may schedule
        "groups": parameter_groups(trainer),
        "requires_grad": [name for name, each in trainer.lightning_module.named_parameters() if each.requires_grad],
        "training": [name for name, each in trainer.lightning_module.named_modules() if each.training],
        "sums": [_sum_state(each) for each in results.values() if each.is_tensor and each.meta.on_epoch],
        "metrics": {name: metric_state(metric) for name, metric in _metrics(trainer.lightning_module).items()},
        "saved": [each._last_global_step_saved for each in _model_checkpoints(trainer)],
    }


def parameter_groups(trainer: pl.Trainer) -> list[list[list[str]]]:
    """List the names of the parameters in each group of each optimiser."""
    names = {id(parameter): name for name, parameter in trainer.lightning_module.named_parameters()}

    def name_all(group: dict[str, Any]) -> list[str]:
        return [names[id(each)] for each in group["params"] if id(each) in names]

    return [[name_all(group) for group in optimizer.param_groups] for optimizer in trainer.optimizers]


def restore_loop_state(trainer: pl.Trainer, state: State) -> None:
    """Put it back, at the start of the same batch."""
    connector, loop = trainer._logger_connector, trainer.fit_loop
    trainer.should_stop = state["should_stop"]
    connector._callback_metrics.update(state["callback_metrics"])
    connector._first_loop_iter = state["first_batch"]
    trainer.accumulate_grad_batches = state["accumulate_grad_batches"]
    loop.epoch_loop._batches_that_stepped = state["batches_that_stepped"]
    trained, training = set(state["requires_grad"]), set(state["training"])
    for name, parameter in trainer.lightning_module.named_parameters():
        parameter.requires_grad = name in trained
    for name, module in trainer.lightning_module.named_modules():
        module.training = name in training
    for each in state["sums"]:
        _restore_sum(trainer, each)
    for name, metric in _metrics(trainer.lightning_module).items():
        restore_metric(metric, state["metrics"][name])
    for callback, step in zip(_model_checkpoints(trainer), state["saved"], strict=True):
        callback._last_global_step_saved = step
    loop._restarting = False  # else the first epoch's end would not step ReduceLROnPlateau
    total = loop.epoch_loop.batch_progress.total
    total.ready = total.completed + 1  # else the batch that was begun counts twice


def _sum_state(result: Any) -> State:
    """Read what `self.log(name, number, on_epoch=True)` has summed up, and how it was called."""
    meta = result.meta
    names = ("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph", "metric_attribute")
    return {
        "call": {name: getattr(meta, name) for name in names}
        | {"sync_dist": meta.sync.should, "rank_zero_only": meta.sync.rank_zero_only},
        "reduce": (meta.reduce_fx in (sum, min, max), meta.reduce_fx.__name__),
        "reset": result.has_reset,
        "state": metric_state(result),
    }


def _restore_sum(trainer: pl.Trainer, state: State) -> None:
    """Log as before, and set the sum."""
    results = trainer.fit_loop.epoch_loop._results
    known = set(results)
    builtin, name = state["reduce"]
    results.log(
        **state["call"],
        value=torch.zeros((), device=trainer.strategy.root_device),
        reduce_fx=getattr(builtins if builtin else torch, name),
        sync_dist_fn=trainer.strategy.reduce,
        batch_size=1,
    )
    (key,) = set(results) - known
    restore_metric(results[key], state["state"])
    results[key].has_reset = state["reset"]


def _metrics(model: pl.LightningModule) -> dict[str, Metric]:
    """List the model's torchmetrics by their names."""
    for module in model.modules():
        if isinstance(module, MetricCollection):
            module.values(copy_state=False)  # those that share a state show it only when they are asked for
    return {name: module for name, module in model.named_modules() if isinstance(module, Metric)}


def _model_checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
