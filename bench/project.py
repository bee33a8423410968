"""The generated project in which all is measured."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.baking import bake

INSIDE = Path(__file__).parent / "inside"  # what runs in the project's own Python
OF_MAKE = ("ARGS", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # of `make bench`, and not of what it calls
GRACE = 10  # seconds for what was stopped to clean up


@dataclass(frozen=True)
class Project:
    """A project with all answers at their defaults, set up, with its data, and trained."""

    path: Path
    variables: Mapping[str, str] = field(default_factory=dict)  # of its commands' environment

    @property
    def interpreter(self) -> str:
        """The project's own Python."""
        return str(self.path / ".venv/bin/python")

    def run(self, *words: str, **variables: str) -> str:
        """Run a command in the project, and return what it printed.

        Raises:
            RuntimeError: it failed.
        """
        with subprocess.Popen(
            words,
            cwd=self.path,
            env={name: each for name, each in os.environ.items() if name not in OF_MAKE}
            | {**self.variables, **variables},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a group of its own, which ends as a whole
        ) as process:
            try:
                out, err = process.communicate()
            except BaseException:  # whoever stops us, stops it and all that it has started
                for number in (signal.SIGTERM, signal.SIGKILL):
                    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                        os.killpg(process.pid, number)
                        process.wait(GRACE)
                raise
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}:\n{out}{err}")
        return out

    def seconds(self, *words: str, **variables: str) -> float:
        """Time a command, from its start to its end."""
        begin = time.perf_counter()
        self.run(*words, **variables)
        return time.perf_counter() - begin

    def inside(self, script: str, *words: str, **variables: str) -> list[float]:
        """Run one of the scripts in inside/, and return the numbers in the last line that it prints."""
        printed = self.run(self.interpreter, str(INSIDE / script), *words, **variables)
        return [float(word) for word in printed.splitlines()[-1].split()]


def copied(project: Project, folder: Path) -> Project:
    """Copy a project to a folder that does not exist yet, with the published run alone; packages are shared."""
    shutil.copytree(project.path, folder, ignore=shutil.ignore_patterns(".venv", ".cache", "cnn-*"), symlinks=True)
    (folder / ".venv").symlink_to(project.path / ".venv")
    return Project(folder, {"PYTHONPATH": str(folder / "src")})


@contextmanager
def generated(path: Path | None) -> Iterator[Project]:
    """Generate a project and train in it; or take one that is there, and is left as it is.

    Args:
        path: of a project that has been trained; None for a new one, which is deleted afterwards.
    """
    with tempfile.TemporaryDirectory() as folder:
        project = Project(path.resolve() if path else bake(Path(folder) / "out").project)
        project.run("make", "train")
        project.run("make", "setup", "EXTRAS=dev")
        yield project
