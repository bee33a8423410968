"""Where a run of a sweep is."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"  # by `Job.stop()`; its state is saved
