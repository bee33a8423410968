"""What made a run, and why two runs differ, bit for bit: `samebits show [RUN]`, `samebits compare RUN RUN`."""

from __future__ import annotations

import argparse
import os
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from safetensors import deserialize

from ..engine import record as records
from ..engine import weights
from ..engine.errors import UserError
from ..engine.inputs import section
from ..engine.printing import printable, terminal
from ..engine.project import project
from ..engine.record import RECORD, WEIGHTS, Record
from ..engine.run_loader import newest_run
from ..engine.trace_reader import TRACE, Divergence, Row, first_divergence, read_trace
from . import provenance_diff
from .environment_diff import environment_differences
from .provenance_diff import MOST_LINES, Difference, contradictions, differing, differing_files
from .touched import five_lines
from .verdict_files import read_verdicts, tampered, verdicts_on

if TYPE_CHECKING:
    from rich.console import Console

MOST_TYPES = 3  # tensors of another type or shape that are named
REPORTS = "reports"  # where published copies of runs are


def places(root: Path | None = None) -> list[Path]:
    """List the folders of the runs and of their published copies, of the project in `root`."""
    here = project() if root is None else replace(project(), root=root)
    return [here.runs] if here.adopted else [here.runs, here.root / REPORTS]


# --- how the results of two trainings differ


@dataclass(frozen=True)
class Result:
    """What a training left: the recorded run, or one that was done again."""

    rows: list[Row]  # of its trace
    outputs: dict[str, Any] | None  # of its record; None where it was ended after the first steps
    environment: dict[str, Any]  # of its record; edited files of the library are among the patched ones
    inputs: dict[str, Any]  # of its record; `outside` is the code from elsewhere that it loaded
    weights: Path  # may be missing

    @property
    def first_steps(self) -> int:
        """How many steps the trace has without a gap, from the first on."""
        steps = [row["step"] for row in self.rows if "loss" in row]
        return next((before for before, step in enumerate(steps) if step != before + 1), len(steps))


def recorded_result(run: Path, record: Record) -> Result:
    """Read the result of a run that has finished, or of a probe, whose record has no outputs."""
    inputs, environment = record["inputs"], record["environment"]
    edited = {f"samebits/{name}": sha256 for name, sha256 in inputs.get("library", {}).items()}
    environment = environment | {"patched": environment["patched"] | edited}
    return Result(read_trace(run / TRACE), record.get("outputs"), environment, {"outside": {}} | inputs, run / WEIGHTS)


@dataclass(frozen=True)
class WeightDiff:
    """How far two sets of weights are apart."""

    tensors: int  # that differ
    numbers: int  # single ones that differ
    total: int  # of numbers
    largest: float  # absolute difference; NaN where one is not a number
    ulps: int  # the largest difference in units of the last place: the count of floating-point numbers in between

    def __str__(self) -> str:
        near = f" or {self.ulps:,} units of the last place" if self.ulps < 1_000_000 else ""  # more says nothing
        return (
            f"{self.numbers:,} of {self.total:,} numbers in {self.tensors} tensors differ,"
            f" by at most {self.largest:.3g}{near}"
        )


def weight_diff(one: Path, other: Path) -> WeightDiff | None:
    """Measure how far the weights in two safetensors files are apart; None where names, shapes or types differ."""
    mine, theirs = (dict(deserialize(path.read_bytes())) for path in (one, other))
    if type_differences(mine, theirs):
        return None
    tensors = numbers = total = ulps = 0
    largest = 0.0
    for name in mine:
        (a, a_bits), (b, b_bits) = _numbers(mine[name]), _numbers(theirs[name])
        differ = a_bits != b_bits
        count = int(differ.sum())
        total += len(a)
        if count:
            tensors, numbers = tensors + 1, numbers + count
            with np.errstate(invalid="ignore", over="ignore"):
                largest = float(np.maximum(largest, np.abs(a[differ] - b[differ]).max()))
            ordered = _rank if mine[name]["dtype"][:1] in "FB" and mine[name]["dtype"] != "BOOL" else np.asarray
            ranks = zip(ordered(a_bits[differ]).tolist(), ordered(b_bits[differ]).tolist(), strict=True)
            ulps = max(ulps, max(abs(x - y) for x, y in ranks))
    return WeightDiff(tensors, numbers, total, largest, ulps)


def type_differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[Difference]:
    """List the tensors of two safetensors files whose types or shapes differ, or that only one has."""

    def kind(tensor: dict[str, Any]) -> str:
        return f"{weights.DTYPES.get(tensor['dtype'], tensor['dtype'])} {tuple(tensor['shape'])}"

    sides = ({f"the tensor {name}": kind(tensor) for name, tensor in side.items()} for side in (mine, theirs))
    return differing(*sides)


