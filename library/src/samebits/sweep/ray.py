"""Trainings as tasks of Ray, one task a run."""

from __future__ import annotations

import os
import socket
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ..engine import distributed
from ..engine.errors import RESUME_LATER, UserError
from .jobs import Execution, Executor, Job, JobStatus, LocalProcess, available_cores, threads
from .plan import PlannedRun, TrainingCommand
from .run_status import NodeState, Tail, read_state, write_state

POLL = 0.5  # seconds between two looks at the log
CONNECT_SECONDS = 5.0  # for the head of a cluster to answer


def train_on_node(command: TrainingCommand) -> int:
    """Train on the node to which Ray has sent the task, and return the exit status."""
    if not command.log.parent.is_dir():
        raise FileNotFoundError(
            f"{command.root} is not there on {socket.gethostname()}: all nodes must see the project's folder"
        )
    before = read_state(command.node_file, NodeState)
    state = NodeState("", socket.gethostname(), before.starts + 1 if before else 1)
    write_state(command.node_file, state)
    training = LocalProcess()
    try:
        exit_status = training.run(command, lambda line: None)
    except KeyboardInterrupt:  # Ray's way to cancel
        training.stop()
        exit_status = RESUME_LATER
        if training.process is not None:
            for _ in training.process.stdout or ():  # until it has ended
                pass
            training.process.wait()
    state.status = "finished" if exit_status == 0 else "saved" if exit_status == RESUME_LATER else "failed"
    write_state(command.node_file, state)
    return exit_status


class RayTask(Execution):
    """One training as a task of Ray."""

    cluster = "ray"

    def __init__(self, ray: Any, cfg: DictConfig) -> None:
        self.ray, self.cfg = ray, cfg
        self.task: Any = None
        self.stopping = False

    @property
    def busy(self) -> bool:
        """Whether its state may still be being saved."""
        return self.task is not None

    def train(self, job: Job) -> tuple[int, str]:
        """Hand the task to Ray, and follow it until it ends."""
        ray = self.ray
        job.command.node_file.unlink(missing_ok=True)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text("")
        resources = {"num_cpus": cpus(self.cfg), "num_gpus": self.cfg.cluster.gpus}
        remote = ray.remote(train_on_node).options(max_retries=self.cfg.cluster.retries, name=job.label, **resources)
        self.task = remote.remote(job.command)
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
        except ray.exceptions.RayError as error:
            return 1, explain_error(ray, error)
        finally:
            self.task = None

    def stop(self) -> None:
        """Ask it to save its state and end."""
        self.stopping = True

    def kill(self) -> None:
        """End it at once."""
        if self.task is not None:
            self.ray.cancel(self.task, force=True)


def explain_error(ray: Any, error: Exception) -> str:
    """Return in one line why a task failed."""
    if isinstance(error, ray.exceptions.TaskCancelledError):
        return "it was cancelled"
    if isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.NodeDiedError):
        return "its worker died again and again, perhaps for want of memory (cluster.retries)"
    cause = getattr(error, "cause", None) or error
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)


def cpus(cfg: DictConfig) -> int:
    """Count the processors of one run."""
    return int(cfg.cluster.cpus or threads(cfg)) * distributed.wanted_processes(cfg)


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
        ray: Any = import_module("ray")  # here, because it reads its environment when it is imported
        self.ray = ray
        answered = False
        quiet = {"log_to_driver": False, "configure_logging": False}
        try:
            if address is None:
                ray.init(address="local", num_cpus=available_cores(), include_dashboard=False, **quiet)
            else:
                found = local_address() if address == "auto" else address
                require_listener(found)
                answered = True
                ray.init(address=found, **quiet)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            if answered:
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
        wanted = {"CPU": cpus(run.cfg), "GPU": run.cfg.cluster.gpus}
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not any(all(each.get(kind, 0) >= count for kind, count in wanted.items()) for each in alive):
            raise UserError(
                f"no computer of the Ray cluster has the {wanted['CPU']} processors and {wanted['GPU']} GPUs that"
                f" {run.label} asks for: give it fewer by cluster.cpus and cluster.gpus."
            )
        return RayTask(self.ray, run.cfg)

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        self.ray.shutdown()


def protect_token() -> None:
    """Let nobody else read the token that Ray makes in the user's home, for everybody to read."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    folder = Path.home() / ".ray"
    folder.mkdir(mode=0o700, exist_ok=True)
    token = folder / "auth_token"
    if token.exists() and token.owner() == Path.home().owner():
        token.chmod(0o600)


def local_address() -> str:
    """Find the Ray that this computer is part of, where Ray itself keeps it; a ConnectionError where there is none."""
    path = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    found = os.environ.get("RAY_ADDRESS") or (path.read_text().strip() if path.is_file() else "")
    if ":" not in found:
        raise ConnectionError("this computer is part of none")
    return found


def require_listener(address: str) -> None:
    """Raise a ConnectionError where nobody listens at an address, since Ray itself would take minutes for it."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from None
