"""Trainings as processes of this computer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from ..config import get
from ..repro import ranks
from .places import GOES_ON
from .state import State
from .training import Training

if TYPE_CHECKING:
    from .jobs import Job
    from .plan import Plan


class Local:
    """One training in a process of its own."""

    cluster = "local"

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.asked = False  # to end

    @property
    def busy(self) -> bool:
        """Whether it is being trained."""
        return self.process is not None and self.process.poll() is None

    def train(self, job: Job) -> tuple[int, str]:
        """Train, and pass on its lines."""
        job.tell(State.RUNNING, "")
        return self.carry_out(job.training, job.heard), ""

    def carry_out(self, training: Training, heard: Callable[[str], None]) -> int:
        """Train, and return the exit status."""
        training.log.parent.mkdir(parents=True, exist_ok=True)
        with training.log.open("w") as log:
            # Of our process group, so that it goes with us where that is killed; but Ctrl-C is for us alone, and we ask
            # it to save its state. A pipe, not the file, so that it does not outlive us unseen.
            self.process = subprocess.Popen(
                training.command(),
                cwd=training.root,
                env=training.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            if self.asked:  # while it was being started
                self.stop()
            assert self.process.stdout
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                heard(line.rstrip())
        return self.process.wait()

    def stop(self) -> None:
        """Ask it to save its state and end."""
        self.asked = True
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    leave = stop

    def end(self) -> None:
        """End it at once."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()


class LocalCluster:
    """This computer."""

    name = "local"

    def place(self, plan: Plan) -> Local:
        """Make the place of one run."""
        return Local()

    def at_once(self, plans: Sequence[Plan]) -> int:
        """As many as the processor has cores for."""
        return cores(plans[0].cfg)

    def interrupted(self, jobs: Sequence[Job]) -> str:
        """Say how it goes on."""
        return GOES_ON

    def close(self) -> None:
        """Nothing is left."""


def threads(cfg: DictConfig) -> int:
    """Count the processors that one process of a run keeps busy: its threads, and the processes that load its data."""
    return (get(cfg, "determinism.threads") or 1) + (get(cfg, "data.module.num_workers") or 0)


def cores(cfg: DictConfig) -> int:
    """Say how many runs fit the processor at once: its cores that are ours, by what one run needs; one on a GPU."""
    if get(cfg, "determinism.threads") is None or get(cfg, "trainer.accelerator") != "cpu":
        return 1
    ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, ours // (threads(cfg) * ranks.wanted(cfg)))
