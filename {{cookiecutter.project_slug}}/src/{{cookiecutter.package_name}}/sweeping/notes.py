"""What a sweep remembers of each run, in .cache/sweep/: for `make status`, and for the next sweep."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from ..progress import LINE, part_done
from ..repro.files import write_atomically

LOGS = Path(".cache/sweep")  # in the project's folder
RESULT = re.compile(r"(test/\S+) +(\S+)$")


@dataclass
class Note:
    """A run, as the sweep that asked for it knows it.

    Attributes:
        label: what tells it from the others.
        words: its settings.
        cluster: local, slurm or ray.
        directory: of the run, or nothing where it was not known.
        log: what it prints.
        state: waiting, running, finished, failed or stopped, as the sweep saw it last.
        reason: why it failed.
        job: its number in SLURM.
        step: of the newest checkpoint when the job was submitted.
        again: how often it was submitted anew since it last took a step forward.
        host: where the sweep runs.
        pid: the sweep's process.
        asked: when it was asked for.
    """

    label: str
    words: list[str]
    cluster: str
    directory: str
    log: str
    state: str = "waiting"
    reason: str = ""
    job: str = ""
    step: int = -1
    again: int = 0
    host: str = field(default_factory=socket.gethostname)
    pid: int = 0
    asked: float = field(default_factory=time.time)


@dataclass
class AtNode:
    """A run, as the node that trains it knows it.

    Attributes:
        job: its number in SLURM.
        node: the name of the computer.
        starts: of the job; more than one after it was queued again.
        state: running, saved, finished or failed.
        status: the exit status of a training that failed.
        reason: why.
    """

    job: str
    node: str
    starts: int = 1
    state: str = "running"
    status: int = 0
    reason: str = ""


def write(path: Path, note: Note | AtNode) -> None:
    """Write a note, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{json.dumps(asdict(note), indent=1)}\n".encode())


def read_note(path: Path) -> Note | None:
    """Read what the sweep wrote; None where there is nothing that can be read."""
    values = _read(path, Note)
    return Note(**values) if values else None


def read_at_node(path: Path) -> AtNode | None:
    """Read what the node wrote; None where there is nothing that can be read."""
    values = _read(path, AtNode)
    return AtNode(**values) if values else None


def _read(path: Path, kind: type) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    names = {each.name for each in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def results(lines: Iterable[str]) -> list[str]:
    """Find the test metrics among the lines of a training."""
    return [f"{match[1]} {match[2]}" for line in lines if (match := RESULT.match(line))]


def progress(lines: Iterable[str]) -> tuple[float, str]:
    """Find how far a training is: a part of its steps, from 0 to 1, and its last line that says so."""
    told = [match for line in lines if (match := LINE.match(line))]
    return (part_done(told[-1]), told[-1][0]) if told else (0.0, "")


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
        # a progress bar draws over its line: what it says last counts
        return [line.rpartition("\r")[2].rstrip() for line in whole.decode(errors="replace").split("\n")[:-1]]
