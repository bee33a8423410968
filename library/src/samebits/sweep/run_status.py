"""Where runs are: what a sweep and a node write of each in .cache/sweep/, what SLURM lists of it; the verb `status`."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TypeVar

from ..engine.errors import PROGRESS_LINE, UserError
from ..engine.files import opened, write_atomically
from ..engine.printing import printable, terminal
from ..engine.project import project
from ..engine.record import RunDirectory

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

    @property
    def run(self) -> RunDirectory | None:
        """The directory of the run, where it has results."""
        run = RunDirectory(Path(self.directory), {})
        return run if self.directory and run.finished else None

    @property
    def sweep_is_alive(self) -> bool:
        """Whether the sweep that asked for the run is there; one on another computer is taken to be."""
        try:
            if self.host == socket.gethostname():
                os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


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
        with opened(path) as file:
            values = json.load(file)
        return kind(**{field.name: values[field.name] for field in fields(kind) if field.name in values})
    except (OSError, ValueError, TypeError):
        return None


def node_state(path: Path, job: str = "") -> NodeState:
    """Make the state of a training that starts on this node; `path` is that of its earlier state, if it has one."""
    before = read_state(path, NodeState)
    return NodeState(job, socket.gethostname(), before.starts + 1 if before and before.job == job else 1)


class Tail:
    """Reads what is added to a file, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0

    def lines(self) -> list[str]:
        """Return the lines that were completed since the last call."""
        try:
            with opened(self.path) as file:
                file.seek(self.position)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self.position += len(whole)
        # a progress bar draws over its line: what it wrote last counts
        return [line.rpartition("\r")[2].rstrip() for line in whole.decode(errors="replace").split("\n")[:-1]]


# --- what SLURM lists, and how a job has ended

FORMAT = "%i|%T|%r|%N|%j|%Z"
NEVER_STARTS = {"PartitionConfig", "BadConstraints", "PartitionTimeLimit"}  # reasons of a job that waits
# Ends that are no fault of the run: it is submitted again, and goes on from what it has saved
NO_FAULT = {
    "PREEMPTED": "it was preempted",
    "TIMEOUT": "its time was up",
    "NODE_FAIL": "its node failed",
    "BOOT_FAIL": "its node did not start",
    "REVOKED": "it was revoked",
}
ENDED = {*NO_FAULT, "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY"}


class SlurmUnavailable(Exception):
    """SLURM's controller does not answer; the text says how."""


@dataclass(frozen=True)
class QueuedJob:
    """A job that SLURM lists: one that waits, runs, or has ended some minutes ago."""

    number: str
    state: str  # PENDING, RUNNING, ... as `squeue` names it
    reason: str  # why it waits
    nodes: str  # where it runs
    name: str
    folder: str  # in which it was submitted

    @property
    def ended(self) -> bool:
        """Whether it will not run any more."""
        return self.state in ENDED

    @property
    def description(self) -> str:
        """Where it is, in a few words."""
        if self.state == "PENDING" and self.reason in NEVER_STARTS:
            return (
                f"will not begin ({self.reason}), since it asks for more than there is: `scancel {self.number}`, then"
                " give it less by cluster.cpus, memory, gpus, nodes or time"
            )
        if self.state == "PENDING":
            return f"waits in the queue ({self.reason}), job {self.number}"
        where = f" on {self.nodes}" if self.nodes else ""
        return f"{self.state.lower()}{where}, job {self.number}"


def parse_squeue(text: str) -> dict[str, QueuedJob]:
    """Read what `squeue` prints in our FORMAT: each job by its number."""
    rows = (line.split("|", 5) for line in text.splitlines())
    return {row[0]: QueuedJob(*row) for row in rows if len(row) == 6}


