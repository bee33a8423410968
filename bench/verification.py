"""Verification: a verdict on a run, against the training of that run.

Both are whole commands: start, imports and writing are counted. The verdict is the one that `make reproduce` gives, on
the main run, but it is not written down, so that the project stays as it is. A probe ends after the first steps, which
take no time: what is left is the start, whatever the length of the training.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from .project import Project
from .rows import Row, take_turns

TRAIN, REPRODUCE, PROBE = "make train", "make reproduce", "make probe"


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Measure a training, its verification, and a probe of it."""
    verify = ("samebits", "reproduce", "models/main", "--no-file")

    def seconds(way: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            words = {
                TRAIN: ("handwritten_digits.train", f'paths.models="{folder}"', "snapshot=false"),
                REPRODUCE: verify,
                PROBE: (*verify, "--probe"),
            }
            return project.seconds(project.interpreter, "-m", *words[way])

    times = take_turns(seconds, (TRAIN, REPRODUCE, PROBE), rounds)
    yield Row(REPRODUCE, "s", times[REPRODUCE], TRAIN, times[TRAIN], most=1.1)
    yield Row(PROBE, "s", times[PROBE], TRAIN, times[TRAIN])
    yield Row(PROBE, "s", times[PROBE], most=10)
