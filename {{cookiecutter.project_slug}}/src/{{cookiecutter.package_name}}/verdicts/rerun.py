"""Training a run again, in a process and a folder of its own, to compare what comes out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import quote
from ..errors import UserError
from ..repro import traces
from ..repro.record import PROBE, RECORD, WEIGHTS
from ..repro.traces import TRACE, Row

LAST_LINES = 12  # of a training that failed


@dataclass(frozen=True)
class Result:
    """What a training left: of the recorded run, or of one that was done again.

    Attributes:
        rows: of its trace.
        outputs: of its record; None where it was ended after the first steps.
        environment: of its record.
        outside: code from outside of the package, path and sha256.
        weights: the file; it may be missing.
    """

    rows: list[Row]
    outputs: dict[str, Any] | None
    environment: dict[str, Any]
    outside: dict[str, str]
    weights: Path


class RerunFailed(Exception):
    """The training ended with an error; the text holds its last lines."""


def recorded(run: Path, record: dict[str, Any]) -> Result:
    """Read the result of a run that has finished."""
    outside = record["inputs"].get("outside", {})
    return Result(traces.read(run / TRACE), record["outputs"], record["environment"], outside, run / WEIGHTS)


def rerun(
    words: Sequence[str],
    folder: Path,
    tree: Path,
    package: str,
    python: str = sys.executable,
    progress: Callable[[str], None] = lambda line: None,
) -> Result:
    """Train in `folder`, and read what came out.

    Args:
        words: of the command, after `python -m <package>.train`.
        folder: takes the run's directory; empty.
        tree: the project's folder whose code trains.
        package: name of the package.
        python: of the environment to train in.
        progress: called with each line that tells how far the training is.

    Raises:
        RerunFailed: it ended with an error.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "PYTHONHOME")}
    paths = [str(tree / "src"), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    command = [python, "-m", f"{package}.train", *words, f"paths.models={quote(str(folder))}"]
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if re.match(r"epoch \d", line):
                    progress(line.rstrip())
        except BaseException:  # whoever stops us, stops it
            process.kill()
            raise
    if process.returncode:
        raise RerunFailed("\n".join(lines[-LAST_LINES:]))
    (directory,) = (path.parent for path in folder.glob(f"*/{RECORD}"))
    record = json.loads((directory / RECORD).read_text())
    if (directory / PROBE).exists():
        probe = json.loads((directory / PROBE).read_text())
        rows = traces.read(directory / TRACE)
        return Result(rows, None, probe["environment"], probe["outside"], directory / WEIGHTS)
    return recorded(directory, record)


def probe_words(package: str, steps: int, root: Path, package_folder: Path) -> list[str]:
    """Make the words that end a training after its first steps."""
    arguments = {"directory": "'${paths.run}'", "root": quote(str(root)), "package": quote(str(package_folder))}
    settings = ",".join(f"{name}:{value}" for name, value in arguments.items())
    return [f"+callbacks.probe={{_target_:{package}.repro.probe.Probe,steps:{steps},{settings}}}"]


def steps_of_probe(rows: list[Row], run: Path) -> int:
    """Find how many steps from the first on a trace has without a gap.

    Raises:
        UserError: there is no trace.
    """
    steps = [row["step"] for row in rows if "batch" in row]
    count = next((before for before, step in enumerate(steps) if step != before + 1), len(steps))
    if not count:
        raise UserError(f"{run} has no trace of first steps, which a probe compares: use `make reproduce RUN={run}`.")
    return count
