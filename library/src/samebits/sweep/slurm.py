"""Trainings as jobs of SLURM, one job a run: what runs on the node, how it is submitted by submitit, and followed.

SLURM asks a job to leave in several ways. Where it takes the job back by itself (scontrol requeue, preemption,
scancel), there is no more to do than to save in time. Ahead of the time limit (SIGUSR2, by submitit), and where a job
to be preempted is given some grace (SIGTERM), the job goes on existing, and has to put itself into the queue again.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import submitit
from omegaconf import DictConfig, OmegaConf

from ..engine import distributed
from ..engine.config import TIME, get
from ..engine.errors import RESUME_LATER, STOP_SIGNALS, UserError
from ..engine.files import BUSY
from ..engine.project import project
from . import run_status
from .jobs import RESUME_HINT, Execution, Executor, Job, JobStatus, cores, failure_reason
from .plan import IGNORE_SIGNALS, PlannedRun, TrainingCommand
from .run_status import JobOutcome, NodeState, Tail, write_state

# --- on the node

AHEAD_OF_TIME = signal.SIGUSR2  # submitit's
RESEND_SECONDS = 2.0  # from one signal to the next
SETTLE_ON_NODE = 1.0  # seconds after which we would be dead, too, were it SLURM that ended the training


@dataclass
class JobRunner:
    """Runs one training in a job; submitit keeps it in a file, and loads it at each start of the job."""

    command: TrainingCommand
    limit: str  # cluster.time
    signals: list[int] = field(default_factory=list)  # that came

    def __call__(self) -> int:
        """Train, and return 0; every other end leaves with an exit status."""
        leave_to_submitit = signal.getsignal(AHEAD_OF_TIME)
        self.signals = []
        for number in STOP_SIGNALS:
            signal.signal(number, lambda number, frame: self.signals.append(number))
        job, rank = os.environ.get("SLURM_JOB_ID", ""), int(os.environ.get("SLURM_PROCID", "0"))  # of the processes
        state = run_status.node_state(self.command.node_file, job)

        def write() -> None:
            if rank == 0:
                write_state(self.command.node_file, state)

        write()
        step = newest_step(self.command.directory)
        exit_status, why = self._train(self.command.log.with_suffix(f".{rank}.log") if rank else self.command.log)
        asked = self.signals and (exit_status < 0 or exit_status in (RESUME_LATER, *(128 + n for n in STOP_SIGNALS)))
        saved = asked and (AHEAD_OF_TIME not in self.signals or newest_step(self.command.directory) != step)
        if exit_status == 0:
            state.status = "finished"
        elif saved:
            state.status = "saved"
        else:
            if asked:
                why = f"the time was up ({self.limit}) before a first step was saved: give it more by cluster.time"
            state.status, state.exit_status, state.reason = "failed", exit_status, why
        write()
        if exit_status == 0:
            return 0
        if saved and callable(leave_to_submitit):
            squeue = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
            if subprocess.run(squeue, capture_output=True, text=True).stdout.strip() == "RUNNING":  # its end is its own
                leave_to_submitit(AHEAD_OF_TIME, None)  # has `checkpoint` kept, and the job queued again
        raise SystemExit(RESUME_LATER if saved else max(1, exit_status))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what the next start of the job does: the same, and the training finds its own state."""
        return submitit.helpers.DelayedSubmission(JobRunner(self.command, self.limit))

    def _train(self, log: Path) -> tuple[int, str]:
        """Train, and return exit status and reason; where another process trains the same run, wait for it."""
        while True:
            tail = Tail(log)
            tail.lines()
            exit_status = self._train_once(log)
            why = failure_reason(exit_status, tail.lines()) if exit_status else ""
            if BUSY in why and not self.signals:
                time.sleep(5)
                continue
            if exit_status and not self.signals:
                time.sleep(SETTLE_ON_NODE)
            if exit_status == RESUME_LATER and not self.signals:  # somebody asked the training itself
                continue
            if exit_status == -signal.SIGKILL:
                why = "it was ended by SIGKILL, perhaps for want of memory: give it more by cluster.memory"
            return exit_status, why

    def _train_once(self, log: Path) -> int:
        self._remove_container()  # of a job that was killed
        with log.open("a") as file:
            process = self.command.start(IGNORE_SIGNALS, file)
        sent = float("-inf")
        while (exit_status := process.poll()) is None:
            # again and again: before it has begun to train, it ignores signals
            if self.signals and time.monotonic() - sent >= RESEND_SECONDS:
                process.send_signal(signal.SIGTERM)
                sent = time.monotonic()
            time.sleep(0.1)
        self._remove_container()  # where the client that had started it was killed
        return exit_status

    def _remove_container(self) -> None:
        if self.command.container and not self.command.container.endswith(".sif"):
            subprocess.run(["docker", "rm", "--force", self.command.job_name], capture_output=True)


def newest_step(directory: Path | None) -> int:
    """Return the step of a run's newest checkpoint; -1 without one."""
    names = [path.stem for path in directory.glob("checkpoints/resume-*.ckpt")] if directory else []
    return max((int(re.sub(r"\D", "", name)) for name in names), default=-1)


