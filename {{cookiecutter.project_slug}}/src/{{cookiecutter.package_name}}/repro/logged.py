"""Numbers that `training_step` logs of each shard, put together to one of the batch before Lightning sees them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torchmetrics import Metric

from ..errors import UserError
from .contribution import CAPACITY

SIGNATURE = inspect.signature(pl.LightningModule.log)
MEAN, SUM = ("mean", "avg", torch.mean), ("sum", sum, torch.sum)


class Logged:
    """Takes the calls of `self.log` in one step."""

    def __init__(self) -> None:
        self.numbers: dict[str, dict[str, Any]] = {}  # their arguments, but for the value
        self.metrics: dict[str, dict[str, Any]] = {}
        self.values: list[Any] = []  # of one shard, in the order of `numbers`

    @contextmanager
    def taken(self, model: pl.LightningModule, weight: float) -> Iterator[None]:
        """Take what one shard logs.

        Args:
            model: whose `log` is taken over.
            weight: the part of the batch's samples that the shard has.
        """
        self.values = []

        def log(*args: Any, **kwargs: Any) -> None:
            arguments = dict(SIGNATURE.bind(model, *args, **kwargs).arguments)
            del arguments["self"]
            name, value = arguments["name"], arguments.pop("value")
            if isinstance(value, Metric):
                self.metrics[name] = arguments | {"value": value}
                return
            reduce = arguments.get("reduce_fx", "mean")
            if reduce not in (*MEAN, *SUM):
                raise UserError(
                    f"self.log({name!r}, ...) in training_step has another reduce_fx than mean or sum, which cannot"
                    " be put together from the shards of a batch: log a torchmetrics metric in validations."
                )
            self.numbers[name] = arguments
            self.values.append(torch.as_tensor(value).detach().double().reshape(()) * (weight if reduce in MEAN else 1))
            if len(self.values) > CAPACITY:
                raise UserError(f"training_step logs more than {CAPACITY} numbers: log fewer, or as one metric.")

        model.log = log  # type: ignore[method-assign]
        try:
            yield
        finally:
            del model.log

    def read_into(self, row: torch.Tensor) -> None:
        """Write what a shard has logged into a vector: float64 (CAPACITY,)."""
        for place, value in enumerate(self.values):
            row[place] = value

    def log(self, model: pl.LightningModule, totals: torch.Tensor, size: int) -> None:
        """Log the sums over all shards.

        Args:
            model: to log by.
            totals: float64 (CAPACITY,).
            size: samples of the whole batch.
        """
        for arguments in self.metrics.values():
            model.log(**arguments)
        for arguments, value in zip(self.numbers.values(), totals, strict=False):
            model.log(**arguments | {"value": value.float(), "batch_size": size})
