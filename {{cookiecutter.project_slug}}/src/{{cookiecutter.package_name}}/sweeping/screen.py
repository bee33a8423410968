"""What is shown of a sweep: a bar for each run in a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .jobs import Job, Jobs
from .state import State

SECONDS = 15.0  # between two lines of a run, where nobody watches
ENDED = (State.FINISHED, State.FAILED, State.STOPPED)


class Screen:
    """Shows the jobs; `update` is called now and then.

    Args:
        jobs: to be shown.
    """

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.told: dict[str, tuple[State, float, str]] = {}
        self.bars: Progress | None = None
        self.tasks: dict[str, TaskID] = {}
        if sys.stdout.isatty():
            name, said = TextColumn("{task.description}"), TextColumn("{task.fields[said]}")
            self.bars = Progress(name, BarColumn(20), TimeElapsedColumn(), said)
        runs = "1 run" if len(jobs.all) == 1 else f"{len(jobs.all)} runs, {min(jobs.most, len(jobs.all))} at once"
        print(f"{runs}.", flush=True)

    def __enter__(self) -> Screen:
        if self.bars:
            self.bars.start()
            for job in self.jobs.all:
                self.tasks[job.label] = self.bars.add_task(job.label, total=1.0, start=False, said="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.update()
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.bars:
            self.bars.stop()

    def update(self) -> None:
        """Show where the jobs are."""
        for job in self.jobs.all:
            if self.bars:
                self._draw(job)
            else:
                self._tell(job)

    def _draw(self, job: Job) -> None:
        assert self.bars
        task = self.tasks[job.label]
        if job.state is not State.WAITING:
            self.bars.start_task(task)
        done = 1.0 if job.state is State.FINISHED else job.done
        self.bars.update(task, completed=done, said=said(job))
        if job.state in ENDED:
            self.bars.stop_task(task)

    def _tell(self, job: Job) -> None:
        state, when, line = self.told.get(job.label, (State.WAITING, time.monotonic(), ""))
        news = job.state is not state or (job.state is State.WAITING and job.line != line)  # it waits for another thing
        if not news and (job.state is not State.RUNNING or time.monotonic() - when < SECONDS):
            return
        self.told[job.label] = (job.state, time.monotonic(), job.line)
        print(f"{job.label}: {said(job)}", flush=True)


def said(job: Job) -> str:
    """Say in one line where a job is."""
    if job.state is State.FINISHED:
        how = "was finished" if job.skipped else f"finished in {job.seconds:.0f} s"
        return ", ".join([how, *job.results, job.line])
    if job.state is State.FAILED:
        return f"FAILED: {job.reason}"
    if job.state is State.RUNNING:
        return job.line or "starts"
    return "stopped" if job.state is State.STOPPED else job.line or "waits"
