"""One training submitted to SLURM, by submitit."""

from __future__ import annotations

import re
import shlex
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..config import PACKAGE, ROOT, TIME, get
from ..errors import UserError
from ..repro import ranks
from .local import threads
from .node import OnNode, deaf_python
from .training import Training

MANY = 100_000  # starts of a job: whether it takes a step forward decides, not their number


def job_name(training: Training) -> str:
    """Name the job after the run's inputs, so that it is found in the queue."""
    return f"{PACKAGE.name}-{training.name.rpartition('-')[2]}"


def minutes(text: str) -> int:
    """Read a time as SLURM writes it; seconds are rounded up."""
    match = re.fullmatch(TIME, text)
    assert match, text  # config.check
    days, hours, rest, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + rest + (seconds > 0)


def options(cfg: DictConfig, name: str) -> dict[str, Any]:
    """Translate the settings to the options of sbatch, as submitit calls them.

    Args:
        cfg: of the run.
        name: of the job.
    """
    cluster = cfg.cluster
    tasks = cluster.nodes * cluster.tasks_per_node  # one starts all processes of the run by itself
    cpus = (cluster.cpus or threads(cfg)) * (ranks.wanted(cfg) if tasks == 1 else 1)
    chosen = {key: cluster[key] for key in ("partition", "account", "qos") if cluster[key] is not None}
    more = {"requeue": True, "chdir": str(ROOT), **({"mem": cluster.memory} if cluster.memory else {})}
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


def submit(cfg: DictConfig, training: Training) -> str:
    """Put a training into SLURM's queue, and return the job's number.

    Raises:
        UserError: SLURM refuses it.
    """
    import submitit

    for former in training.log.parent.glob(f"{training.name}.*log"):
        former.unlink()
    training.at_node.unlink(missing_ok=True)
    training.log.parent.mkdir(parents=True, exist_ok=True)
    training.log.touch()
    executor = submitit.SlurmExecutor(
        training.log.parent / "submitit", max_num_timeout=MANY, python=shlex.join(deaf_python())
    )
    executor.update_parameters(**options(cfg, job_name(training)))
    try:
        with redirect_stderr(StringIO()):  # sbatch's complaints, which are told below
            return str(executor.submit(OnNode(training, cfg.cluster.time)).job_id)
    except submitit.core.utils.FailedJobError as error:
        found = re.findall(r"error: (.+)", str(error)) or str(error).strip().splitlines()[-1:]
        raise UserError(
            f"SLURM refuses the job ({found[-1].strip()}): see the settings in configs/cluster/slurm.yaml and those"
            " of the command, as cluster.partition; `sinfo` lists what there is."
        ) from None


def last_words(training: Training, number: str) -> str:
    """Find what a job said that could not even begin; with a colon before it."""
    path = training.log.parent / "submitit" / f"{number}_0_log.out"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    said = [line.strip() for line in lines if line.strip() and not re.match(r"submitit |srun: |slurmstepd: ", line)]
    return f": {said[-1]} ({path.relative_to(ROOT)})" if said else ""


def require_processes(cfg: DictConfig) -> None:
    """Refuse a job whose processes are not those of the training, and a time without room for a warning.

    Raises:
        UserError: says which settings do not fit.
    """
    cluster = cfg.cluster
    wanted = ranks.wanted(cfg)
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
