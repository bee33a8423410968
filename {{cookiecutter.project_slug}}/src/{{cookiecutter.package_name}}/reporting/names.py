"""Names of experiments: the readable part of their runs' ids and, where that is not enough, what sets one apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..repro.hashing import json_sha256

if TYPE_CHECKING:
    from .experiments import Experiment

FEW = 3  # settings that a name holds, unless it takes more to tell two apart
SAME = ("code", "lock", "data", "outside")  # inputs that all seeds of an experiment share


def name_all(experiments: Sequence[Experiment], main: str | None) -> None:
    """Name each of them; no two share a name.

    Of those whose runs have the same readable name, the main run's, or else the one with the most runs, keeps it as it
    is, and the others say what they have otherwise.

    Args:
        experiments: all.
        main: id of the main run.
    """
    alike: dict[str, list[Experiment]] = {}
    for each in experiments:
        alike.setdefault(_readable(each), []).append(each)
    for readable, group in alike.items():
        group.sort(key=lambda each: (main not in [run.id for run in each.runs], -len(each.runs), each.first.id))
        reference, *others = group
        reference.name = readable
        said = [differences(reference, each) for each in others]
        count = next((count for count in range(FEW, max(map(len, said), default=0)) if _tells(said, count)), None)
        for each, words in zip(others, said, strict=True):
            each.name = f"{readable} {' '.join(words[:count])}"
        for number, each in enumerate(group):  # settings that look alike in short
            if each.name in [other.name for other in group[:number]]:
                each.name += f" ({each.first.id[-8:]})"


def differences(reference: Experiment, other: Experiment) -> list[str]:
    """Say in short what the other experiment has otherwise, what matters most first."""
    mine, theirs = reference.first.settings, other.first.settings
    found: dict[str, Any] = {}
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) == theirs.get(key) and (key in mine) == (key in theirs):
            continue
        if (mine.get(key), theirs.get(key)) == (reference.first.seed, other.first.seed):
            continue  # it follows the seed
        # where one of the two is null, the other has a group of entries: null says it for them, and they for null
        if any(key.startswith(f"{group}.") for group in found) or any(each.startswith(f"{key}.") for each in theirs):
            continue
        found[key] = theirs.get(key)
    # of settings that follow each other, the shortest says it
    by_change = {_change(key, mine.get(key), found[key]): key for key in sorted(found, key=len, reverse=True)}
    chosen = sorted(by_change.values(), key=lambda key: (key.startswith("determinism."), key))
    if without := [key for key in chosen if not key.startswith("determinism.env")]:
        chosen = without  # the variables follow from the choice
    words = [_word(key, found[key]) for key in chosen]
    for part in SAME:
        here, there = (each.first.record["inputs"].get(part) or {} for each in (reference, other))
        words += [f"{part}:{json_sha256(there)[:4]}"] if here != there else []
    return words


def _readable(experiment: Experiment) -> str:
    readable = re.sub(r"-[0-9a-f]{8}(-\d+)?$", "", experiment.first.id)
    return re.sub(rf"[-_,]?seed={experiment.first.seed}\b", "", readable) or readable


def _change(key: str, mine: Any, theirs: Any) -> tuple[str, str, str]:
    """Tell one change from another; that of a switch is its own, since others are turned in the same way."""
    switch = any(value is None or isinstance(value, bool) for value in (mine, theirs))
    return repr(mine), repr(theirs), key if switch else ""


def _tells(said: Sequence[Sequence[str]], count: int) -> bool:
    return len({tuple(words[:count]) for words in said}) == len(said)


def _word(key: str, value: Any) -> str:
    if key.endswith("._target_"):
        return f"{key.removesuffix('._target_').rpartition('.')[2]}={str(value).rpartition('.')[2]}"
    short = key if key.startswith(("determinism.", "callbacks.")) else key.rpartition(".")[2]
    return f"{short}={'null' if value is None else value}"
