"""Which runs are shared: Git keeps their texts (models/.gitignore lists them), DVC their weights (shared/<run>.dvc).

The .dvc files lie outside of models/, whose folders hold what runs wrote and nothing else.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..config import ROOT
from ..errors import UserError
from ..repro import record as records
from ..repro.files import write_atomically
from ..repro.record import RECORD, WEIGHTS
from ..saved import MAIN
from ..verdicts.integrity import contradictions

BEGIN, END = "# Shared runs, one a line: `make push` writes them", "# End of the shared runs"
NEVER = ("debug-", "reference-")  # the beginnings of names
NAME = re.compile(r"[A-Za-z0-9_=,+-][A-Za-z0-9_=.,+-]*")  # Git reads other characters as patterns


def pointer(name: str, root: Path = ROOT) -> Path:
    """Return the path of the file by which DVC knows a run's weights."""
    return root / "shared" / f"{name}.dvc"


def listed(root: Path = ROOT) -> set[str]:
    """Return the names of the runs that are shared already."""
    lines = (root / "models" / ".gitignore").read_text().splitlines()
    names = {line.removeprefix("!/") for line in _block(lines)[1] if line.startswith("!/")}
    return names | {path.stem for path in (root / "shared").glob("*.dvc")}


def finished(root: Path = ROOT) -> set[str]:
    """Return the names of the finished runs that others may want to see."""
    names = set()
    for path in (root / "models").glob(f"*/{RECORD}"):
        try:
            status = json.loads(path.read_text())["observed"]["status"]
        except (ValueError, KeyError, TypeError):
            status = "finished"  # `check` says what is wrong with it
        if status == "finished" and path.parent.name != MAIN.name and not path.parent.name.startswith(NEVER):
            names.add(path.parent.name)
    return names


def named(runs: Sequence[Path], root: Path = ROOT) -> set[str]:
    """Return the names of runs that the user asks to share.

    Raises:
        UserError: one is none, has not finished, or is not to be shared.
    """
    names = set()
    for run in runs:
        records.read_finished(run)
        if run.resolve().parent != (root / "models").resolve():
            raise UserError(f"{run} is not in models/, so it is no run of this project: name one that is.")
        name = run.resolve().name
        if name.startswith(NEVER):
            raise UserError(f"{run} was made to try something out, and is not shared: name another run.")
        names.add(name)
    return names - {MAIN.name}  # which the pipeline shares


def check(names: Iterable[str], root: Path = ROOT) -> None:
    """Refuse to share what was edited after the training, or has no weights that could be shared.

    Raises:
        UserError: names the run, and what contradicts what.
    """
    for name in sorted(names):
        run = root / "models" / name
        place = os.path.relpath(run)
        if not NAME.fullmatch(name):
            raise UserError(
                f"{place!r} has a name that Git would read as a pattern: rename it to letters, digits, - and _."
            )
        if not (run / WEIGHTS).exists() and not pointer(name, root).exists():
            raise UserError(
                f"{place}/{WEIGHTS} is missing, so the run cannot be shared: move it away, or train it again."
            )
        if found := contradictions(run, records.read_finished(run)):
            raise UserError(
                f"{place} was edited after it was trained ({found[0]}), so nothing was shared: restore it, or move it"
                " away."
            )


@contextmanager
def written(names: Iterable[str], root: Path = ROOT) -> Iterator[list[Path]]:
    """Make these the shared runs, for Git; yield the files by which DVC is to know their weights, if they are here.

    A file that is new is a request, in which DVC enters the hash. Should the body fail, all is as it was before.
    """
    names = sorted(names)
    gitignore = root / "models" / ".gitignore"
    kept = {path: path.read_bytes() for path in [gitignore, *(root / "shared").glob("*.dvc")]}
    made = []
    try:
        before, _, after = _block(gitignore.read_text().splitlines())
        lines = [*before, BEGIN, *(f"!/{name}" for name in names), END, *after]
        if (content := "".join(f"{line}\n" for line in lines).encode()) != kept[gitignore]:
            write_atomically(gitignore, content)
        for path in kept:
            if path != gitignore and path.stem not in names:
                path.unlink()
        for name in names:
            if not (path := pointer(name, root)).exists():
                path.parent.mkdir(exist_ok=True)
                made.append(path)
                write_atomically(path, f"outs:\n- path: {WEIGHTS}\n  hash: md5\nwdir: ../models/{name}\n".encode())
        yield [pointer(name, root) for name in names if (root / "models" / name / WEIGHTS).exists()]
    except BaseException:
        for path in made:
            path.unlink(missing_ok=True)
        for path, content in kept.items():
            if not path.exists() or path.read_bytes() != content:
                write_atomically(path, content)
        raise


def _block(lines: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Split the lines of models/.gitignore: before the list of shared runs, the list, and after it."""
    if BEGIN not in lines:
        return lines, [], []
    start = lines.index(BEGIN)
    end = lines.index(END, start) if END in lines[start:] else len(lines)
    return lines[:start], lines[start + 1 : end], lines[end + 1 :]
