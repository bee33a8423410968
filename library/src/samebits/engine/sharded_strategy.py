"""Training on a fixed number of shards of each batch: the same bits with any number of processes.

A batch is split into shards. Each has randomness of its own, and gives a gradient that is weighted by its samples; the
gradients are added in the order of a tree (shard_buffers.py), wherever they were computed. After a step all processes
hold the same state, so the first one's checkpoint is enough, also for another number of processes.

The loss is to be a mean over samples, each of which counts by itself. What looks at several samples of a batch, such as
batch normalisation or a contrastive loss, sees those of one shard.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm

from . import distributed, fingerprint
from .data_loading import LocalShards, ShardedBatch, local_shards
from .errors import UserError
from .lightning import ClusterEnvironment, DDPStrategy, ParallelStrategy, SLURMEnvironment, pl
from .randomness import Generators, Purpose, seed_all, seed_everything
from .shard_buffers import REQUESTS, GradientBucket, Node, ShardBuffers, ShardLogging, largest_nodes, tree_reduce

TIMEOUT = timedelta(minutes=30)  # for a process that lives and does not answer


class ProcessGroup(ClusterEnvironment):
    """Tells Lightning which process this is, so that it need not guess, whatever job this runs in."""

    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        """The address of the first process; not used where RENDEZVOUS names a file."""
        if distributed.current_rank().launcher == "srun":
            return SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_JOB_NODELIST"])
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """The port that it listens at: torchrun's choice, or one that a job has for itself."""
        return int(os.environ.get("MASTER_PORT") or 15000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000)

    @staticmethod
    def detect() -> bool:
        """Return False: it is never chosen by detection."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return distributed.current_rank().world_size

    def set_world_size(self, size: int) -> None:
        """Do nothing: it is known."""

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: it is known."""

    def global_rank(self) -> int:
        """Return this process's number."""
        return distributed.current_rank().rank

    def local_rank(self) -> int:
        """Return its number on its node."""
        return distributed.current_rank().local_rank

    def node_rank(self) -> int:
        """Return the number of the node."""
        return distributed.current_rank().node_rank


def join_process_group(backend: str, device: torch.device) -> None:
    """Meet the processes that distributed.py has started: by a file of this machine, so that no port is opened."""
    path = os.environ.get(distributed.RENDEZVOUS)
    if path is None or dist.is_initialized():
        return
    if name := {"linux": "lo", "darwin": "lo0"}.get(sys.platform):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    rank = distributed.current_rank()
    dist.init_process_group(
        backend,
        store=dist.FileStore(path, rank.world_size),
        rank=rank.rank,
        world_size=rank.world_size,
        timeout=TIMEOUT,
        device_id=device if device.type == "cuda" else None,
    )


