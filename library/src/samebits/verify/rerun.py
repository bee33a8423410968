"""Training a run again, in a process and a folder of its own, and how two trainings differ bit for bit."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import deserialize

from ..engine.config import quote
from ..engine.errors import UserError
from ..engine.project import project
from ..engine.record import PROBE, RECORD, WEIGHTS, Record
from ..engine.trace_reader import TRACE, Divergence, Row, first_divergence, read_trace
from ..engine.weights import DTYPES
from .provenance_diff import Difference, differing, differing_files

LAST_LINES = 12  # of a training that failed


@dataclass(frozen=True)
class Result:
    """What a training left: the recorded run, or one that was done again.

    Attributes:
        rows: of its trace.
        outputs: of its record; None where it was ended after the first steps.
        environment: of its record; files of the library that are not as they were released are among the patched ones.
        inputs: of its record; `outside` is the code from elsewhere that it loaded.
        weights: the file; it may be missing.
    """

    rows: list[Row]
    outputs: dict[str, Any] | None
    environment: dict[str, Any]
    inputs: dict[str, Any]
    weights: Path


class RerunFailed(Exception):
    """The training ended with an error; the text holds its last lines."""


def recorded_result(run: Path, record: Record) -> Result:
    """Read the result of a run that has finished, or of a probe, whose record has no outputs."""
    inputs, environment = record["inputs"], record["environment"]
    edited = {f"samebits/{name}": sha256 for name, sha256 in inputs.get("library", {}).items()}
    environment = environment | {"patched": environment["patched"] | edited}
    return Result(read_trace(run / TRACE), record.get("outputs"), environment, {"outside": {}} | inputs, run / WEIGHTS)


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
        tree: the project's folder whose code trains; a recorded one brings its own library.
        package: name of the package.
        python: of the environment to train in.
        progress: called with each line that tells how far the training is.

    Raises:
        RerunFailed: it ended with an error.
        UserError: the recorded library is not in the tree.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "PYTHONHOME")}
    library = [] if tree == project().root else recorded_library(tree)
    paths = [str(tree / "src"), *library, *filter(None, [environment.get("PYTHONPATH")])]
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
        record |= {"environment": probe["environment"], "inputs": record["inputs"] | {"outside": probe["outside"]}}
    return recorded_result(directory, record)


def recorded_library(tree: Path) -> list[str]:
    """Unpack the wheel of the library that a recorded tree has locked; return where, or nothing if it has none.

    Raises:
        UserError: the wheel is not there.
    """
    lock, target = tree / "requirements/samebits.txt", tree / ".samebits"
    locked = re.search(r"vendor/samebits-\S+\.whl", lock.read_text(encoding="utf-8")) if lock.exists() else None
    if locked is None:
        return []
    if not (tree / locked[0]).exists():
        raise UserError(f"the recorded code has no {locked[0]}, which it was trained with: leave out CODE= and FRESH=.")
    if not target.exists():
        with zipfile.ZipFile(tree / locked[0]) as wheel:
            wheel.extractall(target)
    return [str(target)]


def probe_words(steps: int) -> list[str]:
    """Make the words that end a training after its first steps."""
    return [f"+callbacks.probe={{_target_:samebits.engine.callbacks.Probe,steps:{steps},directory:'${{paths.run}}'}}"]


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


@dataclass(frozen=True)
class WeightDiff:
    """How far two sets of weights are apart.

    Attributes:
        tensors: how many differ.
        numbers: how many single numbers differ, of `total`.
        largest: the largest absolute difference; NaN where one is not a number.
        ulps: the largest difference in units of the last place: the count of floating-point numbers in between.
    """

    tensors: int
    numbers: int
    total: int
    largest: float
    ulps: int

    def __str__(self) -> str:
        return (
            f"{self.numbers:,} of {self.total:,} numbers in {self.tensors} tensors differ,"
            f" by at most {self.largest:.3g} or {self.ulps:,} units of the last place"
        )


def weight_diff(one: Path, other: Path) -> WeightDiff | None:
    """Measure how far the weights in two safetensors files are apart; None where their names or shapes differ."""
    mine, theirs = (dict(deserialize(path.read_bytes())) for path in (one, other))
    if {name: each["shape"] for name, each in mine.items()} != {name: each["shape"] for name, each in theirs.items()}:
        return None
    tensors = numbers = total = ulps = 0
    largest = 0.0
    for name, each in mine.items():
        (a, a_bits), (b, b_bits) = (_numbers(side) for side in (each, theirs[name]))
        if len(a_bits) != len(b_bits):
            return None
        differ = a_bits != b_bits
        count = int(differ.sum())
        total += len(a)
        if count:
            tensors, numbers = tensors + 1, numbers + count
            with np.errstate(invalid="ignore", over="ignore"):
                largest = float(np.fmax(largest, np.abs(a[differ] - b[differ]).max()))
            ranks = zip(_rank(a_bits[differ]).tolist(), _rank(b_bits[differ]).tolist(), strict=True)
            ulps = max(ulps, max(abs(x - y) for x, y in ranks))
    return WeightDiff(tensors, numbers, total, largest, ulps)


def _numbers(tensor: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read a tensor of a safetensors file: its numbers as float64 (N,), and their bits as signed integers (N,)."""
    content, name = bytes(tensor["data"]), DTYPES.get(tensor["dtype"], "uint8")
    if name == "bfloat16":
        bits = np.frombuffer(content, np.int16)
        return (bits.astype(np.int32) << 16).view(np.float32).astype(np.float64), bits
    values = np.frombuffer(content, name)
    return values.astype(np.float64), values.view(f"i{values.itemsize}")


def _rank(bits: np.ndarray) -> np.ndarray:
    """Number floating-point numbers in their order, so that neighbours differ by 1; -0.0 and 0.0 are one number."""
    lowest = int(np.iinfo(bits.dtype).min)
    wide = bits.astype(object) if bits.dtype.itemsize == 8 else bits.astype(np.int64)
    return np.where(wide < 0, lowest - wide, wide)


@dataclass(frozen=True)
class Comparison:
    """What differs between two trainings; false where nothing does.

    Attributes:
        divergence: the first step and column of the traces.
        tensors: names of the weights that differ.
        metrics: those that differ, with both values.
        distance: how far the weights are apart, where both are at hand.
    """

    divergence: Divergence | None
    tensors: list[str]
    metrics: list[Difference]
    distance: WeightDiff | None

    def __bool__(self) -> bool:
        return bool(self.divergence or self.tensors or self.metrics)


def compare(one: Result, other: Result, upto: int | None = None) -> Comparison:
    """Compare two trainings bit for bit.

    Args:
        one: a training.
        other: another one.
        upto: only the steps up to this one.
    """
    divergence = first_divergence(one.rows, other.rows, upto)
    if upto is not None or one.outputs is None or other.outputs is None:
        return Comparison(divergence, [], [], None)
    tensors = differing_files(one.outputs["tensors"], other.outputs["tensors"])
    metrics = differing(one.outputs["metrics"], other.outputs["metrics"])
    mine, theirs = one.outputs.get("predictions"), other.outputs.get("predictions")
    if mine and theirs and mine != theirs:
        metrics.append(("predictions", mine[:12], theirs[:12]))
    both = tensors and one.weights.exists() and other.weights.exists()
    distance = weight_diff(one.weights, other.weights) if both else None
    return Comparison(divergence, [name for name, *_ in tensors], metrics, distance)
