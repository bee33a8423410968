"""What a model carries from step to step beside its weights: buffers, and the sums that its metrics gather.

Each shard of a batch starts from the same buffers, and from sums of zero. Afterwards the buffers become the mean over
the shards, weighted by their samples, and the sums are added: the same for any number of processes.
"""

from __future__ import annotations

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
        self.buffers: list[tuple[nn.Module, str]] = []
        self.sums: list[tuple[Metric, str]] = []
        self.metrics: dict[str, Metric] = {}
        self.collections: list[MetricCollection] = []
        self.others: set[str] = set()  # metrics that hold something else than sums
        for path, module in model.named_modules():
            if isinstance(module, Metric):
                module.sync_on_compute = False
                self.metrics[path] = module
                for name in module._defaults:
                    if module._reductions[name] is dim_zero_sum and isinstance(getattr(module, name), torch.Tensor):
                        self.sums.append((module, name))
                    else:
                        self.others.add(path)
            elif isinstance(module, MetricCollection):
                self.collections.append(module)
            else:
                self.buffers += [(module, name) for name, buffer in module._buffers.items() if buffer is not None]

    def begin(self) -> None:
        """Remember what a step starts from."""
        self.tensors = [getattr(module, name) for module, name in self.buffers]
        self.start = [tensor.clone() for tensor in self.tensors]
        self.sums_before = [getattr(metric, name) for metric, name in self.sums]
        self.zeros = [torch.zeros_like(value) for value in self.sums_before]
        self.counts = [metric._update_count for metric in self.metrics.values()]

    def start_shard(self) -> None:
        """Go back to it, with sums of zero."""
        for (module, name), tensor, start in zip(self.buffers, self.tensors, self.start, strict=True):
            tensor.copy_(start)
            module._buffers[name] = tensor
        for (metric, name), zero in zip(self.sums, self.zeros, strict=True):
            setattr(metric, name, zero.clone())
        for metric in self.metrics.values():
            metric._update_count, metric._computed = 0, None

    def read(self, weight: float) -> list[torch.Tensor]:
        """Read what a shard has left: float64 vectors.

        Args:
            weight: the part of the batch's samples that the shard has.

        Raises:
            UserError: a metric was updated whose state cannot be added up.
        """
        for collection in self.collections:
            collection.values(copy_state=False)  # those that share a state show it only when they are asked for
        for path in self.others:
            if self.metrics[path]._update_count:
                raise UserError(
                    f"the metric {path} ({type(self.metrics[path]).__name__}) is updated in training_step and holds"
                    " more than sums, which cannot be put together from the shards of a batch: update it in validations"
                    " only, or train with one process and determinism.shards=1."
                )
        device = self.tensors[0].device if self.tensors else None
        counts = torch.tensor([metric._update_count for metric in self.metrics.values()], dtype=torch.float64)
        buffers = [getattr(module, name).detach().double().reshape(-1) * weight for module, name in self.buffers]
        sums = [getattr(metric, name).detach().double().reshape(-1) for metric, name in self.sums]
        return [*buffers, *sums, counts.to(sums[0].device if sums else device)]

    def length(self) -> int:
        """Count the numbers that `read` gives."""
        return sum(each.numel() for each in self.start + self.sums_before) + len(self.metrics)

    def put(self, vector: torch.Tensor) -> None:
        """Take over what all shards have left, added up: float64, shape (length,)."""
        *parts, counts = vector.split([each.numel() for each in self.start + self.sums_before] + [len(self.metrics)])
        buffers, sums = parts[: len(self.start)], parts[len(self.start) :]
        for (module, name), tensor, value in zip(self.buffers, self.tensors, buffers, strict=True):
            rounded = value if tensor.is_floating_point() else value.round()  # a counter, equal in all of them
            tensor.copy_(rounded.view_as(tensor))
            module._buffers[name] = tensor
        for (metric, name), before, value in zip(self.sums, self.sums_before, sums, strict=True):
            setattr(metric, name, before + value.view_as(before).to(before.dtype))
        for metric, before_, more in zip(self.metrics.values(), self.counts, counts.tolist(), strict=True):
            metric._update_count, metric._computed = before_ + int(more), None
