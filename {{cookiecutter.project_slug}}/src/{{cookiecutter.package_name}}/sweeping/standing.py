"""Where a run stands: what the sweep and the node have written, what SLURM says, and what is in the run's directory."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from ..repro.record import METRICS
from . import notes
from .judge import judge
from .notes import AtNode, Note
from .queue import NEVER, NoAnswer, Queued, ask

REMOVED = "removed"  # finished, and deleted since: nobody asks for it


@dataclass(frozen=True)
class Standing:
    """One row of `make status`.

    Attributes:
        label: all settings that were given.
        state: waiting, running, finished, failed, interrupted.
        what: why it waits, how far it is, what it reached, why it failed.
        job: its number in SLURM, if it has one.
        directory: of the run, relative to here.
    """

    label: str
    state: str
    what: str
    job: str
    directory: str


def standings(logs: Path) -> tuple[list[Standing], str]:
    """Find where all runs stand, those of the newest sweep last; and why SLURM could not be asked, if it could not."""
    paths = [path for path in logs.glob("*.json") if not path.name.endswith(".node.json")]
    found = [(path, note) for path in paths if (note := notes.read_note(path))]
    found.sort(key=lambda each: each[1].asked)
    found = list({note.directory or note.log: (path, note) for path, note in found}.values())  # the last word on a run
    jobs: dict[str, Queued] = {}
    trouble = ""
    if any(note.cluster == "slurm" and not finished(note) for _, note in found):
        try:
            jobs = ask()
        except NoAnswer as answer:
            trouble = str(answer)
    all_of_them = []
    for path, note in found:
        where = standing(path, note, jobs.get(note.job), bool(trouble))
        if where.state == "failed" and note.state != "failed" and not alive(note):
            note.state, note.reason = where.state, where.what  # SLURM will forget it, and no sweep is there to see it
            notes.write(path, note)
        all_of_them.append(where)
    return [each for each in all_of_them if each.state != REMOVED], trouble


def standing(path: Path, note: Note, queued: Queued | None, unknown: bool = False) -> Standing:
    """Find where one run stands.

    Args:
        path: of its note.
        note: what the sweep wrote.
        queued: what SLURM says of its job.
        unknown: whether SLURM could not be asked.
    """
    node = notes.read_at_node(path.with_suffix(".node.json"))
    if node and node.job != note.job:
        node = None
    lines = notes.Tail(Path(note.log)).lines()
    state, what = (
        ("finished", result(note))
        if finished(note)
        else on_slurm(note, queued, node, lines, unknown)
        if note.cluster == "slurm" and note.job
        else elsewhere(note, node, lines)
    )
    if node and node.starts > 1 and state != "failed":
        what += f" (start {node.starts} of the job)" if note.cluster == "slurm" else f" (start {node.starts})"
    directory = os.path.relpath(note.directory) if note.directory else ""
    return Standing(" ".join(note.words) or note.label, state, what, note.job, directory)


def on_slurm(
    note: Note, queued: Queued | None, node: AtNode | None, lines: list[str], unknown: bool
) -> tuple[str, str]:
    """Say the state of a job, and more about it."""
    if queued is None and note.state in ("failed", "stopped"):  # the sweep saw it, and SLURM forgets
        return note.state, note.reason
    verdict = judge(note.job, queued, node)
    if unknown and (verdict is None or not verdict.sure):
        return note.state, note.reason
    if verdict is None:
        assert queued
        if queued.state == "RUNNING":
            _, line = notes.progress(lines)
            return "running", f"on {queued.nodes}" + (f", {line}" if line else "")
        before = ", its state is saved" if node and node.state == "saved" else ""
        if queued.reason in NEVER:
            return "waiting", queued.said
        return "waiting", f"{queued.state.lower()} ({queued.reason}){before}"
    if verdict.again:
        return "interrupted", f"{verdict.reason}: the same make sweep submits it again"
    return "failed", verdict.reason


def elsewhere(note: Note, node: AtNode | None, lines: list[str]) -> tuple[str, str]:
    """Say the state of a process of this computer, or of a task of Ray, and more about it."""
    if note.state in ("running", "waiting") and not alive(note):
        return "interrupted", "the same make sweep goes on"
    if note.state == "running":
        where = f"on {node.node}, " if node else ""
        return "running", where + (notes.progress(lines)[1] or "starts")
    if note.state == "finished":  # its directory is gone
        return REMOVED, ""
    return note.state, note.reason


def finished(note: Note) -> bool:
    """Whether the run has come to its end."""
    return bool(note.directory) and (Path(note.directory) / METRICS).exists()


def result(note: Note) -> str:
    """Say what a finished run has reached on the test data."""
    metrics = json.loads((Path(note.directory) / METRICS).read_text())
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items() if name.startswith("test/"))


def alive(note: Note) -> bool:
    """Whether the sweep that asked for a run is there; one on another computer is believed to be."""
    if note.host != socket.gethostname():
        return True
    try:
        os.kill(note.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
