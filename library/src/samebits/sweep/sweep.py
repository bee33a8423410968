"""The verb `sweep`: train several runs, some of them at once, and show how far they are; `make sweep SEEDS=0..4`.

Every run is a process of its own, the same as `python -m <package>.train` with one value of each setting, on this
computer or on those of a cluster; so what is finished is skipped, what was cut off goes on, and one that fails does not
touch the others.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from omegaconf import DictConfig
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

from ..engine.command_line import is_of_cluster
from ..engine.config import get
from ..engine.errors import INTERRUPTED, UserError
from ..engine.printing import printable
from ..engine.project import project
from .jobs import Executor, Job, JobStatus, LocalProcess, RayExecutor
from .plan import combine, folds, plan_runs, seeds
from .run_status import LOGS

GRACE = 20.0  # seconds for a training to save its state after it was asked to
LINE_SECONDS = 15.0  # between two lines of a run, where there is no terminal
LABEL_LENGTH = 30  # characters at most, in a terminal
ENDED = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED)


def choose_executor(cfg: DictConfig) -> Executor:
    """Make the executor that `cluster.name` asks for; a UserError where a package or the cluster is missing."""
    name = get(cfg, "cluster.name")
    try:
        if name == "slurm":
            from .slurm import SlurmExecutor

            return SlurmExecutor()
        return RayExecutor(cfg.cluster.address) if name == "ray" else Executor()
    except ImportError:
        package, setup = ("submitit", "make setup") if name == "slurm" else ("ray", "make setup EXTRAS=ray")
        raise UserError(
            f"cluster={name} needs the package {package}: run `{setup}`, or where there is no such target,"
            f" `pip install 'samebits[{name}]'`."
        ) from None


def sweep(overrides: list[str], at_once: int | None = None) -> int:
    """Train every combination of the settings, and return the exit status: 0, or 1 where a run failed.

    Args:
        overrides: settings as for `train`; one with several values, as `seed=0,1,2` or `range(0,5)`, makes several
            runs; those of the group `cluster` say where.
        at_once: how many runs are trained at once; None for as many as the cluster takes.

    Raises:
        UserError: a setting is wrong, data are missing, or the cluster is.
    """
    of_cluster = [override for override in overrides if is_of_cluster(override)]
    runs = plan_runs(combine([override for override in overrides if override not in of_cluster]), of_cluster)
    executor = choose_executor(runs[0].cfg)
    try:
        logs, jobs = Path(runs[0].cfg.paths.root) / LOGS, []
        for run in runs:
            # a finished run is looked at here: there is nothing to be submitted
            execution = LocalProcess() if run.finished else executor.execution(run)
            jobs.append(Job(run.combination.label, run.command(logs), execution))
        for job in jobs:
            job.write_state()
        pool = JobPool(jobs, at_once or executor.jobs_at_once(runs))
        SweepDisplay(pool).follow(pool.run, lambda: executor.interrupted(jobs))
    finally:
        executor.close()
    return summary(jobs)


def summary(jobs: list[Job]) -> int:
    """Print how many runs are finished, and which ones failed; return the exit status."""
    failed = [job for job in jobs if job.status is JobStatus.FAILED]
    runs = "1 run" if len(jobs) == 1 else f"{len(jobs)} runs"
    print(f"{len(jobs) - len(failed)} of {runs} finished.", end="\n" if failed else " ")
    for job in failed:
        failure = f"FAILED  {job.label}: {job.reason} (the whole output is in {os.path.relpath(job.log)})"
        print(printable(failure), file=sys.stderr)
    if failed:
        print("What failed is tried again by the same command.", file=sys.stderr)
    else:
        print("`make report` shows them side by side.")
    return 1 if failed else 0


class JobPool:
    """Trains jobs, `at_once` of them at once: those of a list, in their order, or what a derived class gives."""

    def __init__(self, jobs: Iterable[Job], at_once: int) -> None:
        self.jobs, self.at_once, self.stopped = list(jobs), at_once, False

    def run(self, update: Callable[[], None]) -> None:
        """Train all; `update` is called some times a second.

        Where it is interrupted, or a job raises an error, trainings of this computer have GRACE to save their state.
        """
        with ThreadPoolExecutor(self.at_once) as pool:
            waiting = {pool.submit(work) for work in self.work()}
            try:
                while waiting:
                    ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                    update()
                    for future in ended:
                        future.result()  # raises an error of ours
            except BaseException:
                self.stopped = True
                for job in self.jobs:
                    job.execution.detach()
                try:
                    wait(waiting, timeout=GRACE)
                finally:  # at once, where somebody asks a second time
                    for job in self.jobs:
                        job.execution.kill()
                raise

    def work(self) -> list[Callable[[], None]]:
        """List what is to be done, each in a thread: the training of each job."""
        return [partial(job.run, lambda: self.stopped) for job in self.jobs]


# --- progress: a bar for each training in a terminal, lines elsewhere


class ProgressDisplay:
    """Shows how far jobs are, by `bars` in a terminal; what else is shown, derived classes decide."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskID] = {}  # by the job's label
        self.bars: Progress | None = None
        if sys.stdout.isatty():
            name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True))
            # The message is cut where there is no room, and nothing else is
            rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
            message = TextColumn("{task.fields[message]}", markup=False, table_column=rest)
            self.bars = Progress(name, BarColumn(20), TimeElapsedColumn(), message, expand=True)

    def update(self) -> None:
        """Show where the jobs are; called now and then."""

    def draw(self, bars: Progress, job: Job) -> None:
        """Draw the bar of a job."""
        if job.label not in self.tasks:
            self.tasks[job.label] = bars.add_task(printable(shorten(job.label)), total=1.0, start=False, message="")
        task = self.tasks[job.label]
        if job.status is not JobStatus.WAITING:
            bars.start_task(task)
        done = 1.0 if job.status is JobStatus.FINISHED else job.done
        bars.update(task, completed=done, message=printable(describe(job)))
        if job.status in ENDED:
            bars.stop_task(task)

    def follow(self, run: Callable[[Callable[[], None]], None], interrupted: Callable[[], str]) -> None:
        """Show what `run` does; where somebody asks to stop, say so and leave with the exit status INTERRUPTED.

        Args:
            run: is given `update` to call; ends what it has begun when it is interrupted.
            interrupted: returns a sentence on what becomes of it.
        """
        for number in (signal.SIGTERM, signal.SIGHUP):  # asked to stop, or the terminal was closed
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
        try:
            with self.bars or nullcontext():
                run(self.update)
                self.update()
        except (KeyboardInterrupt, SystemExit):
            print(f"\n{interrupted()}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None


class SweepDisplay(ProgressDisplay):
    """Shows the jobs of a sweep."""

    def __init__(self, pool: JobPool) -> None:
        super().__init__()
        self.pool = pool
        self.printed: dict[str, tuple[JobStatus, float, str]] = {}
        count = len(pool.jobs)
        print("1 run." if count == 1 else f"{count} runs, {min(pool.at_once, count)} at once.", flush=True)

    def update(self) -> None:
        """Show where the jobs are."""
        for job in self.pool.jobs:
            if self.bars:
                self.draw(self.bars, job)
            else:
                self._print(job)

    def _print(self, job: Job) -> None:
        status, when, line = self.printed.get(job.label, (JobStatus.WAITING, time.monotonic(), ""))
        waiting, running = job.status is JobStatus.WAITING, job.status is JobStatus.RUNNING
        news = job.status is not status or (waiting and job.line != line)  # it waits for another thing
        if news or (running and time.monotonic() - when >= LINE_SECONDS):
            self.printed[job.label] = (job.status, time.monotonic(), job.line)
            print(f"{job.label}: {describe(job)}", flush=True)


def shorten(label: str) -> str:
    """Shorten a label in its middle: the last settings are those that tell runs apart."""
    third = LABEL_LENGTH // 3
    return label if len(label) <= LABEL_LENGTH else f"{label[:third]}…{label[third + 1 - LABEL_LENGTH :]}"


def describe(job: Job) -> str:
    """Return in one line where a job is."""
    if job.status is JobStatus.FINISHED:
        how = "was finished" if job.skipped else f"finished in {job.seconds:.0f} s"
        return ", ".join([how, *job.results, job.line])
    if job.status is JobStatus.FAILED:
        return f"FAILED: {job.reason}"
    if job.status is JobStatus.RUNNING:
        return job.line or "starts"
    return "stopped" if job.status is JobStatus.STOPPED else job.line or "waits"


# --- the command line


def main(arguments: argparse.Namespace) -> None:
    """Train, and leave with the exit status."""
    of_folds = folds(arguments.folds) if arguments.folds else []
    overrides = [*arguments.settings, *of_folds, *([seeds(arguments.seeds)] if arguments.seeds else [])]
    if all(is_of_cluster(override) for override in overrides):
        raise UserError('there is nothing to vary: make sweep SEEDS=0..4, or make sweep ARGS="model=cnn,mlp".')
    os.chdir(project().root)
    raise SystemExit(sweep(overrides, jobs_at_once(arguments.jobs)))


def jobs_at_once(text: str | None) -> int | None:
    """Read JOBS, None where it is not given; a UserError where it is no number of runs."""
    if text is not None and not re.fullmatch("[1-9][0-9]*", text):
        raise UserError(f"JOBS={text} runs nothing: give a whole number of at least 1, or leave it out.")
    return int(text) if text else None


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    options = argparse.ArgumentParser(
        description="Train every combination of settings, here or on a cluster (cluster=slurm, cluster=ray); what is"
        " finished is skipped, what was cut off goes on.",
        epilog="Exit status: 0 all runs are finished, 1 a run failed, 2 a setting is wrong, 130 interrupted.",
    )
    options.add_argument("settings", nargs="*", help="as for train; several values make several runs: model=cnn,mlp")
    options.add_argument("-m", "--multirun", action="store_true", help=argparse.SUPPRESS)  # as typed to train
    options.add_argument("--seeds", metavar="0..4", help="a run for each seed: 0..4, or 1,5,7")
    options.add_argument("--folds", metavar="5", help="a run for each fold of a cross-validation")
    options.add_argument("--jobs", metavar="N", help="runs at once (default: as many as cores)")
    return options
