"""Start: how long a command takes before it does its own work.

Whole commands are timed, from the start of the process to its end, with warm caches of the disk. The project has been
trained, so that `make train` finds nothing to do. `make test` is timed once, for it takes minutes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from .project import Project
from .rows import Row, take_turns


def rows(project: Project, rounds: int) -> Iterator[Row]:
    """Measure commands that do nothing, or next to nothing."""
    with tempfile.TemporaryDirectory() as folder:
        short = ("debug=fast", "force=true", "snapshot=false", f'paths.models="{folder}"')
        train = (project.interpreter, "-m", "handwritten_digits.train")
        commands = {
            "import hydra": (project.interpreter, "-c", "import hydra"),
            "train --help": (*train, "--help"),
            "train --cfg job": (*train, "--cfg", "job"),
            "dvc repro train": (project.interpreter, "-m", "dvc", "repro", "train"),
            "make train, nothing to do": ("make", "train"),
            "import pytorch_lightning": (project.interpreter, "-c", "import pytorch_lightning"),
            "train debug=fast, two steps": (*train, *short),
        }
        times = take_turns(lambda name: project.seconds(*commands[name]), list(commands), rounds)

    def row(name: str, versus: str, most: float | None = None) -> Row:
        return Row(name, "s", times[name], versus, times[versus], most=most)

    yield row("train --help", "import hydra", most=2.5)
    yield row("train --cfg job", "import hydra")
    yield row("make train, nothing to do", "dvc repro train")
    yield Row("make train, nothing to do", "s", times["make train, nothing to do"], most=2)
    yield row("train debug=fast, two steps", "import pytorch_lightning")
    yield Row("make test", "s", [project.seconds("make", "test", PYTEST_ADDOPTS="-p no:cacheprovider")])
