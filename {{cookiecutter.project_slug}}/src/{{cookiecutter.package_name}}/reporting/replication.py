"""An experiment and its replication on other data, side by side."""

from __future__ import annotations

from ..verdicts.differences import flat
from .experiments import Experiment
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
    differing = _settings(before, after)
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


def _settings(before: Experiment, after: Experiment) -> list[tuple[str, object, object]]:
    one, other = (flat(each.first.record["inputs"]["config"]) for each in (before, after))
    seeds = before.first.seed, after.first.seed
    return [
        (key, one.get(key), other.get(key))
        for key in sorted(one | other)
        if one.get(key) != other.get(key) and key != "data.name" and (one.get(key), other.get(key)) != seeds
    ]
