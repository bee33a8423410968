"""What runs on a node of the cluster: it starts the training, passes signals on, and says what became of it.

SLURM asks a job to leave in several ways. Where it takes the job back by itself (scontrol requeue, preemption,
scancel), there is no more to do than to save in time. Ahead of the time limit (SIGUSR2, by submitit), and where a job
to be preempted is given some grace (SIGTERM), the job goes on existing, and has to put itself into the queue again.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import submitit

from ..repro.leaving import RESUME_LATER
from ..repro.lock import BUSY
from .jobs import reason
from .notes import AtNode, Tail, read_at_node, write
from .training import DEAF, Training

ASKED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
AHEAD_OF_TIME = signal.SIGUSR2  # submitit's
EVERY = 2.0  # seconds from one signal to the next
LATER = 1.0  # seconds after which we would be dead, too, were it SLURM that ended the training


@dataclass
class OnNode:
    """Carries out one training in a job; submitit keeps it in a file, and loads it at each start of the job.

    Attributes:
        training: what is to be trained.
        limit: of the time, as it was given.
    """

    training: Training
    limit: str
    asked: list[int] = field(default_factory=list)  # the signals that came

    def __call__(self) -> int:
        """Train, and return 0; every other end leaves with an exit status."""
        leave_to_submitit = signal.getsignal(AHEAD_OF_TIME)
        self.asked = []
        for number in ASKED:
            signal.signal(number, self._heed)
        job = os.environ.get("SLURM_JOB_ID", "")
        before = read_at_node(self.training.at_node)
        starts = before.starts + 1 if before and before.job == job else 1
        said = AtNode(job, socket.gethostname(), starts)
        self._say(said)
        step = newest_step(self.training.directory)
        status, why = self._train()
        if status == 0:
            said.state = "finished"
            self._say(said)
            return 0
        if self.asked and (status < 0 or status in (RESUME_LATER, *(128 + number for number in ASKED))):
            if AHEAD_OF_TIME not in self.asked or newest_step(self.training.directory) != step:
                said.state = "saved"
                self._say(said)
                if still_running(job) and callable(leave_to_submitit):
                    leave_to_submitit(AHEAD_OF_TIME, None)  # has `checkpoint` kept, and the job queued again
                raise SystemExit(RESUME_LATER)
            why = f"the time was up ({self.limit}) before a first step was saved: give it more by cluster.time"
        said.state, said.status, said.reason = "failed", status, why
        self._say(said)
        raise SystemExit(status if status > 0 else 1)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Say what the next start of the job does: the same, and the training finds its own state."""
        return submitit.helpers.DelayedSubmission(OnNode(self.training, self.limit))

    def _heed(self, number: int, frame: FrameType | None) -> None:
        self.asked.append(number)

    def _say(self, said: AtNode) -> None:
        if rank() == 0:
            write(self.training.at_node, said)

    def _train(self) -> tuple[int, str]:
        """Train until there is an end to it; where another process trains the same run, wait for it."""
        log = self.training.log if rank() == 0 else self.training.log.with_suffix(f".{rank()}.log")
        while True:
            tail = Tail(log)
            tail.lines()
            status = self._once(log)
            lines = tail.lines()
            if status and BUSY in reason(status, lines) and not self.asked:
                time.sleep(5)
                continue
            if status and not self.asked:
                time.sleep(LATER)
            if status == RESUME_LATER and not self.asked:  # somebody asked the training itself
                continue
            why = reason(status, lines) if status else ""
            if status == -signal.SIGKILL:
                why = "it was ended by SIGKILL, perhaps for want of memory: give it more by cluster.memory"
            return status, why

    def _once(self, log: Path) -> int:
        self._remove_container()  # of a job that was killed
        with log.open("a") as file:
            process = subprocess.Popen(
                self.training.command(DEAF),
                cwd=self.training.root,
                env=self.training.environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        told = float("-inf")
        while (status := process.poll()) is None:
            # again and again: before it has begun to train, it is deaf
            if self.asked and time.monotonic() - told >= EVERY:
                process.send_signal(signal.SIGTERM)
                told = time.monotonic()
            time.sleep(0.1)
        self._remove_container()  # where what had started it was killed
        return status

    def _remove_container(self) -> None:
        if self.training.container and not self.training.container.endswith(".sif"):
            words = ["docker", "rm", "--force", self.training.container_name]
            subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def rank() -> int:
    """The number of this process among those of the run."""
    return int(os.environ.get("SLURM_PROCID", "0"))


def newest_step(directory: Path | None) -> int:
    """Find the step of a run's newest checkpoint; -1 without one."""
    names = [path.stem for path in directory.glob("checkpoints/resume-*.ckpt")] if directory else []
    return max((int(re.sub(r"\D", "", name)) for name in names), default=-1)


def still_running(job: str) -> bool:
    """Whether SLURM lets the job go on, so that its end would be its own."""
    words = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
    done: subprocess.CompletedProcess[Any] = subprocess.run(words, capture_output=True, text=True)
    return done.stdout.strip() == "RUNNING"


def deaf_python() -> list[str]:
    """Start Python so that a signal that comes while submitit is being loaded does not kill it."""
    return [*DEAF, sys.executable]