def has_lost_a_peer(error: BaseException) -> bool:
    """Whether an error says that another process of the training has ended."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return False
    words = r"connection (was )?(closed|reset|refused)|broken pipe|peer|timed out|NCCL"
    return isinstance(error, dist.DistError) or bool(re.search(words, str(error), re.I))


class ShardedStrategy(DDPStrategy):
    """Computes each batch's gradient in `count` shards, each with randomness of its own, by one process or several."""

    def __init__(self, seed: int, count: int) -> None:
        super().__init__(cluster_environment=ProcessGroup())
        self.seed, self.count = seed, count
        self.generators: Generators = []  # of the program's objects, from Reseed
        self.requests = [False] * REQUESTS  # of this process, for the next step
        self.requested = [False] * REQUESTS  # by any process, in the last step
        self.traced = False  # whether the trace wants `fingerprints`
        self.fingerprints: list[tuple[str, str, str]] = []  # of each shard: batch, generators, the loss's value

    @property
    def shards(self) -> LocalShards:
        """Which shards this process computes."""
        return local_shards(self.count, self.world_size, self.global_rank)

    # --- in the place of what DDPStrategy does: it would wrap the model, and add up in an order of its own

    def _configure_launcher(self) -> None:
        """Start no processes: distributed.py has."""

    def _setup_model(self, model: torch.nn.Module) -> torch.nn.Module:  # type: ignore[override]
        """Leave it as it is."""
        return model

    def setup_distributed(self) -> None:
        """Find the other processes."""
        self.set_world_ranks()
        if self.world_size > 1:
            join_process_group(self._get_process_group_backend(), self.root_device)
            super().setup_distributed()

    def setup(self, trainer: pl.Trainer) -> None:
        """Prepare the model; refuse what shards cannot do, and say what depends on their number."""
        ParallelStrategy.setup(self, trainer)
        self.buffers = ShardBuffers(self.trained_model)
        if trainer.state.fn == "fit":
            self._check(self.trained_model)

    @property
    def trained_model(self) -> pl.LightningModule:
        """The model that is trained."""
        assert self.lightning_module is not None
        return self.lightning_module

    def _check(self, model: pl.LightningModule) -> None:
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
        weights = fingerprint.combine(fingerprint.by_name(model.state_dict().items()))
        if len(set(self.gather(weights))) > 1:
            raise UserError(
                "the processes start from different weights: whatever draws random numbers or reads files when the"
                " model is built must give the same in each of them."
            )

    def gather(self, value: Any) -> list[Any]:
        """Return the value of every process, in their order."""
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
        """Go forward and backward through each shard, and add up the results; `backward` hands out the gradients."""
        model = self.trained_model
        if not isinstance(batch, ShardedBatch):
            raise UserError(
                "several processes or shards need batches that can be split: give the loader that train_dataloader()"
                " returns a batch_size."
            )
        parameters = [each for each in model.parameters() if each.requires_grad]
        before = [each.grad for each in parameters]  # of earlier batches of the same step
        self.buffers.begin_step()
        bucket = GradientBucket(parameters, sum(self.buffers.sizes), self.root_device)
        logging, self.fingerprints = ShardLogging(), []
        counters = model.trainer.current_epoch, model.trainer.fit_loop.batch_idx

        def forward_and_backward(shard: int, part: Any, weight: float) -> torch.Tensor:
            vector = bucket.empty()
            loss_, requests_, logged_, _, buffers_ = bucket.numbers(vector)
            if shard == self.shards.first:
                requests_[:] = torch.tensor(self.requests, dtype=torch.float64)
            if part is None:
                return vector
            self.buffers.begin_shard()
            for each in parameters:
                each.grad = None
            seed_everything(self.generators, self.seed, Purpose.STEP, *counters, shard)
            with logging.record(model, weight):
                loss = loss_of(DDPStrategy.training_step(self, part, *rest, **kwargs))
            if self.traced:
                rng, value = fingerprint.of_generators(), repr(float(loss.detach()))
                self.fingerprints.append((fingerprint.of_tensors(part), rng, value))
            scaled = loss * (weight / model.trainer.accumulate_grad_batches)
            self.precision_plugin.backward(scaled, model, None)
            bucket.take_gradients(vector)
            loss_[:] = loss.detach().double() * weight
            logging.write_to(logged_)
            if len(buffers_):
                buffers_[:] = torch.cat(self.buffers.read(weight))
            return vector

        def leaf(node: Node) -> torch.Tensor | None:
            if node[1] - node[0] > 1:
                return None
            place = node[0] - batch.first
            return forward_and_backward(node[0], batch.parts[place], batch.sizes[place] / batch.size)

        root = (0, self.count)
        own = {node: tree_reduce(node, leaf, bucket.add) for node in largest_nodes(root, *self.shards[1:])}
        vector = tree_reduce(root, self._exchange(root, own).get, bucket.add)

        loss, requests, logged, _, buffers = bucket.numbers(vector)
        self.requested = [count > 0 for count in requests.tolist()]
        self.buffers.write(buffers)
        self.gradients = bucket.split_gradients(vector)
        for each, gradient in zip(parameters, before, strict=True):
            each.grad = gradient
        if batch.size < self.count:  # a process without samples does not know what is logged
            logging.numbers = self.broadcast(logging.numbers)
        logging.log_totals(model, logged, batch.size)
        seed_everything(self.generators, self.seed, Purpose.STEP, *counters, self.count)  # for hooks that follow
        return {"loss": loss[0].float()}

    def _exchange(self, root: Node, own: dict[Node, torch.Tensor]) -> dict[Node, torch.Tensor]:
        """Give the other processes the sums of this one, and take theirs."""
        if self.world_size == 1:
            return own
        shards = [local_shards(self.count, self.world_size, rank) for rank in range(self.world_size)]
        nodes = [largest_nodes(root, each.first, each.end) for each in shards]
        vectors = torch.stack(list(own.values()))
        most = max(map(len, nodes))
        payload = torch.cat([vectors, vectors.new_zeros(most - len(vectors), vectors.shape[1])])
        everything = payload.new_empty(self.world_size * most, vectors.shape[1])
        dist.all_gather_single(everything, payload)
        by_rank = everything.view(self.world_size, most, -1)
        return {node: by_rank[rank, place] for rank, each in enumerate(nodes) for place, node in enumerate(each)}

    def backward(self, closure_loss: torch.Tensor, optimizer: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Hand the gradients out; the hooks are called as ever."""
        closure_loss = self.precision_plugin.pre_backward(closure_loss, self.trained_model)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        self.gradients = []
        return self.precision_plugin.post_backward(closure_loss, self.trained_model)


def loss_of(output: Any) -> torch.Tensor:
    """Return the loss of what training_step returned; refuse it where there is none."""
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if not isinstance(loss, torch.Tensor):
        raise UserError("training_step returned no loss, which several processes or shards do not support.")
    return loss
