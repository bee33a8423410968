"""Where runs are: what sweep and node write of each in .cache/sweep/, how jobs of SLURM end; the verb `status`."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from ..engine.errors import PROGRESS_LINE
from ..engine.files import write_atomically
from ..engine.project import project
from ..engine.record import METRICS
from .slurm_queue import NEVER_STARTS, QueuedJob, SlurmUnavailable, query_jobs

LOGS = Path(".cache/sweep")  # in the project's folder


# --- what is written of a run


@dataclass
class RunState:
    """A run, as the sweep that asked for it knows it."""

    label: str  # what tells it from the others
    overrides: list[str]
    cluster: str  # local, slurm or ray
    directory: str  # of the run; empty where it was not known
    log: str  # what it prints
    status: str = "waiting"  # running, finished, failed or stopped, as the sweep saw it last
    reason: str = ""  # why it failed
    job: str = ""  # its number in SLURM
    step: int = -1  # of the newest checkpoint when the job was submitted
    resubmissions: int = 0  # since it last took a step forward
    host: str = field(default_factory=socket.gethostname)  # where the sweep runs
    pid: int = 0  # the sweep's process
    requested: float = field(default_factory=time.time)  # seconds since 1970


@dataclass
class NodeState:
    """A run, as the node that trains it knows it."""

    job: str  # its number in SLURM
    node: str  # the name of the computer
    starts: int = 1  # of the job; more than one after it was queued again
    status: str = "running"  # saved, finished or failed
    exit_status: int = 0  # of a training that failed
    reason: str = ""  # why


State = TypeVar("State", RunState, NodeState)


def write_state(path: Path, state: RunState | NodeState) -> None:
    """Write a state, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{json.dumps(asdict(state), indent=1)}\n".encode())


def read_state(path: Path, kind: type[State]) -> State | None:
    """Read a RunState or NodeState; None where there is nothing that can be read."""
    try:
        values = json.loads(path.read_text())
        return kind(**{each.name: values[each.name] for each in fields(kind) if each.name in values})
    except (OSError, ValueError, TypeError):
        return None


class Tail:
    """Reads what is added to a file, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def lines(self) -> list[str]:
        """Return the lines that were completed since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.position)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self.position += len(whole)
        # a progress bar draws over its line: what it wrote last counts
        return [line.rpartition("\r")[2].rstrip() for line in whole.decode(errors="replace").split("\n")[:-1]]


# --- how a job of SLURM has ended

# Ends that are no fault of the run: it is submitted again, and goes on from what it has saved
NO_FAULT = {
    "PREEMPTED": "it was preempted",
    "TIMEOUT": "its time was up",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "REVOKED": "it was revoked",
}


@dataclass(frozen=True)
class JobOutcome:
    """How a job has ended."""

    exit_status: int  # of the training
    reason: str = ""  # why it failed, or is to be submitted again
    resubmit: bool = False
    certain: bool = False  # nothing can come that says otherwise


def job_outcome(job: str, queued: QueuedJob | None, node: NodeState | None) -> JobOutcome | None:
    """Decide how a job has ended; None while it waits or runs.

    Args:
        job: its number.
        queued: what SLURM lists of it; None where SLURM has forgotten it.
        node: what its node wrote; None before it started.
    """
    if node is not None and node.job != job:
        node = None
    status = node.status if node else ""
    if node and status == "finished":
        return JobOutcome(0, certain=True)
    if node and status == "failed":
        return JobOutcome(node.exit_status or 1, node.reason, certain=True)
    if queued is not None and not queued.ended:
        return None
    if queued is None:
        return JobOutcome(1, f"SLURM knows nothing of job {job} any more", resubmit=True)
    if queued.state in NO_FAULT:
        return JobOutcome(1, NO_FAULT[queued.state], resubmit=True)
    if queued.state == "CANCELLED":
        return JobOutcome(1, f"job {job} was cancelled" + ("; what it had saved stays" if node else " before it began"))
    if queued.state == "OUT_OF_MEMORY":
        return JobOutcome(1, f"job {job} ran out of memory: give it more by cluster.memory")
    if status == "saved":
        return JobOutcome(1, "it was asked to leave, and saved its state", resubmit=True)
    if node and queued.state == "FAILED":  # it had begun, and could not write why
        return JobOutcome(1, "it was killed on its node", resubmit=True)
    return JobOutcome(1, f"job {job} ended as {queued.state}")


# --- the table

REMOVED = "removed"  # finished, and deleted since: left out


@dataclass(frozen=True)
class RunStatus:
    """One row of `samebits status`."""

    label: str  # all settings that were given
    status: str  # waiting, running, finished, failed, stopped, interrupted
    detail: str  # why it waits, how far it is, what it reached, why it failed
    job: str  # its number in SLURM, if it has one
    directory: str  # of the run, relative to here


