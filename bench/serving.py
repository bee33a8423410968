"""Serving: predictions a second.

A request has one digit, or 64 of them, as a CSV file in a form; sixteen clients ask at once. *Bare* is FastAPI around
the same model in one process, without limits or a process of its own for the model, as its tutorial has it. Both
predict a request at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from .project import Project
from .rows import Row, take_turns

DIGITS = {"a digit a request": 1, "64 digits a request": 64}
GOALS = {64: 0.6}  # with one, what counts is the way to the process that predicts, and back


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Compare the service with the bare one."""
    project.run("make", "setup", "EXTRAS=serve")

    def measure(digits: int, way: str) -> float:
        return project.inside("serving.py", way, str(digits))[0]

    for name, digits in DIGITS.items():
        found = take_turns(partial(measure, digits), ("ours", "bare"), rounds, warm=digits == 1)
        yield Row(name, "digits/s", found["ours"], "bare FastAPI", found["bare"], least=GOALS.get(digits))
