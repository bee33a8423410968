"""Training on a fixed number of shards of each batch: the same bits with any number of processes.

A batch of B samples is split into V shards. Each has randomness of its own, and gives a gradient that is weighted by
its samples; the V gradients are added in the order of a tree (tree.py), wherever they were computed. After a step all
processes hold the same state, so the first one's checkpoint is enough, also for another number of processes.

The loss is to be a mean over samples, each of which counts by itself. What looks at several samples of a batch, such as
batch normalisation or a contrastive loss, sees those of one shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy, ParallelStrategy
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from ..errors import UserError
from . import fingerprint, tree
from .carried import Carried
from .group import Environment, join
from .logged import CAPACITY, Logged
from .randomness import Purpose, seed_all
from .sharding import Held, ShardedBatch
from .tree import Span

WISHES = 2  # of any process, for all: to leave, to save


class Shards(DDPStrategy):
    """Computes each batch's gradient shard by shard, in one process or in several.

    Args:
        seed: of what is random in each shard.
        count: number of shards.
    """

    def __init__(self, seed: int, count: int) -> None:
        super().__init__(cluster_environment=Environment())
        self.seed, self.count = seed, count
        self.wishes = [False] * WISHES  # of this process
        self.agreed = [False] * WISHES  # by all, in the last step
        self.watched = False  # whether `seen` is wanted
        self.seen: list[tuple[str, str, str]] = []  # of each shard: fingerprints of batch and generators, the loss

    @property
    def shards(self) -> Held:
        """Which shards this process holds."""
        return Held(self.count, tree.block(self.count, self.world_size, self.global_rank))

    # --- in the place of what DDPStrategy does: it would wrap the model, and add up in an order of its own

    def _configure_launcher(self) -> None:
        """Start no processes: launch.py has."""

    def _setup_model(self, model: torch.nn.Module) -> torch.nn.Module:  # type: ignore[override]
        """Leave it as it is."""
        return model

    def setup_distributed(self) -> None:
        """Find the other processes."""
        self.set_world_ranks()
        self._process_group_backend = self._get_process_group_backend()
        if self.world_size > 1:
            join(self._process_group_backend, self.root_device)
        super().setup_distributed() if self.world_size > 1 else None

    def setup(self, trainer: pl.Trainer) -> None:
        """Prepare the model, and say what depends on the number of shards.

        Raises:
            UserError: the model does what shards cannot.
        """
        ParallelStrategy.setup(self, trainer)
        model = self.lightning_module
        assert model is not None
        self.carried = Carried(model)
        if trainer.state.fn == "fit":
            self._look_at(model)

    def _look_at(self, model: pl.LightningModule) -> None:
        if not model.automatic_optimization:
            raise UserError(
                "the model optimises by itself (automatic_optimization=False), which several processes or shards do not"
                " support: train with trainer.devices=1 and determinism.shards=null."
            )
        for name, module in model.named_modules():
            if isinstance(module, SyncBatchNorm):
                raise UserError(f"{name} is a SyncBatchNorm, whose sums depend on the processes: use a BatchNorm.")
            if isinstance(module, _BatchNorm) and self.is_global_zero:
                print(
                    f"determinism.shards={self.count}: {name} ({type(module).__name__}) takes its statistics from each"
                    " shard by itself, so the result depends on the number of shards, and not on that of processes."
                )
        weights = fingerprint.together(fingerprint.by_name(model.state_dict().items()))
        if len(set(self.gather(weights))) > 1:
            raise UserError(
                "the processes start from different weights: whatever draws random numbers or reads files when the"
                " model is built must give the same in each of them."
            )

    def gather(self, value: Any) -> list[Any]:
        """Collect a value from every process, in their order."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    # --- a step

    def batch_to_device(self, batch: Any, device: torch.device | None = None, dataloader_idx: int = 0) -> Any:
        """Move a batch, shard by shard: hooks may change it, and draw for that."""
        if not isinstance(batch, ShardedBatch):
            return super().batch_to_device(batch, device, dataloader_idx)

        def move(shard: int, part: Any) -> Any:
            seed_all(self.seed, Purpose.TRANSFER, batch.epoch, batch.number, shard)
            return DDPStrategy.batch_to_device(self, part, device, dataloader_idx)

        return batch.map(move)

    def training_step(self, batch: Any, *rest: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Go forward and backward through each shard, and put together what came out; the gradients wait."""
        model = self.lightning_module
        assert model is not None
        if not isinstance(batch, ShardedBatch):
            raise UserError("several processes or shards need batches from make_loader (repro/loading.py).")
        parameters = [each for each in model.parameters() if each.requires_grad]
        before = [each.grad for each in parameters]  # of earlier batches of the same step
        kind = torch.float64 if any(each.dtype == torch.float64 for each in parameters) else torch.float32
        length = sum(each.numel() for each in parameters)
        gradients = -(-length * kind.itemsize // 8)  # numbers of 64 bits
        logged, self.seen = Logged(), []
        self.carried.begin()
        counters = model.trainer.current_epoch, model.trainer.fit_loop.batch_idx

        def leaf(span: Span) -> torch.Tensor | None:
            if span[1] - span[0] > 1:
                return None
            shard = span[0]
            row = torch.zeros(gradients + self._numbers(parameters), dtype=torch.float64, device=self.root_device)
            rest_of_row = row[gradients:]
            if shard == self.shards.held[0]:
                rest_of_row[1 : 1 + WISHES] = torch.tensor(self.wishes, dtype=torch.float64)
            part = batch.parts[shard - batch.first]
            if part is None:
                return row
            weight = batch.sizes[shard - batch.first] / batch.size
            self.carried.start_shard()
            for each in parameters:
                each.grad = None
            seed_all(self.seed, Purpose.STEP, *counters, shard)
            with logged.taken(model, weight):
                loss = self._loss(DDPStrategy.training_step(self, part, *rest, **kwargs))
            if self.watched:
                self._see(part, loss)
            scaled = loss * (weight / model.trainer.accumulate_grad_batches)
            self.precision_plugin.backward(scaled, model, None)
            flat = [
                torch.zeros_like(each).reshape(-1) if each.grad is None else each.grad.reshape(-1)
                for each in parameters
            ]
            row[:gradients].view(kind)[:length] = torch.cat(flat)
            used = torch.tensor([each.grad is not None for each in parameters], dtype=torch.float64)
            numbers = [logged.read(self.root_device), used.to(self.root_device), *self.carried.read(weight)]
            rest_of_row[0] = loss.detach().double() * weight
            rest_of_row[1 + WISHES :] = torch.cat([each.to(self.root_device) for each in numbers])
            return row

        def add(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            left[:gradients].view(kind).add_(right[:gradients].view(kind))
            left[gradients:].add_(right[gradients:])
            return left

        root = (0, self.count)
        own = {node: tree.total(node, leaf, add) for node in tree.nodes(root, self.shards.held)}
        total = tree.total(root, self._exchange(root, own).get, add)

        for each, gradient in zip(parameters, before, strict=True):
            each.grad = gradient
        sizes = [1, WISHES, CAPACITY, len(parameters), sum(self.carried.sizes)]
        loss, wishes, numbers, used, carried = total[gradients:].split(sizes)
        self.agreed = [wish > 0 for wish in wishes.tolist()]
        self.carried.put(carried)
        self._keep(parameters, total[:gradients].view(kind)[:length], used.tolist())
        if batch.size < self.count:  # a process without samples has not heard what is logged
            logged.numbers = self.broadcast(logged.numbers)
        logged.log(model, numbers, batch.size)
        seed_all(self.seed, Purpose.STEP, *counters, self.count)  # for hooks that follow
        return {"loss": loss[0].float()}

    def _numbers(self, parameters: list[torch.nn.Parameter]) -> int:
        return 1 + WISHES + CAPACITY + len(parameters) + sum(self.carried.sizes)

    @staticmethod
    def _loss(output: Any) -> torch.Tensor:
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(loss, torch.Tensor):
            raise UserError("training_step returned no loss, which several processes or shards do not support.")
        return loss

    def _see(self, part: Any, loss: torch.Tensor) -> None:
        rng = fingerprint.of_generators()
        self.seen.append((fingerprint.of_tensors(part), rng, repr(float(loss.detach()))))

    def _keep(self, parameters: list[torch.nn.Parameter], flat: torch.Tensor, used: list[float]) -> None:
        """Cut the gradients out of the vector; what no shard has used has none."""
        parts = flat.split([each.numel() for each in parameters])
        self.gradients = [
            (each, part.view_as(each).to(each.dtype))
            for each, part, uses in zip(parameters, parts, used, strict=True)
            if uses
        ]

    def _exchange(self, root: Span, own: dict[Span, torch.Tensor]) -> dict[Span, torch.Tensor]:
        """Give the other processes the sums of this one, and take theirs."""
        if self.world_size == 1:
            return own
        spans = [tree.nodes(root, tree.block(self.count, self.world_size, rank)) for rank in range(self.world_size)]
        rows = torch.stack(list(own.values()))
        most = max(map(len, spans))
        payload = torch.cat([rows, rows.new_zeros(most - len(rows), rows.shape[1])])
        everything = payload.new_empty(self.world_size * most, rows.shape[1])
        dist.all_gather_single(everything, payload)
        by_rank = everything.view(self.world_size, most, -1)
        return {span: by_rank[rank, place] for rank, each in enumerate(spans) for place, span in enumerate(each)}

    def backward(self, closure_loss: torch.Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Hand the gradients out; the hooks are told as ever."""
        model = self.lightning_module
        assert model is not None
        closure_loss = self.precision_plugin.pre_backward(closure_loss, model)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        self.gradients = []
        return self.precision_plugin.post_backward(closure_loss, model)
