"""Trainings as tasks of Ray, one task a run."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from ..errors import UserError
from ..repro import ranks
from ..repro.leaving import RESUME_LATER
from . import notes
from .local import Local, threads
from .places import GOES_ON
from .state import State
from .training import Training

if TYPE_CHECKING:
    from .jobs import Job
    from .plan import Plan

POLL = 0.5  # seconds between two looks at the log
REACH = 5.0  # seconds for the head of a cluster to answer


def train_here(training: Training) -> int:
    """Train on the node to which Ray has sent the task, and return the exit status."""
    if not training.log.parent.is_dir():
        raise FileNotFoundError(
            f"{training.root} is not there on {socket.gethostname()}: all nodes must see the project's folder"
        )
    before = notes.read_at_node(training.at_node)
    said = notes.AtNode("", socket.gethostname(), before.starts + 1 if before else 1)
    notes.write(training.at_node, said)
    process = Local()
    try:
        status = process.carry_out(training, lambda line: None)
    except KeyboardInterrupt:  # Ray's way to cancel
        process.stop()
        status = RESUME_LATER
        if process.process is not None:
            for _ in process.process.stdout or ():  # until it has ended
                pass
            process.process.wait()
    said.state = "finished" if status == 0 else "saved" if status == RESUME_LATER else "failed"
    notes.write(training.at_node, said)
    return status


class Ray:
    """One training as a task of Ray.

    Args:
        of: all of them.
        cfg: the run's settings.
    """

    cluster = "ray"

    def __init__(self, of: RayCluster, cfg: DictConfig) -> None:
        self.of = of
        self.cfg = cfg
        self.task: Any = None
        self.asked = False  # to end

    @property
    def busy(self) -> bool:
        """Whether its state may still be being saved."""
        return self.task is not None

    def train(self, job: Job) -> tuple[int, str]:
        """Hand the task to Ray, and follow it until it ends."""
        ray = self.of.ray
        job.training.at_node.unlink(missing_ok=True)
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text("")
        resources = {"num_cpus": cpus(self.cfg), "num_gpus": self.cfg.cluster.gpus}
        remote = ray.remote(train_here).options(max_retries=self.cfg.cluster.retries, name=job.label, **resources)
        self.task = remote.remote(job.training)
        job.tell(State.WAITING, "waits for a worker of Ray")
        tail, starts = notes.Tail(job.log), 0
        try:
            ended: list[Any] = []
            while not ended:
                if self.asked:
                    ray.cancel(self.task, force=False)
                ended, _ = ray.wait([self.task], timeout=POLL)
                node = notes.read_at_node(job.training.at_node)
                if node and node.starts != starts:
                    tail, starts = notes.Tail(job.log), node.starts  # its worker died: the log begins anew
                    job.begin_anew()
                    job.tell(State.RUNNING, f"starts on {node.node}")
                for line in tail.lines():
                    job.heard(line)
            return int(ray.get(self.task)), ""
        except ray.exceptions.RayError as error:
            return 1, explain(ray, error)
        finally:
            self.task = None

    def stop(self) -> None:
        """Ask it to save its state and end."""
        self.asked = True

    leave = stop

    def end(self) -> None:
        """End it at once."""
        if self.task is not None:
            self.of.ray.cancel(self.task, force=True)


def explain(ray: Any, error: Exception) -> str:
    """Say in one line why a task failed."""
    if isinstance(error, ray.exceptions.TaskCancelledError):
        return "it was cancelled"
    if isinstance(error, ray.exceptions.WorkerCrashedError | ray.exceptions.NodeDiedError):
        return "its worker died again and again, perhaps for want of memory (cluster.retries)"
    cause = getattr(error, "cause", None) or error
    return next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)


def cpus(cfg: DictConfig) -> int:
    """Count the processors of one run."""
    return int(cfg.cluster.cpus or threads(cfg)) * ranks.wanted(cfg)


class RayCluster:
    """A cluster under Ray, or a Ray of our own.

    Args:
        address: of the cluster; None for one of our own.

    Raises:
        UserError: Ray is not installed, or is not at the address.
    """

    name = "ray"

    def __init__(self, address: str | None) -> None:
        # Nothing is told to Ray's makers. Ray listens on all of the computer's addresses, and lets in who has its token
        os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        keep_token_secret()
        try:
            ray: Any = import_module("ray")
        except ImportError:
            raise UserError("cluster=ray needs the package ray: run `make setup EXTRAS=ray`.") from None
        self.ray = ray
        answered = False
        quiet = {"log_to_driver": False, "configure_logging": False}
        try:
            if address is None:
                ours = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
                ray.init(address="local", num_cpus=ours, include_dashboard=False, **quiet)
            else:
                reached = address_here() if address == "auto" else address
                require_listener(reached)
                answered = True
                ray.init(address=reached, **quiet)
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
        keep_token_secret()

    def place(self, plan: Plan) -> Ray:
        """Make the place of one run.

        Raises:
            UserError: no computer of the cluster is large enough.
        """
        wanted = {"CPU": cpus(plan.cfg), "GPU": plan.cfg.cluster.gpus}
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not any(all(each.get(kind, 0) >= count for kind, count in wanted.items()) for each in alive):
            raise UserError(
                f"no computer of the Ray cluster has the {wanted['CPU']} processors and {wanted['GPU']} GPUs that"
                f" {plan.label} asks for: give it fewer by cluster.cpus and cluster.gpus."
            )
        return Ray(self, plan.cfg)

    def at_once(self, plans: Sequence[Plan]) -> int:
        """All of them: Ray decides."""
        return max(1, len(plans))

    def interrupted(self, jobs: Sequence[Job]) -> str:
        """Say how it goes on."""
        return GOES_ON

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        self.ray.shutdown()


def keep_token_secret() -> None:
    """Let nobody else read the token that Ray makes in the user's home, for everybody to read."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    folder = Path.home() / ".ray"
    folder.mkdir(mode=0o700, exist_ok=True)
    token = folder / "auth_token"
    if token.exists() and token.owner() == Path.home().owner():
        token.chmod(0o600)


def address_here() -> str:
    """Find the Ray that this computer is part of, where Ray itself keeps it.

    Raises:
        ConnectionError: there is none.
    """
    path = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    found = os.environ.get("RAY_ADDRESS") or (path.read_text().strip() if path.is_file() else "")
    if ":" not in found:
        raise ConnectionError("this computer is part of none")
    return found


def require_listener(address: str) -> None:
    """Find out whether anybody listens at an address, since Ray itself would take minutes for it.

    Raises:
        ConnectionError: nobody does.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=REACH).close()
    except OSError as error:
        raise ConnectionError(error.strerror or str(error)) from None
