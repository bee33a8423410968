"""Installation: `make setup` of a new project from empty caches, with uv and with pip.

The package indexes and the way to them decide as much as the installers do. Each is asked once, for it takes minutes:
all packages are fetched and unpacked each time. That uv itself has to be fetched, is counted; generating the project is
not.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.baking import bake

from .project import Project
from .rows import Row

WAYS = {
    "what trainings need": ("EXTRAS=", "INSTALLER=uv"),
    "all": ("EXTRAS=dev", "INSTALLER=uv"),
    "INSTALLER=pip": ("EXTRAS=", "INSTALLER=pip"),
}


def install(*words: str) -> tuple[float, float]:
    """Install into a new project, with caches of its own; return seconds, and GB of the environment."""
    with tempfile.TemporaryDirectory() as folder:
        project = Project(bake(Path(folder) / "out").project)
        caches = {name: f"{folder}/{name}" for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR")}
        seconds = project.seconds("make", "setup", *words, "ACCELERATOR=cpu", VENV=".venv", **caches)
        return seconds, int(project.run("du", "-sk", ".venv").split()[0]) * 1024 / 1e9


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Measure all ways; nothing is installed into the project that is given."""
    found = {way: install(*words) for way, words in WAYS.items()}
    needed, everything, pip = ([list(pair) for pair in zip(found[way])] for way in WAYS)
    yield Row("make setup", "s", needed[0], "EXTRAS=dev", everything[0])
    yield Row("on the disk", "GB", needed[1], "EXTRAS=dev", everything[1])
    yield Row("make setup", "s", needed[0], "INSTALLER=pip", pip[0])
