"""What is shown of a sweep: a bar for each run in a terminal, lines elsewhere."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from ..repro.leaving import INTERRUPTED
from .jobs import Job, Jobs
from .state import State

SECONDS = 15.0  # between two lines of a run, where nobody watches
LABEL = 30  # characters of a name at most, where a line is drawn
ENDED = (State.FINISHED, State.FAILED, State.STOPPED)


class Bars:
    """Shows how far something is: by bars in a terminal, elsewhere as those who derive from it say."""

    def __init__(self) -> None:
        self.bars: Progress | None = None
        if sys.stdout.isatty():
            name = TextColumn("{task.description}", table_column=Column(no_wrap=True))
            # What is said is cut where there is no room, and nothing else is
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            said = TextColumn("{task.fields[said]}", table_column=rest)
            self.bars = Progress(name, BarColumn(20), TimeElapsedColumn(), said, expand=True)

    def begin(self, bars: Progress) -> None:
        """Draw the first bars."""

    def update(self) -> None:
        """Show where things are; called now and then."""

    def follow(self, run: Callable[[Callable[[], None]], None], interrupted: Callable[[], str]) -> None:
        """Show what `run` does, which calls what it is given; where somebody asks to stop, say so and leave.

        Args:
            run: ends what it has begun when it is interrupted.
            interrupted: says what becomes of it.
        """
        for number in (signal.SIGTERM, signal.SIGHUP):  # asked to stop, or the terminal was closed
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
        try:
            if self.bars:
                self.bars.start()
                self.begin(self.bars)
            run(self.update)
            self.update()
        except (KeyboardInterrupt, SystemExit):
            self._close()
            print(f"\n{interrupted()}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        finally:
            self._close()

    def _close(self) -> None:
        """Leave the terminal as it was."""
        if self.bars:
            self.bars.stop()


class Screen(Bars):
    """Shows the jobs.

    Args:
        jobs: to be shown.
    """

    def __init__(self, jobs: Jobs) -> None:
        super().__init__()
        self.jobs = jobs
        self.told: dict[str, tuple[State, float, str]] = {}
        self.tasks: dict[str, TaskID] = {}
        runs = "1 run" if len(jobs.all) == 1 else f"{len(jobs.all)} runs, {min(jobs.most, len(jobs.all))} at once"
        print(f"{runs}.", flush=True)

    def begin(self, bars: Progress) -> None:
        """Draw a bar for each job."""
        for job in self.jobs.all:
            self.tasks[job.label] = bars.add_task(cut(job.label), total=1.0, start=False, said="")

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


def cut(label: str) -> str:
    """Shorten a name in its middle: the last settings are those that tell runs apart."""
    return label if len(label) <= LABEL else f"{label[: LABEL // 3]}…{label[-(LABEL - LABEL // 3 - 1) :]}"


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
