"""Has a job of SLURM come to its end, and to which one? What SLURM says, and what the node has written, decide."""

from __future__ import annotations

from dataclasses import dataclass

from .notes import AtNode
from .queue import Queued

# Ends that are no fault of the run: it is submitted again, and goes on from what it has saved
NO_FAULT = {
    "PREEMPTED": "it was preempted",
    "TIMEOUT": "its time was up",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "REVOKED": "it was revoked",
}
SETTLE = 10.0  # seconds for what the node wrote last to arrive: file systems of clusters take their time
MOST = 3  # times that a run is submitted again without a step forward


@dataclass(frozen=True)
class Verdict:
    """How a job has ended.

    Attributes:
        status: the training's exit status.
        reason: why it failed, or why it is to be submitted again.
        again: whether it is.
        sure: whether nothing can come that says otherwise.
    """

    status: int
    reason: str = ""
    again: bool = False
    sure: bool = False


def judge(job: str, queued: Queued | None, node: AtNode | None) -> Verdict | None:
    """Judge a job; None while it waits or runs.

    Args:
        job: its number.
        queued: what SLURM says of it; None where SLURM has forgotten it.
        node: what its node wrote; None before it started.
    """
    if node is not None and node.job != job:
        node = None
    if node is not None and node.state == "finished":
        return Verdict(0, sure=True)
    if node is not None and node.state == "failed":
        return Verdict(node.status or 1, node.reason, sure=True)
    if queued is not None and not queued.ended:
        return None
    if queued is None:
        return Verdict(1, f"SLURM knows nothing of job {job} any more", again=True)
    if queued.state in NO_FAULT:
        return Verdict(1, NO_FAULT[queued.state], again=True)
    if queued.state == "CANCELLED":
        return Verdict(1, f"job {job} was cancelled" + ("; what it had saved stays" if node else " before it began"))
    if queued.state == "OUT_OF_MEMORY":
        return Verdict(1, f"job {job} ran out of memory: give it more by cluster.memory")
    if node is not None and node.state == "saved":
        return Verdict(1, "it was asked to leave, and saved its state", again=True)
    if node is not None and queued.state == "FAILED":  # it had begun, and could not say a word
        return Verdict(1, "it was killed on its node", again=True)
    return Verdict(1, f"job {job} ended as {queued.state}")
