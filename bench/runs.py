"""Scale of runs: 10, 100 and 1,000 finished runs in models/.

The runs are copies of one, each with an id, seal and metrics of its own: ten experiments of 1, 10 and 100 seeds.
Commands are timed from their start to their end, as a user waits for them; reading and planning without imports.
Checking looks at every file of a run, its weights included.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .project import Project, copied
from .rows import Row, take_turns

EXPERIMENTS = 10
NUMBERS = {"10 runs": 10, "100 runs": 100, "1,000 runs": 1000}
LEAST, MANY, MOST = NUMBERS


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Measure reading, planning and whole commands."""
    with tempfile.TemporaryDirectory() as folder:
        filled = {}
        for name, number in NUMBERS.items():
            filled[name] = copied(project, Path(folder) / str(number))
            filled[name].inside("make_runs.py", str(EXPERIMENTS), str(number // EXPERIMENTS))
        print(f"  ({', '.join(NUMBERS)}: each with its own copy of the project)", flush=True)

        def module(verb: str, *words: str) -> Callable[[str], float]:
            return lambda name: filled[name].seconds(project.interpreter, "-m", f"handwritten_digits.{verb}", *words)

        def inside(what: str) -> Callable[[str], float]:
            return lambda name: filled[name].inside("read_runs.py", what, str(EXPERIMENTS), str(NUMBERS[name]))[0]

        def linear(what: str, measure: Callable[[str], float], most: float | None = None) -> Iterator[Row]:
            found = take_turns(measure, list(NUMBERS), rounds)
            yield Row(f"{what}, {LEAST}", "s", found[LEAST])
            yield Row(f"{what}, {MOST}", "s", found[MOST], most=most)
            each = {name: [1000 * value / NUMBERS[name] for value in values] for name, values in found.items()}
            yield Row(f"{what}, each of {MOST}", "ms", each[MOST], MANY, each[MANY], most=1.1)

        yield from linear("reading records", inside("records"))
        yield from linear("reading records and checking all files", inside("checked"), most=2.0)
        yield from linear("planning a sweep of all", inside("plan"))
        yield from linear("make report", module("report"))
        yield from linear("make status", module("status"))
        found = take_turns(module("train", "seed=0", "model.optimizer.lr=0.001"), [LEAST, MOST], rounds)
        yield Row(f"a training that is finished, {MOST}", "s", found[MOST], LEAST, found[LEAST], most=1.1)
