"""SLURM's queue: what it lists of our jobs, asked for all of them at once, now and then."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass

from ..engine.errors import UserError
from ..engine.project import project

SECONDS = 4.0  # from one question to the next: the controller serves everybody
FORMAT = "%i|%T|%r|%N|%j|%Z"
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
NEVER_STARTS = {"PartitionConfig", "BadConstraints", "PartitionTimeLimit"}  # reasons of a job that waits


class SlurmUnavailable(Exception):
    """SLURM's controller does not answer; the text says how."""


@dataclass(frozen=True)
class QueuedJob:
    """A job that SLURM lists: one that waits, runs, or has ended some minutes ago."""

    number: str
    state: str  # PENDING, RUNNING, ... as `squeue` names it
    reason: str  # why it waits
    nodes: str  # where it runs
    name: str
    folder: str  # in which it was submitted

    @property
    def ended(self) -> bool:
        """Whether it will not run any more."""
        return self.state in ENDED

    @property
    def description(self) -> str:
        """Where it is, in a few words."""
        if self.state == "PENDING" and self.reason in NEVER_STARTS:
            return (
                f"will not begin ({self.reason}), since it asks for more than there is: `scancel {self.number}`, then"
                " give it less by cluster.cpus, memory, gpus, nodes or time"
            )
        if self.state == "PENDING":
            return f"waits in the queue ({self.reason}), job {self.number}"
        where = f" on {self.nodes}" if self.nodes else ""
        return f"{self.state.lower()}{where}, job {self.number}"


def parse_squeue(text: str) -> dict[str, QueuedJob]:
    """Read what `squeue` prints in our FORMAT: each job by its number."""
    rows = (line.split("|", 5) for line in text.splitlines())
    return {row[0]: QueuedJob(*row) for row in rows if len(row) == 6}


def query_jobs() -> dict[str, QueuedJob]:
    """Ask SLURM for the user's jobs of this project; SlurmUnavailable where it does not answer."""
    words = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--states=all", f"--format={FORMAT}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmUnavailable(str(error)) from None
    if done.returncode:
        raise SlurmUnavailable(" ".join(done.stderr.split()) or f"squeue ended with the status {done.returncode}")
    return {number: job for number, job in parse_squeue(done.stdout).items() if job.folder == str(project().root)}


def require_slurm() -> None:
    """Refuse to begin, by a UserError, where SLURM's commands are missing or its controller does not answer."""
    missing = next((name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None), None)
    if missing:
        raise UserError(
            f"cluster=slurm needs SLURM, but there is no {missing} on this computer: log in to the cluster's login"
            " node, or leave CLUSTER=slurm out."
        )
    try:
        query_jobs()
    except SlurmUnavailable as error:
        raise UserError(
            f"SLURM does not answer ({error}), so nothing was submitted: try again later, or leave CLUSTER=slurm out."
        ) from None


class SlurmQueue:
    """The last answer, renewed now and then; for many threads."""

    def __init__(self) -> None:
        self.jobs: dict[str, QueuedJob] = {}
        self.asked_at = float("-inf")  # time.monotonic
        self.answered = False  # the last question
        self.lock = threading.Lock()

    def find(self, number: str, since: float) -> tuple[QueuedJob | None, bool]:
        """Return what SLURM lists of a job, and whether it has answered since a time (`time.monotonic`)."""
        with self.lock:
            self._renew()
            return self.jobs.get(number), self.answered and self.asked_at > since

    def find_active(self, name: str) -> QueuedJob | None:
        """Find a job of this name that waits or runs."""
        with self.lock:
            self._renew()
            return next((job for job in self.jobs.values() if job.name == name and not job.ended), None)

    def _renew(self) -> None:
        if time.monotonic() - self.asked_at < SECONDS:
            return
        try:
            self.jobs, self.answered = query_jobs(), True
        except SlurmUnavailable:
            self.answered = False
        self.asked_at = time.monotonic()
