"""Generate once, set up once, train once; all tests look at the same project."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from .baking import bake

IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")


@dataclass(frozen=True)
class Project:
    """A generated project that has been set up and trained."""

    path: Path

    def run(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run a command in the project as its user would; return what it printed."""
        environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        done = subprocess.run(
            words,
            cwd=self.path,
            env=environment | variables,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == status, f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def make(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run make in the project."""
        return self.run("make", *words, status=status, **variables)

    def python(self, *words: str, status: int = 0, **variables: str) -> str:
        """Run the project's Python."""
        return self.run(".venv/bin/python", *words, status=status, **variables)

    def state(self) -> dict[str, int]:
        """List when each result was last written."""
        paths = [path for folder in ("data", "models", "reports") for path in (self.path / folder).rglob("*")]
        return {str(path.relative_to(self.path)): path.stat().st_mtime_ns for path in paths}


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project with all answers at their defaults, in a path with a space, after `make train` alone."""
    made = Project(bake(tmp_path_factory.mktemp("with a space") / "my work").project)
    output = made.make("train")
    (made.path.parent / "train.log").write_text(output)
    return made
