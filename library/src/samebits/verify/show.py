"""What made a run or some weights, and why two runs differ: `samebits show [RUN]`, `samebits compare RUN RUN`."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from ..engine import record as records
from ..engine import weights
from ..engine.errors import UserError
from ..engine.project import project
from ..engine.record import METRICS, RECORD, WEIGHTS, Record
from ..engine.run_loader import newest_run
from . import provenance_diff
from .integrity import contradictions
from .provenance_diff import Difference
from .rerun import Comparison, compare, recorded_result
from .verdict import PLACES, console_for_people, nothing_compared, print_diff, print_results, print_table, verdicts_on


def find_run(path: Path) -> Path:
    """Find the run that made some weights, by the id that the file carries.

    Raises:
        UserError: it is not on this computer, or its weights are other ones.
    """
    run_id = weights.read_run(path)
    tensors = weights.digests(path.read_bytes())[1]
    candidates = [found.parent for place in PLACES for found in sorted(project().root.glob(f"{place}/*/{RECORD}"))]
    named = [run for run in candidates if json.loads((run / RECORD).read_text()).get("run") == run_id]
    if not named:
        raise UserError(
            f"{path} was made by the run {run_id}, whose record is not in models/: look for it where the file comes"
            f" from, or in Git: git log --all --oneline -S'{run_id}' -- '*{RECORD}'."
        )
    for run in sorted(named, key=lambda each: each.name != run_id):
        if json.loads((run / RECORD).read_text()).get("outputs", {}).get("tensors") == tensors:
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
    code = f"commit {source['commit'][:12]}" if "commit" in source else f"tree {source['tree'][:12]}, "
    code += source.get("remark", "")
    if changed := source.get("changed"):
        more = ", ..." if len(changed) > 3 else ""
        code += f", and {len(changed)} files that differed from it: {', '.join(changed[:3])}{more}"
    kind = "portable" if determinism["portable"] else "on this kind of machine" if determinism["enabled"] else "off"
    verdicts = ", ".join(f"{each['verdict']} ({each['when'][:10]})" for each in verdicts_on(run, record)[-4:])
    lines += [
        ("trained", f"{observed['ended']}, {observed['wall_seconds']:,.0f} s{starts}, {observed['steps']:,} steps"),
        ("memory", f"{observed['peak_memory_bytes'] / 1e6:,.0f} MB at most"),
        ("metrics", ", ".join(f"{name} {value:.4f}" for name, value in outputs["metrics"].items())),
        ("weights", f"sha256 {outputs['weights']}, {observed['parameters']:,} parameters"),
        ("command", "" if source.get("overrides") is None else records.command(record)),
        ("code", code),
        ("remote", source.get("remote")),
        ("outside", ", ".join(inputs.get("outside", {}))),
        ("data", f"{origin.get('title') or config.get('data', {}).get('name')}"),
        *((key, origin.get(key)) for key in ("licence", "address", "card")),
        *(("file", f"{each['name']}  sha256 {each['sha256']}") for each in origin.get("files", [])),
        ("seed", f"{config['seed']}; determinism: {kind}"),
        ("machine", f"{environment['processor']['model']}, {environment['system']['os']}"),
        ("software", f"Python {environment['python']}, PyTorch {packages.get('torch')}"),
        ("samebits", packages.get("samebits")),
        ("GPU", environment["gpu"] and environment["gpu"]["model"]),
        ("patched", ", ".join(environment["patched"])),
        ("verdicts", verdicts or f"none yet: make reproduce RUN={os.path.relpath(run)}"),
    ]
    return [(label, text) for label, text in lines if text]


def main(arguments: argparse.Namespace) -> None:
    """Print what made it, and warn of what does not fit."""
    path: Path = arguments.path or newest_run()
    run = find_run(path) if path.is_file() and path.suffix == ".safetensors" else path
    record = records.read_record(run)
    for label, text in describe(run, record):
        print(f"{label:<10}{text}")
    if record["observed"]["status"] == "finished" and (run / METRICS).exists():
        for contradiction in contradictions(run, record):
            print(f"{'WARNING':<10}{contradiction}")


def parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits show`."""
    described = argparse.ArgumentParser(description="Say what made a run, or some weights.")
    what = "folder of a run, or a .safetensors file (default: the run that finished last)"
    described.add_argument("path", nargs="?", type=Path, help=what)
    return described


def _code_diff(one: Path, other: Path, inputs: list[Difference]) -> str:
    """Show how the code of two runs differs, where the repository still has both."""
    if not any(name.startswith("code") for name, *_ in inputs):
        return ""
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        trees = Path(folder) / "one", Path(folder) / "other"
        try:
            for run, tree in zip((one, other), trees, strict=True):
                provenance_diff.export_code(records.read_record(run), run, tree)
        except UserError as error:
            return f"(no diff: {error})"
        return provenance_diff.code_diff(inputs, *trees)


def compare_main(arguments: argparse.Namespace) -> None:
    """Print the differences; the exit status is 0 where both runs came to the same results, else 1."""
    with nothing_compared():
        comparison = _compare(arguments.a, arguments.b)
    raise SystemExit(1 if comparison else 0)


def _compare(a: Path, b: Path) -> Comparison:
    one, other = records.read_finished(a), records.read_finished(b)
    console = console_for_people()
    for run, record in ((a, one), (b, other)):
        for contradiction in contradictions(run, record):
            console.print(f"warning: {run}: {contradiction}", markup=False)
    results = recorded_result(a, one), recorded_result(b, other)
    comparison = compare(*results)
    settings = provenance_diff.differing(one["inputs"]["config"], other["inputs"]["config"])
    inputs = provenance_diff.named("settings", settings)
    inputs += provenance_diff.input_differences(one["inputs"], other["inputs"])
    environment = provenance_diff.environment_differences(*(result.environment for result in results))
    console.print(f"A  {one['run']}\nB  {other['run']}\n", markup=False)
    if not comparison:
        why = "every traced step, every tensor and every metric is the same, bit for bit"
    elif inputs:
        why = "the inputs differ; see the table"
    elif environment:
        why = "the inputs are the same, so the difference lies in the environment; see the table"
    else:
        why = f"neither inputs nor environment differ: make reproduce RUN={a} says whether the code repeats"
    console.print(
        "DIFFERENT" if comparison else "IDENTICAL", style=f"bold {'yellow' if comparison else 'green'}", end="  "
    )
    console.print(why, markup=False)
    print_table(console, "Inputs", inputs, ("A", "B"))
    print_diff(console, _code_diff(a, b, inputs))
    if comparison:
        print_results(console, comparison, len(one["outputs"]["tensors"]), ("in A", "in B"))
    print_table(console, "Environment", environment, ("A", "B"))
    return comparison


def compare_parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits compare`."""
    described = argparse.ArgumentParser(
        description="Say why two runs differ.",
        epilog="Exit status: 0 the same results, 1 different ones, 2 nothing could be compared.",
    )
    described.add_argument("a", type=Path, metavar="A", help="folder of a run")
    described.add_argument("b", type=Path, metavar="B", help="folder of another run")
    return described
