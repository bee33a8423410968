"""Fetch once, prepare once, train once; all tests look at the same results."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from .project import compose, module
from .trainings import prepare

Compose = Callable[..., DictConfig]
LONGEST = ("test_kills.py", "test_programs.py", "test_processes.py")

# Here, because pytest loads this file first of all, and PyTorch reads its environment once
module("samebits.engine.determinism").before_torch(compose().determinism)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: the others fill what time is left to the other processes."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that stands in for the project's, with the data in it."""
    return prepare(tmp_path_factory.mktemp("work space"))


@pytest.fixture(scope="session")
def settings(workspace: Path) -> Compose:
    """Return a function that composes a run of two steps in the workspace."""

    few = ["debug=fast", "trainer.limit_val_batches=1.0", "trainer.limit_test_batches=1.0", "snapshot=false"]

    @cache
    def composed(*overrides: str) -> DictConfig:
        return compose([f'paths.root="{workspace}"', *few, *overrides])

    return lambda *overrides: composed(*overrides).copy()


@pytest.fixture(scope="session")
def trained(settings: Compose) -> Path:
    """Train two steps and return the run's directory."""
    cfg = settings()
    module("dummy.train").train(cfg)
    (run,) = Path(cfg.paths.models).glob("debug-fast-cnn-seed=0-*")
    return run


@pytest.fixture(scope="session")
def train(settings: Compose, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that trains and may be cut off: see cutting.py."""
    from .cutting import trainings  # here, because PyTorch must find its environment set

    return trainings(settings, tmp_path_factory.mktemp("cut off"))
