"""What SLURM says of our jobs: one question for all of them, now and then."""

from __future__ import annotations

import getpass
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass

from ..config import ROOT
from ..errors import UserError

SECONDS = 4.0  # from one question to the next: the controller serves everybody
FORM = "%i|%T|%r|%N|%j|%Z"
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}


# Why a job waits that will never begin
NEVER = {"PartitionConfig", "BadConstraints", "PartitionTimeLimit"}


class NoAnswer(Exception):
    """SLURM's controller does not answer; the text says how."""


@dataclass(frozen=True)
class Queued:
    """A job that SLURM knows: one that waits, runs, or has ended some minutes ago.

    Attributes:
        job: its number.
        state: PENDING, RUNNING, ... as `squeue` names it.
        reason: why it waits.
        nodes: where it runs.
        name: of the job.
        folder: in which it was submitted.
    """

    job: str
    state: str
    reason: str
    nodes: str
    name: str
    folder: str

    @property
    def ended(self) -> bool:
        """Whether it will not run any more."""
        return self.state in ENDED

    @property
    def said(self) -> str:
        """Say it in a few words."""
        if self.state == "PENDING" and self.reason in NEVER:
            return (
                f"will not begin ({self.reason}), since it asks for more than there is: `scancel {self.job}`, then give"
                " it less by cluster.cpus, memory, gpus, nodes or time"
            )
        if self.state == "PENDING":
            return f"waits in the queue ({self.reason}), job {self.job}"
        where = f" on {self.nodes}" if self.nodes else ""
        return f"{self.state.lower()}{where}, job {self.job}"


def read(text: str) -> dict[str, Queued]:
    """Read what `squeue` prints in our FORM: each job by its number."""
    rows = (line.split("|", 5) for line in text.splitlines())
    return {row[0]: Queued(*row) for row in rows if len(row) == 6}


def ask() -> dict[str, Queued]:
    """Ask SLURM for the user's jobs of this project.

    Raises:
        NoAnswer: it does not answer.
    """
    words = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--states=all", f"--format={FORM}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(str(error)) from None
    if done.returncode:
        raise NoAnswer(" ".join(done.stderr.split()) or f"squeue ended with the status {done.returncode}")
    return {number: job for number, job in read(done.stdout).items() if job.folder == str(ROOT)}


def require_slurm() -> None:
    """Refuse to begin where there is no SLURM.

    Raises:
        UserError: its commands are missing, or its controller does not answer.
    """
    missing = next((name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None), None)
    if missing:
        raise UserError(
            f"cluster=slurm needs SLURM, but there is no {missing} on this computer: log in to the cluster's login"
            " node, or leave CLUSTER=slurm out."
        )
    try:
        ask()
    except NoAnswer as answer:
        raise UserError(
            f"SLURM does not answer ({answer}), so nothing was submitted: try again later, or leave CLUSTER=slurm out."
        ) from None


class Queue:
    """The last answer, renewed now and then; for many threads."""

    def __init__(self) -> None:
        self.jobs: dict[str, Queued] = {}
        self.asked = float("-inf")  # when
        self.trouble = ""  # why the last question had no answer
        self.lock = threading.Lock()

    def find(self, job: str, since: float = 0.0) -> tuple[Queued | None, bool]:
        """Look a job up.

        Args:
            job: its number.
            since: the answer must be younger than this time (`time.monotonic`).

        Returns:
            What SLURM says of it, None where it does not know it; and whether it has answered since then.
        """
        with self.lock:
            self._renew()
            return self.jobs.get(job), self.asked > since and not self.trouble

    def waiting(self, name: str) -> Queued | None:
        """Find a job of this name that waits or runs."""
        with self.lock:
            self._renew()
            return next((job for job in self.jobs.values() if job.name == name and not job.ended), None)

    def _renew(self) -> None:
        if time.monotonic() - self.asked < SECONDS:
            return
        try:
            self.jobs, self.trouble = ask(), ""
        except NoAnswer as answer:
            self.trouble = str(answer)
        self.asked = time.monotonic()
