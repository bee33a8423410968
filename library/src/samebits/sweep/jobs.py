"""The trainings of a sweep as jobs, on this computer or as tasks of Ray; none takes another one down."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ..engine import distributed
from ..engine.config import get
from ..engine.errors import PROGRESS_LINE, RESUME_LATER, UserError, part_done
from ..engine.files import BUSY
from ..engine.record import RunDirectory
from .plan import IGNORE_CTRL_C, PlannedRun, TrainingCommand
from .run_status import NodeState, RunState, Tail, node_state, read_state, write_state

TEST_METRIC = re.compile(r"(test/\S+) +(\S+)$")  # as trainings print it
RESUME_HINT = "Interrupted: the same command goes on with what is missing."


class JobStatus(Enum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"  # by `Job.stop()`; its state is saved


class Execution:
    """One training, where it is executed."""

    cluster: str  # local, slurm or ray

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


class Job:
    """One training; `label` tells it from the others."""

    def __init__(self, label: str, command: TrainingCommand, execution: Execution) -> None:
        self.label, self.command, self.execution = label, command, execution
        self.overrides, self.log = command.overrides, command.log
        self.status, self.stopping = JobStatus.WAITING, False
        self.skipped = False  # it had finished before
        self.done, self.seconds = 0.0, 0.0  # part of its steps, 0 to 1; how long it was trained
        self.line, self.reason = "", ""  # to be shown; why it failed
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
            record = RunDirectory(self.command.directory, {}).record if self.command.directory else {}
            # in all of its starts, where that is known
            self.seconds = record.get("observed", {}).get("wall_seconds") or time.monotonic() - started
            self.reason = why
            self.update(JobStatus.FAILED if exit_status else JobStatus.FINISHED, self.line)
            return
        self.update(JobStatus.STOPPED if self.stopping else JobStatus.WAITING, "")

    def stop(self) -> None:
        """Ask this one training to save its state and end; `run` then returns, with the status STOPPED."""
        self.stopping = True
        self.execution.stop()

    # --- called by the execution

    def update(self, status: JobStatus, line: str) -> None:
        """Set the status and the line to be shown; write the state where it changed."""
        self.status, self.line = status, line
        if (status.value, self.reason) != (self.state.status, self.state.reason):
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


def cores(cfg: DictConfig) -> int:
    """Count the cores for one process of a run: cluster.cpus, else its threads and the processes that load its data."""
    busy = (get(cfg, "determinism.threads") or 1) + (get(cfg, "data.module.num_workers") or 0)
    return int(get(cfg, "cluster.cpus") or busy)


def available_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- this computer


class LocalProcess(Execution):
    """One training in a process of this computer."""

    cluster = "local"

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.stopping = False

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
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()


class Executor:
    """Executes the runs of a sweep: here; derived classes on a cluster."""

    def execution(self, run: PlannedRun) -> Execution:
        """Prepare the execution of one run; a UserError where the cluster cannot execute it."""
        return LocalProcess()

    def jobs_at_once(self, runs: Sequence[PlannedRun]) -> int:
        """Return how many jobs to start at once: all where a cluster queues them, else as many as there are cores."""
        cfg = runs[0].cfg
        if get(cfg, "cluster.name") in ("slurm", "ray"):
            return len(runs)
        if get(cfg, "determinism.threads") is None or get(cfg, "trainer.accelerator") != "cpu":
            return 1
        return max(1, available_cores() // (cores(cfg) * distributed.wanted_processes(cfg)))

    def interrupted(self, jobs: Sequence[Job]) -> str:
        """Return a sentence on what becomes of the jobs when the sweep is interrupted."""
        return RESUME_HINT

    def close(self) -> None:
        """Release what the executor holds, after the sweep."""


# --- Ray: one task a run

POLL = 0.5  # seconds between two looks at the log
CONNECT_SECONDS = 5.0  # for the head of a cluster to answer


def train_on_node(command: TrainingCommand) -> int:
    """Train on the node to which Ray has sent the task, and return the exit status."""
    if not command.log.parent.is_dir():
        raise FileNotFoundError(
            f"{command.root} is not there on {socket.gethostname()}: all nodes must see the project's folder"
        )
    state = node_state(command.node_file)
    write_state(command.node_file, state)
    training = LocalProcess()
    try:
        exit_status = training.run(command, lambda line: None)
    except KeyboardInterrupt:  # Ray's way to cancel
        training.stop()
        exit_status = RESUME_LATER
        if training.process is not None:
            training.process.communicate()  # until it has ended
    state.status = "finished" if exit_status == 0 else "saved" if exit_status == RESUME_LATER else "failed"
    write_state(command.node_file, state)
    return exit_status


class RayTask(Execution):
    """One training as a task of Ray."""

    cluster = "ray"

    def __init__(self, ray: Any, **options: Any) -> None:
        self.ray, self.options = ray, options
        self.task: Any = None
        self.stopping = False

    def train(self, job: Job) -> tuple[int, str]:
        """Hand the task to Ray, and follow it until it ends."""
        ray, errors = self.ray, self.ray.exceptions
        job.command.clear()
        self.task = ray.remote(train_on_node).options(name=job.label, **self.options).remote(job.command)
        job.update(JobStatus.WAITING, "waits for a worker of Ray")
        tail, starts = Tail(job.log), 0
        try:
            ended: list[Any] = []
            while not ended:
                if self.stopping:
                    ray.cancel(self.task, force=False)
                ended, _ = ray.wait([self.task], timeout=POLL)
                node = read_state(job.command.node_file, NodeState)
                if node and node.starts != starts:
                    tail, starts = Tail(job.log), node.starts  # its worker died: the log begins anew
                    job.reset_output()
                    job.update(JobStatus.RUNNING, f"starts on {node.node}")
                for line in tail.lines():
                    job.read_line(line)
            return int(ray.get(self.task)), ""
        except errors.TaskCancelledError:
            return 1, "it was cancelled"
        except (errors.WorkerCrashedError, errors.NodeDiedError):
            return 1, "its worker died again and again, perhaps for want of memory (cluster.retries)"
        except errors.RayError as error:
            cause = getattr(error, "cause", None) or error
            return 1, next(filter(None, map(str.strip, str(cause).splitlines())), type(cause).__name__)
        finally:
            self.task = None

    def stop(self) -> None:
        """Ask it to save its state and end."""
        self.stopping = True

    def kill(self) -> None:
        """End it at once."""
        if self.task is not None:
            self.ray.cancel(self.task, force=True)


class RayExecutor(Executor):
    """A cluster under Ray, or a Ray of our own.

    Args:
        address: of the cluster; None for one of our own.

    Raises:
        UserError: Ray is not at the address.
        ImportError: it is not installed.
    """

    def __init__(self, address: str | None) -> None:
        # Nothing is sent to Ray's makers. Ray listens on all of the computer's addresses, and lets in who has its token
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        protect_token()
        self.ray: Any = import_module("ray")  # here, because it reads its environment when it is imported
        own = {"address": "local", "num_cpus": available_cores(), "include_dashboard": False}
        listens = False
        try:
            where = own if address is None else {"address": find_listener(address)}
            listens = address is not None
            self.ray.init(log_to_driver=False, configure_logging=False, **where)
        except (ConnectionError, RuntimeError, ValueError, self.ray.exceptions.RayError) as error:
            if listens:
                raise UserError(
                    f"what listens at cluster.address={address} does not let us in: if it is a Ray, its token"
                    " (~/.ray/auth_token of the computer where it was started) has to be the one of this computer."
                ) from None
            first = " ".join(str(error).split(". ")[0].split())
            raise UserError(
                f"there is no Ray at cluster.address={address} ({first}): start one as docs/cluster.md says,"
                " or leave the address out."
            ) from None
        protect_token()

    def execution(self, run: PlannedRun) -> RayTask:
        """Prepare the execution of one run; a UserError where no computer of the cluster is large enough."""
        cluster, cpus = run.cfg.cluster, cores(run.cfg) * distributed.wanted_processes(run.cfg)
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= cluster.gpus for node in nodes):
            raise UserError(
                f"no computer of the Ray cluster has the {cpus} processors and {cluster.gpus} GPUs that"
                f" {run.combination.label} asks for: give it fewer by cluster.cpus and cluster.gpus."
            )
        return RayTask(self.ray, num_cpus=cpus, num_gpus=cluster.gpus, max_retries=cluster.retries)

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        self.ray.shutdown()


def protect_token() -> None:
    """Let nobody else read the token that Ray makes in the user's home, for everybody to read."""
    folder = Path.home() / ".ray"
    token = folder / "auth_token"
    if "RAY_AUTH_TOKEN" not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        folder.mkdir(mode=0o700, exist_ok=True)
        if token.exists() and token.owner() == Path.home().owner():
            token.chmod(0o600)


def find_listener(address: str) -> str:
    """Return the address of a Ray, for `auto` that of this computer; a ConnectionError where nobody listens there.

    Ray itself would take minutes to notice that.
    """
    if address == "auto":
        path = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # where Ray itself keeps it
        address = os.environ.get("RAY_ADDRESS") or (path.read_text().strip() if path.is_file() else "")
        if ":" not in address:
            raise ConnectionError("this computer is part of none")
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from None
    return address
