"""What a reader of the report must know besides its numbers, each a sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .experiments import Experiment


def notes(experiments: Sequence[Experiment], baseline: Experiment) -> list[str]:
    """List repeats, other data, other code, and what the marks in names mean.

    Args:
        experiments: all of the report.
        baseline: the one that others are compared with.
    """
    found = [sentence for each in experiments for sentence in repeats(each)]
    for each in experiments:
        if not each.same_data(baseline):
            found.append(f"{each.name} was trained and tested on other data than {baseline.name}, so is not compared.")
        elif any(_part(each, part) != _part(baseline, part) for part in ("code", "lock", "outside")):
            found.append(
                f"{each.name} was trained with other code or packages than {baseline.name}: a difference between the"
                " two may be due to these."
            )
    if any(re.search(r" (code|lock|data|outside):", each.name) for each in experiments):
        found.append(
            "code:… and the like in a name are the first digits of the hash of what tells it from its namesakes."
        )
    return found


def repeats(experiment: Experiment) -> list[str]:
    """Say which runs had the same inputs as another one, and whether they came to the same."""
    by_seed = {run.seed: run for run in experiment.runs}
    same = [each for each in experiment.repeats if each.weights == by_seed[each.seed].weights]
    found = [
        f"{each.id} had the same inputs as {by_seed[each.seed].id}, and came to other weights:"
        f" make compare A=models/{by_seed[each.seed].id} B=models/{each.id} says where they part."
        for each in experiment.repeats
        if each not in same
    ]
    if same:
        names = ", ".join(each.id for each in same)
        found.append(f"Trained once more with the same inputs, to the same weights, and counted once: {names}.")
    return found


def _part(experiment: Experiment, part: str) -> object:
    return experiment.first.record["inputs"].get(part) or {}
