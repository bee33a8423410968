"""Trainings of the dummy project in processes, each in a folder of its own, to be killed and compared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .project import NAME, ROOT, compose, module

PLENTY = 180  # seconds in which a training ends, or something hangs


@dataclass
class Trainings:
    """Starts them by the command that a user would give.

    Attributes:
        workspace: a folder whose data has been prepared.
        folder: for the folders of all.
        settings: of each.
        files: of a run, that have to be the same.
    """

    workspace: Path
    folder: Path
    settings: Sequence[str]
    files: Sequence[str]

    def start(self, name: str, *more: str, launcher: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start one, by itself or by a launcher of several processes."""
        paths = {"models": self.folder / name, "processed": self.workspace / "data/processed"}
        words = [*self.settings, *(f'paths.{key}="{path}"' for key, path in paths.items()), "snapshot=false", *more]
        return subprocess.Popen(
            [*(launcher or (sys.executable,)), "-m", f"{NAME}.train", *words],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, name: str, *more: str, launcher: Sequence[str] = (), status: int = 0) -> str:
        """Train to the end, and return what was printed."""
        process = self.start(name, *more, launcher=launcher)
        output, _ = process.communicate(timeout=PLENTY)
        assert process.returncode == status, output
        return output

    def find(self, name: str, pattern: str) -> list[Path]:
        """Find files in the run's directory, which appears some time after the start."""
        return list((self.folder / name).glob(f"*-*/{pattern}"))

    def results(self, name: str) -> dict[str, bytes]:
        """Read all that has to be the same."""
        (metrics,) = self.find(name, "metrics.json")
        return {each: (metrics.parent / each).read_bytes() for each in self.files}

    def different(self, name: str, other: str = "alone") -> list[str]:
        """List the files in which two runs differ."""
        mine, theirs = self.results(name), self.results(other)
        return [each for each in self.files if mine[each] != theirs[each]]


def prepare(workspace: Path) -> Path:
    """Fetch and prepare the data in a folder, and return it."""
    cfg = compose([f'paths.root="{workspace}"'])
    module("samebits.fetch").fetch(cfg)
    module(f"{NAME}.data.prepare").prepare(cfg)
    return workspace