def _numbers(tensor: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Read a tensor of a safetensors file: its numbers as float64 (N,), and their bits as integers (N,)."""
    content, kind = bytes(tensor["data"]), tensor["dtype"]
    if kind == "BF16":
        bits = np.frombuffer(content, np.int16)
        return (bits.astype(np.int32) << 16).view(np.float32).astype(np.float64), bits
    if kind in ("F8_E5M2", "F8_E4M3"):
        bits = np.frombuffer(content, np.int8)
        return _eight_bits(bits, 2 if kind == "F8_E5M2" else 3), bits
    name = weights.DTYPES.get(kind, {"U16": "uint16", "U32": "uint32", "U64": "uint64"}.get(kind, "uint8"))
    values = np.frombuffer(content, name)
    bits = values.view(f"i{values.itemsize}") if values.dtype.kind in "fb" else values
    return values.astype(np.float64), bits


def _eight_bits(bits: np.ndarray, digits: int) -> np.ndarray:
    """Read floating-point numbers of 8 bits, with 2 or 3 binary digits behind the point, as OCP's standard has them."""
    code = bits.astype(np.int64) & 127
    exponent, fraction = code >> digits, (code & (2**digits - 1)) / 2**digits
    bias = 15 if digits == 2 else 7
    size = np.where(exponent > 0, (1 + fraction) * 2.0 ** (exponent - bias), fraction * 2.0 ** (1 - bias))
    if digits == 2:
        size = np.where(exponent == 31, np.where(fraction > 0, np.nan, np.inf), size)
    return np.where(bits < 0, -1, 1) * np.where((digits == 3) & (code == 127), np.nan, size)


def _rank(bits: np.ndarray) -> np.ndarray:
    """Number floating-point numbers in their order, so that neighbours differ by 1; -0.0 and 0.0 are one number."""
    lowest = int(np.iinfo(bits.dtype).min)
    wide = bits.astype(object) if bits.dtype.itemsize == 8 else bits.astype(np.int64)
    return np.where(wide < 0, lowest - wide, wide)


@dataclass(frozen=True)
class Comparison:
    """What differs between two trainings; false where nothing does."""

    divergence: Divergence | None  # the first step and column of the traces
    tensors: list[str]  # names of the weights that differ
    metrics: list[Difference]
    distance: WeightDiff | None  # where the weights of both are at hand

    def __bool__(self) -> bool:
        return bool(self.divergence or self.tensors or self.metrics)


def compare(one: Result, other: Result, upto: int | None = None) -> Comparison:
    """Compare two trainings bit for bit, or only their steps up to `upto`."""
    divergence = first_divergence(one.rows, other.rows, upto)
    if upto is not None or one.outputs is None or other.outputs is None:
        return Comparison(divergence, [], [], None)
    tensors = differing_files(one.outputs["tensors"], other.outputs["tensors"])
    metrics = differing(one.outputs["metrics"], other.outputs["metrics"])
    mine, theirs = one.outputs.get("predictions"), other.outputs.get("predictions")
    if mine and theirs and mine != theirs:
        metrics.append(("predictions", mine[:12], theirs[:12]))
    distance = None
    if tensors:
        with suppress(UserError):  # of weights that are not here, or damaged
            paths = [side.weights for side in (one, other) if weights.read_run(side.weights)]
            metrics += type_differences(*(dict(deserialize(path.read_bytes())) for path in paths))[:MOST_TYPES]
            distance = weight_diff(*paths)
    return Comparison(divergence, [name for name, *_ in tensors], metrics, distance)


def print_table(console: Console, title: str, rows: list[Difference], sides: tuple[str, str]) -> None:
    """Print what differs, with the values of both sides."""
    if not rows:
        return
    console.print()
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.padding = (0, 2)
    for column in ("  what", *sides):
        table.add_column(column, overflow="fold")
    for name, mine, theirs in rows[:MOST_LINES]:
        table.add_row(f"  {name}", mine, theirs)
    console.print(table, markup=False, soft_wrap=False)
    if len(rows) > MOST_LINES:
        console.print(f"  ... and {len(rows) - MOST_LINES} more")


def print_diff(console: Console, diff: str) -> None:
    """Print the beginning of a diff."""
    lines = diff.splitlines()
    for line in ["", *lines[:MOST_LINES]] if lines else ():
        console.print(line)
    if len(lines) > MOST_LINES:
        console.print(f"  ... and {len(lines) - MOST_LINES} more lines")


def print_results(console: Console, comparison: Comparison, tensors: int, sides: tuple[str, str]) -> None:
    """Print where two trainings part ways, and how far they are apart."""
    console.print()
    console.print("Where the results part ways", style="bold")
    first = comparison.divergence
    if first:
        console.print(f"  first at {first}: {first.meaning()}")
    if comparison.distance:
        console.print(f"  weights: {comparison.distance}")
    elif comparison.tensors:
        console.print(f"  weights: {len(comparison.tensors)} of {tensors} tensors differ")
    for name, mine, theirs in comparison.metrics:
        console.print(f"  {name}: {mine} {sides[0]}, {theirs} {sides[1]}")


@contextmanager
def nothing_compared() -> Iterator[None]:
    """Leave with the exit status 2 after an error that nobody foresaw: Python's own, 1, means that results differ."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception:
        traceback.print_exc()
        raise SystemExit(2) from None


def main(arguments: argparse.Namespace) -> None:
    """Print why two runs differ; the exit status is 0 where both have the same results, else 1."""
    with nothing_compared():
        comparison = _compare(arguments.a, arguments.b)
    raise SystemExit(1 if comparison else 0)


def _compare(a: Path, b: Path) -> Comparison:
    one, other = records.read_finished(a), records.read_finished(b)
    console = terminal()
    for run, record in ((a, one), (b, other)):
        for sentence in contradictions(run, record) or tampered(run, record):
            console.print(f"warning: {run}: {sentence}")
    results = recorded_result(a, one), recorded_result(b, other)
    comparison = compare(*results)
    inputs = provenance_diff.named("settings", differing(one["inputs"]["config"], other["inputs"]["config"]))
    inputs += provenance_diff.input_differences(one["inputs"], other["inputs"])
    environment = environment_differences(*(result.environment for result in results))
    for line in (f"A  {one['run']}", f"B  {other['run']}", ""):
        console.print(line)
    if not comparison:
        why = "every traced step, every tensor and every metric is the same, bit for bit"
    elif inputs:
        why = "the inputs differ; see the table"
    elif environment:
        why = "the inputs are the same, so the difference lies in the environment; see the table"
    else:
        why = f"neither inputs nor environment differ: make reproduce RUN={a} says whether the code repeats"
    verdict, colour = ("DIFFERENT", "yellow") if comparison else ("IDENTICAL", "green")
    console.print(verdict, style=f"bold {colour}", end="  ")
    console.print(why)
    print_table(console, "Inputs", inputs, ("A", "B"))
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:

        def trees() -> list[Path]:
            targets = [Path(folder) / "one", Path(folder) / "other"]
            provenance_diff.export_code(one, a, targets[0])
            provenance_diff.export_code(other, b, targets[1])
            return targets

        print_diff(console, provenance_diff.code_diff(inputs, trees))
    if comparison:
        print_results(console, comparison, len(one["outputs"]["tensors"]), ("in A", "in B"))
    print_table(console, "Environment", environment, ("A", "B"))
    return comparison


def parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits compare`."""
    described = argparse.ArgumentParser(
        description="Say why two runs differ.",
        epilog="Exit status: 0 the same results, 1 different ones, 2 nothing could be compared.",
    )
    described.add_argument("a", type=Path, metavar="A", help="folder of a run")
    described.add_argument("b", type=Path, metavar="B", help="folder of another run")
    return described


# --- what made a run


def find_run(path: Path) -> Path:
    """Find the run that made some weights, by the id in the file; a UserError where it is not here, or has others."""
    run_id = weights.read_run(path)
    tensors = weights.digests(path.read_bytes())[1]
    candidates = {}
    for found in [found for place in places() for found in records.run_folders(place)]:
        with suppress(UserError):  # of a record that is damaged, the command that is given the run tells
            candidates[found] = records.read_json(found / RECORD)
    named = [run for run, record in candidates.items() if record.get("run") == run_id]
    if not named:
        raise UserError(
            f"{path} was made by the run {run_id}, whose record is not in models/: look for it where the file comes"
            f" from, or in Git: git log --all --oneline -S'{run_id}' -- '*{RECORD}'."
        )
    for run in sorted(named, key=lambda run: run.name != run_id):
        if candidates[run].get("outputs", {}).get("tensors") == tensors:
            return run
    raise UserError(
        f"{path} says that it was made by the run {run_id}, but the tensors are not those whose hashes"
        f" {os.path.relpath(named[0])}/{RECORD} holds: do not use it; take {WEIGHTS} from there."
    )


def describe(run: Path, record: Record) -> list[tuple[str, str]]:
    """Describe a run in a screenful: label and text of each line."""
    inputs, source, observed = record["inputs"], record["source"], record["observed"]
    lines = [("run", record["run"]), ("folder", os.path.relpath(run))]
    if observed["status"] != "finished":
        return [*lines, ("status", f"not finished: {records.command(record)} goes on with it")]
    environment, outputs, origin = record["environment"], record["outputs"], inputs.get("origin", {})
    config, determinism, packages = inputs["config"], inputs["config"]["determinism"], environment["packages"]
    starts = f" in {observed['starts']} starts" if observed["starts"] > 1 else ""
    code = f"commit {source['commit'][:12]}" if "commit" in source else f"tree {source['tree'][:12]}"
    code += f", {source['remark']}" if "remark" in source else ""
    if changed := source.get("changed"):
        more = ", ..." if len(changed) > 3 else ""
        code += f", and {len(changed)} files that differed from it: {', '.join(changed[:3])}{more}"
    kind = "portable" if determinism["portable"] else "on this kind of machine" if determinism["enabled"] else "off"
    found = verdicts_on(run, record)[-4:]
    verdicts = "; ".join(f"{each['verdict']} ({each['when'][:10]}, {each['signature']})" for each in found)
    lines += [
        ("trained", f"{observed['ended']}, {observed['wall_seconds']:,.0f} s{starts}, {observed['steps']:,} steps"),
        ("memory", f"{observed['peak_memory_bytes'] / 1e6:,.0f} MB at most"),
        ("metrics", ", ".join(f"{name} {value:.4f}" for name, value in outputs["metrics"].items())),
        ("weights", f"sha256 {outputs['weights']}, {observed['parameters']:,} parameters"),
        ("command", "" if source.get("overrides") is None else records.command(record)),
        ("code", code),
        ("remote", source.get("remote")),
        *five_lines(record),
        ("unlocked", "; ".join(f"{name} {text}" for name, text in observed.get("unlocked", {}).items())),
        ("lock", "" if inputs["lock"] else "none: the record's environment lists what was installed; it names no run"),
        ("data", f"{origin.get('title') or section(config, 'data').get('name') or ', '.join(project().data or ())}"),
        *((key, origin.get(key)) for key in ("licence", "address", "card")),
        *(("file", f"{file['name']}  sha256 {file['sha256']}") for file in origin.get("files", [])),
        ("tags", ", ".join(source.get("tags", []))),
        ("seed", f"{config['seed']}; determinism: {kind}"),
        ("machine", f"{environment['processor']['model']}, {environment['system']['os']}"),
        ("software", f"Python {environment['python']}, PyTorch {packages.get('torch')}"),
        ("samebits", packages.get("samebits")),
        ("GPU", environment["gpu"] and environment["gpu"]["model"]),
        ("patched", ", ".join(environment["patched"])),
        ("loaded", _loaded(environment)),
        ("verdicts", verdicts or f"none yet: make reproduce RUN={os.path.relpath(run)}"),
    ]
    return [(label, text) for label, text in lines if text]


def _loaded(environment: dict[str, Any]) -> str:
    counted = {"loaded": "packages", "stdlib": "modules of Python", "objects": "shared objects"}
    parts = [", ".join(f"{len(environment.get(key, ()))} {what}" for key, what in counted.items())]
    parts += [f"{package} shadowed by {where}" for package, where in environment.get("shadows", {}).items()]
    remarkable = {"preloaded": "preloaded", "startup": "run at the start", "bytecode": "not the source's bytecode"}
    parts += [f"{what}: {', '.join(environment[key])}" for key, what in remarkable.items() if environment.get(key)]
    return "; ".join(parts)


def show_main(arguments: argparse.Namespace) -> None:
    """Print what made a run, and warn of what does not fit."""
    path: Path = arguments.path or newest_run()
    run = find_run(path) if path.is_file() and path.suffix == ".safetensors" else path
    record = records.read_record(run)
    for label, text in describe(run, record):
        print(f"{label:<10}{printable(text)}")
    if record["observed"]["status"] == "finished":
        for sentence in [*contradictions(run, record), *tampered(run, record), *read_verdicts(run, record)[1]]:
            print(f"{'WARNING':<10}{printable(sentence)}")


def show_parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits show`."""
    described = argparse.ArgumentParser(description="Say what made a run, or some weights.")
    what = "folder of a run, or a .safetensors file (default: the run that finished last)"
    described.add_argument("path", nargs="?", type=Path, help=what)
    return described
