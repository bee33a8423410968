"""What a model carries from step to step beside its weights: buffers, and the sums that its metrics gather.

Each shard of a batch starts from the same buffers, and from sums of zero. Afterwards the buffers become the mean over
the shards, weighted by their samples, and the sums are added: the same for any number of processes.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_sum

from ..errors import UserError


class Carried:
    """Reads it as one vector, and puts it back.

    Args:
        model: its metrics are told not to talk to other processes: all of them hold the same.
    """

    def __init__(self, model: pl.LightningModule) -> None:
        self.parts: list[Buffer | Sums] = []
        self.collections: list[MetricCollection] = []
        for path, module in model.named_modules():
            if isinstance(module, Metric):
                module.sync_on_compute = False
                self.parts.append(Sums(path, module))
            elif isinstance(module, MetricCollection):
                self.collections.append(module)
            else:
                held = [name for name, buffer in module._buffers.items() if buffer is not None]
                self.parts += [Buffer(module, name) for name in held]

    def begin(self) -> None:
        """Remember what a step starts from."""
        for part in self.parts:
            part.begin()
        self.sizes = [part.size for part in self.parts]

    def start_shard(self) -> None:
        """Go back to it, with sums of zero."""
        for part in self.parts:
            part.clear()

    def read(self, weight: float) -> list[torch.Tensor]:
        """Read what a shard has left: float64 vectors.

        Args:
            weight: the part of the batch's samples that the shard has.

        Raises:
            UserError: a metric was updated whose state cannot be added up.
        """
        for collection in self.collections:
            collection.values(copy_state=False)  # those that share a state show it only when they are asked for
        return [part.read(weight) for part in self.parts]

    def put(self, vector: torch.Tensor) -> None:
        """Take over what all shards have left, added up: float64, as long as all of `read` together."""
        for part, total in zip(self.parts, vector.split(self.sizes), strict=True):
            part.put(total)


class Buffer:
    """A buffer, by how much it has changed: so that one that is never changed stays what it is, to the last bit.

    Args:
        module: that holds it.
        name: its name there.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name

    def begin(self) -> None:
        """Remember it."""
        self.tensor = getattr(self.module, self.name)
        self.start = real(self.tensor).clone()
        self.size = self.start.numel()

    def clear(self) -> None:
        """Go back to it."""
        self._set(self.start)

    def read(self, weight: float) -> torch.Tensor:
        """Return the weighted change: float64 (size,)."""
        now = real(getattr(self.module, self.name).detach())
        # compared by value: batch normalisation writes past PyTorch's count of changes; and an infinity stays one
        change = torch.where(now == self.start, 0.0, now.double() - self.start.double())
        return change.reshape(-1) * weight

    def put(self, total: torch.Tensor) -> None:
        """Change it by the mean over all shards: float64 (size,)."""
        change = total.view_as(self.start)
        if self.start.is_floating_point():
            self._set((self.start.double() + change).to(self.start.dtype))
        else:  # a counter or a flag, which changes alike in all of them
            self._set((self.start.long() + change.round().long()).to(self.start.dtype))

    def _set(self, value: torch.Tensor) -> None:
        real(self.tensor).copy_(value)
        self.module._buffers[self.name] = self.tensor


def real(tensor: torch.Tensor) -> torch.Tensor:
    """View complex numbers as pairs of real ones."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


class Sums:
    """The states of one metric that are sums, and how often it was updated.

    Args:
        path: its name in the model.
        metric: whose states.
    """

    def __init__(self, path: str, metric: Metric) -> None:
        self.path, self.metric = path, metric
        values = {name: getattr(metric, name) for name in metric._defaults}
        self.names = [
            name
            for name, value in values.items()
            if metric._reductions[name] is dim_zero_sum and isinstance(value, torch.Tensor)
        ]
        self.complete = len(self.names) == len(values)
        self.size = 1 + sum(values[name].numel() for name in self.names)

    def begin(self) -> None:
        """Remember the sums, and start from zero."""
        self.before = [getattr(self.metric, name) for name in self.names]
        self.count = self.metric._update_count
        self.nothing = torch.zeros(self.size, dtype=torch.float64, device=self.metric.device)
        self._set([torch.zeros_like(value) for value in self.before], 0)

    def clear(self) -> None:
        """Start from zero, if anything was added."""
        if self.metric._update_count:
            self._set([torch.zeros_like(value) for value in self.before], 0)

    def read(self, weight: float) -> torch.Tensor:
        """Return how often the metric was updated, and the sums: float64 (size,).

        Raises:
            UserError: it holds something else, too.
        """
        if not self.metric._update_count:
            return self.nothing
        if not self.complete:
            raise UserError(
                f"the metric {self.path} ({type(self.metric).__name__}) is updated in training_step and holds more than"
                " sums, which cannot be put together from the shards of a batch: update it in validations only, or"
                " train with one process and determinism.shards=1."
            )
        count = self.nothing.new_tensor([self.metric._update_count])
        return torch.cat([count, *(getattr(self.metric, name).detach().double().reshape(-1) for name in self.names)])

    def put(self, vector: torch.Tensor) -> None:
        """Add what all shards have left: float64 (size,)."""
        more, *values = vector.split([1, *(each.numel() for each in self.before)])
        count = int(more)
        if count:
            values = [old + new.view_as(old).to(old.dtype) for old, new in zip(self.before, values, strict=True)]
        self._set(values if count else self.before, self.count + count)

    def _set(self, values: list[Any], count: int) -> None:
        for name, value in zip(self.names, values, strict=True):
            object.__setattr__(self.metric, name, value)  # a module's own way takes ten times as long
        self.metric.__dict__["_update_count"], self.metric.__dict__["_computed"] = count, None
