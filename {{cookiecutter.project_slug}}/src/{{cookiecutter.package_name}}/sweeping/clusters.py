"""The place that the settings choose."""

from __future__ import annotations

from omegaconf import DictConfig

from ..config import get
from .local import LocalCluster
from .places import Cluster


def open_cluster(cfg: DictConfig) -> Cluster:
    """Find where runs are to be trained.

    Raises:
        UserError: it is not there.
    """
    name = get(cfg, "cluster.name")
    if name == "slurm":
        from .slurm import SlurmCluster

        return SlurmCluster()
    if name == "ray":
        from .ray import RayCluster

        return RayCluster(cfg.cluster.address)
    return LocalCluster()
