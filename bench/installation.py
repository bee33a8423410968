"""Installation: `make setup` of a new project from empty caches, with uv and with pip.

The package indexes and the way to them decide as much as the installers do. Of the latter, each is asked once,
for it takes minutes: all packages are fetched and unpacked each time. That uv itself has to be fetched,
is counted; generating the project is not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.baking import bake

from .project import Project
from .rows import Row, take_turns

ROUNDS = 1


def seconds(installer: str) -> float:
    """Install into a new project, with caches of its own."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project(bake(Path(folder) / "out").project)
        caches = {name: f"{folder}/{name}" for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR")}
        return project.seconds("make", "setup", f"INSTALLER={installer}", "ACCELERATOR=cpu", VENV=".venv", **caches)


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Measure both installers; nothing is installed into the project that is given."""
    times = take_turns(seconds, ("uv", "pip"), ROUNDS, warm=False)
    yield Row("make setup INSTALLER=uv", "s", times["uv"], "INSTALLER=pip", times["pip"])
