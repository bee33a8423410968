"""What each shard of a batch adds to a step, as one vector, and the sum of these vectors in a fixed order.

Adding floating-point numbers is not associative: the bits depend on what is added to what. So the shards are the leaves
of a binary tree whose shape follows from their number alone; which process computes which leaves decides where a sum is
made, and never what is added to what.

A vector holds gradients, loss, logged numbers, and the state that the model carries from step to step beside its
weights. Each shard starts from the same buffers and from metric sums of zero; afterwards the buffers become the mean
over the shards, weighted by their samples, and the sums are added.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_sum

from .errors import UserError
from .lightning import pl

T = TypeVar("T")
Node = tuple[int, int]  # of the tree: its leaves, from the first one to before the second

REQUESTS = 2  # that any process may make for all of them: to stop, to save
CAPACITY = 64  # numbers that a step may log; fixed, as a process without samples cannot know how many there are


def children(node: Node) -> tuple[Node, Node]:
    """Split a node: the left one has as many leaves as the largest power of two that leaves some for the right one."""
    first, end = node
    middle = first + 2 ** ((end - first - 1).bit_length() - 1)
    return (first, middle), (middle, end)


def largest_nodes(root: Node, first: int, end: int) -> list[Node]:
    """List the largest nodes of a tree all of whose leaves are from `first` to before `end`, in order."""
    if first <= root[0] and root[1] <= end:
        return [root]
    if end <= root[0] or root[1] <= first:
        return []
    left, right = children(root)
    return largest_nodes(left, first, end) + largest_nodes(right, first, end)


def tree_reduce(node: Node, known: Callable[[Node], T | None], add: Callable[[T, T], T]) -> T:
    """Return a node's sum, from those that are `known`, as every single leaf's must be; `known` is None for others."""
    found = known(node)
    if found is not None:
        return found
    left, right = children(node)
    return add(tree_reduce(left, known, add), tree_reduce(right, known, add))


class GradientBucket:
    """The layout of the vector: the gradients of `parameters` in their own type, then numbers of 64 bits.

    `state` is how many numbers ShardBuffers reads.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], state: int, device: torch.device) -> None:
        self.parameters = list(parameters)
        self.device = device
        self.dtype = torch.float64 if any(each.dtype == torch.float64 for each in parameters) else torch.float32
        self.length = sum(each.numel() for each in parameters)
        self.start = -(-self.length * self.dtype.itemsize // 8)  # of the numbers
        self.sizes = [1, REQUESTS, CAPACITY, len(parameters), state]

    def empty(self) -> torch.Tensor:
        """Make the vector of a shard without samples: float64, zeros."""
        return torch.zeros(self.start + sum(self.sizes), dtype=torch.float64, device=self.device)

    def gradients(self, vector: torch.Tensor) -> torch.Tensor:
        """View the gradients: of their own type, (length,)."""
        return vector[: self.start].view(self.dtype)[: self.length]

    def numbers(self, vector: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """View loss (1,), requests (REQUESTS,), logged (CAPACITY,), used parameters (P,), state: float64."""
        return vector[self.start :].split(self.sizes)

    def take_gradients(self, vector: torch.Tensor) -> None:
        """Move the parameters' gradients into a vector; those that were not used count as zeros."""
        flat = [torch.zeros_like(each) if each.grad is None else each.grad for each in self.parameters]
        self.gradients(vector)[:] = torch.cat([each.reshape(-1).to(self.dtype) for each in flat])
        used = [each.grad is not None for each in self.parameters]
        self.numbers(vector)[3][:] = torch.tensor(used, dtype=torch.float64)
        for each in self.parameters:
            each.grad = None

    def split_gradients(self, vector: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return each parameter that any shard has used, with its gradient."""
        parts = self.gradients(vector).split([each.numel() for each in self.parameters])
        used = self.numbers(vector)[3].tolist()
        found = zip(self.parameters, parts, used, strict=True)
        return [(each, part.view_as(each).to(each.dtype)) for each, part, uses in found if uses]

    def add(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Add the second vector to the first."""
        self.gradients(left).add_(self.gradients(right))
        left[self.start :].add_(right[self.start :])
        return left


class ShardBuffers:
    """The model's buffers and the sums of its metrics, read and written as one vector.

    The metrics are told not to talk to other processes: all of them hold the same.
    """

    def __init__(self, model: pl.LightningModule) -> None:
        self.parts: list[_Buffer | _MetricSums] = []
        self.collections: list[MetricCollection] = []
        for path, module in model.named_modules():
            if isinstance(module, Metric):
                module.sync_on_compute = False
                self.parts.append(_MetricSums(path, module))
            elif isinstance(module, MetricCollection):
                self.collections.append(module)
            else:
                names = [name for name, buffer in module._buffers.items() if buffer is not None]
                self.parts += [_Buffer(module, name) for name in names]

    def begin_step(self) -> None:
        """Remember what a step starts from."""
        for part in self.parts:
            part.begin_step()
        self.sizes = [part.size for part in self.parts]

    def begin_shard(self) -> None:
        """Go back to it, with sums of zero."""
        for part in self.parts:
            part.begin_shard()

    def read(self, weight: float) -> list[torch.Tensor]:
        """Read what a shard has changed, times its part of the batch's samples: float64 vectors."""
        for collection in self.collections:
            collection.values(copy_state=False)  # those that share a state show it only when they are asked for
        return [part.read(weight) for part in self.parts]

    def write(self, vector: torch.Tensor) -> None:
        """Apply the changes of all shards, added up: float64, as long as all of `read` together."""
        for part, total in zip(self.parts, vector.split(self.sizes), strict=True):
            part.write(total)


class _Buffer:
    """A buffer, read as its change: one that is never changed stays what it is, to the last bit."""

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = module, name

    def begin_step(self) -> None:
        self.tensor = getattr(self.module, self.name)
        self.before = _as_real(self.tensor).clone()
        self.size = self.before.numel()

    def begin_shard(self) -> None:
        self._set(self.before)

    def read(self, weight: float) -> torch.Tensor:
        """Return the weighted change: float64 (size,)."""
        now = _as_real(getattr(self.module, self.name).detach())
        # compared by value: batch normalisation writes past PyTorch's count of changes; and an infinity stays one
        change = torch.where(now == self.before, 0.0, now.double() - self.before.double())
        return change.reshape(-1) * weight

    def write(self, total: torch.Tensor) -> None:
        """Change it by the mean over all shards: float64 (size,)."""
        change = total.view_as(self.before)
        if self.before.is_floating_point():
            self._set((self.before.double() + change).to(self.before.dtype))
        else:  # a counter or a flag, which changes alike in all of them
            self._set((self.before.long() + change.round().long()).to(self.before.dtype))

    def _set(self, value: torch.Tensor) -> None:
        _as_real(self.tensor).copy_(value)
        self.module._buffers[self.name] = self.tensor


def _as_real(tensor: torch.Tensor) -> torch.Tensor:
    """View complex numbers as pairs of real ones."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


class _MetricSums:
    """The states of one metric that are sums, and how often it was updated."""

    def __init__(self, path: str, metric: Metric) -> None:
        self.path, self.metric = path, metric
        values = {name: getattr(metric, name) for name in metric._defaults}
        sums = [name for name in values if metric._reductions[name] is dim_zero_sum]
        self.names = [name for name in sums if isinstance(values[name], torch.Tensor)]
        self.complete = len(self.names) == len(values)
        self.size = 1 + sum(values[name].numel() for name in self.names)

    def begin_step(self) -> None:
        self.before = [getattr(self.metric, name) for name in self.names]
        self.count = self.metric._update_count
        self.nothing = torch.zeros(self.size, dtype=torch.float64, device=self.metric.device)
        self._set([torch.zeros_like(value) for value in self.before], 0)

    def begin_shard(self) -> None:
        if self.metric._update_count:
            self._set([torch.zeros_like(value) for value in self.before], 0)

    def read(self, weight: float) -> torch.Tensor:
        """Return how often the metric was updated, and the sums: float64 (size,); refuse other states."""
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

    def write(self, total: torch.Tensor) -> None:
        """Add the sums of all shards: float64 (size,)."""
        more, *values = total.split([1, *(each.numel() for each in self.before)])
        count = int(more)
        if count:
            values = [old + new.view_as(old).to(old.dtype) for old, new in zip(self.before, values, strict=True)]
        self._set(values if count else self.before, self.count + count)

    def _set(self, values: list[Any], count: int) -> None:
        for name, value in zip(self.names, values, strict=True):
            object.__setattr__(self.metric, name, value)  # a module's own way takes ten times as long
        self.metric.__dict__["_update_count"], self.metric.__dict__["_computed"] = count, None


SIGNATURE = inspect.signature(pl.LightningModule.log)
MEAN, SUM = ("mean", "avg", torch.mean), ("sum", sum, torch.sum)


class ShardLogging:
    """Records what `training_step` logs of each shard of a batch, and logs the whole batch's numbers to Lightning."""

    def __init__(self) -> None:
        self.numbers: dict[str, dict[str, Any]] = {}  # the arguments of their self.log, but for the value
        self.metrics: dict[str, dict[str, Any]] = {}
        self.values: list[torch.Tensor] = []  # of one shard, in the order of `numbers`

    @contextmanager
    def record(self, model: pl.LightningModule, weight: float) -> Iterator[None]:
        """Record the calls of `model.log` for one shard, which has the part `weight` of the batch's samples."""
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

    def write_to(self, vector: torch.Tensor) -> None:
        """Write the shard's numbers into a vector: float64 (CAPACITY,)."""
        for place, value in enumerate(self.values):
            vector[place] = value

    def log_totals(self, model: pl.LightningModule, totals: torch.Tensor, size: int) -> None:
        """Log the sums over all shards, float64 (CAPACITY,), of a batch of `size` samples."""
        for arguments in self.metrics.values():
            model.log(**arguments)
        for arguments, value in zip(self.numbers.values(), totals, strict=False):
            model.log(**arguments | {"value": value.float(), "batch_size": size})
