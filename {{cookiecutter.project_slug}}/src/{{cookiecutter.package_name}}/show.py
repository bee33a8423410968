"""Say what made a run, or some weights: `python -m <package>.show RUN_OR_WEIGHTS`, or `make show RUN=...`."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from .cli import run_with_arguments
from .config import ROOT
from .errors import UserError
from .repro import record as records
from .repro import weights
from .repro.record import METRICS, RECORD, WEIGHTS, Record
from .saved import newest_run
from .verdicts.appendix import verdicts_on
from .verdicts.integrity import contradictions

PLACES = ("models/*", "reports/*")  # where runs and their published copies are


def find_run(path: Path) -> Path:
    """Find the run that made some weights, by the id that the file carries.

    Raises:
        UserError: it is not on this computer, or its weights are other ones.
    """
    run_id = weights.read_run(path)
    tensors = weights.digests(path.read_bytes())[1]
    candidates = [found.parent for place in PLACES for found in sorted(ROOT.glob(f"{place}/{RECORD}"))]
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
    starts = f" in {observed['starts']} starts" if observed["starts"] > 1 else ""
    lines += [
        ("trained", f"{observed['ended']}, {observed['wall_seconds']:,.0f} s{starts}, {observed['steps']:,} steps"),
        ("memory", f"{observed['peak_memory_bytes'] / 1e6:,.0f} MB at most"),
        ("metrics", ", ".join(f"{name} {value:.4f}" for name, value in outputs["metrics"].items())),
        ("weights", f"sha256 {outputs['weights']}, {observed['parameters']:,} parameters"),
    ]
    if source.get("overrides") is not None:
        lines.append(("command", records.command(record)))
    changed = source.get("changed") or []
    code = f"commit {source['commit'][:12]}" if "commit" in source else f"tree {source['tree'][:12]}, "
    code += source.get("remark", "")
    if changed:
        more = ", ..." if len(changed) > 3 else ""
        code += f", and {len(changed)} files that differed from it: {', '.join(changed[:3])}{more}"
    lines.append(("code", code))
    lines += [("remote", source["remote"])] if source.get("remote") else []
    lines += [("outside", ", ".join(inputs["outside"]))] if inputs.get("outside") else []
    lines.append(("data", f"{origin.get('title') or inputs['config'].get('data', {}).get('name')}"))
    lines += [("licence", str(origin["licence"]))] if origin.get("licence") else []
    lines += [("address", str(origin["address"]))] if origin.get("address") else []
    lines += [("card", origin["card"])] if origin.get("card") else []
    lines += [("file", f"{each['name']}  sha256 {each['sha256']}") for each in origin.get("files", [])]
    config = inputs["config"]
    determinism = config["determinism"]
    kind = "portable" if determinism["portable"] else "on this kind of machine" if determinism["enabled"] else "off"
    lines += [
        ("seed", f"{config['seed']}; determinism: {kind}"),
        ("machine", f"{environment['processor']['model']}, {environment['system']['os']}"),
        ("software", f"Python {environment['python']}, PyTorch {environment['packages'].get('torch')}"),
    ]
    lines += [("GPU", environment["gpu"]["model"])] if environment["gpu"] else []
    lines += [("patched", ", ".join(environment["patched"]))] if environment["patched"] else []
    verdicts = verdicts_on(run, record)
    said = ", ".join(f"{each['verdict']} ({each['when'][:10]})" for each in verdicts[-4:])
    lines.append(("verdicts", said or f"none yet: make reproduce RUN={os.path.relpath(run)}"))
    return lines


def main(arguments: argparse.Namespace) -> None:
    """Print what made it, and warn of what does not fit."""
    path: Path = arguments.path or newest_run()
    run = find_run(path) if path.is_file() and path.suffix == ".safetensors" else path
    record = records.read(run)
    for label, text in describe(run, record):
        print(f"{label:<10}{text}")
    if record["observed"]["status"] == "finished" and (run / METRICS).exists():
        for contradiction in contradictions(run, record):
            print(f"{'WARNING':<10}{contradiction}")


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(prog="python -m <package>.show", description=__doc__.split(":")[0])
    described.add_argument(
        "path",
        nargs="?",
        type=Path,
        help="folder of a run, or a .safetensors file (default: the run that finished last)",
    )
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
