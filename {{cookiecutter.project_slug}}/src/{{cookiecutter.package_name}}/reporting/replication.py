"""An experiment and its replication on other data, side by side."""

from __future__ import annotations

from .experiments import Experiment, differing_settings
from .statistics import estimate, unpaired


def side_by_side(before: Experiment, after: Experiment) -> str:
    """Write the comparison as Markdown.

    Args:
        before: the experiment on its own data.
        after: the same procedure on other data.
    """
    metrics = [name for name in before.first.metrics if after.values(name)]
    lines = [
        f"# {before.name}: replication on other data",
        "",
        "Written by `make replicate`. The same code, locked packages and settings, trained on other data; the interval",
        "of the difference is therefore that of two independent means (Welch's t, 95 %).",
        "",
        "| | original | replication | difference |",
        "|---|---|---|---|",
        f"| data | {_data(before)} | {_data(after)} | |",
        f"| seeds | {_seeds(before)} | {_seeds(after)} | |",
    ]
    for name in metrics:
        one, other = list(before.values(name).values()), list(after.values(name).values())
        lines.append(f"| {name} | {estimate(one)} | {estimate(other)} | {unpaired(one, other)} |")
    differing = [each for each in differing_settings(before.first, after.first) if each[0] != "data.name"]
    if differing:
        lines += ["", "Settings that differ, beyond the choice of the data:", ""]
        lines += [f"- {key}: {mine} and {theirs}" for key, mine, theirs in differing]
    lines += ["", "## Runs", ""]
    for run in before.runs + after.runs:
        lines.append(f"- `{run.id}`: `make reproduce RUN=models/{run.directory.name}`; weights sha256 `{run.weights}`")
    return "\n".join([*lines, ""])


def _data(experiment: Experiment) -> str:
    inputs = experiment.first.record["inputs"]
    origin = inputs.get("origin") or {}
    files = ", ".join(f"{each['name']} (sha256 {each['sha256'][:12]})" for each in origin.get("files") or ())
    return f"{inputs['config'].get('data', {}).get('name')}: {files}"


def _seeds(experiment: Experiment) -> str:
    return ", ".join(map(str, experiment.seeds))
