"""The closed world: what it costs to record what else a training depends on.

That are files, folders, variables and addresses that it touches, the content of what it loads, when its code asks for
the time, and the trace's rows of evaluations; against a training that records none of it, from the settings to the
last file. First a training of some twelve seconds, then one as long in which every sample is a PNG of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .guarantees import WIDE
from .project import Project
from .rows import Row, take_turns

TRAININGS = {
    "1.1 M weights, 400 steps, arrays": ("arrays", "trainer.max_epochs=10", *WIDE),
    "0.04 M weights, 10,000 PNGs, 6 epochs": ("files", "trainer.max_epochs=6"),
}
GOALS = dict(zip(TRAININGS, (1.05, 1.03), strict=True))


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Compare trainings."""

    def seconds(training: str, way: str) -> float:
        return project.inside("closed_world.py", way, *TRAININGS[training])[0]

    for training, goal in GOALS.items():
        found = take_turns(partial(seconds, training), ("none", "all"), rounds)
        yield Row(training, "s", found["all"], "none of it", found["none"], most=goal)