# --- submission

MANY = 100_000  # starts of a job: whether it takes a step forward decides, not their number


def minutes(text: str) -> int:
    """Read a time as SLURM writes it; seconds are rounded up."""
    match = re.fullmatch(TIME, text)
    assert match, text  # config.check
    days, hours, rest, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + rest + (seconds > 0)


def sbatch_options(cfg: DictConfig, name: str) -> dict[str, Any]:
    """Translate a run's settings to the options of sbatch, as submitit calls them, for a job of this name."""
    cluster = cfg.cluster
    tasks = cluster.nodes * cluster.tasks_per_node  # one starts all processes of the run by itself
    cpus = cores(cfg) * (distributed.wanted_processes(cfg) if tasks == 1 else 1)
    chosen = {key: cluster[key] for key in ("partition", "account", "qos") if cluster[key] is not None}
    more = {"requeue": True, "chdir": str(project().root), **({"mem": cluster.memory} if cluster.memory else {})}
    if cluster.gpus:
        chosen["gpus_per_node"] = cluster.gpus
    return {
        "job_name": name,
        "time": minutes(cluster.time),
        "signal_delay_s": cluster.warning,
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.tasks_per_node,
        "cpus_per_task": cpus,
        "setup": list(cluster.setup) or None,
        "stderr_to_stdout": True,
        "srun_args": [f"--cpus-per-task={cpus}"],  # srun does not take it over from sbatch
        **chosen,
        "additional_parameters": {**more, **dict(OmegaConf.to_container(cluster.more) or {})},  # type: ignore[arg-type]
    }


def submit(cfg: DictConfig, command: TrainingCommand) -> str:
    """Put a training into SLURM's queue, and return the job's number; a UserError where SLURM refuses it."""
    command.clear()
    # a signal that comes while submitit is being loaded must not kill it
    python = shlex.join([*IGNORE_SIGNALS, sys.executable])
    executor = submitit.SlurmExecutor(command.log.parent / "submitit", max_num_timeout=MANY, python=python)
    executor.update_parameters(**sbatch_options(cfg, command.job_name))
    try:
        with redirect_stderr(StringIO()):  # sbatch's complaints, which the error below repeats
            return str(executor.submit(JobRunner(command, cfg.cluster.time)).job_id)
    except submitit.core.utils.FailedJobError as error:
        found = re.findall(r"error: (.+)", str(error)) or str(error).strip().splitlines()[-1:]
        raise UserError(
            f"SLURM refuses the job ({found[-1].strip()}): see the settings in configs/cluster/slurm.yaml and those"
            " of the command, as cluster.partition; `sinfo` lists what there is."
        ) from None


def startup_error(command: TrainingCommand, number: str) -> str:
    """Return the last line of a job that could not even begin, with a colon before it; empty without one."""
    path = command.log.parent / "submitit" / f"{number}_0_log.out"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    found = [line.strip() for line in lines if line.strip() and not re.match(r"submitit |srun: |slurmstepd: ", line)]
    return f": {found[-1]} ({path.relative_to(project().root)})" if found else ""


def require_fitting_cluster(cfg: DictConfig) -> None:
    """Refuse a job whose processes are not those of the training, and a time without room for a warning."""
    cluster = cfg.cluster
    wanted = distributed.wanted_processes(cfg)
    processes = cluster.nodes * cluster.tasks_per_node
    nodes = get(cfg, "trainer.num_nodes") or 1
    if processes not in (1, wanted) or cluster.nodes != nodes:
        raise UserError(
            f"cluster.nodes times cluster.tasks_per_node are {processes} processes, but the training has {wanted}"
            " (trainer.num_nodes times trainer.devices): make them the same, cluster.nodes and trainer.num_nodes, too."
        )
    if 60 * minutes(cluster.time) < 2 * cluster.warning:
        raise UserError(
            f"cluster.time={cluster.time} leaves no room for cluster.warning={cluster.warning}, the seconds in which a"
            " run saves its state: give it more time, or a shorter warning."
        )


# --- following

POLL = 0.5  # seconds between two looks at the log
SETTLE = 10.0  # seconds for what the node wrote last to arrive: file systems of clusters take their time
SECONDS = 4.0  # from one question to the next: the controller serves everybody
MAX_RESUBMISSIONS = 3  # without a step forward


class SlurmQueue:
    """The last answer of `squeue`, renewed now and then; for many threads."""

    def __init__(self) -> None:
        self.jobs: dict[str, run_status.QueuedJob] = {}
        self.asked_at = float("-inf")  # time.monotonic
        self.answered = False  # the last question
        self.lock = threading.Lock()

    def read(self, since: float = 0.0) -> tuple[dict[str, run_status.QueuedJob], bool]:
        """Return the jobs by their numbers, and whether SLURM has answered since a time (`time.monotonic`)."""
        with self.lock:
            if time.monotonic() - self.asked_at >= SECONDS:
                try:
                    self.jobs, self.answered = run_status.query_jobs(), True
                except run_status.SlurmUnavailable:
                    self.answered = False
                self.asked_at = time.monotonic()
            return self.jobs, self.answered and self.asked_at > since


