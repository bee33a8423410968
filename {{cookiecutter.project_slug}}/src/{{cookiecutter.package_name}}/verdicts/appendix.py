"""What the re-runs of all runs found, in prose for a paper's appendix: reports/reproduction.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..config import ROOT
from ..repro.files import write_atomically

APPENDIX = "reports/reproduction.md"
PLACES = ("models", "reports")
NOT_OF_THE_RUN = "DIFFERENT INPUTS"  # says something of the code or data here, and nothing of the run
HEADER = """# Reproduction

Written by `make reproduce` from the verdicts beside each run. A run was trained again from its recorded inputs, in a
process of its own; every traced step (batch, random numbers, loss, gradients, weights), every tensor and every metric
was compared bit for bit.
"""


def write_appendix(root: Path = ROOT) -> Path:
    """Write the file from all verdicts that there are; the same verdicts give the same bytes."""
    folders = sorted({path.parents[1] for place in PLACES for path in (root / place).glob("*/verdicts/*.json")})
    sections = [_section(folder, root) for folder in folders if (folder / "record.json").exists()]
    path = root / APPENDIX
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, "\n".join([HEADER, *sections]).encode())
    return path


def verdicts_on(folder: Path, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Read the verdicts on a record, the oldest first; those on another one that stood in its place are passed over."""
    found = [json.loads(path.read_text()) for path in sorted((folder / "verdicts").glob("*.json"))]
    return [each for each in found if each.get("record") == record["sha256"]]


def _section(folder: Path, root: Path) -> str:
    record = json.loads((folder / "record.json").read_text())
    environment, observed = record["environment"], record["observed"]
    verdicts = verdicts_on(folder, record)
    commit = record["source"].get("commit")
    where = f" at commit `{commit[:12]}`" if commit else ""
    where += ", with changes that code.patch holds" if record["source"].get("changed") else ""
    made = (
        f"The run was trained on {observed['ended'][:10]}{where}, on {environment['processor']['model']} with Python"
        f" {environment['python']} and PyTorch {environment['packages'].get('torch', 'of unknown version')}."
        f" Its weights have the sha256 `{record['outputs']['weights']}` by content."
    )
    return "\n".join(
        [
            f"## {record['run']}",
            f"(`{folder.relative_to(root)}`)\n",
            made,
            "",
            *(_sentence(each) for each in verdicts if each["verdict"] != NOT_OF_THE_RUN),
            "",
        ]
    )


def _sentence(verdict: dict[str, Any]) -> str:
    by = f" by {verdict['by']}" if verdict.get("by") else ""
    machine = verdict["machine"].get("processor")
    text = f"- {verdict['when'][:10]}{by}" + (f", on {machine}" if machine else "")
    text += ", in an environment installed anew from the lock" if verdict["fresh_environment"] else ""
    text += ", with the code of the run" if verdict["code"] == "recorded" else ""
    text += ", with code or settings that have changed since" if verdict["inputs"] else ""
    text += f": **{verdict['verdict']}**, {verdict['meaning']}."
    comparison = verdict["comparison"] or {}
    first, distance = comparison.get("first_divergence"), comparison.get("distance")
    if first:
        text += f" The first difference is at step {first['step']}, column {first['column']}."
    if distance:
        text += (
            f" {distance['numbers']:,} of {distance['total']:,} weights differ, by at most {distance['largest']:.3g}"
            f" ({distance['ulps']:,} units of the last place)."
        )
    for name, mine, theirs in comparison.get("metrics", []):
        text += f" {name}: {mine} and {theirs}."
    for name, mine, theirs in (verdict["inputs"] + verdict["environment"])[:5] if first else ():
        text += f" {name}: {mine} and {theirs}."
    return text
