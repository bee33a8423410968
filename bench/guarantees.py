"""The guarantees: what they cost.

Trace, record, checkpoints and stateless randomness, each by itself and all together, against a training with none of
them: seconds from the settings to the last file, imports not counted. What is written once weighs less, the longer a
training is; the example takes five seconds. Then what `determinism=portable` costs against `native`: a step on one
batch in memory, without Lightning.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .project import Project
from .rows import Row, take_turns

NONE = "none of them"
EACH = {"trace": "trace", "record": "record", "checkpoints": "checkpoints", "stateless randomness": "randomness"}
ALL = {"all four": ",".join(EACH.values())}
SMALL, MEDIUM = "the example, 0.04 M weights, 1,600 steps", "1.1 M weights, 400 steps"
WIDE = ("model.network.channels=[256,256]", "model.network.hidden=512")
TRAININGS = {SMALL: (), MEDIUM: ("trainer.max_epochs=10", *WIDE)}
WAYS: dict[str, dict[str, str]] = {SMALL: {NONE: ""} | EACH | ALL, MEDIUM: {NONE: ""} | ALL}
MOST = 1.05

NETWORKS: dict[str, tuple[str, ...]] = {
    "CNN, 0.04 M weights": (),
    "CNN, 1.1 M weights": WIDE,
    "MLP, 1.1 M weights": ("model=mlp", "model.network.hidden=[1024,1024]"),
}


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Compare trainings, then steps."""

    def seconds(training: str, way: str) -> float:
        return project.inside("guarantees.py", WAYS[training][way], *TRAININGS[training])[0]

    for training, ways in WAYS.items():
        found = take_turns(partial(seconds, training), list(ways), rounds, warm=False)
        for way in list(ways)[1:]:
            yield Row(f"{training}: {way}", "s", found[way], NONE, found[NONE], most=MOST if way in ALL else None)

    def milliseconds(network: str, mode: str) -> float:
        return project.inside("step.py", *NETWORKS[network], f"determinism={mode}")[0]

    for network in NETWORKS:
        found = take_turns(partial(milliseconds, network), ("native", "portable"), rounds, warm=False)
        yield Row(f"portable, {network}, a step", "ms", found["portable"], "native", found["native"])