class SlurmJob(Execution):
    """One training as a job of SLURM, which goes on without us."""

    cluster = "slurm"

    def __init__(self, executor: SlurmExecutor, cfg: DictConfig) -> None:
        self.executor = executor
        self.cfg = cfg
        self.number = ""  # SLURM's, of the job
        self.detached = threading.Event()

    def train(self, job: Job) -> tuple[int, str]:
        """Submit the job, unless it is in the queue, and follow it until it ends."""
        while self._attach_or_submit(job) and (outcome := self._follow(job)):
            if not outcome.resubmit:
                unexplained = outcome.exit_status and not outcome.certain
                more = startup_error(job.command, self.number) if unexplained else ""
                return outcome.exit_status, outcome.reason + more
            forward = newest_step(job.command.directory) > job.state.step
            job.state.resubmissions = 0 if forward else job.state.resubmissions + 1
            if job.state.resubmissions > MAX_RESUBMISSIONS:
                return 1, f"{outcome.reason}, {MAX_RESUBMISSIONS + 1} times without a step forward"
            job.update(JobStatus.WAITING, f"is submitted again: {outcome.reason}")
        return 1, ""

    def _attach_or_submit(self, job: Job) -> bool:
        """Find the job in the queue, or put it there; False where that is no longer wished."""
        with self.executor.submitting:  # one at a time
            if self.detached.is_set():
                return False
            name, (listed, _) = job.command.job_name, self.executor.queue.read()
            known = next((queued for queued in listed.values() if queued.name == name and not queued.ended), None)
            node = run_status.read_state(job.command.node_file, NodeState)
            ended = known and run_status.job_outcome(known.number, known, node)
            if ended and ended.exit_status:  # it failed a moment ago, which SLURM has yet to notice
                known = None
            self.number = known.number if known else submit(self.cfg, job.command)
            job.state.job, job.state.step = self.number, newest_step(job.command.directory)
            job.write_state()
            attached = f"{known.description}, with the cluster's settings of then" if known else ""
            job.update(JobStatus.WAITING, attached or f"was submitted, job {self.number}")
            return True

    def _follow(self, job: Job) -> JobOutcome | None:
        """Return how the job has ended; None where we leave before."""
        job.reset_output()
        tail = Tail(job.log)
        since = time.monotonic()  # it was seen in the queue, or should be there
        while not self.detached.wait(POLL):
            node = run_status.read_state(job.command.node_file, NodeState)
            listed, answered = self.executor.queue.read(since)
            queued = listed.get(self.number)
            outcome = run_status.job_outcome(self.number, queued, node)
            for line in tail.lines():
                job.read_line(line)
            if outcome is None:
                since = time.monotonic()
            elif outcome.certain or (answered and time.monotonic() - since > SETTLE):
                return outcome
            if queued and queued.state == "RUNNING":
                job.update(JobStatus.RUNNING, job.progress or queued.description)
            elif queued and not queued.ended:
                job.update(JobStatus.WAITING, queued.description)
        return None

    def stop(self) -> None:
        """Cancel the job: it has some seconds to save its state."""
        self.detached.set()
        with self.executor.submitting:
            if self.number:
                subprocess.run(["scancel", self.number], capture_output=True)

    def detach(self) -> None:
        """Let the job go on by itself."""
        self.detached.set()


class SlurmExecutor(Executor):
    """A cluster under SLURM; a UserError where its commands are missing or its controller does not answer."""

    def __init__(self) -> None:
        missing = next((name for name in ("sbatch", "squeue", "srun") if shutil.which(name) is None), None)
        if missing:
            raise UserError(
                f"cluster=slurm needs SLURM, but there is no {missing} on this computer: log in to the cluster's login"
                " node, or leave CLUSTER=slurm out."
            )
        try:
            run_status.query_jobs()
        except run_status.SlurmUnavailable as error:
            raise UserError(
                f"SLURM does not answer ({error}), so nothing was submitted: try again later, or leave CLUSTER=slurm"
                " out."
            ) from None
        self.queue = SlurmQueue()
        self.submitting = threading.Lock()

    def execution(self, run: PlannedRun) -> SlurmJob:
        """Prepare the execution of one run; a UserError where its settings do not fit each other."""
        require_fitting_cluster(run.cfg)
        return SlurmJob(self, run.cfg)

    def interrupted(self, jobs: Sequence[Job]) -> str:
        """Return a sentence on which jobs go on, and how to see them and to stop them."""
        ended = (JobStatus.FINISHED, JobStatus.FAILED)
        numbers = [job.state.job for job in jobs if job.state.job and job.status not in ended]
        if not numbers:
            return RESUME_HINT
        what, them = ("1 job stays", "it") if len(numbers) == 1 else (f"{len(numbers)} jobs stay", "them")
        return (
            f"Interrupted: {what} on the cluster; `make status` shows how far, `scancel {' '.join(numbers)}` stops"
            f" {them} with the state saved, and the same command follows {them} again."
        )
