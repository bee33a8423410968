"""The processes of one training: how many there are to be, and which of them this one is.

They are started by our own launcher (launch.py), by torchrun or by SLURM's srun; each tells them by environment
variables. The first one, of rank 0, writes everything; the others only compute.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from ..errors import UserError

RENDEZVOUS = "RENDEZVOUS_FILE"  # set by our own launcher: where the processes of one machine find each other
PEER_LOST = 76  # exit status: another process of the training has ended


@dataclass(frozen=True)
class Rank:
    """One of the processes of a training.

    Attributes:
        number: from 0 on, over all nodes.
        world: how many processes there are, on all nodes.
        local: from 0 on, on this node.
        node: from 0 on.
        launcher: `alone`, `ours`, `torchrun` or `srun`.
    """

    number: int = 0
    world: int = 1
    local: int = 0
    node: int = 0
    launcher: str = "alone"


def current() -> Rank:
    """Say which process this is."""
    get = os.environ.get
    if get("RANK", "").isdecimal() and get("LOCAL_RANK") and get("WORLD_SIZE"):
        launcher = "ours" if RENDEZVOUS in os.environ else "torchrun"
        return _read("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", launcher)
    if int(get("SLURM_STEP_NUM_TASKS", "1")) > 1:  # a step is what srun starts; a batch script has none
        return _read("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID", "srun")
    return Rank()


def _read(number: str, world: str, local: str, node: str, launcher: str) -> Rank:
    numbers = [int(os.environ.get(name, "0")) for name in (number, world, local, node)]
    return Rank(numbers[0], numbers[1], numbers[2], numbers[3], launcher)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return current().number == 0


def wanted(cfg: Mapping[Any, Any]) -> int:
    """Say how many processes the settings ask for: `trainer.devices` on each of `trainer.num_nodes`."""
    trainer = cfg["trainer"]
    devices: Any = trainer.get("devices")
    on_a_node = len(devices) if isinstance(devices, ListConfig | list) else int(devices or 1)
    return on_a_node * int(trainer.get("num_nodes") or 1)


def shards(cfg: Mapping[Any, Any]) -> int:
    """Say into how many shards each batch is split: `determinism.shards`, or else one for each process."""
    return int(cfg["determinism"].get("shards") or wanted(cfg))


def require_match(cfg: DictConfig) -> None:
    """Refuse to go on where another number of processes was started than the settings ask for.

    Raises:
        UserError: names both numbers.
    """
    rank, nodes = current(), int(OmegaConf.select(cfg, "trainer.num_nodes") or 1)
    if rank.launcher == "alone" and nodes > 1:
        raise UserError(
            f"trainer.num_nodes={nodes} needs SLURM's srun or torchrun on each node, which start the processes there:"
            " for this computer alone, say how many processes by trainer.devices."
        )
    if rank.launcher != "alone" and rank.world != wanted(cfg):
        raise UserError(
            f"{rank.launcher} has started {rank.world} processes, but trainer.devices and trainer.num_nodes ask for"
            f" {wanted(cfg)}: make them the same (one device is one process)."
        )