def query_jobs() -> dict[str, QueuedJob]:
    """Ask SLURM for the user's jobs of this project; SlurmUnavailable where it does not answer."""
    command = ["squeue", "--noheader", f"--user={getpass.getuser()}", "--states=all", f"--format={FORMAT}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, start_new_session=True)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmUnavailable(str(error)) from None
    if done.returncode:
        raise SlurmUnavailable(" ".join(done.stderr.split()) or f"squeue ended with the status {done.returncode}")
    return {number: job for number, job in parse_squeue(done.stdout).items() if job.folder == str(project().root)}


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

    @property
    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        return self.label, self.status, self.detail, f"job {self.job}" if self.job else "", self.directory


def all_statuses(logs: Path) -> tuple[list[RunStatus], str]:
    """Return the status of all runs, those of the newest sweep last; and why SLURM did not answer, if it did not."""
    paths = [path for path in logs.glob("*.json") if not path.name.endswith(".node.json")]
    states = [(path, state) for path in paths if (state := read_state(path, RunState))]
    states.sort(key=lambda pair: pair[1].requested)
    newest = {state.directory or state.log: (path, state) for path, state in states}.values()  # of each run
    queued: dict[str, QueuedJob] = {}
    trouble = ""
    if any(state.cluster == "slurm" and not state.run for _, state in newest):
        try:
            queued = query_jobs()
        except SlurmUnavailable as error:
            trouble = str(error)
    rows = []
    for path, state in newest:
        row = run_status(path, state, queued.get(state.job), bool(trouble))
        if row.status == "failed" and state.status != "failed" and not state.sweep_is_alive:
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
    matches = [match[0] for line in Tail(Path(state.log)).lines() if (match := PROGRESS_LINE.match(line))]
    progress = matches[-1] if matches else ""
    if run := state.run:
        try:
            measured = [f"{name} {value:.4f}" for name, value in run.metrics.items() if name.startswith("test/")]
            status, detail = "finished", ", ".join(measured)
        except (UserError, ValueError, TypeError) as error:
            status, detail = "finished", str(error)
    elif state.status == "finished" and state.directory and Path(state.directory).is_dir():
        status, detail = "finished", "but its metrics.json is missing: make show RUN=<directory> says more"
    elif state.cluster == "slurm" and state.job:
        status, detail = _slurm_status(state, queued, node, progress, unknown)
    elif state.status in ("running", "waiting") and not state.sweep_is_alive:
        status, detail = "interrupted", "the same make sweep goes on"
    elif state.status == "running":
        status, detail = "running", (f"on {node.node}, " if node else "") + (progress or "starts")
    else:  # the directory of a finished run is gone
        status, detail = (REMOVED, "") if state.status == "finished" else (state.status, state.reason)
    if node and node.starts > 1 and status != "failed":
        detail += f" (start {node.starts} of the job)" if state.cluster == "slurm" else f" (start {node.starts})"
    directory = os.path.relpath(state.directory) if state.directory else ""
    return RunStatus(" ".join(state.overrides) or state.label, status, detail, state.job, directory)


def _slurm_status(
    state: RunState, queued: QueuedJob | None, node: NodeState | None, progress: str, unknown: bool
) -> tuple[str, str]:
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


def main(arguments: argparse.Namespace) -> None:
    """Print a table in a terminal, else a line for each run."""
    os.chdir(project().root)
    rows, trouble = all_statuses(project().root / LOGS)
    if trouble:
        print(f"SLURM does not answer ({trouble}): what follows is what was known before.", file=sys.stderr)
    if not rows:
        print("There is no sweep yet: make sweep SEEDS=0..4, or make sweep CLUSTER=slurm SEEDS=0..4.")
    elif sys.stdout.isatty():
        draw(rows)
    else:
        for row in rows:
            print(printable("  ".join(filter(None, row.cells))))


def draw(rows: list[RunStatus]) -> None:
    """Draw the table in the terminal."""
    from rich.table import Table
    from rich.text import Text

    colours = {"finished": "green", "failed": "red", "running": "cyan"}
    table = Table("run", "status", "detail", "job", "directory", box=None)
    for row in rows:
        label, status, *rest = row.cells
        table.add_row(label, Text(status, colours.get(status, "yellow")), *rest)
    terminal().print(table, soft_wrap=False)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    return argparse.ArgumentParser(description="Say where the runs of the sweeps are, here or on a cluster.")
