"""The trainings of a sweep as jobs: so many at once, on this computer or elsewhere, and none takes another one down."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from enum import Enum
from pathlib import Path

from omegaconf import DictConfig

from ..engine import distributed
from ..engine.config import get
from ..engine.errors import PROGRESS_LINE, UserError, part_done
from ..engine.files import BUSY
from ..engine.hashing import json_sha256
from ..engine.record import RECORD
from .plan import IGNORE_CTRL_C, PlannedRun, TrainingCommand, file_name
from .run_status import RunState, write_state

GRACE = 20.0  # seconds for a training to save its state after it was asked to
TEST_METRIC = re.compile(r"(test/\S+) +(\S+)$")  # as trainings print it
RESUME_HINT = "Interrupted: the same command goes on with what is missing."


class JobStatus(Enum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"  # by `Job.stop()`; its state is saved


# --- where a training is executed: SLURM and Ray have modules of their own


class Execution:
    """One training, where it is executed."""

    cluster: str  # local, slurm or ray

    @property
    def busy(self) -> bool:
        """Whether this process has to wait for its end."""
        return False

    def train(self, job: Job) -> tuple[int, str]:
        """Train, from where it was cut off, and report by `job.read_line` and `job.update`.

        Returns:
            The exit status, and why it failed where the lines that were read do not say so.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Ask the training to save its state and end."""

    def detach(self) -> None:
        """The sweep ends before the training: ask it to end, too, or let it go on where it can by itself."""
        self.stop()

    def kill(self) -> None:
        """Stop waiting for it: end it at once."""


class Executor:
    """Executes the runs of a sweep: on SLURM, on Ray, or here."""

    def execution(self, run: PlannedRun) -> Execution:
        """Prepare the execution of one run; a UserError where the cluster cannot execute it."""
        raise NotImplementedError

    def jobs_at_once(self, runs: Sequence[PlannedRun]) -> int:
        """Return how many jobs to start at once: all of them, since a cluster queues them itself."""
        return max(1, len(runs))

    def interrupted(self, jobs: Sequence[Job]) -> str:
        """Return a sentence on what becomes of the jobs when the sweep is interrupted."""
        return RESUME_HINT

    def close(self) -> None:
        """Release what the executor holds, after the sweep."""


class LocalProcess(Execution):
    """One training in a process of this computer."""

    cluster = "local"

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.stopping = False

    @property
    def busy(self) -> bool:
        """Whether it is being trained."""
        return self.process is not None and self.process.poll() is None

    def train(self, job: Job) -> tuple[int, str]:
        """Train, and pass its lines to the job."""
        job.update(JobStatus.RUNNING, "")
        return self.run(job.command, job.read_line), ""

    def run(self, command: TrainingCommand, read_line: Callable[[str], None]) -> int:
        """Train, and return the exit status."""
        command.log.parent.mkdir(parents=True, exist_ok=True)
        with command.log.open("w") as log:
            # In our process group, so that it ends with us where that is killed; but Ctrl-C is for us alone, and we ask
            # it to save its state. A pipe, not the file, so that it does not outlive us unseen.
            self.process = command.start(IGNORE_CTRL_C, subprocess.PIPE)
            if self.stopping:  # since before it was started
                self.stop()
            assert self.process.stdout
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                read_line(line.rstrip())
        return self.process.wait()

    def stop(self) -> None:
        """Ask it to save its state and end."""
        self.stopping = True
        if self.process is not None and self.busy:
            self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None and self.busy:
            self.process.kill()


class LocalExecutor(Executor):
    """This computer."""

    def execution(self, run: PlannedRun) -> LocalProcess:
        """Prepare the execution of one run."""
        return LocalProcess()

    def jobs_at_once(self, runs: Sequence[PlannedRun]) -> int:
        """Return how many runs the processor has cores for; one on a GPU."""
        cfg = runs[0].cfg
        if get(cfg, "determinism.threads") is None or get(cfg, "trainer.accelerator") != "cpu":
            return 1
        return max(1, available_cores() // (threads(cfg) * distributed.wanted_processes(cfg)))


def threads(cfg: DictConfig) -> int:
    """Count the cores that one process of a run keeps busy: its threads, and the processes that load its data."""
    return (get(cfg, "determinism.threads") or 1) + (get(cfg, "data.module.num_workers") or 0)


def available_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- jobs


class Job:
    """One training.

    Args:
        label: what tells it from the others.
        overrides: its settings.
        logs: folder for what it prints, and for its state.
        execution: where it is trained; None for a process of this computer.
        command: that trains it; None for one of the overrides alone.
    """

    def __init__(
        self,
        label: str,
        overrides: Sequence[str],
        logs: Path,
        execution: Execution | None = None,
        command: TrainingCommand | None = None,
    ) -> None:
        self.label, self.overrides = label, list(overrides)
        if command is None:
            name = file_name(label, json_sha256(self.overrides)[:8])
            command = TrainingCommand(name, self.overrides, logs / f"{name}.log")
        self.command = command
        self.execution = execution or LocalProcess()
        self.log = command.log
        self.status = JobStatus.WAITING
        self.stopping = False
        self.skipped = False  # it had finished before
        self.done = 0.0  # part of its steps, 0 to 1
        self.line = ""  # to be shown
        self.seconds = 0.0
        self.reason = ""  # why it failed
        self.reset_output()
        directory = str(command.directory or "")
        self.state = RunState(label, self.overrides, self.execution.cluster, directory, str(self.log), pid=os.getpid())

    def run(self, stopped: Callable[[], bool]) -> None:
        """Train, unless `stopped`; where another process trains the same run, wait for it."""
        started = time.monotonic()
        while not (stopped() or self.stopping):
            self.reset_output()
            try:
                exit_status, why = self.execution.train(self)
            except UserError as error:  # it was refused before it began, and so is the sweep
                self.reason = str(error)
                self.update(JobStatus.FAILED, "")
                raise
            why = (why or failure_reason(exit_status, self.lines)) if exit_status else ""
            if exit_status and (stopped() or self.stopping):
                break
            if BUSY in why:
                self.update(JobStatus.RUNNING, why)
                time.sleep(1)
                continue
            self.seconds = self._recorded_seconds() or time.monotonic() - started
            self.reason = why
            self.update(JobStatus.FAILED if exit_status else JobStatus.FINISHED, self.line)
            return
        self.update(JobStatus.STOPPED if self.stopping else JobStatus.WAITING, "")

    def _recorded_seconds(self) -> float | None:
        """Read how long the run was trained, in all its starts; None where it has no record."""
        path = self.command.directory and self.command.directory / RECORD
        return json.loads(path.read_text())["observed"].get("wall_seconds") if path and path.exists() else None

    def stop(self) -> None:
        """Ask this one training to save its state and end; `run` then returns, with the status STOPPED."""
        self.stopping = True
        self.execution.stop()

    # --- called by the execution

    def update(self, status: JobStatus, line: str) -> None:
        """Set the status and the line to be shown; write the state where it changed."""
        self.line = line
        if (status, status.value, self.reason) != (self.status, self.state.status, self.state.reason):
            self.status = status
            self.write_state()

    def read_line(self, line: str) -> None:
        """Take what is to be known from a line that the training has printed."""
        self.lines.append(line)
        if match := PROGRESS_LINE.match(line):
            self.done = part_done(match)
            self.line = self.progress = line
        elif match := TEST_METRIC.match(line):
            self.results.append(f"{match[1]} {match[2]}")
        elif line.startswith("These inputs have been trained already"):
            self.skipped = True
        elif match := re.match(r"results +(\S.*)$", line):
            self.line = self.progress = match[1]

    def reset_output(self) -> None:
        """Forget the lines that were read: the training starts anew."""
        self.lines: list[str] = []
        self.results: list[str] = []
        self.progress = ""  # the newest line that says how far it is

    def write_state(self) -> None:
        """Write the state to its file."""
        self.state.status, self.state.reason = self.status.value, self.reason
        write_state(self.log.with_suffix(".json"), self.state)


def failure_reason(exit_status: int, lines: Sequence[str]) -> str:
    """Return in one line why a training failed, by the lines that it printed; a signal's exit status is negative."""
    errors = [line for line in lines if line.startswith("error: ")]
    if errors:
        return errors[-1].removeprefix("error: ")
    if exit_status < 0:
        name = signal.Signals(-exit_status).name
        return f"it was ended by {name}" + (", perhaps for want of memory: try fewer JOBS" if name == "SIGKILL" else "")
    return next((line.strip() for line in reversed(lines) if line.strip()), f"it ended with the status {exit_status}")


class JobPool:
    """All jobs of a sweep, in their order, `at_once` of which are trained at once."""

    def __init__(self, jobs: Sequence[Job], at_once: int) -> None:
        self.jobs, self.at_once, self.stopped = list(jobs), at_once, False

    def run(self, update: Callable[[], None]) -> None:
        """Train all; `update` is called some times a second."""
        with ThreadPoolExecutor(self.at_once) as pool:
            waiting = {pool.submit(job.run, lambda: self.stopped) for job in self.jobs}
            try:
                while waiting:
                    ended, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                    update()
                    for future in ended:
                        future.result()  # raises an error of ours
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """Start no more; ask the trainings of this computer to save their state and end, and after GRACE, end them."""
        self.stopped = True
        for job in self.jobs:
            job.execution.detach()
        until = time.monotonic() + GRACE
        while any(job.execution.busy for job in self.jobs) and time.monotonic() < until:
            time.sleep(0.05)
        for job in self.jobs:
            job.execution.kill()
