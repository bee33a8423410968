"""Train once, look at the result in many tests. The data are those in data/, as `make data` has left them."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import samebits
from omegaconf import DictConfig

os.chdir(Path(__file__).parents[1])  # the library finds the project by the folder

# A training that takes a second. Where your epochs are long, this is the place to shorten it.
SHORT = (
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=10",
    "callbacks.resume.every_n_steps=1",
    "snapshot=false",
)

# PyTorch and NumPy read these once, when they are imported, and test modules are imported before anything is trained
for name, value in samebits.compose().determinism.env.items():
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = str(value)

Compose = Callable[..., DictConfig]
Train = Callable[..., Path]


def module(name: str) -> ModuleType:
    """Import a module of the project's package, `train` or `data.prepare`, whatever the package is called."""
    return import_module(f"{samebits.project().name}.{name}")


def compose(models: Path, *overrides: str) -> DictConfig:
    """Compose the settings of a short training whose run goes into the folder `models`."""
    return samebits.compose([*SHORT, f"paths.models='{models}'", *overrides])


def train(models: Path, *overrides: str) -> Path:
    """Train, and return the run's directory."""
    module("train").train(compose(models, *overrides))
    (record,) = models.glob("*/record.json")
    return record.parent


@pytest.fixture(scope="session")
def cfg() -> DictConfig:
    """The settings of `make train`."""
    return samebits.compose()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of one short run."""
    return train(tmp_path_factory.mktemp("models"))