def all_statuses(logs: Path) -> tuple[list[RunStatus], str]:
    """Return the status of all runs, those of the newest sweep last; and why SLURM did not answer, if it did not."""
    paths = [path for path in logs.glob("*.json") if not path.name.endswith(".node.json")]
    found = [(path, state) for path in paths if (state := read_state(path, RunState))]
    found.sort(key=lambda each: each[1].requested)
    found = list({state.directory or state.log: (path, state) for path, state in found}.values())  # the newest of a run
    queued: dict[str, QueuedJob] = {}
    trouble = ""
    if any(state.cluster == "slurm" and not is_finished(state) for _, state in found):
        try:
            queued = query_jobs()
        except SlurmUnavailable as error:
            trouble = str(error)
    rows = []
    for path, state in found:
        row = run_status(path, state, queued.get(state.job), bool(trouble))
        if row.status == "failed" and state.status != "failed" and not is_alive(state):
            state.status, state.reason = row.status, row.detail  # SLURM will forget it, and no sweep is there to see it
            write_state(path, state)
        rows.append(row)
    return [row for row in rows if row.status != REMOVED], trouble


def run_status(path: Path, state: RunState, queued: QueuedJob | None, unknown: bool = False) -> RunStatus:
    """Find the status of one run.

    Args:
        path: of its state.
        state: what the sweep wrote.
        queued: what SLURM lists of its job.
        unknown: whether SLURM could not be asked.
    """
    node = read_state(path.with_suffix(".node.json"), NodeState)
    if node and node.job != state.job:
        node = None
    matches = [match for line in Tail(Path(state.log)).lines() if (match := PROGRESS_LINE.match(line))]
    progress = matches[-1][0] if matches else ""
    if is_finished(state):
        status, detail = "finished", reached(state)
    elif state.cluster == "slurm" and state.job:
        status, detail = slurm_status(state, queued, node, progress, unknown)
    else:
        status, detail = process_status(state, node, progress)
    if node and node.starts > 1 and status != "failed":
        detail += f" (start {node.starts} of the job)" if state.cluster == "slurm" else f" (start {node.starts})"
    directory = os.path.relpath(state.directory) if state.directory else ""
    return RunStatus(" ".join(state.overrides) or state.label, status, detail, state.job, directory)


def slurm_status(
    state: RunState, queued: QueuedJob | None, node: NodeState | None, progress: str, unknown: bool
) -> tuple[str, str]:
    """Return status and detail of a job of SLURM."""
    outcome = job_outcome(state.job, queued, node)
    forgotten = queued is None and state.status in ("failed", "stopped")  # by SLURM, after the sweep saw it
    if forgotten or (unknown and not (outcome and outcome.certain)):
        return state.status, state.reason
    if outcome and outcome.resubmit:
        return "interrupted", f"{outcome.reason}: the same make sweep submits it again"
    if outcome:
        return "failed", outcome.reason
    assert queued
    if queued.state == "RUNNING":
        return "running", f"on {queued.nodes}" + (f", {progress}" if progress else "")
    if queued.reason in NEVER_STARTS:
        return "waiting", queued.description
    saved = ", its state is saved" if node and node.status == "saved" else ""
    return "waiting", f"{queued.state.lower()} ({queued.reason}){saved}"


def process_status(state: RunState, node: NodeState | None, progress: str) -> tuple[str, str]:
    """Return status and detail of a process of this computer, or of a task of Ray."""
    if state.status in ("running", "waiting") and not is_alive(state):
        return "interrupted", "the same make sweep goes on"
    if state.status == "running":
        return "running", (f"on {node.node}, " if node else "") + (progress or "starts")
    if state.status == "finished":  # its directory is gone
        return REMOVED, ""
    return state.status, state.reason


def is_finished(state: RunState) -> bool:
    """Whether the run has results."""
    return bool(state.directory) and (Path(state.directory) / METRICS).exists()


def reached(state: RunState) -> str:
    """Write the test metrics of a finished run in a line."""
    metrics = json.loads((Path(state.directory) / METRICS).read_text())
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("test/"))


def is_alive(state: RunState) -> bool:
    """Whether the sweep that asked for a run is there; one on another computer is taken to be."""
    if state.host != socket.gethostname():
        return True
    try:
        os.kill(state.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def main(arguments: argparse.Namespace) -> None:
    """Print a table in a terminal, else a line for each run."""
    os.chdir(project().root)
    found, trouble = all_statuses(project().root / LOGS)
    if trouble:
        print(f"SLURM does not answer ({trouble}): what follows is what was known before.", file=sys.stderr)
    if not found:
        print("There is no sweep yet: make sweep SEEDS=0..4, or make sweep CLUSTER=slurm SEEDS=0..4.")
    elif sys.stdout.isatty():
        draw(found)
    else:
        for each in found:
            print("  ".join(part for part in cells(each) if part))


def cells(row: RunStatus) -> tuple[str, ...]:
    """Write a row as the cells of the table."""
    return row.label, row.status, row.detail, f"job {row.job}" if row.job else "", row.directory


def draw(found: list[RunStatus]) -> None:
    """Draw the table in the terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    colours = {"finished": "green", "failed": "red", "running": "cyan"}
    table = Table("run", "status", "detail", "job", "directory", box=None)
    for each in found:
        label, status, *rest = map(escape, cells(each))
        colour = colours.get(status, "yellow")
        table.add_row(label, f"[{colour}]{status}[/{colour}]", *rest)
    Console().print(table)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    return argparse.ArgumentParser(description="Say where the runs of the sweeps are, here or on a cluster.")
