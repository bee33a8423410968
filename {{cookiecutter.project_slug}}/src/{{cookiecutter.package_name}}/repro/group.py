"""How the processes of a training find each other."""

from __future__ import annotations

import os
import re
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment

from . import ranks

PATIENCE = timedelta(minutes=30)  # with a process that lives and does not answer


class Environment(ClusterEnvironment):
    """Tells Lightning which process this is, so that it need not guess, whatever job this runs in."""

    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        """Where the first process is; not used where `join` knows a file."""
        if ranks.current().launcher == "srun":
            return SLURMEnvironment.resolve_root_node_address(os.environ["SLURM_JOB_NODELIST"])
        return os.environ.get("MASTER_ADDR", "127.0.0.1")

    @property
    def main_port(self) -> int:
        """The port that it listens at: torchrun's choice, or one that a job has for itself."""
        return int(os.environ.get("MASTER_PORT") or 15000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10000)

    @staticmethod
    def detect() -> bool:
        """Never: it is chosen."""
        return False

    def world_size(self) -> int:
        """Count the processes."""
        return ranks.current().world

    def set_world_size(self, size: int) -> None:
        """Do nothing: it is known."""

    def global_rank(self) -> int:
        """Number this one."""
        return ranks.current().number

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: it is known."""

    def local_rank(self) -> int:
        """Number this one on its node."""
        return ranks.current().local

    def node_rank(self) -> int:
        """Number the node."""
        return ranks.current().node


def join(backend: str, device: torch.device) -> None:
    """Meet the processes that launch.py has started: by a file of this machine, so that no port is opened."""
    path = os.environ.get(ranks.RENDEZVOUS)
    if path is None or dist.is_initialized():
        return
    name = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    if name:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
    rank = ranks.current()
    store = dist.FileStore(path, rank.world)
    dist.init_process_group(
        backend,
        store=store,
        rank=rank.number,
        world_size=rank.world,
        timeout=PATIENCE,
        device_id=device if device.type == "cuda" else None,
    )


def has_lost_a_peer(error: BaseException) -> bool:
    """Whether an error says that another process of the training has ended."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return False
    words = r"connection (was )?(closed|reset|refused)|broken pipe|peer|timed out|NCCL"
    return isinstance(error, dist.DistError) or bool(re.search(words, str(error), re.I))
