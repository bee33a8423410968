"""What the rest of a sweep knows of the place where runs are trained: this computer, SLURM or Ray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .jobs import Job
    from .plan import Plan


GOES_ON = "Interrupted: the same command goes on with what is missing."


class Place(Protocol):
    """Where one training takes place."""

    cluster: str  # local, slurm or ray

    @property
    def busy(self) -> bool:
        """Whether this process has to stay for it."""

    def train(self, job: Job) -> tuple[int, str]:
        """Train, from where it was cut off; pass on what it says by `job.heard`, and where it is by `job.tell`.

        Returns:
            The exit status, and why it failed where the lines that were heard do not say so.
        """

    def stop(self) -> None:
        """Ask the training to save its state and end."""

    def leave(self) -> None:
        """The sweep ends before the training: ask it to end, too, or let it go on where it can by itself."""

    def end(self) -> None:
        """Do not wait any longer for it to end."""


class Cluster(Protocol):
    """Where the runs of a sweep take place."""

    name: str

    def place(self, plan: Plan) -> Place:
        """Make the place of one run."""

    def at_once(self, plans: Sequence[Plan]) -> int:
        """Say how many runs go on at once."""

    def interrupted(self, jobs: Sequence[Job]) -> str:
        """Say what becomes of the jobs now that the sweep ends."""

    def close(self) -> None:
        """The sweep is over."""
