"""Trainings as jobs of SLURM, one job a run."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from . import notes
from .judge import MOST, SETTLE, Verdict, judge
from .node import newest_step
from .places import GOES_ON
from .queue import Queue, require_slurm
from .state import State
from .submission import job_name, last_words, require_processes, submit

if TYPE_CHECKING:
    from .jobs import Job
    from .plan import Plan

POLL = 0.5  # seconds between two looks at the log


class Slurm:
    """One training as a job of SLURM.

    Args:
        of: all of them.
        cfg: the run's settings.
    """

    cluster = "slurm"
    busy = False  # it goes on without us

    def __init__(self, of: SlurmCluster, cfg: DictConfig) -> None:
        self.of = of
        self.cfg = cfg
        self.number = ""  # SLURM's, of the job
        self.left = threading.Event()

    def train(self, job: Job) -> tuple[int, str]:
        """Submit the job, unless it is in the queue, and follow it until it ends."""
        while self._attach_or_submit(job):
            verdict = self._follow(job)
            if verdict is None:
                break
            if not verdict.again:
                if verdict.status and not verdict.sure:
                    return verdict.status, verdict.reason + last_words(job.training, self.number)
                return verdict.status, verdict.reason
            forward = newest_step(job.training.directory) > job.note.step
            job.note.again = 0 if forward else job.note.again + 1
            if job.note.again > MOST:
                return 1, f"{verdict.reason}, {MOST + 1} times without a step forward"
            job.tell(State.WAITING, f"is submitted again: {verdict.reason}")
        return 1, ""

    def _attach_or_submit(self, job: Job) -> bool:
        """Find the job in the queue, or put it there; False where that is no longer wished."""
        with self.of.submitting:  # one at a time
            if self.left.is_set():
                return False
            known = self.of.queue.waiting(job_name(job.training))
            ended = known and judge(known.job, known, notes.read_at_node(job.training.at_node))
            if ended and ended.status:  # it failed a moment ago, which SLURM has yet to notice
                known = None
            self.number = known.job if known else submit(self.cfg, job.training)
            job.note.job, job.note.step = self.number, newest_step(job.training.directory)
            job.remember()
            before = f"{known.said}, with the cluster's settings of then" if known else ""
            job.tell(State.WAITING, before or f"was submitted, job {self.number}")
            return True

    def _follow(self, job: Job) -> Verdict | None:
        """Return how the job has ended; None where we leave before."""
        job.begin_anew()
        tail = notes.Tail(job.log)
        since = time.monotonic()  # it was seen in the queue, or should be there
        while not self.left.wait(POLL):
            node = notes.read_at_node(job.training.at_node)
            queued, answered = self.of.queue.find(self.number, since)
            verdict = judge(self.number, queued, node)
            for line in tail.lines():
                job.heard(line)
            if verdict is None:
                since = time.monotonic()
            elif verdict.sure or (answered and time.monotonic() - since > SETTLE):
                return verdict
            if queued and not queued.ended:
                running = queued.state == "RUNNING"
                job.tell(State.RUNNING if running else State.WAITING, (running and job.last) or queued.said)
        return None

    def stop(self) -> None:
        """Cancel the job: it has some seconds to save its state."""
        self.left.set()
        with self.of.submitting:
            if self.number:
                subprocess.run(["scancel", self.number], capture_output=True)

    def leave(self) -> None:
        """Let the job go on by itself."""
        self.left.set()

    def end(self) -> None:
        """Nothing is waited for."""


class SlurmCluster:
    """A cluster under SLURM.

    Raises:
        UserError: there is none.
    """

    name = "slurm"

    def __init__(self) -> None:
        require_slurm()
        self.queue = Queue()
        self.submitting = threading.Lock()

    def place(self, plan: Plan) -> Slurm:
        """Make the place of one run."""
        require_processes(plan.cfg)
        return Slurm(self, plan.cfg)

    def at_once(self, plans: Sequence[Plan]) -> int:
        """All of them: SLURM decides."""
        return max(1, len(plans))

    def interrupted(self, jobs: Sequence[Job]) -> str:
        """Say what goes on, and how to look at it and to stop it."""
        ended = (State.FINISHED, State.FAILED)
        numbers = [job.note.job for job in jobs if job.note.job and job.state not in ended]
        if not numbers:
            return GOES_ON
        what, them = ("1 job stays", "it") if len(numbers) == 1 else (f"{len(numbers)} jobs stay", "them")
        return (
            f"Interrupted: {what} on the cluster; `make status` shows how far, `scancel {' '.join(numbers)}` stops"
            f" {them} with the state saved, and the same command follows {them} again."
        )

    def close(self) -> None:
        """The jobs go on."""
