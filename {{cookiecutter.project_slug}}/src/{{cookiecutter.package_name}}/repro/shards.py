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
from .contribution import WISHES, Layout
from .group import Environment, join
from .logged import Logged
from .randomness import Purpose, seed_all
from .sharding import Held, ShardedBatch
from .tree import Span


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
        if self.world_size > 1:
            join(self._get_process_group_backend(), self.root_device)
            super().setup_distributed()

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
        self.carried.begin()
        layout = Layout(parameters, sum(self.carried.sizes), self.root_device)
        logged, self.seen = Logged(), []
        counters = model.trainer.current_epoch, model.trainer.fit_loop.batch_idx

        def forward_and_backward(shard: int, part: Any, weight: float) -> torch.Tensor:
            row = layout.empty()
            loss_, wishes_, logged_, _, carried_ = layout.numbers(row)
            if shard == self.shards.held[0]:
                wishes_[:] = torch.tensor(self.wishes, dtype=torch.float64)
            if part is None:
                return row
            self.carried.start_shard()
            for each in parameters:
                each.grad = None
            seed_all(self.seed, Purpose.STEP, *counters, shard)
            with logged.taken(model, weight):
                loss = loss_of(DDPStrategy.training_step(self, part, *rest, **kwargs))
            if self.watched:
                rng, value = fingerprint.of_generators(), repr(float(loss.detach()))
                self.seen.append((fingerprint.of_tensors(part), rng, value))
            scaled = loss * (weight / model.trainer.accumulate_grad_batches)
            self.precision_plugin.backward(scaled, model, None)
            layout.take_gradients(row)
            loss_[:] = loss.detach().double() * weight
            logged.read_into(logged_)
            carried_[:] = torch.cat(self.carried.read(weight)) if len(carried_) else carried_
            return row

        def leaf(span: Span) -> torch.Tensor | None:
            place = span[0] - batch.first
            return (
                forward_and_backward(span[0], batch.parts[place], batch.sizes[place] / batch.size)
                if span[1] - span[0] == 1
                else None
            )

        root = (0, self.count)
        own = {node: tree.total(node, leaf, layout.add) for node in tree.nodes(root, self.shards.held)}
        row = tree.total(root, self._exchange(root, own).get, layout.add)

        loss, wishes, numbers, _, carried = layout.numbers(row)
        self.agreed = [wish > 0 for wish in wishes.tolist()]
        self.carried.put(carried)
        self.gradients = layout.give_gradients(row)
        for each, gradient in zip(parameters, before, strict=True):
            each.grad = gradient
        if batch.size < self.count:  # a process without samples has not heard what is logged
            logged.numbers = self.broadcast(logged.numbers)
        logged.log(model, numbers, batch.size)
        seed_all(self.seed, Purpose.STEP, *counters, self.count)  # for hooks that follow
        return {"loss": loss[0].float()}

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


def loss_of(output: Any) -> torch.Tensor:
    """Take the loss out of what training_step returned.

    Raises:
        UserError: it is not there.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, torch.Tensor):
        raise UserError("training_step returned no loss, which several processes or shards do not support.")
    return loss
