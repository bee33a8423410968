"""The state of a training that Lightning's checkpoints leave out, and without which a resumed run goes another way.

Written for Lightning 2.6 (`pyproject.toml` pins it); tests/test_resume.py fails where a later one behaves otherwise.
"""

from __future__ import annotations

import builtins
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torchmetrics import Metric, MetricCollection

State = dict[str, Any]


def collect(trainer: pl.Trainer) -> State:
    """Read it, at the start of a batch that directly follows an optimiser step."""
    connector, results = trainer._logger_connector, trainer.fit_loop.epoch_loop._results
    return {
        "should_stop": trainer.should_stop,  # early stopping may have said so before trainer.min_epochs is reached
        "callback_metrics": dict(connector._callback_metrics),  # what schedulers and callbacks monitor
        "first_batch": connector._first_loop_iter,  # of an epoch: sums begin at zero
        "sums": [_sum_state(each) for each in results.values() if each.is_tensor and each.meta.on_epoch],
        "metrics": {name: _metric_state(metric) for name, metric in _metrics(trainer.lightning_module).items()},
        "saved": [each._last_global_step_saved for each in _model_checkpoints(trainer)],
    }


def restore(trainer: pl.Trainer, state: State) -> None:
    """Put it back, at the start of the same batch."""
    connector, loop = trainer._logger_connector, trainer.fit_loop
    trainer.should_stop = state["should_stop"]
    connector._callback_metrics.update(state["callback_metrics"])
    connector._first_loop_iter = state["first_batch"]
    for each in state["sums"]:
        _restore_sum(trainer, each)
    for name, metric in _metrics(trainer.lightning_module).items():
        _restore_metric(metric, state["metrics"][name])
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
        "state": _metric_state(result),
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
    _restore_metric(results[key], state["state"])
    results[key].has_reset = state["reset"]


def _metrics(model: pl.LightningModule) -> dict[str, Metric]:
    """List the model's torchmetrics by their names."""
    for module in model.modules():
        if isinstance(module, MetricCollection):
            module.values(copy_state=False)  # those that share a state show it only when they are asked for
    return {name: module for name, module in model.named_modules() if isinstance(module, Metric)}


def _metric_state(metric: Metric) -> State:
    return {name: getattr(metric, name) for name in metric._defaults} | {"_update_count": metric._update_count}


def _restore_metric(metric: Metric, state: State) -> None:
    def to_device(value: Any) -> Any:
        if isinstance(value, list):
            return [to_device(each) for each in value]
        return value.to(metric.device) if isinstance(value, torch.Tensor) else value

    for name, value in state.items():
        setattr(metric, name, to_device(value))
    metric._computed = None


def _model_checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
