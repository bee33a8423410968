"""Lightning by the name that the program uses: `pytorch_lightning`, or `lightning.pytorch`, whose classes are others.

This is the only place that knows. The rest of the engine takes what it needs of Lightning from here; it is looked up
when it is first asked for, after `choose` or the program's own imports have decided.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from lightning_fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment
    from pytorch_lightning.callbacks import (
        BatchSizeFinder,
        Checkpoint,
        LearningRateFinder,
        ModelCheckpoint,
        ModelPruning,
        ModelSummary,
        ProgressBar,
        SpikeDetection,
        StochasticWeightAveraging,
        ThroughputMonitor,
        Timer,
    )
    from pytorch_lightning.loggers import Logger
    from pytorch_lightning.plugins.io import TorchCheckpointIO
    from pytorch_lightning.profilers import PassThroughProfiler
    from pytorch_lightning.strategies import DDPStrategy, ParallelStrategy, SingleDeviceStrategy
    from pytorch_lightning.trainer.connectors.data_connector import _DataLoaderSource
    from pytorch_lightning.utilities import CombinedLoader
    from pytorch_lightning.utilities._pytree import _tree_flatten
    from pytorch_lightning.utilities.model_helpers import is_overridden

NAMES = {
    "pytorch_lightning": "lightning_fabric",
    "lightning.pytorch": "lightning.fabric",
}  # of the two packages of each
PLACES: tuple[str, ...] = (
    "callbacks",
    "loggers",
    "plugins.io",
    "profilers",
    "strategies",
    "trainer.connectors.data_connector",
)
PLACES += ("utilities", "utilities._pytree", "utilities.model_helpers")
_chosen: list[str] = []


def choose(targets: Iterable[str]) -> None:
    """Follow the classes that settings name, where all that are Lightning's have one spelling.

    Args:
        targets: `_target_`s, as `lightning.pytorch.Trainer`.
    """
    named = {name for name in NAMES for target in targets if target.startswith(f"{name}.")}
    if len(named) == 1:
        _chosen.extend(named)


def spelling() -> str:
    """Return the name of the package: as settings say, else the one that is loaded, else one that is installed."""
    loaded = [name for name in NAMES if name in sys.modules]
    if _chosen:
        return _chosen[-1]
    if len(loaded) == 1:
        return loaded[0]
    return "pytorch_lightning" if find_spec("pytorch_lightning") else "lightning.pytorch"


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        package = spelling()
        if name == "pl":
            return import_module(package)
        for place in (*(f"{package}.{each}" for each in PLACES), f"{NAMES[package]}.plugins.environments"):
            if hasattr(found := import_module(place), name):
                return getattr(found, name)
        raise AttributeError(f"{package} has no {name}")
